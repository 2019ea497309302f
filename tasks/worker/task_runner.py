"""Runs one task of a tree: its attempts, its retries, and its question if it asks one."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Parked, Reply, Stopped
from aipartnerupflow.executors.base import unstored
from tasks.executors import get_executor
from tasks.executors.filling import filled_inputs, left_fields
from tasks.executors.http import client, fetch
from tasks.executors.llm.client import with_own_calls
from tasks.executors.llm.conversations import heard_turns
from tasks.executors.placement import pool_name
from tasks.executors.states import STATES
from tasks.pools.base import DemoPool, Pool
from tasks.pools.fair_semaphore import FairSemaphore
from tasks.queue.leases import Claim
from tasks.rules import interrupts
from tasks.rules.budgets import asked_in
from tasks.rules.conditions import TooMuchToCompare, described, holds
from tasks.rules.exceptions import ExecutorNotFound, TooManyWaits
from tasks.rules.maps import ForEach, for_each_of
from tasks.rules.places import RUN
from tasks.rules.pools import resources_of
from tasks.rules.references import dependency_results, label_of, resolved_inputs
from tasks.rules.retry import retry_of
from tasks.rules.rounds import Repeat, repeat_of
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import added
from tasks.services.waits.questions import OpenQuestion
from tasks.status import Effect, OnExpiry, OnInterrupt, Status, WaitKind
from tasks.telemetry import metrics
from tasks.worker.attempt import HOW_TO_CORRECT, NotStored, Work, attempt, call_off, crashed
from tasks.worker.cancellations import Cancellations
from tasks.worker.kept_state import KeptState
from tasks.worker.load_run import LoadedTask
from tasks.worker.open_questions import OpenQuestions
from tasks.worker.outcomes import Outcome, cancelled, failed, skipped
from tasks.worker.result_memory import completed_in_turn
from tasks.worker.run_budget import HeldBack, RunBudget
from tasks.worker.run_recorder import RunRecorder
from tasks.worker.secrets_of_run import SecretsOfRun, opened_values, refuse_misuse
from tasks.worker.spawning.growth import Growth
from tasks.worker.spawning.spawner import Spawner, is_called_again
from tasks.worker.task_trace import TaskTrace
from tasks.worker.traced_models import trace_models
from tasks.worker.wait_room import NO_ROOM, WaitRoom

DEMO: Final = DemoPool()
SETTLED: Final = frozenset({WaitKind.EVENT, WaitKind.RUN})
"""The waits that only begin when the engine has read the state of the tree."""
POISON: Final = (
    "Poison: each worker process that ran this task alone died. The worker's log has the reason; look for crashes, "
    "memory limits and calls that end the process."
)
LOOK_SECONDS: Final = 30.0
"""The seconds that an executor may take to find out whether interrupted work may be repeated."""


class TaskRunner:
    """Runs tasks for one run.

    `results` grows as tasks complete; `is_given_up` returns whether the worker has given up the
    run, and `is_winding_down` whether no attempt may begin here. `tasks` are those of the tree. If the run is poison, `suspects` are the tasks at fault. `begun` have begun before: what their secrets return is masked.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        user_id: str,
        tasks: Mapping[str, LoadedTask],
        recorder: RunRecorder,
        questions: OpenQuestions,
        cancellations: Cancellations,
        slots: FairSemaphore,
        pools: Mapping[str, Pool],
        results: Mapping[str, Any],
        spawner: Spawner,
        budget: RunBudget,
        wait_room: WaitRoom,
        is_given_up: Callable[[], bool],
        is_winding_down: Callable[[], bool],
        suspects: Collection[str] = (),
        begun: Iterable[LoadedTask] = (),
    ) -> None:
        self._claim = claim
        self._tasks = tasks
        self._secrets = SecretsOfRun(begun)
        self._recorder = recorder
        self._questions = questions
        self._cancellations = cancellations
        self._slots = slots
        self._pools = pools
        self._results = results
        self._run_values = opened_values(claim, user_id=user_id)
        self._spawner = spawner
        self._budget = budget
        self._wait_room = wait_room
        self._is_given_up = is_given_up
        self._is_winding_down = is_winding_down
        self._suspects = suspects
        self._ready_times: dict[str, float] = {}
        self._at_work: set[str] = set()

    def ready(self, task_id: str, *, seconds_ago: float) -> None:
        """Record when the task became ready, to measure how long it waits for a slot."""
        self._ready_times[task_id] = time.monotonic() - seconds_ago

    def is_at_work(self, task_id: str) -> bool:
        """Return whether an attempt at the task is under way: it does not merely wait for a slot or its next attempt."""
        return task_id in self._at_work

    async def run(self, task: LoadedTask, places: AsyncExitStack) -> Outcome | Growth | None:
        """Run the task to its outcome, or until it adds tasks to the tree. None: it waits for an answer, a time or an event.

        `places` are those that it has taken when this returns. Give them back once the outcome is committed: a
        crash then repeats no more tasks than have places.
        """
        await self._secrets.enter()
        trace_models(TaskTrace(task, recorder=self._recorder, secrets=self._secrets))
        STATES.set(KeptState(task, run_id=self._claim.run_id, recorder=self._recorder, secrets=self._secrets))
        self._budget.watch_models(task.id)
        question = await self._settled(task, self._questions.question_of(task.id))
        if question is not None and self._budget.is_about(question):
            is_open = question.reply is None and not self._questions.is_over(question)
            if is_open and task.id not in self._cancellations:
                return None
            await self._budget_settled(task, question)
            question = None
        if question is not None and task.id in self._cancellations:
            stopped = await self._call_off(task, question)
            why = str(self._cancellations.message_of(task.id))
            outcome = cancelled(why, stopped=stopped, max_bytes=settings.APFLOW.limits.result_bytes)
            return await self._secrets.masked(task, outcome)
        is_over = question is not None and self._questions.is_over(question)
        if question is not None and is_over and question.on_expiry == OnExpiry.FAIL:
            await self._call_off(task, question)
            return failed(question.why_failed)
        if question is not None and question.reply is None and not is_over:
            await self._ring(task, question)
            return None
        try:
            return await self._skipped(task) or await self._outcome(task, places)
        except HeldBack:
            return None
        except Parked as parked:
            return await self._asked(task, parked)

    async def _asked(self, task: LoadedTask, parked: Parked) -> Outcome | None:
        """Open the question, or fail the task if its owner has too many. A run asks about its budget once at a time."""
        question = self._questions.ask(task.id, self._secrets.masked_question(parked))
        asks_about_budget = asked_in(orjson.loads(parked.memo)) is not None
        try:
            if not asks_about_budget:
                self._wait_room.refuse_if_full(task.user_id)
            await self._recorder.asked(task, question, is_limited=not asks_about_budget)
        except TooManyWaits:
            self._wait_room.note_full(task.user_id)
            await self._call_off(task, question)
            return failed(NO_ROOM.format(user=task.user_id, most=settings.APFLOW.limits.waits_per_user))
        await self._settled(task, question)
        return None

    async def _ring(self, task: LoadedTask, question: OpenQuestion) -> None:
        """Record the alarms of the question that are due, each in a commit of its own."""
        while (alarm := self._questions.due_alarm(question)) is not None:
            asked = question.assignees or ([task.user_id] if alarm.assignees else None)
            assignees = None if asked is None else list(dict.fromkeys([*asked, *alarm.assignees]))
            before, question = question, self._questions.rang(question, assignees=assignees)
            await self._recorder.alarmed(task, question, before=before)

    async def _budget_settled(self, task: LoadedTask, question: OpenQuestion) -> None:
        """Take the answer about the budget, in one commit with the end of the question, and let all tasks continue.

        The task itself continues as if it had not asked. Raises asyncio.CancelledError if it was cancelled instead.
        """
        self._budget.settle(question)
        try:
            await self._recorder.budget_settled(task, self._budget.state())
        finally:  # also if it is cancelled meanwhile
            self._questions.forget(task.id)
            self._budget.release()
        if task.id in self._cancellations:
            raise asyncio.CancelledError

    async def _settled(self, task: LoadedTask, question: OpenQuestion | None) -> OpenQuestion | None:
        """Let a wait for an event take one that came before it, or end when its time is over, and start the tree of a
        wait for a run: the choice is a row.
        """
        if question is None or question.kind not in SETTLED or question.reply is not None:
            return question
        is_over = self._questions.is_over(question)
        settled = await self._wait_room.settled(task.user_id, question, is_over=is_over)
        if settled is not None:
            self._questions.answer(settled)
        return self._questions.question_of(question.task_id)

    async def _skipped(self, task: LoadedTask) -> Outcome | None:
        """Return the outcome of a task whose condition is false, or cannot be evaluated; None if the task is wanted."""
        when = task.params.get("when")
        if when is None or self._questions.question_of(task.id) is not None:
            return None
        async with self._slots.take(task.user_id, task.priority):  # thousands may be ready at the same moment
            try:
                is_wanted = holds(when, self._run_values | dependency_results(task.dependencies, self._results))
            except TooMuchToCompare as error:
                return failed(str(error))
        return None if is_wanted else skipped(f"Skipped, because this condition is false: {described(when)}")

    async def _call_off(self, task: LoadedTask, question: OpenQuestion) -> Stopped | None:
        """Let the executor cancel the remote work behind a question that will not be answered.

        None: no partial result.
        """
        if repeat_of(task.params) is not None or _interruption_in(question) is not None:  # nothing is elsewhere
            return None
        if question.kind == WaitKind.RUN:
            await self._recorder.call_off(question, force=self._cancellations.is_forced(task.id))
            return None
        try:
            executor = get_executor(str(task.executor_id))
        except ExecutorNotFound:
            return None
        try:
            inputs = await self._ready_inputs(task, executor)
        except ExecutorError as error:  # the limit has been lowered since the question was asked, or a secret deleted
            self._logged(task, f"Could not cancel the remote work of this task: {error}")
            return None
        return await call_off(executor, inputs, self._context(task, executor), memo=orjson.loads(question.memo))

    async def _outcome(self, task: LoadedTask, places: AsyncExitStack) -> Outcome | Growth:
        if self._is_poison(task):
            return failed(POISON)
        if (repeat := repeat_of(task.params)) is not None:
            return await self._repeat(task, repeat)
        if self._spawner.has_spawned(task):
            return await self._spawner.joined(task)
        if (for_each := for_each_of(task.params)) is not None:
            return await self._map(task, for_each)
        if task.executor_id is None:
            return await self._gather(task)
        try:
            executor = get_executor(task.executor_id)
        except ExecutorNotFound as error:  # the configuration has changed since the tree was stored
            return failed(error.message)
        outcome = await self._attempts(task, executor, places)
        return outcome if outcome.spawn is None else await self._spawner.spawned(task, outcome)

    def _is_poison(self, task: LoadedTask) -> bool:
        return self._claim.is_poison and task.id in self._suspects

    async def _repeat(self, task: LoadedTask, repeat: Repeat) -> Outcome | Growth:
        if not self._spawner.has_spawned(task):
            await self._recorder.started(task, durably=False)
        wait = self._questions.question_of(task.id)
        waited_after = None if wait is None else orjson.loads(wait.memo)
        return await self._spawner.repeated(task, repeat, waited_after=waited_after)

    async def _map(self, task: LoadedTask, for_each: ForEach) -> Outcome | Growth:
        await self._recorder.started(task, durably=False)
        async with self._slots.take(task.user_id, task.priority):
            return await self._spawner.mapped(task, for_each)

    async def _gather(self, task: LoadedTask) -> Outcome:
        """Complete a group. It runs no code: its resolved inputs are its result."""
        await self._recorder.started(task, durably=False)
        try:
            inputs = self._inputs(task)
            return await completed_in_turn(inputs, max_bytes=settings.APFLOW.limits.result_bytes, is_composed=True)
        except ExecutorError as error:
            return failed(str(error))

    async def _attempts(self, task: LoadedTask, executor: Executor, places: AsyncExitStack) -> Outcome:
        retry = retry_of(task.params)
        is_resumed = self._is_resumed(task)
        is_interrupted = task.status == Status.IN_PROGRESS and not is_resumed and task.error is None
        if (end := await self._end_of_interrupted(task, executor, is_interrupted=is_interrupted)) is not None:
            return end
        is_begun = is_resumed or is_interrupted
        while True:
            outcome = await self._attempt(task, executor, places, is_begun=is_begun, is_resumed=is_resumed)
            is_begun = is_resumed = False
            if outcome.status is Status.FAILED and self._budget.check_again(task.id):
                task.error = outcome.error  # so that no attempt counts as interrupted
                message = "The budget is used up; the next attempt waits for an answer"
                await self._recorder.retrying(task, outcome, message)
                await places.aclose()
                continue
            if not outcome.may_retry or task.attempt >= retry.max_attempts:
                return outcome
            seconds = retry.delay(task.attempt, outcome.retry_after_seconds)
            message = f"Attempt {task.attempt} of {retry.max_attempts:g} failed; the next one starts in {seconds:.1f} s"
            self._forget_tree(task)
            await self._recorder.retrying(task, outcome, message)
            await places.aclose()
            self._leave_if_stopped(task)
            await asyncio.sleep(seconds)

    async def _end_of_interrupted(
        self, task: LoadedTask, executor: Executor, *, is_interrupted: bool
    ) -> Outcome | None:
        """Return how a task ends whose worker died, or None if it is executed again: if its effect had not begun, or if that is safe.

        Raises Parked to ask. A task without a stored effect was begun by an earlier version.
        """
        question = self._questions.question_of(task.id)
        if question is not None and question.reply is not None and _interruption_in(question) is not None:
            answer, comment = question.reply.answer, question.reply.comment
            if answer == interrupts.DONE:
                return await completed_in_turn(
                    comment, max_bytes=settings.APFLOW.limits.result_bytes, is_composed=False
                )
            if answer != interrupts.REPEAT:
                return failed(interrupts.error_of(self._claim.interruption))
        had_begun = task.effect == Effect.BEGUN or (is_interrupted and task.effect is None)
        if not had_begun or task.error is not None or not self._is_unsafe(task, executor):
            return None
        if await self._is_repeatable(task, executor):
            return None
        if interrupts.on_interrupt_of(task, self._tasks) is OnInterrupt.FAIL:
            return failed(interrupts.error_of(self._claim.interruption))
        context = self._context(task, executor)
        text = interrupts.question(
            task.name,
            interruption=self._claim.interruption,
            executor_id=executor.id,
            key=context.idempotency_key,
            attempt=task.attempt,
            asked_at=self._claim.now(),
        )
        raise Parked(text, options=interrupts.ANSWERS, memo=interrupts.memo_of(_former_reply(question)))

    def _is_unsafe(self, task: LoadedTask, executor: Executor) -> bool:
        """Return whether the work must not be repeated after its effect has begun, unless someone says so."""
        if self._claim.is_demo or executor.may_repeat(task.inputs):
            return False
        return interrupts.on_interrupt_of(task, self._tasks) is not OnInterrupt.REPEAT

    async def _is_repeatable(self, task: LoadedTask, executor: Executor) -> bool:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                inputs = await self._ready_inputs(task, executor)
                return await executor.is_repeatable(inputs, self._context(task, executor))
        except Exception as error:  # noqa: BLE001  (a plug-in may raise anything; without an answer it is not repeated)
            self._logged(task, f"Whether it may be repeated is not known: {crashed(executor, error).error}")
            return False

    def _is_resumed(self, task: LoadedTask) -> bool:
        """Return whether the attempt that asked a question or took a step continues, unless it has failed since."""
        if self._questions.question_of(task.id) is not None:
            return True
        return is_called_again(task) and task.attempt > 0 and task.error is None

    def _forget_tree(self, task: LoadedTask) -> None:
        """Let the next attempt run a tree of its own; an answer of a person counts for all attempts."""
        question = self._questions.question_of(task.id)
        if question is not None and question.kind == WaitKind.RUN:
            self._recorder.waited(task)
            self._questions.forget(task.id)

    def _leave_if_stopped(self, task: LoadedTask) -> None:
        """Raise asyncio.CancelledError: another worker makes the next attempt, or nobody since the task is cancelled."""
        if self._is_winding_down() or task.id in self._cancellations:
            raise asyncio.CancelledError

    async def _attempt(
        self, task: LoadedTask, executor: Executor, places: AsyncExitStack, *, is_begun: bool, is_resumed: bool
    ) -> Outcome:
        """Take the places, and run one attempt.

        `is_begun` continues or repeats the attempt that a worker began before; it is not counted
        again. `is_resumed` continues the one that asked a question or took a step.
        """
        try:
            pool = self._pool_for(task, executor)
        except ExecutorError as error:
            return failed(str(error))
        except Exception as error:  # noqa: BLE001  (a plug-in may raise anything)
            return replace(crashed(executor, error), may_retry=False)
        resources = resources_of(task.params)
        place = pool.place(user_id=task.user_id, priority=task.priority, resources=resources)
        await places.enter_async_context(place)
        await places.enter_async_context(self._slots.take(task.user_id, task.priority))
        if ready_time := self._ready_times.pop(task.id, None):  # a retry waits for its time, not for a slot
            metrics.waited(time.monotonic() - ready_time)
        self._leave_if_stopped(task)
        if not is_begun and (why := await self._refusal(task)) is not None:
            return failed(why)
        self._at_work.add(task.id)
        try:
            task.attempt += not is_begun
            if not is_resumed:
                await self._begin(task, effect=Effect.AWAITED if self._is_unsafe(task, executor) else None)
            why_cancelled = partial(self._cancellations.message_of, task.id)
            work = Work(
                executor=executor,
                pool=pool,
                inputs=await self._ready_inputs(task, executor),
                context=self._context(task, executor),
                is_checked=not (self._claim.is_demo and task.has_places),
                is_demo=self._claim.is_demo,
            )
            with heard_turns() as turns:
                outcome = await attempt(task, work, why_cancelled=why_cancelled)
            outcome = await self._secrets.masked(task, outcome)
            return replace(outcome, turn=turns[-1]) if turns else outcome
        except ExecutorError as error:
            return failed(f"{error} {HOW_TO_CORRECT}")
        finally:
            self._at_work.discard(task.id)

    async def _refusal(self, task: LoadedTask) -> str | None:
        """Return the reason why the budget refuses another attempt at the task. Raises Parked or HeldBack where the owner is to decide."""
        return await self._budget.check(task.id, is_new_task=task.attempt == 0)

    async def _begin(self, task: LoadedTask, *, effect: Effect | None) -> None:
        """Record the start; of a suspected run before it, so that the database names the task, should this process die of it."""
        if task.attempt == 1 and task.status == Status.PENDING:
            self._budget.begin_task()
        if (use := self._budget.day.tick()) is not None:
            self._recorder.day_counted(use)
        budget = self._budget.state() if self._budget.is_limited else None
        await self._recorder.started(task, durably=self._claim.is_suspected, budget=budget, effect=effect)
        task.error = None

    def _pool_for(self, task: LoadedTask, executor: Executor) -> Pool:
        if self._claim.is_demo:
            return DEMO
        return self._pools[pool_name(executor, task.params, inputs=lambda: self._inputs(task))]

    async def _ready_inputs(self, task: LoadedTask, executor: Executor) -> Json:
        """Return the inputs with the secrets of the task. Raises ExecutorError."""
        secrets = {} if self._claim.is_demo else await self._secrets.of(task)
        own = await self._secrets.own_inputs(task)
        inputs = self._inputs(task, {name: secret.value.reveal() for name, secret in secrets.items()}, own=own)
        refuse_misuse(secrets, task, inputs)
        return inputs

    def _inputs(
        self, task: LoadedTask, secrets: Mapping[str, str] = MappingProxyType({}), *, own: Json | None = None
    ) -> Json:
        """Return the inputs of the task, `own` instead of those that are stored, with what its dependencies returned.

        Raises ExecutorError if a place has no value, or if what is filled in is too long.
        """
        from_dependencies = dependency_results(task.dependencies, self._results)
        # A demo has only example results, which need not have the value of a place.
        inputs = task.inputs if own is None else own
        if task.has_places and not self._claim.is_demo:
            known = set(map(label_of, task.dependencies))
            run_inputs = self._run_values[RUN]["inputs"]
            inputs = filled_inputs(
                task, from_dependencies, own=inputs, known=known, secrets=secrets, run_inputs=run_inputs
            )
        if self._claim.inputs is not None and RUN not in inputs and left_fields(task.executor_id):
            inputs = inputs | self._run_values  # for templates and expressions that the executor evaluates itself
        schema = task.schemas.get("input_schema", {})
        return resolved_inputs(inputs, input_schema=schema, from_dependencies=from_dependencies)

    def _context(self, task: LoadedTask, executor: Executor) -> Context:
        context = Context(
            task_id=task.id,
            run_id=self._claim.run_id,
            root_task_id=self._claim.root_id,
            user_id=task.user_id,
            name=task.name,
            params=task.params,
            schemas=task.schemas,
            dependency_results=dependency_results(task.dependencies, self._results),
            attempt=task.attempt,
            report=partial(self._progressed, task),
            log=partial(self._logged, task),
            reply=self._reply_to(task),
            is_forced=partial(self._cancellations.is_forced, task.id),
            is_given_up=self._is_given_up,
            spent=partial(self._spent, task),
            fetch=fetch,
            secret=partial(self._secrets.secret, task),
            http=client,
            config=(settings.APFLOW.executors.config or {}).get(str(task.executor_id), {}),
            begin=partial(self._effect_begins, task) if self._is_unsafe(task, executor) else unstored,
        )
        return with_own_calls(context)

    async def _effect_begins(self, task: LoadedTask) -> None:
        try:
            await self._recorder.effect_begins(task)
        except Exception as error:
            raise NotStored from error

    def _progressed(self, task: LoadedTask, progress: float, message: str = "") -> None:
        self._recorder.progressed(task, progress, self._secrets.masker.text(message))

    def _logged(self, task: LoadedTask, message: str) -> None:
        self._recorder.logged(task, self._secrets.masker.text(message))

    def _spent(self, task: LoadedTask, usage: Json) -> None:
        task.token_usage = added(task.token_usage, usage)
        self._recorder.spent(task, usage)
        self._budget.spend(usage)
        if self._budget.is_limited:
            self._recorder.counted(self._budget.state())

    def _reply_to(self, task: LoadedTask) -> Reply | None:
        question = self._questions.question_of(task.id)
        if question is None:
            return self._spawner.reply_of_step(task)
        if (interruption := _interruption_in(question)) is not None:
            former = interruption["reply"]
            return self._spawner.reply_of_step(task) if former is None else Reply(**former)
        return question.reply_in_time


def _former_reply(question: OpenQuestion | None) -> Json | None:
    """Return what the executor was called with that was interrupted: the reply to its own question, if it had asked one."""
    if question is None:
        return None
    if (interruption := _interruption_in(question)) is not None:
        former: Json | None = interruption["reply"]
        return former
    reply = question.reply_in_time
    return None if reply is None else asdict(reply)


def _interruption_in(question: OpenQuestion) -> Json | None:
    """Return the memo of a question whether an interrupted task is repeated; None for another question or wait."""
    return interrupts.asked_in(orjson.loads(question.memo)) if question.kind == WaitKind.QUESTION else None
