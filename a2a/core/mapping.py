"""Our rows as others see them: tasks in the native shape (contract, section 1) and as A2A objects (section 2). Pure.

"Native" is what `/tasks` answers, "A2A" what `/` answers: the shapes of A2A 0.3, in which the dotted methods speak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tasks.rules.strict_json import Json
from tasks.status import Status

if TYPE_CHECKING:
    from tasks.models import Question, Run, Task
    from tasks.services.queries import StatusReport
    from tasks.services.task_detail import Detail


A2A_STATES: Mapping[str, str] = MappingProxyType(
    {
        Status.PENDING: "submitted",
        Status.IN_PROGRESS: "working",
        Status.COMPLETED: "completed",
        Status.FAILED: "failed",
        Status.CANCELLED: "canceled",
    }
)
NOT_FOUND = "not_found"
#: The events after which nothing more comes.
LAST_EVENTS = frozenset({"final", "stream_end"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFacts:
    """What is known of a tree without its rows."""

    task_count: int
    progress: float


def facts_of(tasks: Sequence[Task]) -> TreeFacts:
    """`tasks` is the whole tree: its progress is the mean."""
    return TreeFacts(task_count=len(tasks), progress=sum(task.progress for task in tasks) / len(tasks))


def native_task(task: Task) -> Json:
    """A task without its children."""
    return {
        "id": task.id,
        "parent_id": task.parent_id,
        "root_task_id": task.root_id,
        "user_id": task.user_id,
        "name": task.name,
        "status": task.status,
        "priority": task.priority,
        "dependencies": task.dependencies,
        "inputs": task.inputs,
        "schemas": task.schemas,
        "params": task.params,
        "result": task.result,
        "error": task.error,
        "progress": task.progress,
        "attempt": task.attempt,
        "token_usage": task.token_usage,
        "has_children": task.has_children,
        "has_copy": task.has_copy,
        "original_task_id": task.original_task_id,
        "origin_type": task.origin_type,
        "created_at": _native_time(task.created_at),
        "updated_at": _native_time(task.updated_at),
        "started_at": _native_time(task.started_at),
        "completed_at": _native_time(task.completed_at),
    }


def native_tree(tasks: Iterable[Task]) -> Json:
    """The root, with `children` in every task, in the order of `tasks`. No recursion: a tree may be deep."""
    nodes = {task.id: native_task(task) | {"children": []} for task in tasks}
    for node in nodes.values():
        if node["id"] != node["root_task_id"]:
            nodes[node["parent_id"]]["children"].append(node)
    return next(node for node in nodes.values() if node["id"] == node["root_task_id"])


def native_detail(detail: Detail, *, answer_url: str | None = None) -> Json:
    """A task and what surrounds it. `answer_url` is where its question can be answered."""
    return native_task(detail.task) | {
        "events": detail.events,
        "children": [native_task(task) for task in detail.children],
        "dependants": [native_task(task) for task in detail.dependants],
        "resolved_inputs": detail.resolved_inputs,
        "timings": {"queued_seconds": detail.queued_seconds, "run_seconds": detail.run_seconds},
        "question": detail.question and _question(detail.question, answer_url=answer_url),
    }


def native_answer(question: Question) -> Json:
    """The answer that counts."""
    return {
        "success": True,
        "task_id": question.task_id,
        "question_id": question.id,
        "question": question.text,
        "answer": question.answer,
        "by": question.answered_by,
        "comment": question.comment,
    }


def _question(question: Question, *, answer_url: str | None) -> Json:
    return {
        "id": question.id,
        "text": question.text,
        "options": question.options,
        "asked_at": _native_time(question.asked_at),
        "expires_at": _native_time(question.expires_at),
        "answer_url": answer_url,
    }


def native_standing(standing: StatusReport) -> Json:
    """Where a task stands; a task that the caller does not have is `not_found` in its place."""
    task, run = standing.task, standing.run
    return {
        "task_id": standing.task_id,
        "context_id": run.context_id if run else task.root_id if task else None,
        "status": standing.status if task else NOT_FOUND,
        "progress": standing.progress,
        "error": task.error if task else None,
        "is_running": standing.is_running,
        "started_at": _native_time(task.started_at) if task else None,
        "updated_at": _native_time(task.updated_at) if task else None,
    }


def a2a_message(result: Any, *, message_id: str) -> Json:
    """What is not about a task: a message with one data part. A data part of A2A 0.3 holds an object."""
    data = result if isinstance(result, dict) else {"result": result}
    return {"kind": "message", "messageId": message_id, "role": "agent", "parts": [{"kind": "data", "data": data}]}


def a2a_task(task: Task, *, run: Run | None, facts: TreeFacts, results_of: Iterable[Task], metadata: Json) -> Json:
    """A task as an A2A Task: the latest execution of its tree, or the task itself while that never ran.

    A root stands for its tree, so its state is the run's; any other task has a state of its own. `metadata` is added
    to what every A2A Task of ours has there.
    """
    execution = run if run is not None and task.is_root else None
    ids = {"id": run.id if run else task.id, "contextId": run.context_id if run else task.root_id}
    data = {
        "protocol": "a2a",
        "status": execution.status if execution else task.status,
        "progress": facts.progress if task.is_root else task.progress,
        "root_task_id": task.root_id,
        "task_count": facts.task_count,
    }
    return ids | {
        "kind": "task",
        "status": {
            "state": A2A_STATES[data["status"]],
            "timestamp": _a2a_time(_run_time(execution) if execution else _task_time(task)),
            "message": _message(data, message_id=f"{ids['id']}-{run.last_seq if run else 0}", ids=ids),
        },
        "artifacts": [
            _artifact(each.id, each.result, name=each.name) for each in results_of if each.result is not None
        ],
        "history": [],
        "metadata": {"protocol": "a2a", "root_task_id": task.root_id, "user_id": task.user_id} | metadata,
    }


def a2a_update(event: Json, *, context_id: str) -> Json:
    """An event as an A2A update: of an artifact where a task completed with a result, else of the status."""
    event = event | {"protocol": "a2a"}
    common = {
        "taskId": event["run_id"],
        "contextId": context_id,
        "metadata": {"protocol": "a2a", "root_task_id": event["root_task_id"], "event": event},
    }
    if event["type"] == "task_completed" and event["result"] is not None:
        artifact = _artifact(event["task_id"], event["result"])
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
    """A message of the agent's with one data part. The id is the same for the same state."""
    return {
        "kind": "message",
        "messageId": message_id,
        "role": "agent",
        "parts": [{"kind": "data", "data": data}],
        "taskId": ids["id"],
        "contextId": ids["contextId"],
    }


def _artifact(task_id: str, result: Any, *, name: str | None = None) -> Json:
    artifact: Json = {"artifactId": task_id, "parts": [_part(result)]}
    return artifact if name is None else artifact | {"name": name}


def _part(result: Any) -> Json:
    if isinstance(result, str):
        return {"kind": "text", "text": result}
    # A data part of A2A 0.3 holds an object.
    return {"kind": "data", "data": result if isinstance(result, dict) else {"result": result}}


def _task_time(task: Task) -> datetime:
    return task.completed_at or task.started_at or task.created_at


def _run_time(run: Run) -> datetime:
    return run.finished_at or run.started_at or run.created_at


def _native_time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _a2a_time(moment: datetime) -> str:
    """A2A knows UTC only as Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
