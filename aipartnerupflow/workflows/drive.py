"""The core of workflows: `Drive` runs the code of one, gives each call its place, and checks a replay. Pure: it performs no call.

A driver, such as `aipartnerupflow.workflows.testing`, stores what `begin` and `deliver` return, performs the calls, stores their ends,
and delivers these, one at a time. After a crash a new drive of the same code takes the stored calls, and is where the old one was.

A *path* is the place of a call: the number of the call within its branch, after the path of the branch (`3.1`). The order in
which ends are delivered decides which calls the code makes, so each call is stored with those that it has `seen`.
"""

import asyncio
import hashlib
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Final, Literal

import orjson

from aipartnerupflow.executors import Json
from aipartnerupflow.workflows.loop import OURS, WITHOUT_END, Branch, Loop, Timer

Kind = Literal["step", "workflow", "agent", "run", "ask", "event", "sleep"]
ROOT: Final = ""
"""The path of the workflow itself: an end delivered there cancels it."""
SHOWN_CHARACTERS: Final = 60
SLEEP: Final = "sleep"
AFTER: Final = "_calls_before"
"""The attribute of an exception for the number of calls that the workflow had made before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The end of a call, or of a workflow, with its time."""

    status: Literal["completed", "failed", "cancelled", "again"]
    at: datetime
    result: Any = None
    """Any JSON value; of `again`, the arguments of the next part."""
    error: str | None = None
    exception: str | None = None
    """The name of the type of its exception, whose arguments are `result` if a step declares it: see `step(raises=…)`."""


@dataclass(slots=True, kw_only=True)
class Call:
    """A call of a workflow: a command to store and perform it."""

    kind: Kind
    target: str
    """`module:name` of the step or workflow, the name of the agent, executor or event, or the question."""
    inputs: Json
    """The arguments, which are literal."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """The names of secrets that belong into the inputs, by JSON Pointer."""
    options: Json = field(default_factory=dict)
    """Limits, retries and the like: another value in a replay is no difference."""
    key: str | None = None
    place: str = ""
    """The file and line of the code that makes it."""
    path: str = ""
    seen: tuple[str, ...] = ()
    """The paths of the ends that were delivered since the call before, in order."""
    patches: tuple[str, ...] = ()
    """The names that `patched` answered with True since the call before."""
    function: Any = field(default=None, repr=False, compare=False)
    """The `Step` or `Workflow`, if the code is here."""

    @property
    def hash(self) -> str:
        """A digest of what is called with which arguments."""
        called = [self.kind, self.target, self.inputs, self.secrets]
        return hashlib.sha256(orjson.dumps(called, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The name of the function or agent, or what is called: `ask Publish?`."""
        if self.kind in ("step", "workflow"):
            return self.target.rpartition(":")[2].rpartition(".")[2]
        return self.target if self.kind == "agent" else f"{self.kind} {self.target}"

    @property
    def text(self) -> str:
        """The call as people read it: `4 fetch(url="https://…")`. An input of an executor is not shown: it may be a credential."""
        shown = ", ".join(
            f"{name}={'…' if self.kind == 'run' else orjson.dumps(value).decode()}"
            for name, value in self.inputs.items()
        )
        return f"{self.path} {self.name}({shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + '…'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A command to stop a call that the code no longer waits for. It is stored with the end of the call, if it stops it."""

    path: str
    after: int
    """The number of calls that the workflow had made."""
    seen: tuple[str, ...]
    """The ends that were delivered since the last of them, in order."""


Command = Call | Cancel


@dataclass(slots=True, kw_only=True)
class Record:
    """A stored call. `hash` is that of its time, also if the inputs are no longer what they were."""

    call: Call
    hash: str
    end: End | None = None
    cancel: Cancel | None = None
    """The order of the workflow that ended it."""


class Again(Exception):
    """Starts the workflow from its top in a new part, with these arguments: `raise Again(page=page + 1)`.

    The steps of older parts are not replayed, so a workflow that never ends stays small.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__("the workflow starts again")
        self.arguments = arguments


class Difference(Exception):
    """The code does not do what the stored run did: it has changed, or does not do the same each time."""


class Drive:
    """The code of one workflow at work. `work` makes its coroutine, `seed` and `at`, when it was started, are stored with the run.

    `is_cancelled` cancels the workflow after the replay, before the code gets ends that it had not had.
    `outcome` is None until the workflow has ended; then `exception` is what it raised. A drive that raised `Difference` is closed.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, Any]],
        *,
        seed: str,
        at: datetime,
        history: Sequence[Record] = (),
        is_cancelled: bool = False,
    ) -> None:
        self.now = at
        """When the workflow was started or, later, the time of the last end that was delivered."""
        self.outcome: End | None = None
        self.exception: BaseException | None = None
        self.failed_after: int | None = None
        """The number of calls that a workflow that failed had made before the exception that ended it, if it was that of a call, or if
        calls followed to clean up."""
        self._must_cancel = is_cancelled
        self._work, self._seed, self._history = work, seed, history
        self._loop = Loop(self)  # type: ignore[abstract]  # it refuses the rest by name
        self._root: Branch
        self._has_begun = False
        self._count = 0  # of the calls that were made
        self._keys: set[str] = set()
        self._waiting: dict[str, asyncio.Future[End] | Timer] = {}
        self._seen: list[str] = []  # since the last call
        self._patches: list[str] = []
        self._commands: list[Command] = []
        self._difference: str | None = None
        self._is_cancelled = self._is_closed = False
        self.functions: dict[str, Any] = {}
        """The functions of the calls that the code waits for, by path, if the code is here."""
        self._numbers = Counter[str]()
        self._decided: dict[str, bool] = {name: True for record in history for name in record.call.patches}
        self._random: dict[str, Random] = {}

    def begin(self) -> list[Command]:
        """Start the code, replay what is stored, and return what follows. Raises Difference."""
        for _ in self.replay():
            pass
        return self._taken()

    def replay(self) -> Iterator[None]:
        """Do the same as `begin`, and yield before each end, so that a long replay lets others work; then call `begin`."""
        if self._has_begun:
            return
        self._has_begun = True
        self._root = self._loop.create_task(self._work())
        self._advance()
        records = {record.call.path: record for record in self._history}
        for number, record in enumerate(self._history):
            for path in record.call.seen:
                yield
                self._repeat(path, records)
            if self._count <= number:
                raise self._differs(f"the run called {record.call.text}, and the code does not")
        orders = [record.cancel for record in self._history if record.cancel is not None]
        last = [order.seen for order in orders if order.after == len(self._history)]
        for path in max(last, key=len, default=()):
            yield
            self._repeat(path, records)
        if (lost := next((order.path for order in orders if order.path in self._waiting), None)) is not None:
            raise self._differs(f"the run cancelled {records[lost].call.text}, and the code does not")
        if self._must_cancel and not self._is_cancelled and self.outcome is None:
            yield
            self._settle(ROOT, None)
        ended = [
            (record.end.at, number, record) for number, record in enumerate(self._history) if record.end is not None
        ]
        for *_, record in sorted(ended, key=lambda each: each[:2]):
            if record.call.path in self._waiting and self.outcome is None:
                yield
                self._settle(record.call.path, record.end)

    def deliver(self, path: str, end: End) -> list[Command]:
        """Tell the code how a call ended, and return what follows. An end at ROOT cancels the workflow.

        An end that the code no longer waits for changes nothing. Raises Difference.
        """
        if self.outcome is None and (path in self._waiting or (path == ROOT and not self._is_cancelled)):
            self._settle(path, end)
        return self._taken()

    @property
    def waiting(self) -> list[str]:
        """The paths of the calls whose ends the code waits for."""
        return list(self._waiting)

    def close(self) -> None:
        """Put the code aside: the run goes to another worker, or is suspended."""
        self._is_closed = True
        self._waiting.clear()
        self._loop.close()

    # --- the code calls these, on its loop ---

    async def call(self, call: Call) -> End:
        """Make a call, and wait for its end. If the branch is cancelled meanwhile, the call is, too."""
        future: asyncio.Future[End] = self._loop.create_future()
        self._make(call, future)
        try:
            return await future
        except asyncio.CancelledError:
            self._cancel(call.path)
            raise

    def raised(self, error: BaseException) -> BaseException:
        """Return the exception of a call, which is raised in the code now."""
        branch = self._branch()
        branch.handled = error
        vars(error)[AFTER] = self._count
        return error

    def note_handled(self, branch: Branch) -> None:
        handled = sys.exception()
        if branch.handled is not None and all(each is not branch.handled for each in _chain_of(handled)):
            vars(branch.handled).pop(AFTER, None)  # the code went on after it
            branch.handled = None
        if handled is not None and branch.handled is None:
            branch.handled = handled
            vars(handled).setdefault(AFTER, self._count)

    def seconds(self) -> float:
        return self.now.timestamp()

    def start_timer(self, timer: Timer, seconds: float) -> None:
        # Python 3.11 gives asyncio.wait_for what it was given, later versions a float: the call is the same on all.
        call = Call(kind=SLEEP, target="timer", inputs={"seconds": float(seconds)})
        self._make(call, timer)
        timer.path = call.path

    def cancel_timer(self, timer: Timer) -> None:
        self._cancel(timer.path)

    def random(self) -> Random:
        """Return the random numbers of the current branch, which are the same in a replay."""
        path = self._branch().path
        return self._random.setdefault(path, Random(f"{self._seed}/{path}"))  # noqa: S311  (they must be the same again)

    def number(self, name: str) -> int:
        """Return 1, 2, 3 and so on for each name: the code asks in the same order in a replay."""
        self._numbers[name] += 1
        return self._numbers[name]

    def patched(self, name: str) -> bool:
        """Return whether the run is new enough for the change; the answer never changes within a run."""
        if name not in self._decided:
            self._decided[name] = self._count >= len(self._history)
            if self._decided[name]:
                self._patches.append(name)
        return self._decided[name]

    # --- how it works ---

    def _branch(self) -> Branch:
        branch = asyncio.current_task(self._loop)
        if self._is_closed or not isinstance(branch, Branch):
            raise GeneratorExit  # the code is put aside: no `except Exception` may go on
        return branch

    def _make(self, call: Call, waiter: "asyncio.Future[End] | Timer") -> None:
        branch = self._branch()
        if self.outcome is not None:
            raise asyncio.CancelledError  # of a branch that is left when the workflow has ended
        if self._difference is not None:
            return  # nothing that it waits for ends
        self.note_handled(branch)
        call.path = branch.next() if call.key is None else f"{call.name}:{call.key}"
        if call.key is not None and call.path in self._keys:
            raise ValueError(f"{call.place}: the key '{call.key}' is taken. Each call with a key needs one of its own.")
        self._keys.add(call.path)
        call.seen, call.patches = tuple(self._seen), tuple(self._patches)
        if self._count >= len(self._history):
            self._commands.append(call)
        elif problem := _difference(self._history[self._count], call):
            self._difference, self._loop.is_stopped = f"{call.place or 'a timer'}: {problem}", True
        self._count += 1
        self._seen.clear()
        self._patches.clear()
        self._waiting[call.path] = waiter
        self.functions[call.path] = call.function

    def _cancel(self, path: str) -> None:
        self.functions.pop(path, None)
        if self._waiting.pop(path, None) is not None and not self._is_closed:
            self._commands.append(Cancel(path=path, after=self._count, seen=tuple(self._seen)))

    def _repeat(self, path: str, records: Mapping[str, Record]) -> None:
        """Hand an end to the code that an earlier drive of it has had."""
        if path == ROOT:
            self._settle(ROOT, None)
        elif path in self._waiting and records[path].end is not None:
            self._settle(path, records[path].end)
        else:
            raise self._differs(f"the run waited for {records[path].call.text}, and the code does not")

    def _settle(self, path: str, end: End | None) -> None:
        """Hand an end to the code, and let it work."""
        self._seen.append(path)
        if end is not None and path != ROOT:  # the time of a cancellation is not stored
            self.now = max(self.now, end.at)
        waiter = self._waiting.pop(path, None)
        self.functions.pop(path, None)
        if path == ROOT:
            self._is_cancelled = True
            self._root.cancel()
        elif isinstance(waiter, Timer):
            self._loop.fire(waiter)
        elif waiter is not None and end is not None:
            waiter.set_result(end)
        self._advance()

    def _advance(self) -> None:
        """Run the code until each branch waits. Raises Difference."""
        is_quiet = self._loop.run()
        root = self._root
        if self._difference is not None:
            raise self._differs(self._difference)
        if not is_quiet:
            self._fail(f"{_where(root)}: {WITHOUT_END}")
        elif root.done():
            self._end(root)
        elif not self._waiting:
            self._fail(f"{_where(root)}: the workflow waits for something that is not a call.")

    def _end(self, root: Branch) -> None:
        """Note the outcome, and cancel what is still open."""
        if root.cancelled():
            self.outcome = End(status="cancelled", at=self.now)
            self.exception = asyncio.CancelledError()
        elif isinstance(error := root.exception(), Again):
            self.outcome = End(status="again", at=self.now, result=error.arguments)
        elif error is not None:
            self.outcome = End(status="failed", at=self.now, error=str(error), exception=type(error).__name__)
            self.exception = error
            self.failed_after = min(
                (vars(each)[AFTER] for each in _chain_of(error) if AFTER in vars(each)), default=None
            )
        else:
            self.outcome = End(status="completed", at=self.now, result=root.result())
        for branch in sorted(self._loop.branches, key=lambda branch: branch.number):
            branch.cancel()
        self._loop.run()
        self._drop()

    def _fail(self, error: str) -> None:
        self.exception = RuntimeError(error)
        self.outcome = End(status="failed", at=self.now, error=error, exception="RuntimeError")
        self._drop()

    def _drop(self) -> None:
        """Cancel the calls that are left, such as timers, and those of branches that do not stop."""
        for path in list(self._waiting):
            self._cancel(path)
        self.close()

    def _taken(self) -> list[Command]:
        commands, self._commands = self._commands, []
        return commands

    def _differs(self, problem: str) -> Difference:
        """Put the code aside, and return the error."""
        self.close()
        return Difference(
            f"The replay differs from what is stored: {problem}. The code has changed since, or does not do the same each time. "
            "Run it with the code that it began with, or branch with patched(…)."
        )


def _difference(stored: Record, now: Call) -> str | None:
    """Describe how the call differs from the stored one that it replays; None if it is the same."""
    then = stored.call
    if (then.path, stored.hash) != (now.path, now.hash):
        return f"the run called {then.text}, and the code now calls {now.text}"
    if then.seen != now.seen:
        return f"the run called {then.text} after {_listed(then.seen)} had ended, and the code now after {_listed(now.seen)}"
    return None


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(path or "a cancellation" for path in paths) or "nothing"


def current() -> Drive | None:
    """Return the drive of the workflow whose code runs here; None outside of one."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop.owner if isinstance(loop, Loop) and isinstance(loop.owner, Drive) else None


def caller(levels: int) -> str:
    """Return the file and line of the code so many calls above the function that asks."""
    frame = inspect.currentframe()
    for _ in range(levels + 1):
        frame = frame.f_back if frame is not None else None
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _chain_of(error: BaseException | None) -> list[BaseException]:
    """Return the exception, those in its group, and those that they come from."""
    found = [] if error is None else [error]
    for each in found:
        inner = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        further = (each.__cause__, each.__context__, *inner)
        found += [other for other in further if other is not None and not any(other is known for known in found)]
    return found


def _where(branch: Branch) -> str:
    """Return the file and line where a branch waits, in code that is neither asyncio's nor ours; or else the name of the branch."""
    place, work = "branch " + branch.get_name(), branch.get_coro()
    while (frame := getattr(work, "cr_frame", None)) is not None:
        if not frame.f_globals.get("__name__", "").startswith(OURS):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        work = getattr(work, "cr_await", None)
    return place
