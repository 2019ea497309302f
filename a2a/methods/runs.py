"""Methods for the history of runs: list, read and compare them, and run a tree again from the middle."""

from dataclasses import asdict

from a2a.core.mapping import native_call, native_content, native_task, native_time, native_tree
from a2a.methods import chosen_fields, run_params
from a2a.methods.execute import replied, start
from a2a.methods.results import DataResult, TaskResult
from accounts.callers import Caller
from llmkeys.header import SentKey
from tasks.models import Run, Task
from tasks.queue.leases import Suspects
from tasks.rules.strict_json import Json
from tasks.rules.words import as_sent
from tasks.services import history
from tasks.services.history import comparisons, run_exports
from tasks.services.history.past_trees import past_tree
from tasks.services.spending import model_calls
from tasks.services.trees import forks
from tasks.services.trees.idempotency import Token


def list_runs(caller: Caller, given: run_params.ListRuns) -> DataResult:
    """Return a page of runs, the newest first."""
    wanted = history.RunFilter(
        task_id=given.task_id,
        flow=given.flow,
        statuses=given.statuses,
        tag=given.tag,
        text=given.text,
        user_id=given.user_id,
        since=None if given.since is None else run_params.moment(given.since),
        until=None if given.until is None else run_params.moment(given.until),
    )
    runs, next_cursor = history.list_runs(caller=caller, wanted=wanted, limit=given.limit, cursor=given.cursor)
    names = chosen_fields.chosen(given.fields)
    shown = [chosen_fields.picked(native_run(facts), names) for facts in runs]
    return DataResult(native={"runs": shown, "next_cursor": next_cursor})


def get(caller: Caller, given: run_params.GetRun) -> DataResult:
    """Return a run with its inputs and its failures."""
    return DataResult(native=native_detail(history.get_run(caller=caller, run_id=given.run_id)))


def native_detail(found: history.RunDetail) -> Json:
    """Return a run with what it got and what failed in it."""
    parent = found.parent and {"run_id": found.parent.run_id, "task_id": found.parent.task_id}
    more = {"inputs": found.inputs, "parent_run": parent, "failures": [asdict(each) for each in found.failures]}
    calls = {"model_calls": [native_call(call) for call in found.calls]}
    return native_run(found.facts) | more | calls | {"suspicion": _suspicion(found.facts.run, found.suspects)}


def _suspicion(run: Run, others: Suspects | None) -> Json:
    shown = ("at", "exit_code", "was_executing")
    return {
        "is_suspected": others is not None,
        "since": native_time(run.suspected_at if others else None),
        "is_waiting": others is not None and run.lease_owner is None,
        "waiting": others.waiting if others else 0,
        "oldest": native_time(others.oldest_at if others else None),
        "strikes": run.strikes,
        "losses": run.losses,
        "host_losses": run.host_losses,
        "deaths": [{name: death[name] for name in shown} for death in run.deaths or ()],
    }


def calls(caller: Caller, given: run_params.ListCalls) -> DataResult:
    """Return a page of the model calls of a run with what was said, the oldest first."""
    found, next_cursor = model_calls.list_calls(
        caller=caller, run_id=given.run_id, task_id=given.task_id, limit=given.limit, cursor=given.cursor
    )
    shown = [native_call(call) | {"content": native_content(call.content)} for call in found]
    return DataResult(native={"calls": shown, "next_cursor": next_cursor})


def tree(caller: Caller, given: run_params.GetRunTree) -> DataResult:
    """Return the tree of a run as it stood when the run ended."""
    past = past_tree(caller=caller, run_id=given.run_id)
    shown = {"run": native_run(past.facts), "tree": native_tree(past.tasks), "warnings": past.warnings}
    return DataResult(native=shown)


def export(caller: Caller, given: run_params.ExportRun) -> DataResult:
    """Return a run as a whole, for a file: its inputs, its tree as it stood when the run ended, and its events."""
    found = run_exports.export(caller=caller, run_id=given.run_id, with_events=given.events)
    return DataResult(native=native_export(found))


def native_export(found: run_exports.RunExport) -> Json:
    """Return a whole run, as clients get it."""
    shown = {
        "run": native_detail(found.detail),
        "tree": native_tree(found.past.tasks),
        "warnings": found.past.warnings,
    }
    if found.events is None:
        return shown
    return shown | {"events": [as_sent(event, has_tokens=False) for event in found.events]}


def compare(caller: Caller, given: run_params.CompareRuns) -> DataResult:
    """Compare two runs task by task."""
    found = comparisons.compare(caller=caller, a=given.a, b=given.b)
    pairs = [pair for pair in found.pairs if not given.changed_only or pair.is_changed]
    a, b = (native_run(run) | {"inputs": inputs} for run, inputs in zip((found.a, found.b), found.inputs, strict=True))
    return DataResult(native={"a": a, "b": b, "tasks": [_pair(pair) for pair in pairs], "warnings": found.warnings})


def _pair(pair: comparisons.Pair) -> Json:
    return {
        "key": pair.key,
        "name": pair.name,
        "a": pair.a and _side(pair.a),
        "b": pair.b and _side(pair.b),
        "changed": pair.changed,
    }


def _side(task: Task) -> Json:
    shown = native_task(task)
    fields = ("status", "inputs", "params", "result", "error", "token_usage")
    return {"task_id": task.id, "seconds": comparisons.seconds_of(task)} | {name: shown[name] for name in fields}


async def fork(
    caller: Caller, given: run_params.Fork, *, token: Token | None = None, llm_key: SentKey | None = None
) -> TaskResult:
    """Run a tree again from some of its tasks, in a copy that keeps what was done before them."""
    execution = await start(
        caller,
        given,
        forks.fork,
        token=token,
        llm_key=llm_key,
        task_id=given.task_id,
        start=given.from_tasks or (),
        inputs=given.inputs or {},
    )
    return await replied(caller, given, execution)


def native_run(facts: history.RunFacts) -> Json:
    """Return a run, as clients get it."""
    run = facts.run
    return {
        "id": run.id,
        "task_id": run.target_id,
        "root_task_id": run.root_id,
        "name": facts.name,
        "number": run.number,
        "status": run.status,
        "user_id": run.user_id,
        "context_id": run.context_id,
        "flow": {"name": facts.flow, "version": run.flow_version} if run.flow_id else None,
        "schedule_id": facts.firing and facts.firing.schedule_id,
        "scheduled_for": native_time(facts.firing.scheduled_for if facts.firing else None),
        "tags": list(facts.tags),
        "error": facts.error,
        "is_demo": run.is_demo,
        "created_at": native_time(run.created_at),
        "started_at": native_time(run.started_at),
        "finished_at": native_time(run.finished_at),
        "seconds": facts.seconds,
        "token_usage": run.token_usage,
    }
