"""Converts rows to JSON: the native format and A2A objects. Pure.

`/tasks` returns the native format; the dotted methods at `/` return objects of A2A 0.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from orjson import Fragment

from aipartnerupflow.growth import NOT_RUN
from tasks.rules.limits import id_of
from tasks.rules.strict_json import TEXT, Json
from tasks.rules.task_schedules import shown
from tasks.rules.token_usage import COUNTED, MORE, dollars
from tasks.rules.words import as_sent
from tasks.status import Status, WaitKind

if TYPE_CHECKING:
    from tasks.models import ModelCall, Question, Run, Schedule, SentEvent, Task
    from tasks.services.history.task_detail import Detail
    from tasks.services.trees.queries import RunRow, StatusReport, TaskRow


A2A_STATES: Mapping[str, str] = MappingProxyType(
    {
        Status.PENDING: "submitted",
        Status.IN_PROGRESS: "working",
        Status.COMPLETED: "completed",
        Status.FAILED: "failed",
        Status.CANCELLED: "canceled",
        Status.SKIPPED: "completed",  # A2A has no such state; the status in the metadata says it
    }
)
NOT_FOUND = "not_found"
ANSWER: Final = "answer"
COMMENT: Final = "comment"
"""The members of an answer as an object."""
#: The fields that summaries leave out.
JSON_FIELDS = frozenset({"inputs", "schemas", "params", "result"})
#: Types of the last event of a stream.
LAST_EVENTS = frozenset({"final", "stream_end"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFacts:
    """Aggregates of a tree. `progress` is the mean of its tasks, 0 to 1."""

    task_count: int
    progress: float


def facts_of(tasks: Sequence[Task]) -> TreeFacts:
    """Return the aggregates of a tree from all of its tasks."""
    return TreeFacts(task_count=len(tasks), progress=sum(task.progress for task in tasks) / len(tasks))


def native_task(task: Task) -> Json:
    """Return a task in native format, without its children.

    Only tasks that were added to their tree have `spawned_by`, only those that did not run `not_run` and `cause_id`,
    only those that took the result of an equal one `cached_from`, only
    roots that were loaded with it `run_status`, and only those with a schedule of their own its fields.
    """
    added = native_extra(task)
    if "run_status" in vars(task) and task.parent_id is None:
        added["run_status"] = vars(task)["run_status"]
    if "schedule" in vars(task):
        added |= native_schedule_of_task(vars(task)["schedule"])
    return {name: read(task) for name, read in _readers(type(task))} | added


NAMES: Final = MappingProxyType({"root_id": "root_task_id"})
"""The names in replies of columns that have another one there."""


@cache
def _readers(model: type[Task]) -> Sequence[tuple[str, Callable[[Task], Any]]]:
    """Return the fields of each task, in the order of a reply, and how their values are read from a row."""

    def reader(column: str) -> Callable[[Task], Any]:
        if column in JSON_FIELDS:
            return lambda task: _json(task, column)
        if column.endswith("_at"):
            return lambda task: native_time(getattr(task, column))
        return attrgetter(column)

    return [(NAMES.get(column, column), reader(column)) for column in model.SHOWN]


def native_row(row: TaskRow, columns: type[Task], *, schedule: Schedule | None = None) -> Json:
    """Return a task in native format, as `native_task` does, without its model: its JSON and times are passed on as they are stored."""
    names, conversions = _conversions(columns)
    native = dict(zip(names, row.values, strict=False))  # the values behind them are not in every reply
    for name, convert in conversions:
        if (value := native[name]) is not None:
            native[name] = convert(value)
    native |= native_extra(row)
    if schedule is not None:
        native |= native_schedule_of_task(schedule)
    return native


def native_extra(task: Task | TaskRow) -> Json:
    """Return the fields that only some tasks have: those added to their tree, those that failed without having run, and those that
    took the result of another one.
    """
    added: Json = {} if task.spawned_by is None else {"spawned_by": task.spawned_by}
    if task.checks is not None:
        added["checks"] = Fragment(task.checks) if isinstance(task.checks, str) else task.checks
    if (cached_from := task.cached_from) is not None:
        added["cached_from"] = Fragment(cached_from) if isinstance(cached_from, str) else cached_from
    return added if task.cause_id is None else added | {"not_run": True, "cause_id": task.cause_id}


@cache
def _conversions(columns: type[Task]) -> tuple[Sequence[str], Sequence[tuple[str, Callable[[Any], Any]]]]:
    """Return the fields of each task in the order of a reply, and how the stored values of some of them become JSON."""

    def time(value: datetime | str) -> str | None:
        if isinstance(value, str):
            return f"{value.replace(' ', 'T')}+00:00"
        return native_time(value if value.tzinfo else value.replace(tzinfo=UTC))

    kinds = ((columns.JSON, Fragment), (columns.TIMES, time), (columns.TRUTHS, bool))
    return [NAMES.get(name, name) for name in columns.SHOWN], [(name, to) for names, to in kinds for name in names]


def native_schedule_of_task(schedule: Schedule) -> Json:
    """Return the schedule of a task as fields of the task, as clients of apflow 0.18 know them."""
    kind, expression = shown(schedule.timing, schedule.schedule_type or "")
    return {
        "schedule_type": kind,
        "schedule_expression": expression,
        "schedule_enabled": schedule.next_run_at is not None,
        "schedule_start_at": native_time(schedule.starts_at),
        "schedule_end_at": native_time(schedule.ends_at),
        "next_run_at": native_time(schedule.next_run_at),
        "last_run_at": native_time(schedule.last_run_at),
        "max_runs": schedule.max_runs,
        "run_count": schedule.run_count,
    }


def native_listed(
    row: TaskRow,
    columns: type[Task],
    *,
    schedules: Mapping[str, Schedule],
    counts: Mapping[str, Mapping[str, int]] | None,
    is_light: bool,
) -> Json:
    """Return a task in a list, a root with its latest run, if it was loaded, and, unless they are None, the counts of its tasks; `is_light`: without its JSON."""
    shown = native_row(row, columns, schedule=schedules.get(row.id))
    if is_light:
        shown = {name: value for name, value in shown.items() if name not in JSON_FIELDS}
    if row.is_root:
        shown |= run_facts(row.run)
        if counts is not None:
            found = dict(counts.get(row.id, {}))
            if unrun := found.pop(NOT_RUN, 0):
                shown["not_run_count"] = unrun
            shown["task_counts"] = found or None
    return shown


def run_facts(run: Run | RunRow | None) -> Json:
    """Return the fields that a root has about its latest run; null before the first."""
    return {
        "run_status": run.status if run else None,
        "run_id": run.id if run else None,
        "run_number": run.number if run else None,
    }


def _json(task: Task, column: str) -> Any:
    """Return the value of a JSON column or, if the task was loaded with texts, its text, which is encoded as it is."""
    if column + TEXT not in vars(task):
        return getattr(task, column)
    text = vars(task)[column + TEXT]
    return None if text is None else Fragment(text)


def native_node(task: Task) -> Json:
    """Return a node of `tasks.tree`: its fields and, where clients of apflow 0.12 and later look, again under `task`."""
    fields = native_task(task)
    return fields | {"task": fields}


def native_tree(tasks: Iterable[Task], *, fields: Callable[[Task], Json] = native_task) -> Json:
    """Return the root with nested `children`, in the order of `tasks`. Not recursive: trees may be deep."""
    nodes = {task.id: fields(task) | {"children": []} for task in tasks}
    for node in nodes.values():
        if node["id"] != node["root_task_id"]:
            nodes[node["parent_id"]]["children"].append(node)
    return next(node for node in nodes.values() if node["id"] == node["root_task_id"])


def native_detail(detail: Detail, *, answer_url: str | None = None, hook_url: str | None = None) -> Json:
    """Return a task with its events, relatives, inputs, timings, and question or wait.

    `answer_url` is the page to answer the question, and `hook_url` the address that ends a wait for an event.
    """
    return native_task(detail.task) | {
        "events": [as_sent(event, has_tokens=False) for event in detail.events],
        "children": [native_task(task) for task in detail.children],
        "dependants": [native_task(task) for task in detail.dependants],
        "resolved_inputs": detail.resolved_inputs,
        "timings": {"queued_seconds": detail.queued_seconds, "run_seconds": detail.run_seconds},
        "question": detail.question and _question(detail.question, answer_url=answer_url),
        "wait": detail.wait and _wait(detail.wait, hook_url=hook_url),
        "child_run": detail.child
        and {"run_id": detail.child.id, "task_id": detail.child.root_id, "status": detail.child.status},
        "parent_run": detail.parent and {"run_id": detail.parent.run_id, "task_id": detail.parent.task_id},
        "flow": detail.flow and detail.run and native_flow_of(detail.flow.name, detail.run),
        "model_calls": [native_call(call) for call in detail.calls],
    }


def native_flow_of(name: str | None, run: Run) -> Json:
    """Return the flow of a run by its name, with the version, and the labels by which it was chosen."""
    return {"name": name, "version": run.flow_version, **by_label(run.flow_label)}


def by_label(text: str | None) -> Json:
    """Return `Run.flow_label` as the fields `label` and `share`; none for a run that was started without a label."""
    return {} if text is None else dict(zip(("label", "share"), text.split("/"), strict=False))


def native_call(call: ModelCall) -> Json:
    """Return a call of a model, without what was said."""
    counts = (*COUNTED, *MORE)
    usage = None if call.total_tokens is None else {name: getattr(call, name) for name in counts}
    names = "id task_id attempt step agent crew_task model status duration_ms first_token_ms feedback".split()
    return {name: getattr(call, name) for name in names} | {
        "executor": call.executor_id,
        "started_at": native_time(call.started_at),
        "usage": usage,
        "cost_usd": None if call.cost_nanos is None else dollars(call.cost_nanos),
        "finish_reason": call.finish_reason,
        "error": call.error,
    }


def native_content(content: Json | None) -> Json | None:
    """Return the content of a call; None if it is not stored. Older rows have no reasoning, sources and options."""
    older: Json = {"reasoning": None, "citations": [], "left_out_citations": 0, "options": None}
    return None if content is None else older | content


def native_answer(question: Question) -> Json:
    """Return the recorded answer to a question."""
    return {
        "success": True,
        "task_id": question.task_id,
        "question_id": question.id,
        "question": question.text,
        "answer": question.answer,
        "by": question.answered_by,
        "comment": question.comment,
    }


def native_open_question(question: Question, *, answer_url: str | None) -> Json:
    """Return an open question with the id of its task, and nothing else of it: the caller may be an assignee only."""
    return {"task_id": question.task_id} | _question(question, answer_url=answer_url)


def _question(question: Question, *, answer_url: str | None) -> Json:
    return {
        "id": question.id,
        "text": question.text,
        "options": question.options,
        "schema": question.schema,
        "assignees": question.assignees,
        "asked_at": native_time(question.asked_at),
        "expires_at": native_time(question.expires_at),
        "answer_url": answer_url,
    }


def _wait(wait: Question, *, hook_url: str | None) -> Json:
    is_for_limit, is_for_event = wait.kind == WaitKind.LIMIT, wait.kind == WaitKind.EVENT
    return {
        "kind": wait.kind,
        "since": native_time(wait.asked_at),
        "until": native_time(wait.expires_at),
        "on_timeout": "fail" if wait.on_expiry == "fail" else "complete",
        "event": wait.event if is_for_event else None,
        "match": wait.match if is_for_event else None,
        "limit": (wait.match or {}).get("limit", id_of(str(wait.event))) if is_for_limit else None,
        "text": wait.text,
        "hook_url": hook_url,
    }


def native_event(sent: SentEvent) -> Json:
    """Return an event from outside."""
    return {
        "event": sent.event,
        "payload": sent.payload,
        "id": sent.event_id,
        "received_at": native_time(sent.received_at),
        "woken": sent.woken or 0,
    }


def native_standing(standing: StatusReport) -> Json:
    """Return the status of a task; `not_found` if it does not exist or belongs to another user."""
    task, run = standing.task, standing.run
    return {
        "task_id": standing.task_id,
        "context_id": run.context_id if run else task.root_id if task else None,
        "status": standing.status if task else NOT_FOUND,
        "progress": standing.progress,
        "error": task.error if task else None,
        **({"not_run": True, "cause_id": task.cause_id} if task and task.cause_id and not task.is_root else {}),
        "is_running": standing.is_running,
        "started_at": native_time(task.started_at) if task else None,
        "updated_at": native_time(task.updated_at) if task else None,
    }


def a2a_message(result: Any, *, message_id: str) -> Json:
    """Return a message with one data part, for a result that is not a task.

    Data parts of A2A 0.3 are objects.
    """
    data = result if isinstance(result, dict) else {"result": result}
    return {"kind": "message", "messageId": message_id, "role": "agent", "parts": [{"kind": "data", "data": data}]}


def a2a_task(task: Task, *, run: Run | None, facts: TreeFacts, results_of: Iterable[Task], metadata: Json) -> Json:
    """Return a task as an A2A Task: the latest run of its tree, or the task if the tree never ran.

    A root has the state of the run, any other task its own state. `metadata` is added to the
    standard members of `Task.metadata`.
    """
    execution = run if run is not None and task.is_root else None
    ids = {"id": run.id if run else task.id, "contextId": run.context_id if run else task.root_id}
    data: Json = {
        "protocol": "a2a",
        "status": execution.status if execution else task.status,
        "progress": facts.progress if task.is_root else task.progress,
        "root_task_id": task.root_id,
        "task_count": facts.task_count,
    }
    if execution:
        changed_at = execution.finished_at or execution.started_at or execution.created_at
    else:
        changed_at = task.completed_at or task.started_at or task.created_at
    return ids | {
        "kind": "task",
        "status": {
            "state": A2A_STATES[data["status"]],
            "timestamp": changed_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "message": _message(data, message_id=f"{ids['id']}-{run.last_seq if run else 0}", ids=ids),
        },
        "artifacts": [artifact for each in results_of if (artifact := _artifact_of(each)) is not None],
        "history": [],
        "metadata": {"protocol": "a2a", "root_task_id": task.root_id, "user_id": task.user_id} | metadata,
    }


def a2a_update(event: Json, *, context_id: str) -> Json:
    """Return an event as an A2A update: an artifact if a task completed with a result, else a status."""
    event = event | {"protocol": "a2a"}
    common = {
        "taskId": event["run_id"],
        "contextId": context_id,
        "metadata": {"protocol": "a2a", "root_task_id": event["root_task_id"], "event": event},
    }
    if event["type"] == "task_completed" and event["result"] is not None:
        artifact = {"artifactId": event["task_id"], "parts": [_part(event["result"])]}
        return common | {"kind": "artifact-update", "artifact": artifact, "append": False, "lastChunk": True}
    is_last = event["type"] in LAST_EVENTS
    data = {
        "protocol": "a2a",
        "status": event["status"] if is_last else Status.IN_PROGRESS,
        "progress": event["tree_progress"],
        "root_task_id": event["root_task_id"],
    }
    ids = {"id": event["run_id"], "contextId": context_id}
    status = {
        "state": A2A_STATES[data["status"]],
        "timestamp": event["timestamp"].replace("+00:00", "Z"),
        "message": _message(data, message_id=f"{event['run_id']}-{event['seq']}", ids=ids),
    }
    return common | {"kind": "status-update", "status": status, "final": is_last}


def _message(data: Json, *, message_id: str, ids: Json) -> Json:
    """Return a message of the agent with one data part. Equal states have equal message ids."""
    return {
        "kind": "message",
        "messageId": message_id,
        "role": "agent",
        "parts": [{"kind": "data", "data": data}],
        "taskId": ids["id"],
        "contextId": ids["contextId"],
    }


def _artifact_of(task: Task) -> Json | None:
    """Return the artifact of a task with a result."""
    result = _json(task, "result")
    if result is None:
        return None
    text = vars(task).get(f"result{TEXT}")
    part = _part(result) if text is None else PARTS.get(text[0], _part)(result)
    return {"artifactId": task.id, "parts": [part], "name": task.name}


def _part(result: Any) -> Json:
    """Return a part with a result. A data part of A2A 0.3 contains an object."""
    if isinstance(result, str):
        return _text_part(result)
    return _data_part(result if isinstance(result, dict) else {"result": result})


def _text_part(text: Any) -> Json:
    return {"kind": "text", "text": text}


def _data_part(data: Any) -> Json:
    return {"kind": "data", "data": data}


PARTS: Mapping[str, Callable[[Any], Json]] = MappingProxyType({'"': _text_part, "{": _data_part})
"""First character of a JSON text → the part for such a value."""


def native_time(moment: datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    return None if moment is None else moment.astimezone(UTC).isoformat()


def answer_schema(question: Question) -> Json:
    """Return the schema of an answer as an object, for clients that show forms: that of the question's own form, or of an answer with a comment."""
    if question.schema is not None:
        given = {name: question.schema[name] for name in ("properties", "required") if name in question.schema}
        return {"type": "object", "properties": {}} | given
    answer: Json = {"type": "string", "title": "Answer"} | ({"enum": question.options} if question.options else {})
    properties = {ANSWER: answer, COMMENT: {"type": "string", "title": "Comment"}}
    return {"type": "object", "properties": properties, "required": [ANSWER]}


def read_answer(question: Question, content: Json) -> tuple[Any, str | None]:
    """Return the answer and the comment in the object."""
    if question.schema is not None:
        return content, None
    comment = content.get(COMMENT)
    return content.get(ANSWER), comment if isinstance(comment, str) and comment else None
