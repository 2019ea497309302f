"""A process of a pool: it executes one job at a time and calls the worker for models, requests and MCP servers."""

import asyncio
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, NoReturn

from django.conf import settings
from django.db import connections

from aipartnerupflow.executors import Context, ExecutorError, HttpResponse, Json, Parked, Stopped
from aipartnerupflow.executors.files import Files
from llmkeys.masker import MASKER, Masker
from tasks.executors import get_executor
from tasks.executors.http import client
from tasks.executors.llm.client import MODELS, ignore, with_own_calls
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.executors.mcp.offered import SERVERS, Offered
from tasks.executors.states import STATES
from tasks.own_process import end_with_parent, hide_memory
from tasks.pools import frames
from tasks.pools.base import executed
from tasks.pools.family import adopt_orphans, kill_family, limited_family
from tasks.pools.frames import Message
from tasks.telemetry.tracing import add_log_ids, continue_from

IS_LINUX: Final = sys.platform == "linux"
MOST_LIKELY: Final = "1000"
"""When the machine runs out of memory, the kernel ends these processes first."""
SLACK_BYTES: Final = 32 * 2**20
"""The memory for the threads and buffers of the process itself."""
LINE_BUFFERED: Final = 1
"""_IOLBF, of C."""
logger = logging.getLogger(__name__)


def main(descriptor: int, output: int) -> NoReturn:
    """Serve the worker at the other end of the socket until it is gone. Print into the pipe `output`."""
    try:
        _print_into(output)
        _settle_down()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(Child(socket.socket(fileno=descriptor), is_own=True).serve())
        os.killpg(0, signal.SIGKILL)  # with all that it has started
    except BaseException:
        logger.exception("A process of a pool failed", extra={"event": "pool.broken"})
    finally:
        os._exit(1)


def _settle_down() -> None:
    """Become a process of its own: with its own group, without input, and ended with its nursery."""
    os.setsid()
    adopt_orphans()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    if IS_LINUX:
        end_with_parent()
        hide_memory(is_hidden=False)  # else the file belongs to root
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(MOST_LIKELY)
        hide_memory(is_hidden=not settings.APFLOW.server.debuggers)


def _print_into(output: int) -> None:
    """Send what any code here prints through the pipe, line by line. The worker logs it with the time and the ids of the task."""
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    if IS_LINUX:
        library = ctypes.CDLL(None)
        library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, LINE_BUFFERED, 0)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", force=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """The callbacks of a call of a model or a tool: for text as it arrives, and for usage."""

    heard: Callable[[str], None]
    spent: Callable[[Json], None] = lambda usage: None


class Child:
    def __init__(self, line: socket.socket, *, is_own: bool = False) -> None:
        """`is_own`: the process is for tasks only, so that what is below it belongs to them."""
        self._socket = line
        self._is_own = is_own
        self._born_bytes = _resident_bytes()
        self._is_forced = self._is_given_up = self._is_cancelled = False
        self._job: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._prompts: dict[int, Listener] = {}
        self._is_counted = False
        self._number = 0

    async def serve(self) -> None:
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        while (message := await frames.read(reader, frames.TO_PROCESS)) is not None:
            match message:
                case frames.Job():
                    self._is_forced = self._is_given_up = self._is_cancelled = False
                    self.send(frames.Begun())
                    self._job = asyncio.create_task(self._work(message))
                case frames.Cancel():
                    self._is_forced, self._is_given_up = message.is_forced, message.is_given_up
                    self._is_cancelled = True
                    if self._job is not None:
                        self._job.cancel()
                case frames.Heard() if message.number in self._prompts:
                    self._prompts[message.number].heard(message.text)
                case frames.Used() if message.number in self._prompts:
                    self._is_counted = True
                    try:
                        self._prompts[message.number].spent(message.usage)
                    finally:
                        self._is_counted = False
                case frames.Answer():
                    future = self._answers.pop(message.number)
                    if message.error is None:
                        future.set_result(message.value)
                    else:
                        future.set_exception(frames.error_of(message.error))

    @property
    def is_at_work(self) -> bool:
        return self._job is not None and not self._job.done()

    def _report(self, fraction: float, message: str = "") -> None:
        self.send(frames.Progress(fraction=float(fraction), message=frames.clean(message)))

    def _spend(self, usage: Json) -> None:
        if not self._is_counted:
            self.send(frames.Spent(usage=dict(usage)))

    async def _work(self, job: frames.Job) -> None:
        add_log_ids(run=job.run_id, task=job.task_id)
        continue_from(job.trace)
        MODELS.set(WorkersModels(self.call))
        STATES.set(WorkersState(self.call))
        SERVERS.set(WorkersServers(self.call))
        MASKER.set(Masker(job.secrets))
        limits = (
            limited_family(most=job.max_processes, memory_bytes=job.memory_bytes) if self._is_own else nullcontext()
        )
        with limits:
            end = await self._end_of(job)
        is_stained = self._is_own and kill_family()
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, ValueError, OSError):  # the task has replaced or closed it
                stream.flush()
        try:
            for connection in connections.all(initialized_only=True):  # that the executor has opened on this thread
                if connection.connection is not None:  # else it cannot be closed on a loop
                    connection.close()
            self._end(end, is_stained=is_stained)
        except Exception as error:  # noqa: BLE001  (such as a result that is not JSON; without an end, the worker waits)
            self._end(_raised(error), is_stained=is_stained)

    def _end(self, end: Any, *, is_stained: bool) -> None:
        grown_bytes = max(0, _resident_bytes() - self._born_bytes)
        self.send(frames.Ended(end=end, grown_bytes=grown_bytes, is_stained=is_stained))

    async def _end_of(self, job: frames.Job) -> Any:
        try:
            with _limited_memory(job.memory_bytes):
                result = await executed(get_executor(job.executor_id), job.inputs, self._context(job))
                return frames.completion_of(result, max_bytes=job.max_result_bytes)
        except ExecutorError as error:
            return frames.failure_of(_with_limit(error, job))
        except MemoryError as error:
            return frames.failure_of(
                _with_limit(ExecutorError(f"Executor '{job.executor_id}' ran out of memory."), job, cause=error)
            )
        except Parked as parked:
            return frames.question_of(parked)
        except Stopped as stopped:
            return frames.halt_of(stopped)
        except asyncio.CancelledError:
            return frames.Cancelled()
        except (Exception, SystemExit) as error:  # noqa: BLE001  (a plug-in may raise anything)
            return _raised(error)

    def _context(self, job: frames.Job) -> Context:
        given: Json = {name: getattr(job, name) for name in frames.OF_CONTEXT}
        if job.must_begin:
            given["begin"] = partial(self.call, "begin", {})
        context = Context(
            **given,
            report=self._report,
            log=lambda text: self.send(frames.Line(text=frames.clean(text))),
            is_forced=lambda: self._is_forced,
            is_given_up=lambda: self._is_given_up,
            spent=self._spend,
            fetch=partial(_fetch, self.call),
            secret=self._secret,
            http=client,
            files=Files(self.call),
        )
        return with_own_calls(context)

    async def _secret(self, name: str, *, host: str | None = None) -> str:
        value: str = await self.call("secret", {"name": name, "host": host})
        if masker := MASKER.get():
            masker.add([value])
        return value

    def send(self, message: Message) -> None:
        self._writer.write(frames.encoded(message))

    async def call(self, name: str, arguments: Json, *, listener: Listener | None = None) -> Any:
        """Let the worker do it. If this is cancelled, so is the call.

        If the whole task is cancelled, a Stopped that the call then raises counts. Without that, a
        timeout of the executor's own would not see the end of what it has cancelled.
        """
        self._number += 1
        number = self._number
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        if listener is not None:
            self._prompts[number] = listener
        self.send(frames.Call(number=number, name=name, arguments=arguments))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.send(frames.Withdrawn(number=number))
            await asyncio.wait([future])
            if self._is_cancelled and isinstance(future.exception(), Stopped):
                future.result()
            raise
        finally:
            self._prompts.pop(number, None)


class WorkersModels:
    """Models that the worker calls: it has the keys."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        return Completion(**await self._call("ask", _fields(prompt), listener=Listener(heard=heard, spent=spent)))

    async def check(self, prompt: Prompt) -> None:
        await self._call("check", _fields(prompt))


class WorkersState:
    """The state of the task, which the worker keeps."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    async def load(self) -> dict[str, bytes]:
        found: dict[str, bytes] = await self._call("load_state", {})
        return found

    async def save(self, stored: Mapping[str, bytes], *, deleted: Sequence[str] = ()) -> None:
        await self._call("save_state", {"stored": dict(stored), "deleted": list(deleted)})


class WorkersServers:
    """MCP servers that the worker calls: it has the credentials."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    async def named(self, name: str, *, place: str) -> list[Offered]:
        found = await self._call("tools_of_servers", {"name": name, "place": place})
        return [Offered(**each) for each in found]

    async def call(self, server: str, tool: str, arguments: Json, *, key: str, log: Callable[[str], None]) -> Json:
        given = {"server": server, "tool": tool, "arguments": arguments, "key": key}
        result: Json = await self._call("call_tool", given, listener=Listener(heard=log))
        return result


def _raised(error: BaseException) -> frames.Raised:
    text = "".join(traceback.format_exception(error))
    return frames.Raised(kind=type(error).__name__, traceback=frames.clean(text))


def _fields(prompt: Prompt) -> Json:
    """Return the fields for the worker, which sets the run and the user itself."""
    given = {field.name: getattr(prompt, field.name) for field in fields(prompt)}
    return given | {"messages": list(prompt.messages), "options": dict(prompt.options)}


async def _fetch(call: Callable[..., Any], method: str, url: str, **options: Any) -> HttpResponse:
    from httpx import Headers  # noqa: PLC0415

    given = {name: dict(value) if isinstance(value, Mapping) else value for name, value in options.items()}
    response = await call("fetch", {"method": method, "url": url, **given})
    return HttpResponse(**response | {"headers": Headers(response["headers"])})


@contextmanager
def _limited_memory(memory_bytes: int) -> Iterator[None]:
    """Let this process take at most so much memory more than it does now. Linux only."""
    if not (IS_LINUX and memory_bytes):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    counted_bytes = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (counted_bytes + memory_bytes + SLACK_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _resident_bytes() -> int:
    if not IS_LINUX:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _with_limit(error: ExecutorError, job: frames.Job, *, cause: BaseException | None = None) -> ExecutorError:
    """Name the limit of memory in an error that comes from it."""
    if not isinstance(cause or error.__cause__, MemoryError):
        return error
    return ExecutorError(
        f"{error} The limit is {job.memory_bytes // 2**20} MB: see params.resources.memory_mb and pools.process.memory_mb.",
        permanent=error.permanent,
    )
