"""An event loop that is only a queue of callbacks: the code of a workflow runs on it, and nothing outside moves it.

When the queue is empty, each branch of the workflow waits for a call. That is exact, so a workflow can be suspended, and run again
with the same ends in the same order. asyncio's `gather`, `wait`, `timeout`, `Semaphore` and `TaskGroup` work on it. Its clock is that
of the workflow, and its timers are calls, which are stored; threads, sockets and processes are refused by name.
"""

import asyncio
import logging
import sys
from asyncio.events import _get_running_loop, _set_running_loop
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import Context, copy_context
from types import FrameType
from typing import Any, ClassVar, Final, Protocol, TypeVarTuple

Ts = TypeVarTuple("Ts")


class Blocked(BaseException):
    """The code of a workflow works for so long that nothing else of its process can."""


logger = logging.getLogger(__name__)
WITHOUT_END: Final = "the code of the workflow works on without waiting for a call. Do the work in a step."
OURS: Final = ("asyncio.", "aipartnerupflow.workflows.")
MOST_CALLBACKS: Final = 1_000_000
"""The callbacks that may follow an end before the code waits for another one: more never end. Time would not be the same in a replay."""


class Branch(asyncio.Task[Any]):
    """One line of control of a workflow. Its calls are numbered by itself, so that no other branch can change their paths."""

    def __init__(self, work: Coroutine[Any, Any, Any], *, path: str, number: int, **options: Any) -> None:
        self.path = path
        self.number = number
        self.count = 0
        self.handled: BaseException | None = None
        """The exception during which it has made its latest calls."""
        super().__init__(work, **options)

    def __hash__(self) -> int:
        """Return the same number in a replay, so that a set of branches, as from `asyncio.wait`, has the same order."""
        return self.number

    def next(self) -> str:
        """Return the path of the next call or branch."""
        self.count += 1
        return f"{self.path}.{self.count}" if self.path else str(self.count)


class Inline(Executor):
    """An executor without threads: a function that a framework gives to it is code of the workflow, and runs at once."""


class Owner(Protocol):
    """The part of a `Drive` that its loop needs."""

    def seconds(self) -> float:
        """Return the time of the workflow in seconds."""
        ...

    def start_timer(self, timer: "Timer", seconds: float) -> None: ...
    def cancel_timer(self, timer: "Timer") -> None: ...
    def note_handled(self, branch: Branch) -> None:
        """Note the exception that the code of the branch handles while it makes a call, or starts a branch."""
        ...


class Timer(asyncio.TimerHandle):
    """A timer of asyncio. It is a call of the workflow, so it is stored."""

    path: str = ""

    def __init__(self, loop: "Loop", when: float, callback: Callable[..., Any], args: Any, context: Context) -> None:
        super().__init__(when, callback, args, loop, context)
        self.work = (callback, args, context)
        self.owner = loop.owner

    def cancel(self) -> None:
        asyncio.Handle.cancel(self)
        self.owner.cancel_timer(self)


class Loop(asyncio.AbstractEventLoop):
    """The event loop of one workflow."""

    at_work: "ClassVar[Loop | None]" = None
    """The loop whose callbacks run now, on the main thread. `interrupt` may stop them."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.is_stopped = False
        self.branches: set[Branch] = set()
        """The branches that have not ended."""
        self._branch_count = 0
        self._queue = deque[tuple[asyncio.Handle, Callable[..., Any], tuple[Any, ...], Context]]()

    def run(self) -> bool:
        """Run callbacks until none is left, or the loop is stopped. Returns False if they do not end, or were interrupted.

        It may be called within another loop, whose current task is left meanwhile.
        """
        with self._running():
            return self._run_queue()

    def _run_queue(self) -> bool:
        try:
            Loop.at_work = self
            for _ in range(MOST_CALLBACKS):
                if not self._queue or self.is_stopped:
                    Loop.at_work = None
                    return True
                handle, callback, args, context = self._queue.popleft()
                if not handle.cancelled():
                    context.run(callback, *args)
            return False
        except Blocked:
            return False
        except (SystemExit, KeyboardInterrupt):  # the branch that raised it has it as its exception, too
            return self._run_queue()
        finally:
            Loop.at_work = None

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Let this loop be the running one, and no other one's task the current one."""
        outer, hooks = _get_running_loop(), sys.get_asyncgen_hooks()
        task = asyncio.current_task(outer) if outer is not None else None
        if outer is not None and task is not None:
            _leave_task(outer, task)
        _set_running_loop(self)
        sys.set_asyncgen_hooks(None, None)
        try:
            yield
        finally:
            sys.set_asyncgen_hooks(*hooks)
            _set_running_loop(outer)
            if outer is not None and task is not None:
                _enter_task(outer, task)

    def close(self) -> None:
        """Drop all branches, as when a process dies, except that they are cancelled and their `finally` blocks run. They can call nothing any
        more.

        They are not closed by GeneratorExit: task groups wait for their tasks, and a coroutine that waits then is broken.
        """
        with self._running():
            self._queue.clear()
            self.is_stopped = False
            for branch in sorted(self.branches, key=lambda branch: -branch.number):
                branch.cancel()
            self._run_queue()
            self.is_stopped = True
            for branch in sorted(self.branches, key=lambda branch: -branch.number):  # that went on all the same
                try:
                    if (work := branch.get_coro()) is not None:
                        work.close()
                except (Exception, SystemExit) as error:  # noqa: BLE001  (the code of a workflow may raise anything)
                    logger.warning("A workflow that is put aside raised %r in a finally block", error)
        self.branches.clear()
        self._queue.clear()

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        context = copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        self._queue.append((handle, callback, args, context))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Timer:
        timer = Timer(self, self.time() + delay, callback, args, copy_context() if context is None else context)
        self.owner.start_timer(timer, delay)
        return timer

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Timer:
        return self.call_later(max(0.0, round(when - self.time(), 6)), callback, *args, context=context)

    def fire(self, timer: Timer) -> None:
        """Run the callback of the timer, unless it is cancelled before its turn."""
        self._queue.append((timer, *timer.work))

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], Any], *args: *Ts) -> asyncio.Future[Any]:
        if not isinstance(executor, Inline):
            _refused("run_in_executor")(self)
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  (the code of a workflow may raise anything)
            future.set_exception(error)
        return future

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any) -> Any:
        """Start a branch. Its path is the next number of the branch that starts it."""
        above = asyncio.current_task(self) if _get_running_loop() is self else None
        path = ""
        if isinstance(above, Branch):
            path = above.next()
            self.owner.note_handled(above)
        self._branch_count += 1
        branch = Branch(coro, path=path, number=self._branch_count, loop=self, name=name or path, context=context)
        self.branches.add(branch)
        branch.add_done_callback(self.branches.discard)
        return branch

    def time(self) -> float:
        return self.owner.seconds()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.is_stopped

    def is_closed(self) -> bool:
        return self.is_stopped

    def get_task_factory(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_stopped:
            logger.error("In a workflow: %s", context.get("message"), exc_info=context.get("exception"))


def interrupt(_: int, frame: FrameType | None) -> None:
    """Raise Blocked in the code of the workflow that is at work on this thread, if one is: the handler of a signal."""
    loop, Loop.at_work = Loop.at_work, None
    if loop is not None:
        while frame is not None and frame.f_globals.get("__name__", "").startswith(OURS):
            frame = frame.f_back
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}: " if frame is not None else ""
        raise Blocked(f"{place}{WITHOUT_END}")


def _refused(name: str) -> Callable[..., Any]:
    def refuse(self: Loop, *args: Any, **options: Any) -> Any:
        raise RuntimeError(
            f"A workflow cannot use threads, sockets or processes (loop.{name}): a replay would do it again. Do it in a step."
        )

    return refuse


for _name in (name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_") and name not in vars(Loop)):
    setattr(Loop, _name, _refused(_name))
