"""Text output on a terminal: tables, trees, and how a run ended.

Names, messages and results may come from other users, so control characters are removed before
printing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from aipartnerupflow.cli.output import GAP, as_document, clean, clean_lines, least_width, note, out, put
from aipartnerupflow.cli.output import line as put_line
from aipartnerupflow.cli.output import table as new_table
from aipartnerupflow.growth import (
    NOT_RUN,
    growth_of,
    looks,
    shown_children,
    shown_status,
    statuses_of,
    template_ids,
    troubles,
)
from aipartnerupflow.program import command as command_line

if TYPE_CHECKING:
    from aipartnerupflow.client.types import (
        Answered,
        CacheCleared,
        CachedResults,
        Cancellation,
        Counts,
        Deletion,
        Event,
        Execution,
        FileDeleted,
        FileLink,
        Files,
        FileValue,
        Generated,
        Json,
        LimitDeleted,
        LimitDetail,
        ListedTask,
        LLMKeyDeleted,
        LLMKeys,
        LLMKeyStored,
        NamedLimit,
        NamedLimits,
        OpenQuestions,
        Pause,
        SecretDeleted,
        SecretInfo,
        Secrets,
        SentEvent,
        Standing,
        StoredTree,
        Task,
    )

SIGNS: Final = MappingProxyType(
    {
        "pending": ("○", "bright_black"),
        "in_progress": ("●", "cyan"),
        "completed": ("✓", "green"),
        "failed": ("✗", "red"),
        "handled": ("✗", "yellow"),
        "not_run": ("–", "bright_black"),
        "cancelled": ("■", "yellow"),
        "skipped": ("↷", "bright_black"),
    }
)
"""The sign and the colour of each status."""
OF_TASKS: Final = frozenset({"id", "name", "status", "progress", "created_at"})
"""The fields that a list of tasks shows."""
SHORT: Final = 80
NAME_WIDTH: Final = 12
ERROR_WIDTH: Final = 24
AGE_WIDTH: Final = 7
"""Widths in characters."""
MOST_LINES: Final = 20
"""Longer results are shortened, so that the tree stays on the screen."""
UNITS: Final = MappingProxyType({"d": 86_400, "h": 3_600, "min": 60, "s": 1})
"""Units of time, in seconds."""
TIMES: Final = ("expires", "last_used", "last_login")


def all_children(task: "Task") -> "Sequence[Task]":
    found: list[Task] = cast("Any", task).get("children", [])  # only those of trees have them
    return found


def command(verb: str, task_id: str, *words: str) -> str:
    """Return the command line for this verb and task, with further words, quoted for a shell."""
    return command_line("tasks", verb, clean(task_id), *words)


def sign(status: str) -> Text:
    return Text(*SIGNS.get(status, ("?", "")))


def moment(time: str | None) -> str:
    """Format an ISO 8601 timestamp in the local time zone, to the second, with the zone."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z") if time else ""


def age(time: str) -> str:
    """Format the time since an ISO 8601 timestamp in its largest whole unit, such as `3 h`."""
    seconds = max(int((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()), 0)
    for unit, size in UNITS.items():
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return "now"


def tasks(found: "Sequence[Task | ListedTask]") -> None:
    """Print a table with one line per task; a tree has the status of its latest run."""
    if not found:
        print("No tasks.")
        return
    if not found[0].keys() >= OF_TASKS:
        chosen(found)
        return
    table = new_table("", "ID", "NAME", "STATUS", "TASKS", "AGE")
    beside = max(len(_how_far(task)) + len(_counts(task)) for task in found) + AGE_WIDTH
    table.columns[2].max_width = _room_for_names(found, beside=beside)
    for task in found:
        cells = (clean(task["id"]), clean(task["name"]), _how_far(task), _counts(task))
        table.add_row(sign(_run_status(task) or "pending"), *cells, age(task["created_at"]))
    put(table)


def chosen(found: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of the fields that were chosen."""
    names = list(dict.fromkeys(name for each in found for name in each))
    table = new_table(*(name.upper() for name in names), folded={name.upper() for name in names} - {"ID"})
    for each in found:
        values = ("" if each.get(name) is None else each[name] for name in names)
        table.add_row(*(clean(value if isinstance(value, str) else orjson.dumps(value).decode()) for value in values))
    put(table)


def _run_status(task: Mapping[str, Any]) -> str:
    """Return the status of the latest run of a root, "" before the first; for other tasks, their own."""
    return task.get("run_status", task["status"]) or ""


def _how_far(task: Mapping[str, Any]) -> str:
    status = _run_status(task)
    return f"{status} {task['progress']:.0%}" if task["status"] == status == "in_progress" else status or "not run yet"


def _counts(task: Mapping[str, Any]) -> str:
    """Return the number of tasks of a tree, and of those that failed, if the list has them."""
    counts = task.get("task_counts")
    if not counts:
        return ""
    unrun = task.get("not_run_count", 0)
    words = (("failed", counts["failed"] - unrun), ("not run", unrun))
    return ", ".join([f"{sum(counts.values()):,}", *(f"{number:,} {word}" for word, number in words if number)])


def task(found: "Task") -> None:
    """Print one task, a field per line."""
    fields(found, without=("children",))


def fields(found: Mapping[str, Any], *, without: Sequence[str] = ()) -> None:
    """Print a task or a run, a field per line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("id", clean(found["id"]))
    table.add_row("name", clean(found["name"]))
    progress = f", {found['progress']:.0%}" if "progress" in found else ""
    status = found.get("run_status") or shown_status(found)
    table.add_row("status", Text.assemble(sign(status), f" {status.replace(NOT_RUN, 'not run')}{progress}"))
    for name, value in found.items():
        if name in ("id", "name", "status", "run_status", "progress", "not_run", *without) or value in (
            None,
            {},
            [],
            "",
        ):
            continue
        table.add_row(name, moment(str(value)) if name.endswith("_at") else _compact(value))
    out().print(table)


def _compact(value: Any) -> str:
    """Return the value on one line if it has at most 80 characters, else pretty-printed."""
    short = value if isinstance(value, str) else orjson.dumps(value).decode()
    return clean(short) if len(short) <= SHORT else pretty(value)


def pretty(value: Any) -> str:
    """Return a string as it is, any other value as indented JSON."""
    return clean_lines(value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def tree(root: "Task") -> None:
    """Print a tree with one line per task. If a map or loop has many parts, only those that failed have lines."""
    rows = list(walk(root, children=shown_children))
    tasks = [task for task, _ in rows]
    templates, seen = template_ids(root), looks(root)
    notes = {
        task["id"]: Text("template", "bright_black") if task["id"] in templates else note_of(task) for task in tasks
    }
    beside = len("100%") + (ERROR_WIDTH if any(notes.values()) else 0)
    table = Table.grid(
        Column(no_wrap=True, overflow="ellipsis", max_width=_room_for_names(tasks, beside=beside)),
        Column(no_wrap=True, style="bright_black"),
        Column(no_wrap=True, justify="right"),
        Column(overflow="fold"),
        padding=(0, GAP, 0, 0),
    )
    lines = [
        (
            Text.assemble((guides, "bright_black"), sign(seen[task["id"]]), " ", clean(task["name"])),
            Text(clean(task["id"])),
            Text(f"{task['progress']:.0%}"),
            notes[task["id"]],
        )
        for task, guides in rows
    ]
    for line in lines:
        table.add_row(*line)
    if least_width(table) <= out().width:
        put(table)
    else:
        for (name, task_id, progress, text), (_, guides) in zip(lines, rows, strict=True):
            out().print(Text.assemble(name, " " * GAP, (progress.plain, "bright_black")), soft_wrap=True)
            indent = len(guides) + GAP
            is_wide = len(task_id) + indent > out().width  # an id is never cut
            out().print(" " * (0 if is_wide else indent), Text(task_id.plain, "bright_black"), sep="", soft_wrap=True)
            if text:
                out().print(Padding(text, (0, 0, 0, indent)))
    if trouble := troubles(root):
        note(f"{trouble}.")
    if limits := cast("Json", root).get("budget"):
        note(f"Budget of the latest run: spent {', '.join(clean(limit['text']) for limit in limits)}.")


def note_of(task: "Task") -> Text:
    """Return the last column of a task in a tree: the progress of its parts, *from the cache*, and its error."""
    growth = growth_of(task)
    summary = growth.summary() if growth is not None else "from the cache" if task.get("cached_from") else ""
    error = clean(task["error"] or "")
    if shown_status(task) in ("skipped", NOT_RUN):
        return Text(error, "bright_black")
    return Text.assemble(
        (summary, "bright_black"),
        "  " if summary and error else "",
        (error, "red" if shown_status(task) == "failed" else "bright_black"),
    )


def _room_for_names(tasks: "Sequence[Task | ListedTask]", *, beside: int) -> int:
    """Return the width that is left for names beside full ids and the other columns, in characters."""
    ids = max(len(task["id"]) for task in tasks)
    return max(out().width - ids - beside - len("✓") - 6 * GAP, NAME_WIDTH)


def walk(
    root: "Task", guides: str = "", below: str = "", *, children: "Callable[[Task], Sequence[Any]]" = all_children
) -> "Iterator[tuple[Task, str]]":
    """Yield each task, parents first, with the line-drawing characters that lead to it."""
    yield root, guides
    found = children(root)
    for child in found:
        is_last = child is found[-1]
        ways = ("└── ", "    ") if is_last else ("├── ", "│   ")
        yield from walk(child, below + ways[0], below + ways[1], children=children)


def created(root: "StoredTree") -> None:
    tree(root)
    out().print(f"Stored. Run it: {command('run', root['id'])}")


def copied(answer: "StoredTree | list[Json]") -> None:
    """Print a stored copy as a tree, and a preview as the JSON that `tasks create` accepts."""
    if isinstance(answer, list):
        as_document(answer)
    else:
        created(answer)


def generated(answer: "Generated") -> None:
    """Print the tree as the file that `run` accepts. The message goes to standard error."""
    as_document(answer["tasks"])
    verb = "watch" if "run_id" in answer else "run"
    note(answer["message"], *([command(verb, answer["root_task_id"])] if "root_task_id" in answer else []))


def started(execution: "Execution") -> None:
    verb = "Already running" if execution["status"] == "already_running" else "Started"
    root_id = execution["root_task_id"]
    out().print(f"{verb}: {clean(root_id)}", f"Watch it: {command('watch', root_id)}", sep="\n", soft_wrap=True)


def ended(final: "Event", root: "Task") -> None:
    """Print the tasks that caused a failure, the result of the root, and the status of the run."""
    console = out()
    seen = statuses_of(root)
    failed = [task for task, _ in walk(root) if seen[task["id"]] == "failed"]
    for task in failed[:MOST_LINES]:
        console.print(Text(clean(f"{task['name']} ({task['id']}): {task['error']}"), "red"), soft_wrap=True)
    if len(failed) > MOST_LINES:
        more = len(failed) - MOST_LINES
        console.print(Text(f"… and {more:,} more failed: {command('tree', root['id'])}", "red"), soft_wrap=True)
    if final["result"] not in (None, {}):
        text = pretty(final["result"])
        lines = text.splitlines()
        if more := len(lines[MOST_LINES:]):
            text = "\n".join([*lines[:MOST_LINES], f"… {more:,} more lines: {command('get', root['id'])}"])
        console.print(text, soft_wrap=True)
    _, colour = SIGNS[final["status"]]
    trouble = troubles(root)
    console.print(f"Run {final['status']}{': ' if trouble else ''}{trouble}", style=colour)
    if final["status"] == "failed":
        note(f"After you fix the cause, run the rest: {command('run', root['id'])}")


def deleted(answer: "Deletion") -> None:
    count = answer["deleted_count"]
    out().print(f"Deleted {count} {'task' if count == 1 else 'tasks'}.")


def event_sent(answer: "SentEvent") -> None:
    count = answer["woken"]
    out().print(f"Sent event {clean(answer['id'])}. It woke {count:,} {'wait' if count == 1 else 'waits'}.")


def answered(answer: "Answered") -> None:
    out().print(f"{clean(answer['question'])} {_compact(answer['answer'])}", soft_wrap=True)


def cancelled(answers: "Sequence[Cancellation]") -> None:
    table = Table.grid(Column(), Column(no_wrap=True), Column(overflow="fold"), padding=(0, GAP, 0, 0))
    for answer in answers:
        table.add_row(sign(answer["status"]), clean(answer["task_id"]), clean(answer["message"]))
    put(table)


def states(found: "Sequence[Standing]") -> None:
    table = new_table("", "ID", "STATUS", "STARTED", "ERROR", folded=("ERROR",))
    for state in found:
        table.add_row(
            sign(shown_status(state)),
            clean(state["task_id"]),
            "not run" if state.get("not_run") else _how_far(state),
            moment(state["started_at"]),
            Text(clean(state["error"] or ""), "bright_black" if state.get("not_run") else "red"),
        )
    put(table)


def key_stored(answer: "LLMKeyStored") -> None:
    note(f"Stored the key …{clean(answer['last_four'])} for {clean(answer['provider'])}.")


def keys(answer: "LLMKeys") -> None:
    table = new_table("PROVIDER", "KEY", "STORED", "USED")
    for key in answer["keys"]:
        used = age(key["used_at"]) if key["used_at"] else "never"
        table.add_row(clean(key["provider"]), f"…{clean(key['last_four'])}", age(key["created_at"]), used)
    put(table)
    if not answer["keys"]:
        note(f"No keys yet. Store one: {command_line('keys', 'set', 'openai')}")


def key_deleted(answer: "LLMKeyDeleted") -> None:
    there = "Deleted the key" if answer["deleted"] else "There was no key"
    note(f"{there} for {clean(answer['provider'])}.")


def questions(answer: "OpenQuestions") -> None:
    table = new_table("TASK", "QUESTION", "ANSWERS", "ASSIGNEES", "ASKED")
    for question in answer["questions"]:
        form = (question["schema"] or {}).get("properties", {})
        kinds = ", ".join(question["options"] or (f"form: {', '.join(form)}" if form else "any",))
        text, names = " ".join(question["text"].split()), ", ".join(question["assignees"] or ("owner",))
        table.add_row(clean(question["task_id"]), clean(text), clean(kinds), clean(names), age(question["asked_at"]))
    put(table)
    if not answer["questions"]:
        note("No open questions.")


def secret_stored(answer: "SecretInfo") -> None:
    where = f", for {clean(', '.join(answer['allow_hosts']))} only" if answer["allow_hosts"] else ""
    note(f"Stored the secret {clean(answer['name'])}{where}. Tasks use it as {{{{secret.{clean(answer['name'])}}}}}.")


def secrets(answer: "Secrets") -> None:
    table = new_table("NAME", "SCOPE", "HOSTS", "STORED", "USED")
    for secret in answer["secrets"]:
        used = age(secret["used_at"]) if secret["used_at"] else "never"
        hosts = ", ".join(secret["allow_hosts"]) or "any"
        table.add_row(clean(secret["name"]), secret["scope"], clean(hosts), age(secret["created_at"]), used)
    put(table)
    if not answer["secrets"]:
        note(f"No secrets yet. Store one: {command_line('secrets', 'set', 'github_token')}")


def limits(answer: "NamedLimits") -> None:
    table = new_table("NAME", "LIMIT", "AT WORK", "WAITING", "SINCE")
    for each in answer["limits"]:
        at_work = "" if each["at_work"] is None else f"{each['at_work']:,}"
        table.add_row(
            clean(each["name"]),
            clean(orjson.dumps(each["limit"]).decode()),
            at_work,
            f"{each['waiting']:,}",
            age(each["since"]) if each["since"] else "",
        )
    put(table)
    if not answer["limits"]:
        note("No named limits yet.")
    for pause in answer["pauses"]:
        note(_paused(pause))


def _paused(pause: "Pause") -> str:
    by = clean(pause["paused_by"] or "an administrator")
    since = moment(pause["paused_at"]) if pause["paused_at"] else ""
    return f"The {pause['kind']} {clean(pause['name'])} is paused by {by} since {since}. Waiting: {pause['waiting']:,}."


def pause(answer: "Pause") -> None:
    if answer["is_paused"]:
        note(_paused(answer), "Workers apply it within seconds. Tasks at work continue.")
    else:
        note(f"The {answer['kind']} {clean(answer['name'])} is not paused.")


def limit(answer: "LimitDetail") -> None:
    limits({"limits": [answer], "pauses": []})
    if answer["tasks"]:
        table = new_table("TASK", "USER", "SINCE", "WAITS")
        for each in answer["tasks"]:
            table.add_row(clean(each["task_id"]), clean(each["user_id"]), age(each["since"]), clean(each["text"]))
        put(table)


def cached(answer: "CachedResults") -> None:
    table = new_table("EXECUTOR", "RESULTS", "BYTES", "OLDEST", "NEWEST")
    for each in answer["executors"]:
        counts = (f"{each['results']:,}", f"{each['bytes']:,}")
        table.add_row(clean(each["executor"]), *counts, age(each["oldest"]), age(each["newest"]))
    put(table)
    if not answer["executors"]:
        note("Nothing in the cache. A task with params.cache stores its result there.")


def cache_cleared(answer: "CacheCleared") -> None:
    note(f"Removed {answer['removed']:,} result{'' if answer['removed'] == 1 else 's'} from the cache.")


def limit_set(answer: "NamedLimit") -> None:
    note(f"Set the limit {clean(answer['name'])}. Workers apply it within seconds.")


def limit_deleted(answer: "LimitDeleted") -> None:
    name = clean(answer["name"])
    note(f"Deleted the limit {name}." if answer["deleted"] else f"No limit {name} was set.")


def file_stored(answer: "FileValue") -> None:
    put_line(orjson.dumps(answer).decode())


def file_fetched(answer: "Json") -> None:
    note(f"Stored {size(answer['bytes'])} in {clean(answer['path'])}.")


def files_fetched(answer: "list[Json]") -> None:
    for each in answer:
        put_line(clean(each["path"]))
    note(f"Stored {len(answer):,} file{'' if len(answer) == 1 else 's'}." if answer else "The run has no files.")


def files(answer: "Files") -> None:
    table = new_table("ID", "NAME", "TYPE", "SIZE", "CREATED")
    for each in answer["files"]:
        shown = size(each["bytes"] or 0) if each["is_complete"] else "arriving"
        table.add_row(each["id"], clean(each["name"]), clean(each["media_type"]), shown, age(each["created_at"]))
    put(table)
    if not answer["files"]:
        note(f"No files yet. Send one: {command_line('files', 'put', 'report.pdf')}")


def file_deleted(answer: "FileDeleted") -> None:
    note(f"Deleted the file {clean(answer['file_id'])}.")


def file_link(answer: "FileLink") -> None:
    put_line(answer["url"])


def size(count: int) -> str:
    """Return a number of bytes for people, such as 3.1 MB."""
    number = float(count)
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def secret_deleted(answer: "SecretDeleted") -> None:
    there = "Deleted the secret" if answer["deleted"] else "There was no secret"
    note(f"{there} {clean(answer['name'])}.")


def counts(answer: "Counts") -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column()
    table.add_column(justify="right")
    numbers: Mapping[str, Any] = answer
    for status in (*(each for each in SIGNS if each in numbers), "total"):
        table.add_row(sign(status) if status in SIGNS else "", status, f"{numbers[status]:,}")
    out().print(table)


def rows(found: Sequence[Mapping[str, Any]], *, nothing: str) -> None:
    """Print a table of rows with the same fields, or `nothing` if there are none.

    The first column (the identifier) and USER are not wrapped.
    """
    if not found:
        print(nothing)
        return
    headings = [name.replace("_", " ").upper() for name in found[0]]
    table = new_table(*headings, folded={*headings[1:]} - {"USER"})
    for row in found:
        cells = []
        for name, value in row.items():
            if isinstance(value, bool):
                cells.append("yes" if value else "no")
            else:
                cells.append(moment(value) if name in TIMES else "" if value is None else str(value))
        table.add_row(*map(clean, cells))
    put(table)


def executors(found: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of executors, and a note on those that are disabled."""
    rows(found, nothing="No executors.")
    if off := ", ".join(each["id"] for each in found if not each["enabled"]):
        note(f"Disabled: {clean(off)}. A task that uses one is rejected; the error says how to enable it.")
