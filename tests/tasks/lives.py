"""Worker processes that die: real workers on one loop, each with a journal that can end at any change, and executors that are told
what to do. The lives of a test share nothing but the database."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Container, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from dataclasses import replace as dataclass_replace
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now
from pytest_django import Settings

from aipartnerupflow.executors import (
    Context,
    Executor,
    ExecutorError,
    Json,
    Parked,
    ParkedForEvent,
    ParkedForTree,
    ParkedUntil,
    Spawn,
    Stopped,
)
from tasks.ids import new_id
from tasks.models import Run
from tasks.queue import leases, notify
from tasks.queue.notify import Listener, Topic
from tasks.services.runs.cancels import Cancel
from tasks.worker import engine, worker
from tasks.worker.changes import Change
from tasks.worker.group_commit import Call, GroupCommit, Together, carry_out
from tasks.worker.watchdog import Watchdog
from tasks.worker.worker import Worker
from tests.sections import replace
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.model import WAITS

T = TypeVar("T")
PATIENCE_SECONDS = float(os.environ.get("RULES_PATIENCE", "120"))
LIFE: "ContextVar[Life]" = ContextVar("the worker process that the code at hand runs in")


class Death(BaseException):
    """The process was killed: this thread of it goes no further."""


@dataclass(slots=True, kw_only=True)
class Fuse:
    """The journal dies at its `items`-th item from now: before it is carried out, or after, without a word to anybody."""

    items: int
    after: bool


def at_any_moment(items: int, *, both_engines: Container[int] = ()) -> pytest.MarkDecorator:
    """The arguments `items` and `after` of a Fuse, for a test of each item so far. Every night the death comes after it, too.

    That leaves the rows of a death before the next item. It differs in what the process has done between the two.
    A death before one of the items `both_engines` has the marker `both_engines`, too.
    """
    deaths = list[Any]()
    for item in range(1, items + 1):
        marks = [pytest.mark.both_engines] if item in both_engines else []
        deaths += [pytest.param(item, False, marks=marks), pytest.param(item, True, marks=[pytest.mark.nightly])]
    return pytest.mark.parametrize(("items", "after"), deaths)


class MortalJournal(GroupCommit):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._life = LIFE.get()
        super().__init__(loop)

    def wake(self) -> None:
        self._add(Together("", [Call(function=lambda: None, done=self._loop.create_future())]))

    async def commit_together(self, changes: Sequence[Change]) -> None:
        if self._life.is_dead:
            raise asyncio.CancelledError  # of what did not stop when its process died
        await super().commit_together(changes)

    def _write_for_ever(self) -> None:
        with suppress(Death):
            super()._write_for_ever()
        connection.close()
        self._loop.call_soon_threadsafe(self._life.ended.set)
        self._life.journal_ended.set()  # last: the loop may be closed from now on

    def _taken(self) -> list[Change | Call]:
        items = super()._taken()
        if self._life.is_dead:
            raise Death
        fuse = self._life.fuse
        if fuse is None or fuse.items >= len(items):
            if fuse is not None:
                fuse.items -= len(items)
            return items
        list(carry_out(items[: fuse.items + fuse.after]))
        raise Death


class MortalListener(Listener):
    def __init__(self, topic: Topic, on_ring: Callable[[], object]) -> None:
        self._life = LIFE.get()
        super().__init__(topic, on_ring)

    def wake(self) -> None:
        self._awake.set()

    def _listen(self) -> None:
        with closing(notify.listen(notify.RUNS)) as bell:
            self._ring()
            while not self._life.is_dead:
                bell.rest_until(self._awake)
                if bell.wait(0.05):
                    self._ring()

    def _ring(self) -> None:
        if not self._life.is_dead:
            with suppress(RuntimeError):  # it has died meanwhile, and its loop is closed
                super()._ring()


class MortalWatchdog(Watchdog):
    def _watch_for_ever(self) -> None:
        with suppress(RuntimeError):  # the loop of its life is closed
            super()._watch_for_ever()


class Stage:
    """Where lives are lived: one event loop on a thread of its own, and somebody who hears of every commit."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="lives")
        self._thread.start()
        self._bell = notify.listen(notify.EVENTS)
        self._lives: list[Life] = []

    def bear(self, told: dict[tuple[str, str], str] | None = None) -> "Life":
        """A new worker process, asleep."""
        life = Life(self, f"another-machine/{len(self._lives) + 1}/1.00", told or {})
        self._lives.append(life)
        return life

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_SECONDS)

    def until_nothing(self, look: Callable[[], object]) -> None:
        """Return when it finds nothing any more. Raises AssertionError with what it still finds after a while."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while problem := look():
            assert time.monotonic() < deadline, problem
            self._bell.wait(0.05)

    def die_and_take_over(self, fuse: Fuse) -> None:
        """Let one worker process work until its journal dies, and another one do the rest."""
        first = self.bear()
        first.fuse = fuse
        self.until_nothing(lambda: not first.journal_ended.is_set() and first.woken_for_open_runs())
        first.kill()
        self.take_over()

    def take_over(self) -> None:
        """Let the lease of the dead expire, and another worker process do the rest."""
        Run.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
        leases.sweep()
        second = self.bear()
        self.until_nothing(second.woken_for_open_runs)

    def clear(self) -> None:
        for life in self._lives:
            if not life.is_dead:
                life.kill()
        self._lives.clear()

    def close(self) -> None:
        self.clear()
        self._bell.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextmanager
def opened_stage(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Time runs faster there."""
    settings.APFLOW_EXECUTOR_MODULES = (__name__,)
    # LeaseKeeper renews the leases of its process, and a life claims under a different owner. So make all leases long.
    changed = replace(settings.APFLOW.worker, drain_seconds=0, lease_seconds=86_400)
    settings.APFLOW = replace(settings.APFLOW, worker=changed)
    forget_registry()
    monkeypatch.setattr(engine, "STOP_SECONDS", 0.02)
    monkeypatch.setattr(worker, "GroupCommit", MortalJournal)
    monkeypatch.setattr(worker, "Listener", MortalListener)
    monkeypatch.setattr(worker, "Watchdog", MortalWatchdog)
    stage = Stage()
    try:
        yield stage
    finally:
        stage.close()
        forget_registry()


class Life:
    """One worker process from its start to its end. `told` is what its hanging tasks were told, by (run id, task id)."""

    def __init__(self, stage: Stage, name: str, told: dict[tuple[str, str], str]) -> None:
        self.name = name
        self.told = dict(told)
        self.fuse: Fuse | None = None
        self.is_dead = False
        self.journal_ended = threading.Event()
        self.executed: list[tuple[str, str]] = []
        self._stage = stage
        self._is_leaving = False
        stage.call(self._begin())

    async def _begin(self) -> None:
        LIFE.set(self)
        self.gate = asyncio.Condition()
        self._wake_up = asyncio.Event()
        self.ended = asyncio.Event()
        self.worker = Worker(cluster_id="of the rules", linger_seconds=0)
        self.worker._process_id = self.name  # as of another machine
        self._main = asyncio.create_task(self._live())

    async def _live(self) -> None:
        while not self._is_leaving:
            await self._wake_up.wait()
            self._wake_up.clear()
            await self.worker.work()

    def wake(self) -> None:
        """Deliver a wake-up."""
        self._stage.loop.call_soon_threadsafe(self._wake_up.set)

    def woken_for_open_runs(self) -> "QuerySet[Run]":
        """Deliver the wake-ups that the queue has for open runs, and return these."""
        open_runs = Run.objects.filter(finished_at=None)
        if open_runs:
            self.wake()
        return open_runs

    def tell(self, run_id: str, task_id: str, what: str) -> None:
        self._stage.call(self._tell({(run_id, task_id): what}))

    async def _tell(self, what: dict[tuple[str, str], str]) -> None:
        self.told |= what
        async with self.gate:
            self.gate.notify_all()

    def is_at_work(self, run_id: str) -> bool:
        return run_id in self.worker._running

    def leave(self) -> bool:
        """As after SIGTERM: give back what runs, and go. False when it died before that was done."""
        self._stage.call(self._leave())
        was_alive = not self.journal_ended.is_set()
        self.kill()
        return was_alive

    async def _leave(self) -> None:
        self._is_leaving = True
        self.worker.drain()
        self._wake_up.set()
        await self._until_done_or_dead(self._main)

    def let_expire(self, run_id: str, task_id: str) -> None:
        """As if it were later: the time of a wait is over, or at least that worker believes so."""
        self._stage.call(self._let_expire(run_id, task_id))

    async def _let_expire(self, run_id: str, task_id: str) -> None:
        LIFE.set(self)  # the task resumes in this context
        waits = self.worker._trees[run_id]._questions
        waits._questions[task_id] = dataclass_replace(waits._questions[task_id], expires_at=waits._now())
        waits._check_again(task_id)

    def cancel(self, run_id: str, task_id: str) -> None:
        """As if a request were read just now; of a task that was told something, after it has ended."""
        self._stage.call(self._cancel(run_id, task_id))

    async def _cancel(self, run_id: str, task_id: str) -> None:
        tree = self.worker._trees[run_id]
        while (run_id, task_id) in self.told and task_id in tree._jobs:  # noqa: ASYNC110  (a few rounds of the loop)
            await asyncio.sleep(0)
        tree.cancel(Cancel(task_id, False, "Never mind"))

    def cancel_at_its_start(self, run_id: str, task_id: str, *, after: str) -> None:
        """As if a request were read when the task has been started, because `after` has ended well, and has not done a thing yet."""
        self._stage.call(self._cancel_at_its_start(run_id, task_id, after))

    async def _cancel_at_its_start(self, run_id: str, task_id: str, after: str) -> None:
        tree = self.worker._trees[run_id]
        await self._tell({(run_id, after): "ok"})
        while task_id not in tree._jobs:  # noqa: ASYNC110  (a few rounds of the loop)
            await asyncio.sleep(0)  # the job was put behind this one
        tree.cancel(Cancel(task_id, False, "Never mind"))

    @contextmanager
    def journal_held(self) -> Iterator[None]:
        """Nothing is written meanwhile."""
        is_held, may_go = threading.Event(), threading.Event()

        def hold() -> None:
            is_held.set()
            may_go.wait(PATIENCE_SECONDS)

        held = asyncio.run_coroutine_threadsafe(self.worker._writer.call(hold), self._stage.loop)
        is_held.wait(PATIENCE_SECONDS)
        yield
        may_go.set()
        held.result(PATIENCE_SECONDS)

    def freeze(self) -> None:
        """Hear nothing more and claim nothing more, but go on with what runs."""
        self._stage.call(self._freeze())

    async def _freeze(self) -> None:
        self.worker._is_draining = True
        await self._until_written()

    def come_back(self, what: str) -> None:
        """Everything that hangs is told, as nobody else was; return when this life has nothing left to do."""
        self._stage.call(self._come_back(what))

    async def _come_back(self, what: str) -> None:
        running = list(self.worker._running.values())
        hanging = [
            (run.get_name(), task_id) for run in running for task_id in self.worker._trees[run.get_name()]._tasks
        ]
        await self._tell(dict.fromkeys(hanging, what))
        await self._until_done_or_dead(asyncio.gather(*running, return_exceptions=True))
        await self._until_written()

    async def _until_written(self) -> None:
        """Whatever was given to the journal has been carried out."""
        await self._until_done_or_dead(asyncio.create_task(self.worker._writer.empty()))

    async def _until_done_or_dead(self, work: "asyncio.Future[Any]") -> None:
        ended = asyncio.create_task(self.ended.wait())
        await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not work.done():
            work.cancel()

    def kill(self) -> None:
        """As SIGKILL does: nothing more is written, nothing more is done."""
        self.is_dead = True
        self._stage.call(self._die())
        assert self.journal_ended.wait(PATIENCE_SECONDS)

    async def _die(self) -> None:
        mortal_journal, listener = self.worker._writer, self.worker._listener
        assert isinstance(mortal_journal, MortalJournal)
        assert isinstance(listener, MortalListener)
        mortal_journal.wake()
        listener.wake()
        await self._tell({})
        jobs = [job for tree in self.worker._trees.values() for job in tree._alive]
        tasks = [self._main, *self.worker._running.values(), *jobs]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def hang(self, key: tuple[str, str]) -> None:
        """Until somebody says how to go on, or the process is dead."""
        async with self.gate:
            await self.gate.wait_for(lambda: key in self.told or self.is_dead)
        if self.is_dead:
            raise asyncio.CancelledError


# --- executors ---


class Script(Executor):
    """Does what the script in its inputs says, and hangs until told where that is no ending."""

    id = "script_executor"
    name = "Script"
    description = "Does what its inputs say."
    input_schema: ClassVar[Json] = {"type": "object", "required": ["script"]}

    async def execute(self, inputs: Json, context: Context) -> Any:
        life, key, script = LIFE.get(), (context.run_id, context.task_id), inputs["script"]
        if context.reply is None or script == "steps":
            life.executed.append(key)
        for usage in inputs.get("spends", ()):
            context.spent(usage)
        if script in HANGING:
            context.report(0.5, "half of it")
            script = await _told(life, key, script)
        if script in WAITS:
            script = _waited(script, inputs, context)
        if script == "spawn":
            return Spawn(tasks=inputs["tasks"], join=inputs.get("join", True), result="own")
        if script == "steps":
            return _stepped(inputs, context)
        if script == "slow":
            await asyncio.Event().wait()
        if script in ("fail", "never") or (script == "flaky" and context.attempt < 2):
            raise ExecutorError("Told to fail", permanent=script == "fail")
        if script == "raise":
            raise RuntimeError("Told to raise")
        return {"got": inputs, "hint": context.name}


def _waited(script: str, inputs: Json, context: Context) -> str:
    """What the answer or the event says, or how the tree ended."""
    if context.reply is None:
        raise _wait(script, inputs, context)
    answer = context.reply.answer
    match script:
        case "question":
            return str(answer)
        case "event":
            return str(answer["payload"]["what"])
        case "tree" if answer["status"] != "completed":
            return "fail"
        case _:
            return "ok"


def _wait(script: str, inputs: Json, context: Context) -> Parked:
    match script:
        case "question":
            return Parked("How do I end?")
        case "event":
            wanted = wanted_by(context.run_id, context.task_id)
            return ParkedForEvent("told", match=wanted, timeout_seconds=86_400)
        case "tree":
            return ParkedForTree(inputs["tasks"])
        case _:
            return ParkedUntil(seconds=86_400)


def wanted_by(run_id: str, task_id: str) -> Json:
    """What the payload has of the event that this task waits for."""
    return {"/run": run_id, "/task": task_id}


def _stepped(inputs: Json, context: Context) -> Json | Spawn:
    """Take so many `steps`, each with these `tasks`, as a model would: what it decides is never the same twice."""
    taken = context.reply.memo if context.reply else []
    if context.reply:
        taken = [*taken[:-1], taken[-1] | {"answer": context.reply.answer}]
    if len(taken) == inputs["steps"]:
        return {"taken": taken}
    word = new_id()
    tasks = [
        {"id": name, "name": name, "schemas": {"method": Script.id}, "inputs": {"script": script, "word": word}}
        for name, script in inputs["tasks"].items()
    ]
    return Spawn(tasks=tasks, again=True, memo=[*taken, {"word": word}])


class FragileScript(Script):
    """The same, but not safe to repeat."""

    id = "fragile_script_executor"
    name = "Fragile script"
    idempotent = False


class AsksFirst(Executor):
    """Asks, and then does what is not safe to repeat."""

    id = "asks_first_executor"
    name = "Asks first"
    description = "Asks before it acts."
    idempotent = False

    async def execute(self, inputs: Json, context: Context) -> Json:
        if context.reply is None:
            raise Parked("May I?")
        LIFE.get().executed.append((context.run_id, context.task_id))
        return {}


HANGING = frozenset({"hang", "partial", "stubborn", "fragile"})


async def _told(life: Life, key: tuple[str, str], script: str) -> str:
    while True:
        try:
            await life.hang(key)
            return life.told[key]
        except asyncio.CancelledError as stop:
            if script == "stubborn" and not life.is_dead:
                continue  # it does not stop when asked
            if script == "partial":
                raise Stopped(result={"partial": True}) from stop
            raise
