"""Workflows in tests: no server, no database, no waiting, and crashes wherever you want them.

from aipartnerupflow.workflows.testing import play

async def test_it_publishes() -> None:
    played = await play(research("rivers"), answers={"Publish?": "yes", "planner": Plan(questions=["…"])}, crash_at=3)
    assert played.result.title == "Rivers"
"""

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, Generic, TypeVar, cast

from aipartnerupflow.executors import Json
from aipartnerupflow.workflows.drive import ROOT, SLEEP, Call, Cancel, Command, Drive, End, Record
from aipartnerupflow.workflows.functions import Invocation, Workflow
from aipartnerupflow.workflows.local import failed, performed, result_of
from aipartnerupflow.workflows.values import encoded

R = TypeVar("R")
START: Final = datetime(2030, 1, 1, tzinfo=UTC)
TICK: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Played(Generic[R]):
    """A workflow that has run to its end."""

    result: R
    calls: Sequence[str]
    """Its calls as people read them, in the order in which they were made; those of a workflow that it called are after that call."""
    performed: Sequence[str]
    """The paths of the calls in the order in which they were performed. A path twice is a call that ran twice."""
    commits: int
    """The number of times that something was stored: a crash may follow each."""
    clock: datetime
    """The time at its end. Only waits take time, and each commit one millisecond."""


async def play(
    invocation: Invocation[R],
    /,
    *,
    answers: Mapping[Any, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    clock: datetime = START,
    seed: str = "seed",
    shuffle: int | None = None,
    crash_at: int | Collection[int] = (),
) -> Played[R]:
    """Run a workflow with a journal in memory, and return how it ended. Raises what its code raises.

    `answers` are those of the world, by the text of a question, the name of an agent, an executor or an event, or by a step, whose function is
    then not called. An answer is a value, an exception, an iterator, which has one for each call, or a function of the inputs.
    Without one, a question or an event waits for its timeout. Waits take no time: `clock` is when the workflow is started.

    Steps are performed one at a time, in the order of their calls, or in a random order of the number `shuffle`. After the commits
    with the numbers `crash_at`, from 1, the process dies: the code is run again from its top, and only what was stored is known.

    Raises Unanswered if nothing but answers is waited for, and `Difference` if the code does not do the same again.
    """
    crashes = {crash_at} if isinstance(crash_at, int) else set(crash_at)
    stage = _Stage(dict(answers or {}), dict(secrets or {}), clock, shuffle, crashes)
    root = _Job(workflow=invocation.workflow, inputs=invocation.call.inputs, seed=seed, at=clock)
    stage.jobs[ROOT] = root
    while True:
        try:
            await stage.live()
            break
        except _Crash:
            continue
        finally:
            for job in stage.jobs.values():
                if job.drive is not None:
                    job.drive.close()
    return Played(
        result=result_of(root.workflow, stage.drive(ROOT)),
        calls=list(stage.calls(ROOT)),
        performed=stage.performed,
        commits=stage.commits,
        clock=stage.clock,
    )


class Unanswered(Exception):
    """The workflow waits for answers that `play` was not given."""


class _Crash(Exception):
    """The process dies."""


@dataclass(slots=True, kw_only=True)
class _Job:
    """A workflow in the journal; all but its drive survives a crash."""

    workflow: Workflow[..., Any]
    inputs: Json
    seed: str
    at: datetime
    part: int = 1
    records: dict[str, Record] = field(default_factory=dict)
    made_at: dict[str, datetime] = field(default_factory=dict)
    is_cancelled: bool = False
    end: End | None = None
    drive: Drive | None = None


@dataclass(slots=True)
class _Stage:
    answers: dict[Any, Any]
    secrets: dict[str, str]
    clock: datetime
    shuffle: int | None
    crashes: set[int]
    jobs: dict[str, _Job] = field(default_factory=dict)
    performed: list[str] = field(default_factory=list)
    commits: int = 0

    async def live(self) -> None:
        """Take up what is stored, and go on to the end, or to a crash."""
        for job in self.jobs.values():
            job.drive = None
        self._start(ROOT)
        while (chosen := self._chosen()) is not None:
            path, end = chosen
            above, call = self._record(path)
            if end is None:
                call.call.function = self.drive(above).functions[
                    call.call.path
                ]  # it may be a closure of the code that runs now
                end = await self._performed(path, call.call)
            call.end = end
            self._commit()
            self._take(above, self.drive(above).deliver(call.call.path, end))

    def calls(self, above: str) -> Iterator[str]:
        for path, record in self.jobs[above].records.items():
            yield record.call.text
            if f"{above}/{path}" in self.jobs:
                yield from self.calls(f"{above}/{path}")

    def _start(self, path: str) -> None:
        """Run the code of a workflow from its top."""
        job = self.jobs[path]
        history, seed = list(job.records.values()), f"{job.seed}{path}/{job.part}"
        job.drive = job.workflow.drive(job.inputs, seed=seed, at=job.at, history=history)
        commands = job.drive.begin()
        for record in history:
            below = f"{path}/{record.call.path}"
            if below in self.jobs and record.end is None:
                self._start(below)
        self._take(path, commands)
        if job.is_cancelled and job.drive.outcome is None:
            self._take(path, job.drive.deliver(ROOT, End(status="cancelled", at=self.clock)))

    def _take(self, path: str, commands: Sequence[Command]) -> None:
        """Store what the code of a workflow orders, and its end."""
        job = self.jobs[path]
        for command in commands:
            below = f"{path}/{command.path}"
            if isinstance(command, Cancel):
                self._cancel(job.records[command.path], command, below)
                continue
            job.records[command.path] = Record(call=command, hash=command.hash)
            job.made_at[command.path] = self.clock
            if command.kind == "workflow":
                seed = f"{job.seed}{path}"
                self.jobs[below] = _Job(workflow=command.function, inputs=command.inputs, seed=seed, at=self.clock)
            self._commit()
            if command.kind == "workflow":
                self._start(below)
        outcome = self.drive(path).outcome
        if outcome is None or job.end is not None:
            return
        if outcome.status == "again":
            job.inputs, job.at, job.part = outcome.result, self.clock, job.part + 1
            job.records.clear()
            self._commit()
            self._start(path)
            return
        job.end = outcome
        above, record = self._record(path) if path != ROOT else (None, None)
        if record is not None and above is not None:
            record.end = outcome
            self._commit()
            self._take(above, self.drive(above).deliver(record.call.path, outcome))

    def _cancel(self, record: Record, command: Cancel, path: str) -> None:
        if record.end is not None or record.cancel is not None:
            return  # it was faster, or it is stored already
        record.cancel = command
        if path not in self.jobs:
            record.end = End(status="cancelled", at=self.clock)
        else:
            self.jobs[path].is_cancelled = True
        self._commit()
        if path in self.jobs:
            self._take(path, self.drive(path).deliver(ROOT, End(status="cancelled", at=self.clock)))

    def _commit(self) -> None:
        self.commits += 1
        self.clock += TICK
        if self.commits in self.crashes:
            raise _Crash

    def drive(self, path: str) -> Drive:
        """Return the code of a workflow that is at work."""
        return cast(Drive, self.jobs[path].drive)

    def _record(self, path: str) -> tuple[str, Record]:
        above, _, below = path.rpartition("/")
        return above, self.jobs[above].records[below]

    def _chosen(self) -> tuple[str, End | None] | None:
        """Return the path of the call that ends next, and its end if time ends it; None if no call is open."""
        ready, timers, waiting = list[str](), list[tuple[datetime, str]](), list[Call]()
        for above, job in self.jobs.items():
            for name, record in job.records.items():
                call, path = record.call, f"{above}/{name}"
                if record.end is not None or call.kind == "workflow":
                    continue
                if call.kind == "step" or (call.kind != SLEEP and call.target in self.answers):
                    ready.append(path)
                elif (due := _due(call, job.made_at[name])) is not None:
                    timers.append((due, path))
                else:
                    waiting.append(call)
        first = min(timers, default=None)
        if self.shuffle is not None:
            choices = [*ready, *([first[1]] if first else [])]
            ready = sorted(choices, key=lambda path: Random(f"{self.shuffle}{path}").random())[:1]  # noqa: S311
        if ready and (first is None or ready[0] != first[1]):
            return ready[0], None
        if first is not None:
            self.clock = max(self.clock, first[0])
            call = self._record(first[1])[1].call
            if call.kind == SLEEP:
                return first[1], End(status="completed", at=self.clock)
            late = f"{call.kind} '{call.target}' was not answered in time"
            return first[1], End(status="failed", at=self.clock, error=late, exception="TimeoutError")
        if waiting:
            needed = ", ".join(f"{call.target!r}: … ({call.kind}, {call.place})" for call in waiting)
            raise Unanswered(f"The workflow waits for answers. Give them: answers={{{needed}}}.")
        return None

    async def _performed(self, path: str, call: Call) -> End:
        self.performed.append(path)
        answer: Any = self.answers.get(call.target, self.answers.get(call.function) if call.kind == "step" else None)
        is_given = call.target in self.answers or (call.kind == "step" and call.function in self.answers)
        if not is_given:
            return await performed(call, at=self.clock, secrets=self.secrets)
        try:
            if hasattr(answer, "__next__"):
                answer = next(answer)
            if callable(answer):
                answer = answer(**call.inputs)
            if inspect.isawaitable(answer):
                answer = await answer
            if isinstance(answer, Exception):
                raise answer
        except Exception as error:  # noqa: BLE001  (an answer may be any exception)
            return failed(error, at=self.clock, step=call.function)
        if call.kind == "event":
            answer = {"event": call.target, "payload": answer, "id": path, "received_at": self.clock}
        return End(status="completed", at=self.clock, result=encoded(answer))


def _due(call: Call, made_at: datetime) -> datetime | None:
    if call.kind == SLEEP and "until" in call.inputs:
        return datetime.fromisoformat(call.inputs["until"])
    seconds = call.inputs["seconds"] if call.kind == SLEEP else call.options.get("timeout")
    return None if seconds is None else made_at + timedelta(seconds=seconds)
