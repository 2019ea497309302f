"""Serializes runs and their tasks as objects of A2A 1.0.

An A2A Task is one run of a tree; a further run is another Task, so a finished Task never changes.
The results of the tasks are its artifacts. Our own fields are in `metadata`, since the objects of
the protocol are closed.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from a2a.protocol.params import PART_KINDS
from a2a.protocol.parts import of_file
from tasks.executors import answer_in
from tasks.rules.a2a_versions import (
    AUTH_REQUIRED,
    CANCELED,
    COMPLETED,
    FAILED,
    INPUT_REQUIRED,
    INTERRUPTED,
    REJECTED,
    options_line,
)
from tasks.rules.conditions import is_index
from tasks.rules.files import is_file, named_once
from tasks.rules.forms import described_form
from tasks.rules.strict_json import Json
from tasks.services.trees.pending_runs import CREDENTIALS, HOLDERS
from tasks.status import Status

if TYPE_CHECKING:
    from tasks.models import Run

STATES: Mapping[str, str] = MappingProxyType(
    {
        Status.PENDING: "TASK_STATE_SUBMITTED",
        Status.IN_PROGRESS: "TASK_STATE_WORKING",
        Status.COMPLETED: COMPLETED,
        Status.FAILED: FAILED,
        Status.CANCELLED: CANCELED,
    }
)
WORKING: Final = STATES[Status.IN_PROGRESS]
ALL_STATES: Final = frozenset({*STATES.values(), *INTERRUPTED, REJECTED})
RESULT: Final = "result"
"""The id of the last artifact: the result of the whole run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The fields of a task that its artifact needs."""

    id: str
    name: str
    parent_id: str | None
    executor_id: str | None
    result: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The error that failed a run, and the first tasks that failed it, without those that were not run."""

    error: str
    node_ids: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts about a run besides its row. `nodes` is None if artifacts were not requested."""

    progress: float = 0.0
    task_count: int = 0
    completed_count: int = 0
    nodes: Sequence[Node] | None = None
    result: Any = None
    executor_id: str | None = None
    """The executor that returned the result."""
    failure: Failure | None = None
    question: Json | None = None
    """The message of this server that waits for the client's answer."""
    messages: Sequence[Json] = ()


def task_object(run: Run, facts: Facts, *, history_length: int | None = None) -> Json:
    """Return a Task. `history_length` limits its history to the newest messages; None includes all."""
    found: Json = {
        "id": run.id,
        "contextId": run.context_id,
        "status": status_of(run, facts),
        "artifacts": artifacts_of(facts),
        "history": list(facts.messages)[-history_length:] if history_length else list(facts.messages),
        "metadata": {"seq": run.last_seq},
    }
    if not run.is_reserved:
        found["metadata"] |= {
            "rootTaskId": run.root_id,
            "runNumber": run.number,
            "progress": facts.progress,
            "taskCount": facts.task_count,
            "completedCount": facts.completed_count,
        }
    if history_length == 0 or not found["history"]:
        del found["history"]
    if not found["artifacts"]:
        del found["artifacts"]
    return found


def status_of(run: Run, facts: Facts) -> Json:
    state = state_of(run, is_asking=facts.question is not None)
    status: Json = {"state": state, "timestamp": utc(run.status_time)}
    if facts.question is not None and state in (INPUT_REQUIRED, AUTH_REQUIRED, REJECTED):
        return status | {"message": facts.question}
    text, metadata = None, {}
    if facts.failure is not None and run.status == Status.FAILED:
        text = facts.failure.error
        metadata = {"failedNodeIds": list(facts.failure.node_ids)} if facts.failure.node_ids else {}
    elif run.status == Status.COMPLETED:
        text = answer_in(facts.result, executor_id=facts.executor_id) or None
    if text is None:
        return status
    message_id = f"{run.id}-{state.removeprefix('TASK_STATE_').lower()}"
    message = agent_message(text, message_id=message_id, run_id=run.id, context_id=run.context_id)
    return status | {"message": message | ({"metadata": metadata} if metadata else {})}


def state_of(run: Run, *, is_asking: bool) -> str:
    if run.is_reserved:
        if run.finished_at is None:
            return AUTH_REQUIRED if run.lease_owner == HOLDERS[CREDENTIALS] else INPUT_REQUIRED
        return REJECTED if run.status == Status.FAILED else STATES[run.status]
    if is_asking and not Status(run.status).is_terminal:
        return INPUT_REQUIRED
    return STATES[run.status]


def artifacts_of(facts: Facts) -> list[Json]:
    """Return an artifact per task with a result, in the order of the request; `result` is the last.

    The only task of a tree has one artifact, `result`.
    """
    is_only = facts.task_count == 1
    found = [artifact_of(node, is_only=is_only) for node in facts.nodes or () if node.result is not None]
    if facts.nodes is not None and facts.result is not None and not (is_only and found):
        found.append(result_artifact(facts.result, executor_id=facts.executor_id))
    return found


def artifact_of(node: Node, *, is_only: bool) -> Json:
    """Return the artifact of a task. `is_only`: its tree has no other."""
    known = {"nodeId": node.id, "parentId": node.parent_id, "executor": node.executor_id}
    metadata = {name: value for name, value in known.items() if value is not None}
    # The ids `result`, `_result` … get a further underscore, since `result` is reserved.
    own_id = f"_{node.id}" if node.id.lstrip("_") == RESULT else node.id
    return {
        "artifactId": RESULT if is_only else own_id,
        "name": node.name,
        "parts": parts_of(node.result, executor_id=node.executor_id),
        "metadata": metadata,
    }


def result_artifact(result: Any, *, executor_id: str | None) -> Json:
    return {"artifactId": RESULT, "name": RESULT, "parts": parts_of(result, executor_id=executor_id)}


def parts_of(result: Any, *, executor_id: str | None) -> list[Json]:
    """Strings as text parts, all else as data parts, after the answer in words if there is one, and before the files that it names.

    A result `{"parts": […]}` of valid parts is used as it is.
    """
    if isinstance(result, str):
        return [{"text": result}]
    if isinstance(result, dict) and result.keys() == {"parts"}:
        parts = result["parts"]
        if isinstance(parts, list) and parts and all(map(_is_part, parts)):
            return list(parts)
    if is_file(result):
        return [of_file(result)]
    answer = answer_in(result, executor_id=executor_id)
    shown: list[Json] = [{"data": result}] if answer is None else [{"text": answer}, {"data": result}]
    return [*shown, *map(of_file, named_once(result))]


def agent_message(text: str, *, message_id: str, run_id: str, context_id: str) -> Json:
    """Return a text message of this server about a Task."""
    return {
        "messageId": message_id,
        "role": "ROLE_AGENT",
        "parts": [{"text": text}],
        "taskId": run_id,
        "contextId": context_id,
    }


def question_message(
    *,
    question_id: str,
    text: str,
    options: Sequence[str] | None,
    schema: Json | None,
    node_id: str | None,
    run_id: str,
    context_id: str,
) -> Json:
    """Return a question as a message; that of a form has its schema as data. `node_id` is the task that asks; None if the message handler asks."""
    known = {"nodeId": node_id, "options": options}
    metadata = {name: value for name, value in known.items() if value is not None}
    text = text_with_form(text, schema) if schema else text_with_options(text, options)
    message = agent_message(text, message_id=question_id, run_id=run_id, context_id=context_id)
    if schema:
        message["parts"].append({"data": {"schema": schema}})
    return message | {"metadata": metadata} if metadata else message


def asked_again(question: Json, *, fault: str, times: int) -> Json:
    """Return the message that asks a question for another time, after a wrong answer."""
    first, *others = question["parts"]
    parts = [{"text": f"{fault}.\n{first['text']}"}, *others]
    return question | {"messageId": f"{question['messageId']}-{times + 1}", "parts": parts}


def times_asked(question: Json, last: Json | None) -> int:
    """Return the number of times that the client was asked a question, if the last message asks it; else 0."""
    if last is None or last["role"] != question["role"]:
        return 0
    before, _, times = last["messageId"].partition(f"{question['messageId']}-")
    return int(times) if not before and is_index(times) else 0


def text_with_options(text: str, options: Sequence[str] | None) -> str:
    """Return the question with its options, for clients that show only text."""
    line = options_line(options) if options else ""
    return text if text.endswith(line) else text + line


def text_with_form(text: str, schema: Json) -> str:
    """Return the question with the fields of its form, for clients that show only text."""
    return f"{text}\nAnswer with a JSON object: {described_form(schema)}"


def utc(moment: datetime) -> str:
    """Format a time as A2A requires it: ISO 8601 in UTC with milliseconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_part(value: Any) -> bool:
    """Return whether it is a valid Part: one kind of content, only known fields (A2A 1.0, section 4.1.6)."""
    if not isinstance(value, dict) or not value.keys() <= {*PART_KINDS, "filename", "mediaType", "metadata"}:
        return False
    if len([kind for kind in PART_KINDS if kind in value]) != 1 or not isinstance(value.get("metadata", {}), dict):
        return False
    if not all(isinstance(item, str) for name, item in value.items() if name not in ("data", "metadata")):
        return False
    try:
        b64decode(value.get("raw", ""), validate=True)
    except ValueError:
        return False
    return True
