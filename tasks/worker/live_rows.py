"""The rows of the calls that the code of a workflow makes: each is a task of an executor, with the same checks as those of a request."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

import orjson
from django.conf import settings

from aipartnerupflow.workflows.drive import Call
from aipartnerupflow.workflows.functions import LocalStep
from aipartnerupflow.workflows.values import with_secrets
from apflow_site.db import pools
from llmkeys import named_secrets
from tasks.executors import get_executor
from tasks.executors.admission import checked
from tasks.executors.approval import Approval
from tasks.executors.event import Event
from tasks.executors.input_places import misuse, not_there
from tasks.executors.llm.tool import PREFIX, RUN_TREE, is_flow
from tasks.executors.plugins import plugins
from tasks.executors.wait import YEAR_SECONDS, Wait
from tasks.executors.workflows import STEP, WorkflowTask
from tasks.models import Task
from tasks.rules.exceptions import ExecutorNotFound, InvalidParams, TasksError
from tasks.rules.places import SECRET, escaped
from tasks.rules.specs import TreeLimits
from tasks.rules.strict_json import Json
from tasks.rules.tree import WORKFLOW
from tasks.services.trees.persist import row_below, rows_of
from tasks.worker.load_run import LoadedTask

LLM: Final = "llm_executor"
ANSWER: Final = "answer"
"""The field of an agent's answer with a value that is no object: providers take only schemas of objects."""
OF_CODE: Final = {
    "executor_id": "the executor is the first argument",
    "allow_failure": "the code decides what follows a failure: catch StepFailed",
    "when": "the code decides: write `if`",
    "for_each": "the code decides: write gather(…)",
    "repeat": "the code decides: write a loop",
}
"""The params that a call of a workflow does not have, with the reason."""


class Refused(Exception):
    """A call of a workflow cannot be made. The message begins with its file and line."""

    def __init__(self, call: Call, problem: str) -> None:
        what = f"an argument of {call.name}()" if call.kind == "step" else f"{call.kind} '{call.target[:100]}'"
        super().__init__(f"{call.place}: {what} is refused: {problem}" + ("" if problem.endswith((".", "?")) else "."))


async def rows_of_calls(
    task: LoadedTask, calls: Sequence[Call], ids: Mapping[str, str], *, now: datetime
) -> list[Task]:
    """Return the rows of the calls. Calls of executors are checked like requests, in a thread since there may be many. Raises Refused."""
    for call in calls:
        if (size := len(orjson.dumps(call.inputs))) > (most := settings.APFLOW.limits.result_bytes):
            largest = max(call.inputs, key=lambda name: len(orjson.dumps(call.inputs[name])))
            raise Refused(
                call,
                f"'{largest}' is too large: the arguments have {size:,} bytes, more than the {most:,} that limits.result_bytes allows. "
                "Save large values with current_context().files and pass these, or raise the limit",
            )
    if all(call.kind == "step" for call in calls):
        rows = [_row(task, call, ids[call.path], now=now) for call in calls]
    else:
        rows = await asyncio.to_thread(lambda: [_row(task, call, ids[call.path], now=now) for call in calls])
    named = {name for call in calls for name in call.secrets.values()}
    usable = await pools.read(named_secrets.usable, user_id=task.user_id, names=named) if named else {}
    for call, row in zip(calls, rows, strict=True):
        for name in call.secrets.values():
            problem = misuse(usable[name], row) if name in usable else not_there(name[:100])
            if problem is not None:
                raise Refused(call, problem)
    return rows


def _row(task: LoadedTask, call: Call, task_id: str, *, now: datetime) -> Task:
    """Return the row of a call. Raises Refused."""
    stored: Json = {"path": call.path, "hash": call.hash, "seen": call.seen, "patches": call.patches}
    name = (call.options.get("name") or call.name)[:255]
    if call.kind == "step":
        step_id, inputs, params = STEP, {"function": call.target, "arguments": call.inputs}, _params_of_step(call)
        if isinstance(call.function, LocalStep):
            inputs["local"] = {"idempotent": bool(call.options.get("idempotent"))}
        if call.secrets:
            inputs["secrets"] = {pointer: _place_of(name) for pointer, name in call.secrets.items()}
        given: Json = {"schemas": {"method": step_id}, "inputs": inputs, "params": params}
        return row_below(task, now=now, id=task_id, name=name, executor_id=step_id, call=stored, **given)
    executor_id, inputs = _work_of(call)
    stored |= {"kind": call.kind, "target": call.target, "reads": _fields_of(call)}
    params = call.options.get("params") or {}
    if (unfit := next((name for name in OF_CODE if name in params), None)) is not None:
        raise Refused(call, f"params.{unfit}: {OF_CODE[unfit]}")
    given = {"schemas": {"method": executor_id}, "inputs": inputs, "params": {**params, "allow_failure": True}}
    below = {"id": task_id, "name": name, "parent_id": task.id, "priority": task.priority, **given}
    try:
        spec = checked([below, {"id": task.id, "name": "(workflow)"}], limits=TreeLimits(tasks=2, depth=2))
    except InvalidParams as error:
        problems = [
            f"{field.removeprefix('tasks[0]').lstrip('.')} {reason}".lstrip() for field, reason in error.problems
        ]
        raise Refused(call, "; ".join(problems)) from None
    except ExecutorNotFound as error:
        raise Refused(call, ExecutorNotFound(**{**error.data, "task": None}).message) from None
    except TasksError as error:
        raise Refused(call, error.message) from None
    [row] = [
        row for row in rows_of(spec, ids={task_id: task_id, task.id: task.id}, user_id=task.user_id) if row.parent_id
    ]
    row.root_id, row.spawned_by, row.call, row.created_at, row.updated_at = task.root_id, task.id, stored, now, now
    return row


def _params_of_step(call: Call) -> Json:
    params: Json = {"allow_failure": True}
    if (retries := call.options.get("retries")) is not None:
        params["retry"] = {"max_attempts": retries + 1}
    if (seconds := call.options.get("timeout")) is not None:
        params["timeout_seconds"] = seconds
    if (pool := call.options.get("pool")) is not None:
        params["pool"] = pool
    return params


def _work_of(call: Call) -> tuple[str, Json]:
    """Return the executor of a call that is no step, and its inputs. Nothing in them is a place, but the secrets. Raises Refused."""
    inputs, above = call.inputs, ""
    seconds = call.options.get("timeout")
    match call.kind:
        case "ask":
            executor_id, inputs = Approval.id, {"question": call.target, **inputs}
            inputs |= {} if seconds is None else {"timeout_seconds": seconds}
        case "event":
            executor_id = Event.id
            inputs = {"event": call.target, **inputs, "timeout_seconds": YEAR_SECONDS if seconds is None else seconds}
        case "sleep":
            executor_id = Wait.id
        case "agent":
            executor_id = LLM
            if (schema := call.options.get("schema")) is not None:
                wanted = {"name": ANSWER, "schema": schema if _is_object(schema) else _in_an_object(schema)}
                inputs = inputs | {"response_format": {"type": "json_schema", "json_schema": wanted}}
        case "workflow":
            executor_id = f"{WORKFLOW}{call.name}"
            known = plugins().executors.get(executor_id)
            if known is None or not issubclass(known, WorkflowTask) or known.workflow.target != call.target:
                raise Refused(call, "it is not registered. Add its module to executors.modules")
        case _:
            executor_id = call.target
            if is_flow(call.target):
                executor_id, above = RUN_TREE, "/inputs"
                inputs = {"flow": call.target.removeprefix(PREFIX), "inputs": inputs}
    try:
        verbatim: Collection[str] = get_executor(executor_id).verbatim
    except ExecutorNotFound:
        verbatim = ()  # the check of the row says which one may be meant
    places = {f"{above}{pointer}": _place_of(name) for pointer, name in call.secrets.items()}
    if (field := next((field for field in map(_first_of, places) if field in verbatim), None)) is not None:
        raise Refused(call, f"inputs.{field}: nothing is filled in here, so it cannot have a secret")
    literal = {name: value if name in verbatim else escaped(value) for name, value in inputs.items()}
    return executor_id, with_secrets(literal, places) if places else literal


def _fields_of(call: Call) -> list[str]:
    """Return the way through the result of a call's task to what the code gets."""
    schema = call.options.get("schema")
    match call.kind:
        case "ask" if "schema" not in call.inputs:
            return ["answer"]
        case "sleep":
            return ["nothing"]
        case "agent":
            if schema is None:
                return ["content"]
            return ["parsed"] if _is_object(schema) else ["parsed", ANSWER]
    return []


def _place_of(name: str) -> str:
    return f"{{{{{SECRET}.{name}}}}}"


def _first_of(pointer: str) -> str:
    return pointer.split("/")[1].replace("~1", "/").replace("~0", "~")


def _is_object(schema: Json) -> bool:
    return schema.get("type") == "object"


def _in_an_object(schema: Json) -> Json:
    inner = {name: value for name, value in schema.items() if name != "$defs"}
    defs = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return {"type": "object", "properties": {ANSWER: inner}, "required": [ANSWER], **defs}
