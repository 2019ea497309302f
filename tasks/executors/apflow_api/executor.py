"""Calls another server of this kind, and waits for the runs that it starts there."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar, Final

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Stopped
from tasks.executors.apflow_api.client import Client, RemoteRun
from tasks.executors.http.rest import SECRET, merged_headers
from tasks.executors.timeouts import timeout_of, timeout_schema

NAMES: Final = uuid.UUID("8e0c4e0e-2b8f-5c5f-a1a1-5a8e9a1b6f42")
"""The namespace of our idempotency keys."""
RUNNING: Final = ("tasks.execute", "flows.run", "tasks.fork")
"""Methods that start a run."""
STORING: Final = ("tasks.create",)
READING: Final = (
    *("tasks.get", "tasks.detail", "tasks.tree", "tasks.children", "tasks.list", "tasks.count"),
    *("runs.list", "runs.get", "runs.tree", "flows.list", "flows.get", "system.health", "system.executors"),
)
SAFE: Final = ("tasks.update", "tasks.cancel")
"""Methods that may be repeated as they are."""
OURS: Final = frozenset({"wait", "wait_timeout_seconds", "use_streaming", "last_event_id"})
"""Parameters that the executor decides."""
TIMEOUT_SECONDS: Final = 30
CANCEL_SECONDS: Final = 1.5


class ApflowApi(Executor):
    """Calls a method of another server. A repetition after a crash finds the run that was started before."""

    id = "apflow_api_executor"
    name = "Another aipartnerupflow server"
    description = (
        "Calls another server of this kind, and waits for the run that it starts there. Its progress becomes that of this task, "
        "and cancelling this task cancels its run. Private addresses require the operator's permission."
    )
    tags = ("core", "http")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "base_url": {
                "type": "string",
                "minLength": 1,
                "maxLength": 8192,
                "description": "URL of the server, such as https://flow.example.com",
            },
            "method": {
                "enum": [*RUNNING, *STORING, *READING, *SAFE],
                "description": "A method of its JSON-RPC API that can be repeated without harm",
            },
            "params": {"type": "object", "default": {}, "description": "The parameters of the method"},
            "auth_token": {**SECRET, "minLength": 1, "description": "A token or an API key of that server"},
            "headers": {"type": "object", "additionalProperties": SECRET, "default": {}, "description": "More headers"},
            "wait_for_completion": {
                "type": "boolean",
                "default": True,
                "description": "false: do not wait for the end of a run that the method starts",
            },
            **timeout_schema(TIMEOUT_SECONDS),
        },
        "required": ["base_url", "method"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "result": {"description": "The result of the root task or, without waiting, of the method"},
            "task_id": {"type": "string", "description": "The root task there, if a run was waited for"},
            "run_id": {"type": "string", "description": "The run there, if it was waited for"},
            "status": {"type": "string", "description": "The end of the run, if it was waited for: completed"},
        },
        "required": ["result"],
    }
    secret_inputs = frozenset({"auth_token", "headers"})
    param_names = frozenset()
    example: ClassVar[Json] = {
        "base_url": "https://flow.example.com",
        "method": "flows.run",
        "params": {"name": "greet", "inputs": {"name": "Ada"}},
        "auth_token": "{{secret.flow_token}}",
    }
    example_result: ClassVar[Json] = {
        "result": {"text": "Hello Ada"},
        "task_id": "0198c0de-0000-7000-8000-000000000000",
        "run_id": "0198c0de-0000-7000-8000-000000000001",
        "status": "completed",
    }

    def receiver(self, inputs: Json) -> str | None:
        return str(inputs.get("base_url"))

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        given = inputs.get("params")
        if isinstance(given, dict) and (ours := sorted(OURS & given.keys())):
            raise ExecutorError(
                f"inputs.params.{ours[0]}: is decided by this executor. Remove it, and use wait_for_completion.",
                permanent=True,
            )

    async def execute(self, inputs: Json, context: Context) -> Json:
        self.check_with_inputs({}, inputs)
        method, params, client = inputs["method"], inputs.get("params", {}), _client(inputs)
        if method in RUNNING and inputs.get("wait_for_completion", True):
            return await _followed(client, method, params, context)
        key = _key(context, number=1) if method in (*RUNNING, *STORING) else None
        seconds = timeout_of(inputs, TIMEOUT_SECONDS)
        return {"result": await client.call(method, params, key=key, seconds=seconds)}


def _client(inputs: Json) -> Client:
    auth = {"Authorization": f"Bearer {inputs['auth_token']}"} if "auth_token" in inputs else {}
    return Client(base_url=inputs["base_url"], headers=merged_headers({}, inputs.get("headers", {}), auth))


def _key(context: Context, *, number: int) -> str:
    """Return the idempotency key of the run that an attempt starts."""
    return str(uuid.uuid5(NAMES, f"{context.run_id}/{context.task_id}/{number}"))


async def _followed(client: Client, method: str, params: Json, context: Context) -> Json:
    """Return the end of a run: of the first attempt's if that one is still at work or has completed, and so on.

    So an attempt whose connection broke starts no second run, and one whose run failed does.
    """
    known: list[RemoteRun] = []
    try:
        for number in range(1, context.attempt + 1):
            key = _key(context, number=number)
            run = await client.follow(method, params, key=key, context=context, begun=known.append)
            if run.status == "completed":
                break
    except asyncio.CancelledError:
        if context.is_given_up():
            raise  # the run continues: the next worker sends the same key, and finds it
        find = partial(client.find, known[-1], method, params, key=_key(context, number=len(known)), context=context)
        await _cancel(client, known[-1], find, context)
        raise Stopped(result=_result(known[-1])) from None
    if run.status != "completed":
        raise ExecutorError(
            f"The run {run.run_id} of the task {run.task_id} at {client.name} ended as {run.status}: "
            f"{run.error or 'it gives no reason'}"
        )
    return _result(run)


async def _cancel(client: Client, run: RemoteRun, find: Callable[[], Awaitable[None]], context: Context) -> None:
    """Cancel the run within CANCEL_SECONDS, or log why not. If the first reply was still on its way, find the run."""
    if run.status is not None:
        return
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            if run.task_id is None:
                await find()
            await client.cancel(str(run.task_id), seconds=CANCEL_SECONDS)
    except (ExecutorError, TimeoutError) as error:
        why = str(error) or f"no answer within {CANCEL_SECONDS:g} s"
        context.log(f"Could not cancel the run at {client.name}, which may still be at work. {why}")


def _result(run: RemoteRun) -> Json:
    known: dict[str, Any] = {"task_id": run.task_id, "run_id": run.run_id, "status": run.status}
    return {"result": run.result, **{name: value for name, value in known.items() if value is not None}}
