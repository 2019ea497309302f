"""The engine: runs one tree from its first ready task to its `final` event.

Many trees run at once on a worker process's event loop. `tasks.rules.tree` decides what may start, `tasks.worker.task_runner`
runs a task, `tasks.worker.run_recorder` writes; `TreeRun` connects them. A task passes these states here:

                    ┌────────────── its question is answered, or its time is over ──────────────┐
                    ▼                                                                           │
    open ──▶ ready ──▶ its job ──▶ asks or waits ──────────────────────────────────────────▶ waiting
              │          ├───────▶ adds tasks; has its job again when they are over
              │          ├───────▶ outcome ──▶ end committed ──▶ its dependents are ready, or blocked
              │          └───────▶ does not stop when cancelled ──▶ left behind
              └─ cancelled, blocked or skipped ──▶ end committed, without a job

`_advance` takes what the plan says, `_take_steps` begins and ends tasks a few per turn of the loop, and `_end` waits until
nothing is left to do: the run is over, is suspended while only questions are open, or is wound down for another worker.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AsyncExitStack
from contextvars import copy_context
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Final

from django.utils.module_loading import import_string

from tasks.queue.leases import Claim
from tasks.queue.suspension import suspend
from tasks.rules.plan import NOT_RUN, Plan, Step
from tasks.rules.steps import superseded
from tasks.rules.tree import children_of, nodes_of
from tasks.services.runs.cancels import Cancel
from tasks.services.waits.questions import OpenQuestion
from tasks.status import Status
from tasks.telemetry import tracing
from tasks.worker.attempt import STOP_SECONDS
from tasks.worker.attempts import Attempts
from tasks.worker.changes import Change
from tasks.worker.footprints import Work
from tasks.worker.live import NO_LONGER, Live
from tasks.worker.load_run import LoadedTask, is_live, memory_of
from tasks.worker.outcomes import Outcome, failed, skipped
from tasks.worker.run_parts import RunParts, Shared
from tasks.worker.spawning.growth import Growth
from tasks.worker.task_runner import TaskRunner
from tasks.worker.verdict import Verdict

if TYPE_CHECKING:
    from tasks.worker.run_spans import RunSpans

WAITING: Final = "waiting"
"""The status of a run that is suspended until its questions are answered."""

CLEANING_SECONDS: Final = 30.0
"""The time that the code of a cancelled workflow has to clean up."""
SET_ASIDE_ALONE: Final = 100
SET_ASIDE: Final = 1_000
"""The tasks of parts that are over beyond which a run is let go of."""
TOO_LONG: Final = f"Cancelled with its workflow, whose code did not end within {CLEANING_SECONDS:g} s"


class End(Enum):
    """The reason why a tree left its worker."""

    OVER = auto()
    SUSPENDED = auto()
    WOUND_DOWN = auto()


class TreeRun:
    """One execution of a tree by the worker process that holds its lease."""

    def __init__(
        self, claim: Claim, tasks: Collection[LoadedTask], shared: Shared, *, questions: Collection[OpenQuestion] = ()
    ) -> None:
        me = weakref.proxy(self)  # its parts know it only so: without a cycle, no garbage collection has to free a tree
        run = RunParts(
            claim,
            tasks,
            shared,
            questions=questions,
            resume=lambda task_id: me._start(me._tasks[task_id]),
            on_budget_settled=lambda: me._start_held_back(),
        )
        self._claim, self._shared, self._standing = claim, shared, run.standing
        self._tasks, self._nodes, self._family = run.standing.tasks, run.standing.nodes, run.family
        self._recorder, self._results, self._budget = run.recorder, run.results, run.budget
        self._questions, self._cancellations = run.questions, run.cancellations
        self.memory = memory_of(tasks)
        """About how many bytes the tree takes."""
        self._plan = Plan(self._nodes.values(), self._family.open_maps())
        self._attempts = Attempts(run)
        self._live = Live(
            run,
            add=lambda task, growth: me._add_steps(task, growth),
            cancel=lambda cancel: me.cancel(cancel),
            on_rest=lambda: me._check_if_quiet(),
            on_part=lambda count: me._note_part(count),
        )
        self._runner = TaskRunner(run, self._attempts, self._live)
        self._verdict = Verdict(claim, run.standing, run.family)
        self._context = copy_context()  # then that of the run: each job has a copy of it
        self._secrets = run.secrets
        self._spans: RunSpans | None = None  # if the run is traced
        self._ready: dict[str, None] = {}  # the tasks that begin in the next turns of the loop
        self._ends = deque[Callable[[], object]]()  # come before these: they end tasks that did not run, or stop them
        self._is_in_turns = False
        self._jobs: dict[str, asyncio.Task[None]] = {}  # of the tasks that can still be stopped
        self._alive: set[asyncio.Task[None]] = set()
        self._left_behind: set[asyncio.Task[None]] = set()
        self._set_aside = 0  # the tasks of parts of workflows that are over: they stay in memory
        self._cleaning: dict[str, asyncio.TimerHandle] = {}  # the cancelled workflows whose code cleans up
        self._held_back: list[str] = []  # until the owner has decided about the budget
        self._last_changes: list[Change] = []
        self._last_places = AsyncExitStack()  # of the task that they end
        self._must_check = asyncio.Event()  # no job is at work, or every task has ended, or an error occurred
        self._error: BaseException | None = None
        self._seconds_queued = claim.seconds_old if claim.is_first else 0.0  # of the tasks that are ready at the start

    async def run(self, cancels: Collection[Cancel] = ()) -> bool:
        """Run the tree to its end, or until only questions are left: then the run is suspended.

        Returns whether something is left for another worker, since the tree was wound down. Raises
        LeaseLost when another worker has claimed the run.
        """
        async with self._last_places:
            return await self._run_to_its_end(cancels)

    async def _run_to_its_end(self, cancels: Collection[Cancel]) -> bool:
        self._context = copy_context()
        if (span := tracing.here()) is not None:
            make: type[RunSpans] = import_string("tasks.worker.run_spans.RunSpans")
            self._spans = make(span, self._claim, self._tasks, self._secrets)
        try:
            cancels = [*cancels, *self._orphans()]
            unrun = self._cancelled_before(cancels) if cancels else []
            self._write_cancelled(unrun)
            self._advance(self._plan.start(cancelled=unrun))
            self._seconds_queued = 0.0
            end = await self._end()
        finally:
            self._questions.close()
            await self._stop_jobs()
        if end is End.OVER:
            self._count_seconds()
            target = self._tasks[self._claim.target_id]
            result = self._results.get(target.id)
            status = self._plan.outcome(spared=self._verdict.spared())
            failures = self._verdict.failures() if status is Status.FAILED else ()
            await self._recorder.closed(target, status, result, failures=failures, after=self._last_changes)
        return end is End.WOUND_DOWN

    def _orphans(self) -> Iterator[Cancel]:
        """Yield cancellations of the steps that were at work when their workflow ended, and a worker died."""
        for task in self._tasks.values():
            if "path" in (task.call or ()) and self._standing.is_open(task.id):
                workflow = self._nodes.get(task.spawned_by or "")
                if workflow is not None and workflow.status.is_terminal:
                    yield Cancel(task_id=task.id, force=False, message=NO_LONGER)

    def _cancelled_before(self, cancels: Iterable[Cancel]) -> list[str]:
        """Take up cancellations that came before this worker had the run. Returns the tasks that end without being started.

        The others are tasks with an open question, which cancel their remote work, and workflows, whose code cleans up.
        """
        calls = {task.id: task.call for task in self._tasks.values() if task.call is not None}
        self._cancellations.shelter(superseded(list(self._tasks.values()), calls))
        for cancel in cancels:
            self._cancellations.add(cancel)
        unrun = list[str]()
        for task_id in filter(self._standing.is_open, self._cancellations.task_ids):
            if self._questions.question_of(task_id) is None and not self._cleans_up(task_id):
                unrun.append(task_id)
        return unrun

    def wind_down(self) -> None:
        """Begin no step more. When the steps in hand have ended, the rest is left for another worker."""
        self._standing.is_winding_down = True
        for task_id, job in self._jobs.items():
            # The code of a workflow may have to cancel a step in hand, which would not end by itself.
            if not self._attempts.is_at_work(task_id) and not is_live(self._tasks[task_id]):
                job.cancel()
        self._ready = {task_id: None for task_id in self._ready if task_id in self._cancellations}
        self._must_check.set()

    def failed_from_outside(self, task_id: str, error: str) -> list[Change]:
        """Return what fails the task while the event loop can do nothing; the caller writes it."""
        return self._recorder.changes_at_end(self._tasks[task_id], failed(error))

    @property
    def user_id(self) -> str:
        """The owner of the tree."""
        return self._standing.user_id

    @property
    def task_count(self) -> int:
        return len(self._tasks)

    @property
    def status(self) -> str:
        """The status of the run at its end, or `waiting` for answers."""
        return str(self._plan.outcome(spared=self._verdict.spared())) if self._plan.is_finished else WAITING

    @property
    def is_waiting(self) -> bool:
        """Whether a task has an open question."""
        return self._questions.is_any

    def answer(self, question: OpenQuestion) -> None:
        """Resume the task of the question, unless it already has this answer."""
        self._questions.answer(question)

    def cancel(self, cancel: Cancel) -> bool:
        """Stop the task and all below it, and fail its dependents. Returns whether that is new: a repeated request changes nothing."""
        new = self._cancellations.add(cancel)
        unrun = list[str]()
        for task_id in sorted(new, key=self._attempts.is_at_work, reverse=True):
            if self._cleans_up(task_id):
                if self._live.lacks_code_of(self._tasks[task_id]):
                    self._start(self._tasks[task_id])  # to end without its code
                continue
            if task_id in self._jobs:
                self._ends.append(partial(self._stop, task_id))
            elif self._questions.question_of(task_id) is not None:
                self._start(self._tasks[task_id])  # to cancel its remote work
            else:
                self._ready.pop(task_id, None)
                unrun.append(task_id)
        self._cancel_unrun(unrun)
        return bool(new)

    def _stop(self, task_id: str) -> None:
        if (job := self._jobs.get(task_id)) is not None:
            job.cancel()
            asyncio.get_running_loop().call_later(STOP_SECONDS, self._leave_behind, task_id, job)

    def _cleans_up(self, task_id: str) -> bool:
        """Let the code of a cancelled workflow clean up for some time. False: there is no such code, or it has to stop at once."""
        if self._cancellations.is_forced(task_id):
            self._forget_cleaning(task_id)
            return False
        if not self._live.cancel(task_id):
            return False
        late = partial(self._end_cleaning, task_id)
        self._cleaning[task_id] = asyncio.get_running_loop().call_later(CLEANING_SECONDS, late)
        return True

    def _forget_cleaning(self, task_id: str) -> None:
        if (timer := self._cleaning.pop(task_id, None)) is not None:
            timer.cancel()

    def _end_cleaning(self, task_id: str) -> None:
        """Stop the code of a cancelled workflow that is not done, and the steps with which it cleans up."""
        del self._cleaning[task_id]
        self._stop(task_id)
        for step in self._family.spawned_by(task_id):
            if self._cancellations.is_sheltered(step.id):
                self.cancel(Cancel(task_id=step.id, force=False, message=TOO_LONG))

    def _leave_behind(self, task_id: str, job: asyncio.Task[None]) -> None:
        """Continue without an executor that does not stop. Anything it still returns is dropped."""
        if self._jobs.get(task_id) is job:
            del self._jobs[task_id]
            self._alive.discard(job)
            self._left_behind.add(job)
            job.add_done_callback(self._left_behind.discard)
            self._cancel_unrun([task_id])

    def _cancel_unrun(self, task_ids: Collection[str]) -> None:
        self._write_cancelled(task_ids)
        self._advance(self._plan.settle_together(task_ids, Status.CANCELLED))

    def _write_cancelled(self, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            self._questions.forget(task_id)
            self._ends.append(partial(self._end_unrun, task_id, self._cancellations.outcome_of(task_id)))

    def _advance(self, step: Step) -> None:
        """Fail or skip the tasks that can no longer run, and start those that are ready."""
        for node, cause in step.blocked:
            task, needed = self._tasks[node.id], self._tasks[cause]
            task.cause_id = needed.cause_id or needed.id
            not_run = replace(failed(f"{NOT_RUN} {self._standing.named(cause)} failed"), cause_id=task.cause_id)
            self._ends.append(partial(self._end_unrun, node.id, not_run))
        for node, cause in step.skipped:
            why = f"Skipped: required dependency {self._standing.named(cause)} was skipped"
            self._ends.append(partial(self._end_unrun, node.id, skipped(why)))
        for node in step.ready:
            self._start(self._tasks[node.id])
        self._take_steps()
        if self._plan.is_finished or self._is_quiet:
            self._must_check.set()

    @property
    def _is_quiet(self) -> bool:
        """Whether no job is at work. That of a workflow rests while it waits for its steps."""
        resting = self._live.resting
        return not (self._alive.difference(map(self._jobs.get, resting)) if resting else self._alive)

    def _check_if_quiet(self) -> None:
        if self._is_quiet:
            self._must_check.set()

    @property
    def _has_steps(self) -> bool:
        return bool(self._ends or self._ready)

    def _take_steps(self) -> None:
        """Begin and end tasks, in this turn of the loop as far as it has room, then in later ones."""
        if self._has_steps and not self._is_in_turns:
            self._is_in_turns = True
            self._shared.turns.want(self)

    def take_step(self) -> bool:
        """End or stop one task, or begin one if none is left to end. Returns whether another step is left."""
        if self._ends:
            self._ends.popleft()()
            if not self._ends:
                self._must_check.set()
        elif self._ready:
            task_id = next(iter(self._ready))
            del self._ready[task_id]
            self._context.run(self._begin, self._tasks[task_id])
        self._is_in_turns = self._has_steps
        return self._is_in_turns

    def _end_unrun(self, task_id: str, outcome: Outcome) -> None:
        self._verdict.note(task_id, outcome)
        if self._spans is not None:
            self._spans.ended_without_job(self._tasks[task_id], outcome)
        self._recorder.finished_unrun(self._tasks[task_id], outcome)
        self._live.ended(self._tasks[task_id], outcome)
        self._set_templates_aside(task_id)

    def _set_templates_aside(self, task_id: str) -> None:
        """Record that the template of this map, if it is one, runs as copies only."""
        for template in self._family.template_of(task_id):
            if template.status == Status.PENDING:
                template.status = Status.SKIPPED
                self._recorder.finished_unrun(
                    template, skipped(f"Template: {self._standing.named(task_id)} runs copies of it")
                )

    async def _end(self) -> End:
        """Return when there is nothing left to do here."""
        while True:
            await self._must_check.wait()
            self._must_check.clear()
            if self._error is not None:
                raise self._error
            if self._ends:
                continue
            if self._plan.is_finished:
                return End.OVER
            if self._ready or not self._is_quiet:
                continue
            if await self._suspend():
                return End.SUSPENDED
            if self._standing.is_winding_down:
                return End.WOUND_DOWN

    async def _suspend(self) -> bool:
        """Try to suspend the run. False: an answer or a cancellation arrived first; the worker will pick it up."""
        if self._standing.is_winding_down:
            return False  # another worker finds out what is left
        if self._cleaning:
            return False  # for its time only
        needing = self._live.needing
        if not self._questions.is_any and not needing:  # a bug: a suspended run without a question would never resume
            raise RuntimeError("The run cannot continue: no task is running, and none waits for an answer.")
        if self._questions.is_due_soon:
            return False
        self._questions.pause()
        self._count_seconds()
        heard = self._cancellations.heard
        suspend_here = partial(suspend, self._claim, heard=heard, needing=needing)
        is_suspended = await self._shared.writer.call(suspend_here, user_id=self.user_id)
        if not is_suspended:
            self._questions.resume()
        return is_suspended

    def _count_seconds(self) -> None:
        """Record for how long this worker has had the run, if that is limited."""
        if self._budget is None:
            return
        if (use := self._budget.day.tick()) is not None:
            self._recorder.day_counted(use)
        if self._budget.is_limited:
            self._recorder.counted(self._budget.state())

    # A task's job

    def _start(self, task: LoadedTask) -> None:
        if self._standing.is_winding_down and task.id not in self._cancellations:
            return
        if self._live.lacks_code_of(task) and task.id not in self._cancellations:
            return  # the run is suspended when all else has been done
        self._attempts.ready(task.id, seconds_ago=self._seconds_queued)
        self._ready[task.id] = None
        self._take_steps()

    def _begin(self, task: LoadedTask) -> None:
        work = Work(run_id=self._claim.run_id, task_id=task.id, executor_id=task.executor_id, user_id=task.user_id)
        job = asyncio.create_task(self._run_task(task), context=self._shared.footprints.context_for(work))
        self._jobs[task.id] = job
        self._alive.add(job)
        job.add_done_callback(partial(self._ended, task.id))

    def _ended(self, task_id: str, job: asyncio.Task[None]) -> None:
        self._alive.discard(job)
        if self._jobs.get(task_id) is job and task_id in self._cancellations and not self._is_left(task_id):
            del self._jobs[task_id]  # cancelled before its first step, so it could not record that itself
            self._cancel_unrun([task_id])
        self._forget_cleaning(task_id)
        error = (
            None if job.cancelled() else job.exception()
        )  # asyncio complains about an exception that is never retrieved
        self._error = self._error or error
        if self._error is not None or self._is_quiet:
            self._must_check.set()

    def _is_left(self, task_id: str) -> bool:
        """Return whether another worker goes on with the task, although it is cancelled: code cleans up to its end."""
        standing = self._standing
        return standing.is_given_up or (standing.is_winding_down and task_id in self._cleaning)

    async def _stop_jobs(self) -> None:
        """Stop all jobs: the run is over or suspended, or this worker gives it up."""
        self._standing.is_given_up = True
        self._ends.clear()
        self._ready.clear()
        for timer in self._cleaning.values():
            timer.cancel()
        for job in self._alive:
            job.cancel()
        if self._alive:
            await asyncio.wait(self._alive, timeout=STOP_SECONDS)

    async def _run_task(self, task: LoadedTask) -> None:
        with self._shared.writer.memory.hold():
            async with AsyncExitStack() as places:
                await self._run_to_commit(task, places)

    async def _run_to_commit(self, task: LoadedTask, places: AsyncExitStack) -> None:
        tracing.add_log_ids(task=task.id)
        job = self._jobs[task.id]
        if self._spans is not None:
            tracing.enter(self._spans.begun(task))
        try:
            outcome = await self._runner.run(task, places)
        except asyncio.CancelledError:
            if task.id not in self._cancellations or (task.id in self._cleaning and self._is_left(task.id)):
                raise
            outcome = self._cancellations.outcome_of(task.id)
        if task.id in self._cancellations and (outcome is None or isinstance(outcome, Growth)):
            # It was not stopped in time, and would wait or grow.
            outcome = self._cancellations.outcome_of(task.id)
        if self._jobs.get(task.id) is not job:
            return  # it was left behind, and its task is settled
        if self._spans is not None:
            self._spans.rested(task, outcome.outcome if isinstance(outcome, Growth) else outcome)
        del self._jobs[task.id]  # from here on there is nothing to stop
        if outcome is None:
            self._wait(task)
            return
        self._questions.forget(task.id)
        if isinstance(outcome, Growth):
            await self._grow(task, outcome)
        else:
            await self._settle(task, outcome, places)

    def _wait(self, task: LoadedTask) -> None:
        """Let the task wait for its own question, or for that of another task about the budget."""
        if self._questions.question_of(task.id) is not None:
            self._questions.wait(task.id)
            return
        if self._live.lacks_code_of(task):
            return
        self._held_back.append(task.id)
        if self._budget is None or not self._budget.is_asking:
            self._start_held_back()

    def _start_held_back(self) -> None:
        held, self._held_back = self._held_back, []
        for task_id in held:
            if self._standing.is_open(task_id) and not self._standing.is_given_up:
                self._start(self._tasks[task_id])

    async def _grow(self, task: LoadedTask, growth: Growth) -> None:
        """Add tasks to the tree. They are in the plan before they are stored, so that a cancellation reaches them."""
        outcome = growth.outcome and self._results.admitted(growth.outcome)
        if outcome is not None:
            self._standing.ended.add(task.id)
        step = self._planned(task, growth)
        self._set_templates_aside(task.id)
        await self._recorder.grown(task, growth, outcome)
        self._advance(step)
        if outcome is not None:
            self._settled(task, outcome)

    def _add_steps(self, task: LoadedTask, growth: Growth) -> asyncio.Future[None]:
        """Add the steps that a workflow calls, and start them. Their starts and ends are written after their rows."""
        is_first = not self._family.has_spawned(task.id)
        step = self._planned(task, growth)
        stored = self._recorder.steps_added(task, growth, is_first=is_first)
        self._advance(step)
        return stored

    def _note_part(self, count: int) -> None:
        """Let go of the run for a worker that does not load what is set aside: now and then, and if possible when nothing else is at work."""
        self._set_aside += count
        at_work = self._alive.difference(map(self._jobs.get, self._live.resting))
        if self._set_aside > (SET_ASIDE_ALONE if len(at_work) <= 1 else SET_ASIDE):
            self.wind_down()

    def _planned(self, task: LoadedTask, growth: Growth) -> Step:
        """Take new tasks into the tree and the plan. Returns those that are ready or blocked."""
        growth.place(self._family.next_position)
        task.step = growth.step or task.step
        self._family.add(growth.tasks)
        if task.id in self._cancellations or self._cancellations.is_sheltered(task.id):  # code cleans up with them
            self._cancellations.shelter(new.id for new in growth.tasks)
        self._tasks |= {new.id: new for new in growth.tasks}
        size = memory_of(growth.tasks)
        self.memory += size
        self._shared.on_growth(self.user_id, size)
        nodes = nodes_of(new for new in growth.tasks if new.id not in self._family.template_ids)
        self._nodes |= {node.id: node for node in nodes}
        self._nodes[task.id].spawned += [node.id for node in nodes if node.spawned_by == task.id]
        items = self._family.items_of(task.id)
        step = self._plan.grow(nodes, [items] if items else [])
        self._results.grow(task, growth.tasks)
        self._cancellations.grow(children_of(nodes))
        return step

    async def _settle(self, task: LoadedTask, outcome: Outcome, places: AsyncExitStack) -> None:
        self._standing.ended.add(task.id)
        self._set_templates_aside(task.id)
        outcome = self._results.admitted(outcome)
        if self._plan.is_last(task.id):
            self._last_changes = self._recorder.changes_at_end(task, outcome)  # the end of the run commits them
            await self._last_places.enter_async_context(places.pop_all())
        else:
            await self._recorder.finished(task, outcome)
        self._settled(task, outcome)

    def _settled(self, task: LoadedTask, outcome: Outcome) -> None:
        self._verdict.note(task.id, outcome)
        self._results.settle(task, outcome)
        self._live.ended(task, outcome)
        self._advance(self._plan.settle(task.id, outcome.status))
        if self._claim.is_suspected and not self._claim.is_convicted and task.executor_id is not None:
            self.wind_down()  # it has made progress, so any worker may have it again
