"""Call another server of this kind, and follow the runs that it makes for us."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import orjson

from aipartnerupflow.executors import Context, ExecutorError, HttpResponse, Json
from tasks.executors.http.event_stream import NoStream, events
from tasks.executors.http.rest import PASSING
from tasks.executors.http.safe_http import fetch, origin_of, parse_url

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
            try:
                await self._hear(self._resumed(run), run, context)
            except ExecutorError as error:
                if error.permanent or now() > deadline:
                    raise
            if run.seq > seen:
                deadline, wait_seconds = now() + PATIENCE_SECONDS, FIRST_WAIT_SECONDS
        return run

    def _started(self, method: str, params: Json, *, key: str) -> AsyncGenerator[bytes]:
        content = _request(method, params | {"use_streaming": True})
        return events("POST", self._at("/tasks"), headers=self._sent(key), content=content)

    def _resumed(self, run: RemoteRun) -> AsyncGenerator[bytes]:
        place = f"{run.seq}:{run.run_id}" if run.run_id else "0"
        url = self._at(f"/tasks/{run.task_id}/events")
        return events("GET", url, headers={**self.headers, "Last-Event-ID": place}, content=None)

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
        raise ExecutorError(
            f"The server {self.name} refused with {code}: {said}{_fields(error)}",
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


def _fields(error: Json) -> str:
    """Return which parameters are invalid and why, for the end of a message; empty if it does not say."""
    data = error.get("data")
    listed = [each for each in data if isinstance(each, dict)] if isinstance(data, list) else []
    return "".join(f" {each.get('field')}: {each.get('reason')}." for each in listed[:5])[:SHOWN]
