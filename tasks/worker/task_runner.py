"""Runs one task of a tree through its phases.

    its wait ──▶ its condition ──▶ its work ──▶ Outcome   the task ends
       ▲                              ├───────▶ Growth    tasks are added below it
       └── None: it waits ◀───────────┘ asks, or waits

A task that comes back from a wait passes them again. Its work is one of these: a loop, a map, a group, the end of what it has
spawned, or the attempts of its executor (`tasks.worker.attempts`). Parts that its definition does not use are not there: the
spawner is made for the first task that adds others, and the budget for a run with limits.
"""

import asyncio
from collections.abc import Collection, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, Final, cast

import orjson
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Parked, Stopped
from tasks.executors import get_executor
from tasks.executors.workflows import LOCAL, WorkflowTask
from tasks.rules.budgets import asked_in
from tasks.rules.conditions import TooMuchToCompare, described, holds
from tasks.rules.exceptions import ExecutorNotFound, TooManyWaits
from tasks.rules.maps import for_each_of
from tasks.rules.rounds import repeat_of
from tasks.services.waits.questions import OpenQuestion
from tasks.status import OnExpiry, Status, WaitKind
from tasks.worker.attempt import call_off
from tasks.worker.attempts import Attempts, interruption_in
from tasks.worker.live import Live
from tasks.worker.load_run import LoadedTask, is_live
from tasks.worker.outcomes import Outcome, cancelled, completed_in_turn, failed, skipped
from tasks.worker.run_budget import HeldBack
from tasks.worker.run_parts import RunParts
from tasks.worker.spawning.growth import Growth
from tasks.worker.wait_room import NO_ROOM

SETTLED: Final = frozenset({WaitKind.EVENT, WaitKind.RUN, WaitKind.LIMIT, WaitKind.CALL})
"""The waits that only begin when the engine has read the state of the tree."""
POISON: Final = (
    "Poison: each worker process that ran this task alone died. The worker's log has the reason; look for crashes, "
    "memory limits and calls that end the process."
)


class TaskRunner:
    """Runs the tasks of one run."""

    def __init__(self, run: RunParts, attempts: Attempts, live: Live) -> None:
        self._run = run
        self._attempts = attempts
        self._live = live
        self._suspects: Collection[str] = ()
        """The tasks at fault if the run is poison."""
        if run.claim.is_poison:
            self._suspects = _begun_last(run.standing.tasks.values()) or run.standing.nodes.keys()

    async def run(self, task: LoadedTask, places: AsyncExitStack) -> Outcome | Growth | None:
        """Run the task to its outcome, or until it adds tasks to the tree. None: it waits for an answer, a time or an event.

        `places` are those that it has taken when this returns. Give them back once the outcome is committed: a
        crash then repeats no more tasks than have places.
        """
        await self._run.secrets.enter()
        if self._run.needs_values(task):
            from tasks.worker.large_values import bring  # noqa: PLC0415  (few runs have them)

            try:
                await bring(task, self._run)
            except ExecutorError as error:
                return failed(str(error))
        try:
            question = await self._settled(task, self._run.questions.question_of(task.id))
            if question is not None:
                if (end := await self._end_after_wait(task, question)) is not None:
                    return end
            elif (when := task.params.get("when")) is not None and (unwanted := await self._skipped(task, when)):
                return unwanted
            outcome = await self._outcome(task, places)
            if isinstance(outcome, Outcome) and self._run.results.is_large(outcome) and self._run.may_move(task):
                from tasks.worker.large_values import moved  # noqa: PLC0415  (few runs have them)

                return await moved(outcome, task, self._run)
            return outcome
        except HeldBack:
            return None
        except Parked as parked:
            return await self._ask(task, parked)
        finally:
            self._run.brought.pop(task.id, None)

    # --- its wait ---

    async def _end_after_wait(self, task: LoadedTask, question: OpenQuestion) -> Outcome | None:
        """Return the outcome of a task that ends with its wait. Raises HeldBack if it still waits."""
        run = self._run
        is_over, is_cancelled = run.questions.is_over(question), task.id in run.cancellations
        if run.budget and question.reply is not None and question.used is not None:
            has_failed = question.reply.answer["status"] == Status.FAILED
            run.budget.begin_to_count(task.id, question.used, has_failed=has_failed)
        if run.budget and run.budget.is_about(question):
            if question.reply is None and not is_over and not is_cancelled:
                raise HeldBack
            await self._settle_budget(task, question)
            return None
        if question.kind == WaitKind.LIMIT and not is_cancelled:
            self._end_wait_for_limit(task, question)
            return None
        if question.kind == WaitKind.CALL and question.reply is not None and not is_cancelled:
            run.recorder.waited(task)
            run.questions.forget(task.id)
            return None
        if is_cancelled:
            stopped = await self._call_off(task, question)
            why = str(run.cancellations.message_of(task.id))
            outcome = cancelled(why, stopped=stopped, max_bytes=settings.APFLOW.limits.result_bytes)
            return await run.secrets.masked(task, outcome)
        if is_over and question.on_expiry == OnExpiry.FAIL:
            await self._call_off(task, question)
            return failed(question.why_failed, raised=(TimeoutError.__name__, [question.why_failed]))
        if question.reply is None and not is_over:
            await self._ring(task, question)
            raise HeldBack
        return None

    async def _settled(self, task: LoadedTask, question: OpenQuestion | None) -> OpenQuestion | None:
        """Let a wait for an event take one that came before it, or end when its time is over, and start the tree of a
        wait for a run: the choice is a row.
        """
        if question is None or question.kind not in SETTLED or question.reply is not None:
            return question
        questions, limits = self._run.questions, self._run.shared.limits
        if question.kind == WaitKind.LIMIT:
            settled = await limits.entered(question) if limits.knows(question) else question
            if settled is not None:
                questions.answer(settled)
            return questions.question_of(question.task_id)
        is_over = questions.is_over(question)
        if question.kind == WaitKind.CALL:
            from tasks.worker import result_cache  # noqa: PLC0415  few runs use it

            if not is_over and (settled := await result_cache.settled(question)) is not None:
                questions.answer(settled)
            return questions.question_of(question.task_id)
        settled = await self._run.shared.wait_room.settled(task.user_id, question, is_over=is_over)
        if settled is not None:
            questions.answer(settled)
        return questions.question_of(question.task_id)

    def _end_wait_for_limit(self, task: LoadedTask, question: OpenQuestion) -> None:
        """Let the task continue as if it had not waited. Raises HeldBack if its turn has not come."""
        run = self._run
        if question.reply is None and run.shared.limits.knows(question):
            raise HeldBack
        run.recorder.waited(task)
        run.questions.forget(task.id)
        memo = orjson.loads(question.memo)
        run.shared.limits.places_taken(task, run.claim.run_id, memo["taken"])
        self._attempts.limits_taken(task.id, **memo)

    async def _settle_budget(self, task: LoadedTask, question: OpenQuestion) -> None:
        """Take the answer about the budget, in one commit with the end of the question, and let all tasks continue.

        The task itself continues as if it had not asked. Raises asyncio.CancelledError if it was cancelled instead.
        """
        run = self._run
        assert run.budget is not None  # noqa: S101  (checked by the caller)
        run.budget.settle(question)
        try:
            await run.recorder.budget_settled(task, run.budget.state())
        finally:  # also if it is cancelled meanwhile
            run.questions.forget(task.id)
            run.budget.release()
        if task.id in run.cancellations:
            raise asyncio.CancelledError

    async def _ring(self, task: LoadedTask, question: OpenQuestion) -> None:
        """Record the alarms of the question that are due, each in a commit of its own."""
        questions = self._run.questions
        while (alarm := questions.due_alarm(question)) is not None:
            asked = question.assignees or ([task.user_id] if alarm.assignees else None)
            assignees = None if asked is None else list(dict.fromkeys([*asked, *alarm.assignees]))
            before, question = question, questions.rang(question, assignees=assignees)
            await self._run.recorder.alarmed(task, question, before=before)

    async def _ask(self, task: LoadedTask, parked: Parked) -> Outcome | None:
        """Open the question, or fail the task if its owner has too many. A run asks about its budget once at a time."""
        run = self._run
        if parked.wait.tree is not None and run.budget and run.budget.is_limited:
            parked.wait = replace(parked.wait, tree=parked.wait.tree | {"rest": run.budget.left()})
        question = run.questions.ask(task.id, run.secrets.masked_question(parked))
        asks_about_budget = asked_in(orjson.loads(parked.memo)) is not None
        try:
            if not asks_about_budget:
                run.shared.wait_room.refuse_if_full(task.user_id)
            await run.recorder.asked(task, question, is_limited=not asks_about_budget)
        except TooManyWaits:
            run.shared.wait_room.note_full(task.user_id)
            await self._call_off(task, question)
            return failed(NO_ROOM.format(user=task.user_id, most=settings.APFLOW.limits.waits_per_user))
        await self._settled(task, question)
        return None

    async def _call_off(self, task: LoadedTask, question: OpenQuestion) -> Stopped | None:
        """Let the executor cancel the remote work behind a question that will not be answered.

        None: no partial result.
        """
        if repeat_of(task.params) is not None or interruption_in(question) is not None:  # nothing is elsewhere
            return None
        if question.kind in (WaitKind.LIMIT, WaitKind.CALL):
            return None
        if question.kind == WaitKind.RUN:
            used = await self._run.recorder.call_off(question, force=self._run.cancellations.is_forced(task.id))
            if used is not None and self._run.budget:
                self._run.budget.begin_to_count(task.id, used, has_failed=False)
            return None
        try:
            executor = get_executor(str(task.executor_id))
        except ExecutorNotFound:
            return None
        memo = orjson.loads(question.memo)
        if task.params.get("checks") is not None:
            from tasks.worker.checks import executor_memo  # noqa: PLC0415  (few tasks have checks)

            is_of_check, memo = executor_memo(memo)
            if is_of_check:
                return None
        context = self._attempts.context_of(task, executor)
        try:
            inputs = await self._attempts.inputs_of(task)
        except ExecutorError as error:  # the limit has been lowered since the question was asked, or a secret deleted
            context.log(f"Could not cancel the remote work of this task: {error}")
            return None
        return await call_off(executor, inputs, context, memo=memo)

    # --- its condition ---

    async def _skipped(self, task: LoadedTask, when: Any) -> Outcome | None:
        """Return the outcome of a task whose condition is false, or cannot be evaluated; None if the task is wanted."""
        run = self._run
        async with run.shared.slots.take(task.user_id, task.priority):  # thousands may be ready at the same moment
            try:
                is_wanted = holds(when, run.values_of(task) | run.results_of(task))
            except TooMuchToCompare as error:
                return failed(str(error))
        return None if is_wanted else skipped(f"Skipped, because this condition is false: {described(when)}")

    # --- its work ---

    async def _outcome(self, task: LoadedTask, places: AsyncExitStack) -> Outcome | Growth | None:
        run = self._run
        if task.id in self._suspects:
            return failed(POISON)
        if is_live(task):
            return await self._workflow(task)
        is_over = run.family.has_spawned(task.id) and not task.is_called_again
        if (repeat := repeat_of(task.params)) is not None:
            if not is_over:
                await run.recorder.started(task, durably=False)
            wait = run.questions.question_of(task.id)
            waited_after = None if wait is None else orjson.loads(wait.memo)
            return await run.spawner.repeated(task, repeat, run.read_for(task), waited_after=waited_after)
        if is_over:
            return await run.spawner.joined(task)
        if (for_each := for_each_of(task.params)) is not None:
            await run.recorder.started(task, durably=False)
            async with run.shared.slots.take(task.user_id, task.priority):
                return await run.spawner.mapped(task, for_each, run.results_of(task), run.read_for(task))
        if task.executor_id is None:
            return await self._gather(task)
        try:
            executor = get_executor(task.executor_id)
        except ExecutorNotFound as error:  # the configuration has changed since the tree was stored
            return failed(error.message)
        if task.call is not None:
            LOCAL.set(partial(self._live.function_of, task))
        outcome = await self._attempts.make(task, executor, places)
        return outcome if outcome.spawn is None else await run.spawner.spawned(task, outcome)

    async def _workflow(self, task: LoadedTask) -> Outcome | None:
        """Run the code of a workflow. It takes no place: its steps do. None: it needs other code than that of this worker."""
        try:
            executor = get_executor(str(task.executor_id))
            inputs = await self._attempts.inputs_of(task)
        except ExecutorNotFound as error:
            return self._live.refused(task, error.message)
        except ExecutorError as error:
            return self._live.refused(task, str(error))
        return await self._live.run(task, cast(WorkflowTask, executor), inputs)

    async def _gather(self, task: LoadedTask) -> Outcome:
        """Complete a group. It runs no code: its resolved inputs are its result."""
        await self._run.recorder.started(task, durably=False)
        try:
            inputs = self._attempts.filled_inputs(task)
            return await completed_in_turn(inputs, max_bytes=self._run.most_bytes_of(task), is_composed=True)
        except ExecutorError as error:
            return failed(str(error))


def _begun_last(tasks: Iterable[LoadedTask]) -> list[str]:
    """Return the id of the task that was in progress when the worker died, which had only one at a time."""
    interrupted = [task for task in tasks if task.status == Status.IN_PROGRESS and task.started_at is not None]
    return [max(interrupted, key=attrgetter("started_at")).id] if interrupted else []
