"""`aipartnerupflow runs …`, `status` and `usage`: what ran, how it went, what failed and why, and what model calls cost."""

import json
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import Fields, asks, fields_of
from aipartnerupflow.cli.output import clean, note, put, table
from aipartnerupflow.costs import price
from aipartnerupflow.growth import shown_status
from aipartnerupflow.program import command as command_line

if TYPE_CHECKING:
    from aipartnerupflow.client import Client
    from aipartnerupflow.client.types import (
        CallUsage,
        Comparison,
        FailureGroup,
        GivenFeedback,
        Home,
        ModelCalls,
        ModelCallWithContent,
        Run,
        RunDetail,
        Runs,
        RunTree,
        Side,
        TokenUsage,
        Usage,
        UsageRow,
    )

runs = typer.Typer(no_args_is_help=True, help="List runs, show one with its tree, and compare two.")

RunId = Annotated[str, typer.Argument(help="Id of the run, from `runs list`.")]
PAGE = 1000
CALLS = 200
OF_RUNS = {"id", "name", "number", "flow", "tags", "status", "seconds", "token_usage", "created_at"}
"""The fields that the table shows."""
SHOWN = 300
"""The number of characters of an answer that a list shows."""


def show_runs(answer: "Runs") -> None:
    if not answer["runs"]:
        note("No runs.")
        return
    if not answer["runs"][0].keys() >= OF_RUNS:
        show.chosen(answer["runs"])
        return
    made = table("", "RUN", "NAME", "NO.", "FLOW", "TAGS", "STATUS", "TOOK", "TOKENS", "COST", "AGE", folded=["NAME"])
    for run in answer["runs"]:
        flow = run["flow"]
        of_flow = "" if flow is None else f"{clean(flow['name'] or 'deleted')} v{flow['version']:,}"
        used = (_tokens(run["token_usage"]), _cost(run["token_usage"]))
        cells = (
            clean(run["name"]),
            f"{run['number']:,}",
            of_flow,
            clean(" ".join(run["tags"])),
            run["status"],
            _took(run["seconds"]),
            *used,
        )
        made.add_row(show.sign(run["status"]), clean(run["id"]), *cells, show.age(run["created_at"]))
    put(made)
    if answer["next_cursor"] is not None:
        note("There are more. Raise --limit, or narrow the list with --since and --until.")


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f} s"


def _tokens(usage: "TokenUsage | CallUsage | None") -> str:
    return "" if usage is None else f"{usage['total_tokens']:,}"


def _cost(usage: "TokenUsage | None") -> str:
    """Dollars and cents; a small part of a cent with all of its digits."""
    cost = None if usage is None else usage["cost_usd"]
    return "" if cost is None else f"${cost:,.2f}" if cost >= 0.01 or not cost else f"${cost:.10f}".rstrip("0")


def show_calls(answer: "ModelCalls") -> None:
    if not answer["calls"]:
        note("No model calls.")
        return
    made = table("", "AGE", "TASK", "AGENT", "MODEL", "TOOK", "TOKENS", "COST", "ANSWER", folded=["TASK", "ANSWER"])
    for call in answer["calls"]:
        agent = " / ".join(clean(each) for each in (call["agent"], call["crew_task"]) if each)
        took = "" if call["duration_ms"] is None else _took(call["duration_ms"] / 1000)
        used = (_tokens(call["usage"]), _cost({"cost_usd": call["cost_usd"]}))
        content = call["content"]
        tools = [each.get("function", {}).get("name", "") for each in content["tool_calls"]] if content else []
        calls_of_tools = f"calls {', '.join(tools)}" if tools else ""
        outcome = call["error"] or (content and content["answer"]) or calls_of_tools
        cells = (clean(call["task_id"]), agent, clean(call["model"]), took, *used, clean(outcome)[:SHOWN])
        made.add_row(show.sign(call["status"]), show.age(call["started_at"]), *cells)
    put(made)
    if answer["next_cursor"] is not None:
        note("There are more. Raise --limit.")


def show_detail(answer: "RunDetail") -> None:
    show.fields(answer, without=("failures", "model_calls"))
    if answer["model_calls"]:
        note(f"The calls of its models: {command_line('runs', 'calls', clean(answer['id']))}")
    for failure in answer["failures"]:
        named, error = f"{clean(failure['name'])} ({clean(failure['task_id'])})", clean(failure["error"] or "")
        note(f"{named}: {error}" if failure.get("not_run") else f"{named} failed: {error}")
    if answer["status"] == "failed":
        root = answer["root_task_id"]
        note(
            f"Run it again from what failed: {show.command('run', root)}; or with other inputs: {show.command('fork', root)}"
        )


def show_tree(answer: "RunTree") -> None:
    show.tree(answer["tree"])
    for warning in answer["warnings"]:
        note(warning)


def show_comparison(answer: "Comparison") -> None:
    made = table("TASK", "A", "B", "A TOOK", "B TOOK", "DIFFERS", folded=["TASK", "DIFFERS"])
    for pair in answer["tasks"]:
        a, b = pair["a"], pair["b"]
        took = (_took(side["seconds"]) if side else "" for side in (a, b))
        difference = "only in B" if a is None else "only in A" if b is None else ", ".join(pair["changed"])
        made.add_row(clean(pair["name"]), _status(a), _status(b), *took, difference)
    put(made)
    if answer["a"]["inputs"] != answer["b"]["inputs"]:
        note("The inputs of the runs differ.")
    for warning in answer["warnings"]:
        note(warning)


def _status(side: "Side | None") -> str:
    return shown_status(side).replace("_", " ") if side else "absent"


@runs.command("list")
@asks(show_runs, piped=lambda answer: output.as_lines(answer["runs"]))
def list_runs(
    client: "Client",
    task: Annotated[str | None, typer.Option("--task", help="Only runs of the tree with this task.")] = None,
    flow: Annotated[str | None, typer.Option(help="Only runs of this flow.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Only runs with this status; may be repeated.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only runs with this tag.")] = None,
    text: Annotated[
        str | None, typer.Option("--search", help="Only runs with this text in their name, ID or errors.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs created at this time or later: a day, or a time in ISO 8601.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only runs created before this time.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only runs of this user. Administrators only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of runs.")] = 20,
    fields: Fields = None,
) -> Any:
    """List runs, the newest first."""
    given = {"task_id": task, "flow": flow, "status": status or None, "tag": tag, "text": text}
    given |= {"since": since, "until": until, "user_id": user}
    wanted: Any = {name: value for name, value in given.items() if value is not None} | fields_of(fields)
    found: list[Run] = []
    page = client.runs(limit=min(limit, PAGE), **wanted)
    while page["next_cursor"] is not None and len(found) + len(page["runs"]) < limit:
        found += page["runs"]
        page = client.runs(limit=min(limit - len(found), PAGE), cursor=page["next_cursor"], **wanted)
    return {"runs": list(islice([*found, *page["runs"]], limit)), "next_cursor": page["next_cursor"]}


@runs.command("show")
@asks(show_detail)
def show_run(client: "Client", run_id: RunId) -> Any:
    """Show one run with its inputs, and the first tasks that failed it."""
    return client.get_run(run_id)


@runs.command("calls")
@asks(show_calls, piped=lambda answer: output.as_lines(answer["calls"]))
def list_calls(
    client: "Client",
    run_id: RunId,
    task: Annotated[str | None, typer.Option("--task", help="Only the calls of this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of calls.")] = 100,
) -> Any:
    """List the model calls of a run with what was said, the oldest first."""
    found: list[ModelCallWithContent] = []
    cursor = None
    while len(found) < limit:
        page = client.model_calls(run_id, task_id=task, limit=min(limit - len(found), CALLS), cursor=cursor)
        found += page["calls"]
        if (cursor := page["next_cursor"]) is None:
            break
    return {"calls": found, "next_cursor": cursor}


@runs.command("tree")
@asks(show_tree)
def tree(client: "Client", run_id: RunId) -> Any:
    """Show the tree of a run as it was when the run ended."""
    return client.run_tree(run_id)


@runs.command("export")
@asks(output.as_document, piped=output.as_document)
def export(
    client: "Client",
    run_id: RunId,
    events: Annotated[bool, typer.Option("--events", help="Include the events of the run.")] = False,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", metavar="FILE", help="Store it as a ZIP archive, with the files of its tree."),
    ] = None,
) -> Any:
    """Print a whole run as JSON: its inputs, failures and model calls, and its tree as it was."""
    exported = client.export_run(run_id, events=events)
    if archive is None:
        return exported
    from aipartnerupflow.cli import archives, stored

    files: Any = [file["file"] for file in stored.files_of_run(client, run_id) if file["is_complete"]]
    return archives.write(client, archive, exported, name="run.json", files=files)


@runs.command("download")
@asks(show.files_fetched)
def download_files(
    client: "Client",
    run_id: RunId,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Local folder. It is created.")],
    force: Annotated[bool, typer.Option("--force", help="Replace local files of the same names.")] = False,
) -> Any:
    """Store all files that the tree of a run names, as inputs and as results."""
    from aipartnerupflow.cli.stored import download_all

    return download_all(client, run_id, folder, replaces=force)


@runs.command("compare")
@asks(show_comparison)
def compare(
    client: "Client",
    a: Annotated[str, typer.Argument(help="Id of a run.")],
    b: Annotated[str, typer.Argument(help="Id of another run.")],
    changed_only: Annotated[
        bool, typer.Option("--changed-only", help="Leave out the tasks in which nothing differs.")
    ] = False,
) -> Any:
    """Compare two runs task by task."""
    return client.compare_runs(a, b, changed_only=changed_only)


NAMELESS: Final = {"flow": "no flow"}
"""Group → the text for null; in other groups it is 'unknown'."""


class Group(StrEnum):
    """The groups that rows may sum up."""

    DAY = "day"
    MODEL = "model"
    EXECUTOR = "executor"
    FLOW = "flow"
    USER = "user"


def show_usage(answer: "Usage") -> None:
    """Print a table of the rows, and their total."""
    made = table(*(name.upper() for name in answer["by"]), "CALLS", "PROMPT", "COMPLETION", "TOKENS", "COST")
    for row in answer["rows"]:
        named = (row.get(name) or NAMELESS.get(name, "unknown") for name in answer["by"])
        made.add_row(*(clean(str(each)) for each in named), *_numbers(row))
    if answer["rows"] or not answer["by"]:
        made.add_row(*(["total", *[""] * (len(answer["by"]) - 1)] if answer["by"] else []), *_numbers(answer["total"]))
        put(made)
    else:
        note(f"No model was called from {answer['since']} to {answer['until']}.")
    if limits := answer["today"]:
        note(f"Today: spent {', '.join(clean(limit['text']) for limit in limits)}.")
    if unpriced := answer["total"]["unpriced_calls"]:
        note(f"The cost leaves out {unpriced:,} calls whose price is unknown.")


def _numbers(row: "UsageRow") -> tuple[str, ...]:
    counts = (row["calls"], row["prompt_tokens"], row["completion_tokens"], row["total_tokens"])
    cost = row["cost_usd"]
    return *(f"{count:,}" for count in counts), "unknown" if cost is None else price(cost)


@asks(show_usage, piped=lambda answer: output.as_lines(answer["rows"]))
def usage(
    client: "Client",
    since: Annotated[
        str | None, typer.Option(help="First day, in UTC, such as 2026-11-01 (default: 29 days before the last).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Last day (default: today).")] = None,
    by: Annotated[
        list[Group] | None, typer.Option(help="Group the sums by this; may be repeated (default: day).")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    executor: Annotated[str | None, typer.Option(help="Only this executor.")] = None,
    flow: Annotated[str | None, typer.Option(help="Only this flow.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user. Administrators only.")] = None,
) -> Any:
    """Show the tokens and the cost of model calls."""
    groups: Any = [each.value for each in by] if by else None
    return client.usage(since=since, until=until, by=groups, model=model, executor=executor, flow=flow, user_id=user)


def show_feedback(answer: "GivenFeedback") -> None:
    score = answer.get("score")
    note("The score is removed." if score is None else f"Scored {clean(score['name'])}: {clean(str(score['value']))}.")


@runs.command("feedback")
@asks(show_feedback)
def feedback(
    client: "Client",
    run_id: RunId,
    score: Annotated[
        str, typer.Argument(help="A number, true, false or a category, which is one word; null removes the score.")
    ],
    note: Annotated[str | None, typer.Option("--note", help="Comment.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the score (feedback).")] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Id of a task of the run, instead of the whole run.")
    ] = None,
    person: Annotated[bool, typer.Option("--person", help="A person of your team says so, not an end user.")] = False,
) -> "GivenFeedback":
    """Score a run, as a person or an end user does. It replaces the score before it."""
    try:
        value = json.loads(score)
    except ValueError:
        value = score
    said: dict[str, Any] = {} if note is None else {"note": note}
    return client.set_feedback(
        run_id=run_id, task_id=task, name=name, source="person" if person else None, score=value, **said
    )


STATES: Final = {"failing": "still failing", "over": "completes again", "": ""}
LONGEST_CAUSE: Final = 180
FLOWS_NAMED: Final = 6


def show_home(answer: "Home") -> None:
    """Print what failed by cause, what is held up, and how much else there was."""
    totals, load = answer["totals"], answer["load"]
    of_runs = f"{totals['runs']:,} run{'' if totals['runs'] == 1 else 's'}"
    output.line(f"{totals['failed']:,} of {of_runs} failed since {show.moment(answer['since'])}.")
    made = table("FAILED", "ERROR", "FLOWS", "STATE", "LAST", folded={"ERROR", "FLOWS", "STATE"})
    for group in answer["failures"]:
        error = clean(group["error"] or group["pattern"]) or "(deleted)"
        states = [STATES[group["state"]], "first time in 30 days" if group["is_new"] else ""]
        made.add_row(
            f"{group['runs']:,} run{'' if group['runs'] == 1 else 's'}",
            error if len(error) <= LONGEST_CAUSE else f"{error[: LONGEST_CAUSE - 1]}…",
            _shares(group),
            ", ".join(filter(None, states)),
            show.age(group["last_at"]),
        )
    if made.row_count:
        put(made)
    if (others := answer["causes"] - len(answer["failures"])) > 0:
        note(f"{others:,} more causes are left out.")
    troubles = table("", "NAME", "SINCE", "WHY", folded={"WHY"})
    for trouble in answer["troubles"]:
        why = f"{trouble['count']:,} times, last: {trouble['reason']}" if trouble["count"] > 1 else trouble["reason"]
        troubles.add_row(trouble["kind"], clean(trouble["name"]), show.moment(trouble["at"]), clean(why))
    if troubles.row_count:
        put(troubles)
    asked = f"{answer['questions']:,} question{'' if answer['questions'] == 1 else 's'} open"
    workers = f"{load['workers']:,} worker{'' if load['workers'] == 1 else 's'}"
    output.line(f"{load['running']:,} running, {load['queued']:,} queued, {workers}, {asked}.")
    before = answer["week_before"]
    note(f"Tokens {totals['total_tokens']:,}; a week before {before['total_tokens']:,}.")
    note(f"Cost {price(totals['cost_usd'])}; a week before {price(before['cost_usd'])}.")


def _shares(group: "FailureGroup") -> str:
    first = [
        f"{clean(NAMELESS['flow'] if each['name'] == '' else each['name'] or 'deleted flow')} {each['runs']:,}"
        for each in group["flows"][:FLOWS_NAMED]
    ]
    rest = len(group["flows"]) - len(first)
    return ", ".join([*first, f"{rest:,} more"] if rest else first)


@asks(show_home, piped=lambda answer: output.as_lines(answer["failures"]))
def status(
    client: "Client",
    since: Annotated[
        str | None,
        typer.Option(help="1h, 24h, 7d, or a time in ISO 8601 (default: the last visit of the first page)."),
    ] = None,
) -> Any:
    """Show what failed since your last visit, by cause, and what is late, stuck or asked."""
    return client.home(since)
