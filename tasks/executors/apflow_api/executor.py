"""Calls another server of this kind, and waits for the runs that it starts there."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, Final

import orjson

from aipartnerupflow.executors import Context, Executor, ExecutorError, HttpResponse, Json, Stopped
from tasks.executors.http.event_stream import NoStream, events
from tasks.executors.http.rest import PASSING, SECRET, merged_headers
from tasks.executors.http.safe_http import fetch, origin_of, parse_url
from tasks.executors.timeouts import timeout_of, timeout_schema

INTERNAL_ERROR: Final = -32603
LIMIT_REACHED: Final = -32029
FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 180.0
"""The seconds that the server may be unreachable while it works for us."""
SHOWN: Final = 2_000


@dataclass(slots=True, kw_only=True)
class RemoteRun:
    """A run at the other server, as its events tell. `status` is None until it is over."""

    task_id: str | None = None
    run_id: str | None = None
    seq: int = 0
    status: str | None = None
    result: Any = None
    error: str | None = None

    def take(self, frame: Json, context: Context) -> None:
        """Process the reply or an event. Raises KeyError and TypeError for what is neither."""
        if "jsonrpc" in frame:
            self.task_id = str(frame["result"]["root_task_id"])
            return
        self.run_id, self.seq = str(frame["run_id"]), int(frame["seq"] or self.seq)
        kind, text = frame["type"], str(frame["message"] or "")[:SHOWN]
        if kind in ("task_completed", "task_failed", "task_cancelled") and frame["task_id"] == self.task_id:
            self.result, self.error = frame["result"], frame["error"]
        if kind == "final":
            self.status = str(frame["status"])
        elif kind == "log":
            context.log(text)
        elif kind in ("progress", "task_completed"):
            context.report(float(frame["tree_progress"] or 0), text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The other server, and the headers of all requests to it, which hold its token."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        return origin_of(self.base_url)

    async def call(self, method: str, params: Json, *, key: str | None = None, seconds: float) -> Any:
        """Return the result of a method. Raises ExecutorError."""
        path = "/system" if method.startswith("system.") else "/tasks"
        reply = await fetch(
            "POST",
            self._at(path),
            headers=self._sent(key),
            content=_request(method, params),
            timeout_seconds=seconds,
        )
        return self._result(reply)

    async def follow(
        self, method: str, params: Json, *, key: str, context: Context, begun: Callable[[RemoteRun], None]
    ) -> RemoteRun:
        """Start a run, or find the one that was started with this key, and return it when it is over.

        `begun` gets the run as soon as it is known. Raises ExecutorError if the server refuses, or is
        unreachable for too long.
        """
        run = RemoteRun()
        begun(run)
        await self._hear(self._started(method, params, key=key), run, context)
        now = asyncio.get_running_loop().time
        deadline, wait_seconds = now() + PATIENCE_SECONDS, FIRST_WAIT_SECONDS
        while run.status is None:
            await asyncio.sleep(wait_seconds)
            wait_seconds, seen = min(1.5 * wait_seconds, LONGEST_WAIT_SECONDS), run.seq
            headers = {**self.headers, "Last-Event-ID": f"{run.seq}:{run.run_id}" if run.run_id else "0"}
            resumed = events("GET", self._at(f"/tasks/{run.task_id}/events"), headers=headers, content=None)
            try:
                await self._hear(resumed, run, context)
            except ExecutorError as error:
                if error.permanent or now() > deadline:
                    raise
            if run.seq > seen:
                deadline, wait_seconds = now() + PATIENCE_SECONDS, FIRST_WAIT_SECONDS
        return run

    def _started(self, method: str, params: Json, *, key: str) -> AsyncGenerator[bytes]:
        content = _request(method, params | {"use_streaming": True})
        return events("POST", self._at("/tasks"), headers=self._sent(key), content=content)

    async def _hear(self, stream: AsyncGenerator[bytes], run: RemoteRun, context: Context) -> None:
        """Process a stream until it or the run ends. A broken one raises ExecutorError only if nothing is known yet."""
        try:
            async with aclosing(stream) as frames:
                async for frame in frames:
                    run.take(orjson.loads(frame), context)
                    if run.status is not None:
                        return
        except NoStream as refused:
            self._result(refused.reply)
            raise self._nonsense() from None
        except ExecutorError:
            if run.task_id is None:
                raise
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise self._nonsense() from None
        if run.task_id is None:
            raise ExecutorError(f"The server {self.name} ended its response without sending anything.")

    async def find(self, run: RemoteRun, method: str, params: Json, *, key: str, context: Context) -> None:
        """Learn the task's id of the run that was started with this key; without one, it is started. Raises ExecutorError."""
        async with aclosing(self._first_frame(method, params, key=key)) as frames:
            await self._hear(frames, run, context)

    async def _first_frame(self, method: str, params: Json, *, key: str) -> AsyncGenerator[bytes]:
        async with aclosing(self._started(method, params, key=key)) as frames:
            async for frame in frames:
                yield frame
                return

    async def cancel(self, task_id: str, *, seconds: float) -> None:
        """Raise ExecutorError."""
        await self.call("tasks.cancel", {"task_id": task_id}, seconds=seconds)

    def _at(self, path: str) -> str:
        return str(parse_url(self.base_url.rstrip("/") + path))

    def _sent(self, key: str | None) -> Mapping[str, str]:
        keys = {} if key is None else {"Idempotency-Key": key}
        return {"Content-Type": "application/json", **keys, **self.headers}

    def _result(self, reply: HttpResponse) -> Any:
        """Return the result in a JSON-RPC reply. Raises ExecutorError for an error, and for anything else."""
        try:
            value = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            value = None
        if isinstance(value, dict) and "result" in value:
            return value["result"]
        error = value.get("error") if isinstance(value, dict) else None
        if not isinstance(error, dict):
            raise self._nonsense(reply.status_code)
        code, said = error.get("code"), str(error.get("message"))[:SHOWN]
        is_passing = code in (INTERNAL_ERROR, LIMIT_REACHED) or _is_passing(reply.status_code)
        data = error.get("data")
        listed = [each for each in data if isinstance(each, dict)] if isinstance(data, list) else []
        fields = "".join(f" {each.get('field')}: {each.get('reason')}." for each in listed[:5])[:SHOWN]
        raise ExecutorError(
            f"The server {self.name} refused with {code}: {said}{fields}",
            permanent=not is_passing,
            retry_after_seconds=reply.retry_after_seconds,
        )

    def _nonsense(self, status: int = HTTPStatus.OK) -> ExecutorError:
        return ExecutorError(
            f"The server {self.name} answered {status}, and not as a server of this kind. Check `base_url`.",
            permanent=not _is_passing(status),
        )


def _request(method: str, params: Json) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def _is_passing(status: int) -> bool:
    return status >= 500 or status in PASSING


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
        method, params = inputs["method"], inputs.get("params", {})
        auth = {"Authorization": f"Bearer {inputs['auth_token']}"} if "auth_token" in inputs else {}
        client = Client(base_url=inputs["base_url"], headers=merged_headers({}, inputs.get("headers", {}), auth))
        if method in RUNNING and inputs.get("wait_for_completion", True):
            return await _followed(client, method, params, context)
        key = _key(context, number=1) if method in (*RUNNING, *STORING) else None
        seconds = timeout_of(inputs, TIMEOUT_SECONDS)
        return {"result": await client.call(method, params, key=key, seconds=seconds)}


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
