"""Sentences that explain why a task is waiting, has failed or was not run.

Pure: works on replies of the server.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from signal import Signals
from types import MappingProxyType
from typing import Any, Final

from aipartnerupflow.growth import NOT_RUN, NOUNS, counted, growth_of, shown_status
from aipartnerupflow.program import command

Json = Mapping[str, Any]
ENDED: Final = frozenset({"completed", "failed", "cancelled", "skipped"})
STATES: Final = MappingProxyType(
    {
        "pending": "is pending",
        "in_progress": "is in progress",
        "completed": "has completed",
        "failed": "has failed",
        "cancelled": "was cancelled",
        "skipped": "was skipped",
    }
)
"""Each status as a predicate."""
SHOWN: Final = ("completed", "failed", "cancelled", "skipped", "in_progress", "pending")
FAILURES_NAMED: Final = 3
MOST_NAMED: Final = 20
"""The limit for tasks whose questions are read, and for failed descendants that are listed."""


def explain(
    task_id: str,
    root: Json,
    *,
    is_running: bool,
    checks: Mapping[str, Json],
    last_message: str,
    questions: Mapping[str, Json],
    waits: Mapping[str, Json],
) -> list[str]:
    """Explain the state of a task.

    `root` is the tree with nested `children` (`tasks.tree`), `checks` come from `system.health`,
    `last_message` is the message of the task's latest event. `questions` and `waits` map ids from
    `may_ask` to their open questions, and to the times, events, limits and runs (`run`) for which they wait.
    """
    tasks = {task["id"]: task for task in _walk(root)}
    task = tasks[task_id]
    asking = [each for each in _behind(task, tasks) if each["id"] in {*questions, *waits}]
    why = {
        "pending": lambda: _waits(task, tasks, root["id"], is_running=is_running, checks=checks, is_asked=bool(asking)),
        "in_progress": lambda: iter(()) if task_id in {*questions, *waits} else _works(task, last_message),
        "completed": lambda: _completed(task, root["id"]),
        "failed": lambda: _failed(task, tasks, root["id"]),
        "cancelled": lambda: iter([f"Reason: {task['error']}", _again(root["id"])]),
        "skipped": lambda: iter([f"Reason: {task['error']}"]),
    }
    grown = [*_part_of(task, tasks), *_parts("It", task)]
    if template_of := _template_of(task, tasks):
        return [f"{named(task)} is part of the template of {named(template_of)}, which runs copies of it."]
    state = f"{named(task)} {'was not run' if task.get('not_run') else STATES[task['status']]}."
    if task["status"] == "completed" and task.get("run_status") in ("failed", "cancelled"):
        # Of a root that has completed: other tasks of the tree failed its run.
        state = f"The run of {named(task)} {STATES[task['run_status']]}."
    sentences = [state, *grown, *why[task["status"]](), *_checked(task)]
    if limits := root.get("budget"):
        sentences.append(f"Its run has spent {', '.join(limit['text'] for limit in limits)}.")
    for each in asking:
        who = "It" if each is task else named(each)
        is_question = each["id"] in questions
        sentences += _asks(who, each["id"], questions[each["id"]]) if is_question else _parked(who, waits[each["id"]])
    return sentences


def started_by(run: Json | None) -> list[str]:
    """Say which schedule has started the latest run of a tree; nothing if none has."""
    if run is None or run["schedule_id"] is None:
        return []
    how = command("schedules", "get", run["schedule_id"])
    return [f"Its run {run['number']:,} was started by a schedule, for {run['scheduled_for']}: {how}"]


def code_for(run: Json) -> Iterator[str]:
    """Say for which code of workflows the run waits, and how to continue it."""
    for need in run["needs_code"]:
        code = f"version {need['version']} of {need['workflow']}" if need["version"] else need["workflow"]
        if need["has_worker"]:
            yield f"'{need['task_id']}' waits for {code}, since {need['since']}: for a worker that has it, and a free place."
            continue
        yield f"'{need['task_id']}' waits for {code}, which no worker has, since {need['since']}."
        if difference := need["difference"]:
            yield difference
        yield (
            f"Deploy that code; or cancel the task, and run it again with the code that the workers have: "
            f"{command('tasks', 'cancel', need['task_id'])}, then {command('tasks', 'run', run['root_task_id'])}"
            if need["version"]
            else f"Deploy that code, or cancel the task: {command('tasks', 'cancel', need['task_id'])}"
        )


def deaths_of(suspicion: Json) -> Iterator[str]:
    """Say which worker processes died with the run, and which of the deaths count against it."""
    if strikes := suspicion["strikes"]:
        yield f"Its run counts as the cause of {counted(strikes, 'death')} of worker processes since it last made progress."
    for death in suspicion["deaths"]:
        how = "while code of this run was executing" if death["was_executing"] else "that had this run for itself"
        code = death["exit_code"]
        killed_by = next((each.name for each in Signals if each == -code), f"signal {-code}")
        ending = f"was killed by {killed_by}" if code < 0 else f"ended with exit code {code}"
        yield f"At {death['at']} a worker process {ending} {how}."
    if suspicion["is_suspected"]:
        yield (
            f"It is suspected since {suspicion['since']}, and runs in a process of its own until a task of it has ended "
            "(worker.quarantine)."
        )
    if suspicion["is_waiting"]:
        yield (
            f"It waits for such a process, as {counted(suspicion['waiting'], 'suspected run')} do, users in turn; "
            f"the oldest of all is suspected since {suspicion['oldest']}."
        )
    if lost := suspicion["host_losses"]:
        yield f"Its server or machine was lost {counted(lost, 'time')} while it ran, which does not count against it."


def named(task: Json) -> str:
    return f"'{task['name']}' ({task['id']})"


def _checked(task: Json) -> Iterator[str]:
    """Say which checks of the task did not pass, and how many did."""
    checks: list[Json] = task.get("checks") or []
    for check in checks:
        if not check["passed"]:
            yield f"Its check '{check['name']}' on the {check['on']} did not pass: {check['reason']}; then: {check['then']}."
    if passed := sum(check["passed"] for check in checks):
        yield f"{counted(passed, 'check')} of it passed."


def _template_of(task: Json, tasks: Mapping[str, Json]) -> Json | None:
    """Return the map or loop above the task that runs copies of it, or None."""
    below = task
    while above := tasks.get(below.get("parent_id") or ""):
        growth = growth_of(above)
        if growth is not None and any(each is below for each in growth.template):
            return above
        below = above
    return None


def _part_of(task: Json, tasks: Mapping[str, Json]) -> Iterator[str]:
    """Say which item or round the task is, or what added it."""
    spawner = tasks.get(task.get("spawned_by") or "")
    growth = growth_of(spawner) if spawner is not None else None
    if growth is None:
        return
    if growth.kind == "spawner":
        yield f"It was added by {named(growth.task)}."
        return
    number = next(n for n, part in enumerate(growth.parts, start=1) if any(each is task for each in part))
    yield f"It belongs to {NOUNS[growth.kind]} {number:,} of {len(growth.parts):,} of {named(growth.task)}."


def _parts(who: str, task: Json) -> Iterator[str]:
    """Say how far the parts of a map, loop or spawner are."""
    growth = growth_of(task)
    if growth is None or not growth.parts:
        return
    counts = Counter(growth.statuses())
    words = {"in_progress": "running"}
    if growth.failed:
        first = [f"{each['id']}: {(each['error'] or '').rstrip('.')}" for each in growth.failed[:FAILURES_NAMED]]
        more = len(growth.failed) - FAILURES_NAMED
        words["failed"] = f"failed ({'; '.join(first)}{f'; and {more:,} more' if more > 0 else ''})"
    states = ", ".join(f"{counts[status]:,} {words.get(status, status)}" for status in SHOWN if counts[status])
    if growth.kind == "map":
        yield f"{who} is a map over {counted(len(growth.parts), 'item')}: {states}."
    elif growth.kind == "spawner":
        yield f"{who} added {counted(len(growth.parts), 'task')}: {states}."
    elif task["status"] == "in_progress":
        yield f"{who} is in round {len(growth.parts):,} of at most {growth.most:,}."
    else:
        yield f"{who} ran {counted(len(growth.parts), 'round')} of at most {growth.most:,}."


def may_ask(task_id: str, root: Json) -> list[str]:
    """Return the ids of tasks on which this task waits, itself included, that run or could; at most MOST_NAMED.

    Any of them may have an open question, or wait for a time, an event, a limit or a run.
    """
    tasks = {task["id"]: task for task in _walk(root)}
    behind = _behind(tasks[task_id], tasks)
    at_work = [each["id"] for each in behind if each["status"] == "in_progress"]
    # A task that asks about the budget, or waits for a limit, has not started.
    pending = [each for each in behind if each["status"] == "pending"]
    ready = [
        each["id"] for each in pending if all(tasks[item["id"]]["status"] in ENDED for item in each["dependencies"])
    ]
    return [*at_work, *ready][:MOST_NAMED]


def _behind(task: Json, tasks: Mapping[str, Json]) -> list[Json]:
    """Return the task and, transitively, its dependencies and descendants, the nearest first."""
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
    form = (question.get("schema") or {}).get("properties", {})
    choice = f" ({', '.join(options)})." if options else f" (a form: {', '.join(form)})." if form else ""
    whom = "".join(f" {name}" for name in question.get("assignees") or ())
    yield f"{who} asks{whom}: {text}{choice}"
    until = f" by {question['expires_at']}" if question["expires_at"] else ""
    example = json.dumps(dict.fromkeys(form, "…"), ensure_ascii=False) if form else "YOUR ANSWER"
    answer = options[0] if options else example
    yield f"Answer it{until}: {command('tasks', 'answer', task_id, answer)}"


def _parked(who: str, wait: Json) -> Iterator[str]:
    if wait["kind"] == "time":
        yield f"{who} waits until {wait['until']}. It needs no worker meanwhile."
        return
    if wait["kind"] == "run":
        until = f", until {wait['until']} at most" if wait["until"] else ""
        run = wait["run"]
        yield f"{who} waits{until} for the tree '{run['task_id']}', which {STATES[run['status']]}."
        yield f"Find out why: {command('explain', run['task_id'])}"
        return
    if wait["kind"] == "limit":
        yield f"{who} waits since {wait['since']} {wait['text']}. It needs no worker meanwhile, and starts when its turn comes."
        return
    if wait["kind"] == "call":
        yield f"{who} waits since {wait['since']} {wait['text']}. It needs no worker meanwhile, and takes that result."
        return
    match = f" with {json.dumps(wait['match'])}" if wait["match"] else ""
    until = f" until {wait['until']}" if wait["until"] else ""
    yield f"{who} waits{until} for the event '{' '.join(wait['event'].split())}'{match}."
    yield f"Send it: {command('events', 'send', wait['event'], '--payload', 'JSON')}"
    if address := wait["hook_url"]:
        yield f"Or POST its payload, once and without a login, to {address}"
        if not address.startswith("http"):
            yield "This is a path below the address of the server: set server.public_url to make it a URL."


def _walk(task: Json) -> Iterator[Json]:
    yield task
    for child in task.get("children") or ():
        yield from _walk(child)


def _waits(
    task: Json, tasks: Mapping[str, Json], root_id: str, *, is_running: bool, checks: Mapping[str, Json], is_asked: bool
) -> Iterator[str]:
    if not is_running:
        yield "Its tree is not running."
        yield f"Start it: {command('tasks', 'run', root_id)}"
        return
    open_ones = [tasks[each["id"]] for each in task["dependencies"] if tasks[each["id"]]["status"] not in ENDED]
    if not (task.get("schemas") or {}).get("method"):
        growth = growth_of(task)
        children = task.get("children") or () if growth is None else [part[0] for part in growth.parts]
        open_ones += [child for child in children if child["status"] not in ENDED]
    for other in open_ones[:MOST_NAMED]:
        progress = f" ({other['progress']:.0%})" if other["status"] == "in_progress" else ""
        yield f"It waits for {named(other)}, which {STATES[other['status']]}{progress}."
        yield from _parts(named(other), other)
    if more := len(open_ones[MOST_NAMED:]):
        yield f"It waits for {more:,} more."
    if open_ones and not is_asked:
        yield f"Find out why: {command('explain', open_ones[0]['id'])}"
    if is_asked:
        return
    troubles = [check for check in checks.values() if not check["ok"]]
    for check in troubles:
        yield f"{check['message']} {check['fix']}"
    queue = checks.get("queue", {}).get("message", "")
    if not open_ones and queue.startswith("maintenance"):
        yield f"Workers begin no run: {queue}."
    elif not troubles and not open_ones:
        yield (
            "It is ready and waits for a worker with free capacity (worker.max_tasks, worker.max_trees) or, if it runs in a "
            "process of its own, for a place there (pools.process.size, pools.process.cpus). "
            "Users share the workers equally, and none may hold more than a part of one (worker.user_share, shares); "
            "each user's most urgent tasks start first."
        )


def _works(task: Json, last_message: str) -> Iterator[str]:
    yield f"It has been running since {task['started_at']}, in attempt {max(1, task['attempt'])}, {task['progress']:.0%} done."
    if last_message:
        yield f"Latest message: {last_message}"
    timeout = (task.get("params") or {}).get("timeout_seconds")
    yield (
        f"Its timeout is {timeout} s (params.timeout_seconds)."
        if timeout
        else "It has no timeout (params.timeout_seconds)."
    )
    yield f"Cancel it: {command('tasks', 'cancel', task['id'])}"


def _completed(task: Json, root_id: str) -> Iterator[str]:
    """Yield the reasons for a completed task, which may have descendants that failed or were cancelled."""
    if taken := task.get("cached_from"):
        whose = f"task '{taken['task_id']}'" if taken["task_id"] else "a task of another user"
        yield f"It completed at {task['completed_at']} with the result of {whose}, which the cache had since {taken['at']}."
    else:
        yield f"It completed at {task['completed_at']}, in attempt {max(1, task['attempt'])}."
    bad = [each for each in _walk(task) if shown_status(each) in ("failed", NOT_RUN, "cancelled")]
    causes = [each for each in bad if not each.get("not_run")]
    for each in causes[:MOST_NAMED]:
        yield f"Its descendant '{each['name']}' ({each['id']}) {STATES[each['status']]}: {each['error']}"
    if more := len(causes[MOST_NAMED:]):
        yield f"{more:,} more {'descendant' if more == 1 else 'descendants'} failed or were cancelled."
    if blocked := len(bad) - len(causes):
        yield f"{blocked:,} {'descendant was' if blocked == 1 else 'descendants were'} not run: a dependency failed."
    if bad:
        yield _again(root_id)


def _failed(task: Json, tasks: Mapping[str, Json], root_id: str) -> Iterator[str]:
    if cause := tasks.get(task.get("cause_id") or ""):
        through = "" if cause["id"] in {each["id"] for each in task["dependencies"]} else ", through other tasks"
        yield f"It requires {named(cause)}, which {STATES[cause['status']]}{through}."
        task = cause
    yield f"Error: {task['error']}"
    if task["attempt"] > 1:
        yield f"It was tried {task['attempt']} times."
    yield _again(root_id)


def _again(root_id: str) -> str:
    return f"After you fix the cause, run the rest of the tree: {command('tasks', 'run', root_id)}"
