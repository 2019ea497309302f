"""Why a task waits, failed or was not run: from what the server says of its tree, in sentences. Pure."""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

Json = Mapping[str, Any]
NOT_RUN: Final = re.compile(r"Not run: required dependency '(.*)' failed")
ENDED: Final = frozenset({"completed", "failed", "cancelled"})
MOST_NAMED: Final = 20
"""Of the tasks that may ask, and of those that failed."""


def explain(
    task_id: str,
    root: Json,
    *,
    is_running: bool,
    checks: Mapping[str, Json],
    last_message: str,
    questions: Mapping[str, Json],
) -> list[str]:
    """`root` is the tree with nested `children`, `checks` those of the server's health, `last_message` the task's newest event's.

    `questions`: what the tasks of `may_ask` do ask, by their ids.
    """
    tasks = {task["id"]: task for task in _walk(root)}
    task = tasks[task_id]
    asking = [each for each in _behind(task, tasks) if each["id"] in questions]
    why = {
        "pending": lambda: _waits(task, tasks, root["id"], is_running=is_running, checks=checks, is_asked=bool(asking)),
        "in_progress": lambda: iter(()) if task_id in questions else _works(task, last_message),
        "completed": lambda: _completed(task, root["id"]),
        "failed": lambda: _failed(task, tasks, root["id"]),
        "cancelled": lambda: iter([f"It was cancelled: {task['error']}", _again(root["id"])]),
    }
    said = [f"'{task['name']}' ({task_id}) is {task['status']}.", *why[task["status"]]()]
    for each in asking:
        said += _asks("It" if each is task else f"'{each['name']}' ({each['id']})", each["id"], questions[each["id"]])
    return said


def may_ask(task_id: str, root: Json) -> list[str]:
    """The ids of the tasks whose answers the task may wait for, its own among them; not all of very many."""
    tasks = {task["id"]: task for task in _walk(root)}
    at_work = [each["id"] for each in _behind(tasks[task_id], tasks) if each["status"] == "in_progress"]
    return at_work[:MOST_NAMED]


def _behind(task: Json, tasks: Mapping[str, Json]) -> list[Json]:
    """The task, what it depends on and what is below it, and so on: the nearest first."""
    found = {task["id"]: task}
    queue = [task]
    for each in queue:
        near = [*(tasks[item["id"]] for item in each["dependencies"]), *(each.get("children") or ())]
        new = {other["id"]: other for other in near if other["id"] not in found}
        found |= new
        queue += new.values()
    return queue


def _asks(who: str, task_id: str, question: Json) -> Iterator[str]:
    options = question["options"] or []
    text = " ".join(question["text"].split())
    yield f"{who} asks: {text}" + (f" ({', '.join(options)})." if options else "")
    until = f", at the latest at {question['expires_at']}" if question["expires_at"] else ""
    answer = shlex.quote(options[0]) if options else "'YOUR ANSWER'"
    yield f"Answer it{until}: aipartnerupflow tasks answer {shlex.quote(task_id)} {answer}"


def _walk(task: Json) -> Iterator[Json]:
    yield task
    for child in task.get("children") or ():
        yield from _walk(child)


def _waits(
    task: Json, tasks: Mapping[str, Json], root_id: str, *, is_running: bool, checks: Mapping[str, Json], is_asked: bool
) -> Iterator[str]:
    if not is_running:
        yield "Nothing runs its tree now."
        yield f"Start it: aipartnerupflow tasks run {root_id}"
        return
    open_ones = [tasks[each["id"]] for each in task["dependencies"] if tasks[each["id"]]["status"] not in ENDED]
    if not (task.get("schemas") or {}).get("method"):
        open_ones += [child for child in task.get("children") or () if child["status"] not in ENDED]
    for other in open_ones:
        yield f"It waits for '{other['name']}' ({other['id']}), which is {_how_far(other)}."
    if open_ones and not is_asked:
        yield f"Why that one takes its time: aipartnerupflow explain {open_ones[0]['id']}"
    if open_ones:
        return
    troubles = [check for check in checks.values() if not check["ok"]]
    for check in troubles:
        yield f"{check['message']} {check['fix']}"
    if not troubles:
        yield (
            "It may start: it waits for a place in a worker (worker.max_tasks, worker.max_trees). "
            "Users take turns; of one user's tasks the urgent go first."
        )


def _how_far(task: Json) -> str:
    return f"{task['status']} ({task['progress']:.0%})" if task["status"] == "in_progress" else str(task["status"])


def _works(task: Json, last_message: str) -> Iterator[str]:
    yield f"It works since {task['started_at']}, in attempt {task['attempt']}, and is at {task['progress']:.0%}."
    if last_message:
        yield f"It said last: {last_message}"
    timeout = (task.get("params") or {}).get("timeout_seconds")
    yield (
        f"It may take {timeout} s (params.timeout_seconds)."
        if timeout
        else "It has no timeout (params.timeout_seconds)."
    )
    yield f"Stop it: aipartnerupflow tasks cancel {task['id']}"


def _completed(task: Json, root_id: str) -> Iterator[str]:
    """A task may complete although something below it did not."""
    yield f"It completed at {task['completed_at']}, in attempt {max(1, task['attempt'])}."
    bad = [each for each in _walk(task) if each["status"] in ("failed", "cancelled")]
    causes = [each for each in bad if not NOT_RUN.match(each["error"] or "")]
    for each in causes[:MOST_NAMED]:
        yield f"Below it '{each['name']}' ({each['id']}) is {each['status']}: {each['error']}"
    if more := len(causes[MOST_NAMED:]):
        yield f"{more:,} more below it failed or were cancelled."
    if blocked := len(bad) - len(causes):
        yield f"{blocked:,} below it {'was' if blocked == 1 else 'were'} not run because of what failed."
    if bad:
        yield _again(root_id)


def _failed(task: Json, tasks: Mapping[str, Json], root_id: str) -> Iterator[str]:
    seen = {task["id"]}
    while (found := NOT_RUN.match(task["error"] or "")) and found[1] in tasks and found[1] not in seen:
        task = tasks[found[1]]
        seen.add(task["id"])
        yield f"It was not run, because it requires '{task['name']}' ({task['id']}), which is {task['status']}."
    yield f"The error: {task['error']}"
    if task["attempt"] > 1:
        yield f"It was tried {task['attempt']} times."
    yield _again(root_id)


def _again(root_id: str) -> str:
    return f"Once the cause is gone, run what is left of the tree: aipartnerupflow tasks run {root_id}"
