"""The worker's end of a line to a process of a pool: it gives the process a job and follows it to its end."""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextvars import Context as Variables
from contextvars import copy_context
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import msgspec
from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Stopped
from aipartnerupflow.executors.base import unstored
from llmkeys.masker import MASKER
from tasks.executors.llm.client import ask, check
from tasks.executors.llm.prompt import Prompt
from tasks.executors.mcp.offered import SERVERS
from tasks.executors.states import STATES
from tasks.pools import frames
from tasks.pools.base import RaisedElsewhere
from tasks.pools.frames import Job
from tasks.pools.prints import Prints
from tasks.telemetry import tracing


async def answer(
    name: str, arguments: Json, context: Context, *, heard: Callable[[str], None], spent: Callable[[Json], None]
) -> Any:
    """Do what the name says for the task of the context. Raises ExecutorError, Stopped."""
    match name:
        case "begin":
            return await context.begin()
        case "fetch":
            response = await context.fetch(**arguments)
            return {
                "url": response.url,
                "status_code": response.status_code,
                "headers": list(response.headers.items()),
                "body": response.body,
                "elapsed_ms": response.elapsed_ms,
            }
        case "secret":
            return await context.secret(**arguments)
        case "ask":
            return asdict(await ask(_prompt(arguments, context), spent=spent, heard=heard))
        case "check":
            return await check(_prompt(arguments, context))
        case "tools_of_servers":
            return [asdict(each) for each in await SERVERS.get().named(**arguments)]
        case "call_tool":
            return await SERVERS.get().call(**arguments, log=heard)
        case "get_file" | "read_file" | "begin_file" | "write_file" | "complete_file" | "drop_file":
            return await context.files.call(name, arguments)
        case "load_state":
            return await STATES.get().load()
        case "save_state":
            return await STATES.get().save(**arguments)
    raise LookupError(name)


def _prompt(given: Json, context: Context) -> Prompt:
    """Return the prompt. The run and the user decide about the key, so they are not taken from the call."""
    return Prompt(**given | {"run_id": context.run_id, "user_id": context.user_id})


STOP_SECONDS: Final = 1.9
"""The seconds for a cancelled job before its process is killed: a little less than the engine waits."""
MOST_BYTES: Final = 64 * 2**20
"""The size of one message from a process, unless results may be larger."""
logger = logging.getLogger(__name__)


class Line:
    """One process, seen from its worker. `is_fresh`: it can take another job."""

    def __init__(
        self, line: socket.socket, *, path: str | None, kill: Callable[[], None], prints: Prints | None = None
    ) -> None:
        """`path` is what its nursery has imported; `kill` kills the process; `prints` is its output, if it comes to this worker."""
        self.path = path
        self.executor_id = ""
        self.tasks = 0
        self.is_fresh = True
        self.grown_bytes = 0
        self.exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._kill = kill
        self._prints = prints
        self._writer: asyncio.StreamWriter | None = None
        self._job: _Job | None = None
        # Not in the context of the task that happens to need the process first.
        self._reading = asyncio.create_task(self._read(line), context=Variables())
        self._is_open = asyncio.Event()

    async def work(self, job: frames.Job, context: Context) -> Any:
        """Return the job's result. Raises what the executor raises, and ProcessDied."""
        await self._is_open.wait()
        self._job = current = _Job(context, send=self._send)
        if self._prints is not None:
            self._prints.begin(run_id=context.run_id, task_id=context.task_id)
        try:
            self._send(frames.encoded(job))
            return outcome(await asyncio.shield(current.end))
        except asyncio.CancelledError:
            self.is_fresh = False  # something of the job may still run there
            return outcome(await self._stop(current))
        finally:
            self._job = None
            await current.close()
            if (prints := self._prints) and not (prints.is_logged or await asyncio.to_thread(prints.finish)):
                self.is_fresh = False

    def close(self) -> None:
        """Kill the process."""
        self.is_fresh = False
        self._kill()
        if self._writer is not None:
            self._writer.close()

    def lost_process(self, _: object) -> None:
        """Its process has ended in a way that has no exit code."""
        if not self.exit_code.done():
            self.exit_code.set_result(0)

    async def closed(self) -> None:
        """Return when the process has ended."""
        await self._reading

    async def _stop(self, job: "_Job") -> frames.Ended:
        """Ask the executor to stop, and return what it says. Raises CancelledError if it does not in time."""
        cancel = frames.Cancel(is_forced=job.context.is_forced(), is_given_up=job.context.is_given_up())
        self._send(frames.encoded(cancel))
        try:
            async with asyncio.timeout(STOP_SECONDS):
                return await asyncio.shield(job.end)
        except TimeoutError:
            raise asyncio.CancelledError from None
        finally:
            self.close()

    def _send(self, data: bytes) -> None:
        if self._writer is not None:
            self._writer.write(data)

    async def _read(self, line: socket.socket) -> None:
        reader, self._writer = await asyncio.open_connection(sock=line)
        self._is_open.set()
        most = max(MOST_BYTES, 2 * max(settings.APFLOW.limits.result_bytes, settings.APFLOW.limits.value_bytes))
        try:
            while (message := await frames.read(reader, frames.TO_WORKER, max_bytes=most)) is not None:
                if self._job is not None:
                    self._heed(self._job, message)
                if isinstance(message, frames.Ended):
                    self.grown_bytes = message.grown_bytes
                    self.is_fresh = self.is_fresh and not message.is_stained
            self.is_fresh = False
        except (frames.TooLong, msgspec.MsgspecError) as error:
            logger.error("A process of a pool sent what is no message: %s", error, extra={"event": "pool.broken"})
            self.close()
        self._writer.close()
        code = await self.exit_code
        if self._job is not None:
            self._job.lost(code)

    def _heed(self, job: "_Job", message: frames.FromProcess) -> None:
        try:
            job.variables.run(job.heed, message)
        except Exception as error:  # noqa: BLE001  (on the loop, the executor's own call would raise it)
            job.fail(error)
            self.close()


class _Job:
    """One attempt that runs in a process."""

    def __init__(self, context: Context, *, send: Callable[[bytes], None]) -> None:
        self.context = context
        self.variables = copy_context()
        self.is_begun = False
        self.end: asyncio.Future[frames.Ended] = asyncio.get_running_loop().create_future()
        self._send = send
        self._calls: dict[int, asyncio.Task[frames.Answer]] = {}

    def heed(self, message: frames.FromProcess) -> None:
        match message:
            case frames.Begun():
                self.is_begun = True
            case frames.Progress():
                self.context.report(message.fraction, message.message)
            case frames.Line():
                self.context.log(message.text)
            case frames.Spent():
                self.context.spent(message.usage)
            case frames.Call():
                call = self._calls[message.number] = asyncio.create_task(self._answer(message))
                call.add_done_callback(partial(self._answered, message.number))
            case frames.Withdrawn():
                if withdrawn := self._calls.get(message.number):
                    withdrawn.cancel()
            case frames.Ended() if not self.end.done():
                self.end.set_result(message)

    def lost(self, exit_code: int) -> None:
        self.fail(ProcessDied(exit_code, is_begun=self.is_begun))

    def fail(self, error: Exception) -> None:
        if not self.end.done():
            self.end.set_exception(error)

    async def close(self) -> None:
        """Cancel the calls that are under way."""
        self.end.cancel()
        for call in self._calls.values():
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls.values())

    def _answered(self, number: int, call: "asyncio.Task[frames.Answer]") -> None:
        """Send the answer: also of a call that was withdrawn before it began, whose code never ran."""
        self._calls.pop(number, None)
        halted = frames.Halted(result=None, token_usage=None)
        answer = frames.Answer(number=number, error=halted) if call.cancelled() else call.result()
        self._send(frames.encoded(answer))

    async def _answer(self, call: frames.Call) -> frames.Answer:
        def heard(text: str) -> None:
            self._send(frames.encoded(frames.Heard(number=call.number, text=text)))

        def spent(usage: Json) -> None:
            self.context.spent(usage)
            self._send(frames.encoded(frames.Used(number=call.number, usage=usage)))

        try:
            value = await answer(call.name, call.arguments, self.context, heard=heard, spent=spent)
            return frames.Answer(number=call.number, value=value)
        except ExecutorError as error:
            failure: frames.Failed | frames.Halted = frames.failure_of(error)
        except Stopped as stopped:
            failure = frames.halt_of(stopped)
        except Exception:
            logger.exception(
                "The call %s for a process of a pool failed", call.name, extra={"event": "pool.call_failed"}
            )
            failure = frames.Failed(
                message=f"{call.name} failed in the worker; its log has the details.",
                permanent=False,
                retry_after_seconds=None,
            )
        return frames.Answer(number=call.number, error=failure)


class ProcessDied(Exception):
    """`exit_code` is negative for a signal. Without `is_begun` the job did not arrive, so nothing of it was done."""

    def __init__(self, exit_code: int, *, is_begun: bool) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
        self.is_begun = is_begun


def outcome(ended: frames.Ended) -> Any:
    """Return the result. Raises what the executor raised."""
    match ended.end:
        case frames.Completed() as completed:
            return frames.result_of(completed)
        case frames.Failed() | frames.Halted() as failed:
            raise frames.error_of(failed)
        case frames.Asked() as asked:
            raise frames.parked_of(asked)
        case frames.Raised(kind=kind, traceback=traceback):
            raise RaisedElsewhere(kind, traceback)
        case frames.Cancelled():
            raise asyncio.CancelledError


def job_of(executor: Executor, inputs: Json, context: Context, *, memory_bytes: int) -> Job:
    """Return the message that has the executor executed. `memory_bytes` 0: without a limit."""
    masker = MASKER.get()
    given: Json = {name: getattr(context, name) for name in frames.OF_CONTEXT}
    given |= {name: dict(value) for name, value in given.items() if isinstance(value, Mapping)}
    return Job(
        **given,
        executor_id=executor.id,
        inputs=inputs,
        memory_bytes=memory_bytes,
        max_processes=settings.APFLOW.pools.process.processes,
        max_result_bytes=max(settings.APFLOW.limits.result_bytes, settings.APFLOW.limits.value_bytes),
        must_begin=context.begin is not unstored,
        secrets=[] if masker is None else masker.values_in(inputs),
        trace=tracing.current(),
    )
