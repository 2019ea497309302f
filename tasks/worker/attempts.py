"""The attempts at a task: its places, what an interrupted one means, its start, inputs and context, and the next one after a failure."""

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson
from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Parked, Reply
from aipartnerupflow.executors.base import unstored
from aipartnerupflow.executors.files import Files
from apflow_site.db import pools
from tasks.executors.filling import filled_inputs, left_fields
from tasks.executors.http import client, fetch
from tasks.executors.llm.client import MODELS, Models, with_own_calls
from tasks.executors.llm.conversations import heard_turns
from tasks.executors.llm.fallbacks import WithFallbacks
from tasks.executors.placement import pool_name
from tasks.executors.states import STATES
from tasks.pools.base import DemoPool, LoopPool, Pool
from tasks.rules import interrupts
from tasks.rules.limits import Facts
from tasks.rules.places import RUN
from tasks.rules.pools import resources_of
from tasks.rules.references import label_of, resolved_inputs
from tasks.rules.retry import retry_of
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import added
from tasks.services.trees import task_states
from tasks.services.waits.limit_waits import facts_of_run
from tasks.services.waits.questions import OpenQuestion
from tasks.status import Effect, OnInterrupt, Status, WaitKind
from tasks.telemetry import metrics
from tasks.worker.attempt import HOW_TO_CORRECT, NotStored, Work, attempt, crashed
from tasks.worker.kept_state import KeptState
from tasks.worker.load_run import LoadedTask
from tasks.worker.models_of_task import TracedModels
from tasks.worker.outcomes import Outcome, completed_in_turn, failed
from tasks.worker.run_budget import HeldBack
from tasks.worker.run_parts import RunParts
from tasks.worker.secrets_of_run import refuse_misuse

if TYPE_CHECKING:
    from tasks.worker.result_cache import CacheOfRun
    from tasks.worker.task_files import TaskFiles

DEMO: Final = DemoPool()
LOOK_SECONDS: Final = 30.0
"""The seconds that an executor may take to find out whether interrupted work may be repeated."""


class Attempts:
    """Makes the attempts at the tasks of one run."""

    def __init__(self, run: RunParts) -> None:
        self._run = run
        self._ready_times: dict[str, float] = {}
        self._at_work: set[str] = set()
        self._limits_taken: dict[str, Collection[str]] = {}
        self._at_calls: set[str] = set()
        self._facts_of_run: Facts = {}
        self._files: dict[str, TaskFiles] = {}

    def limits_taken(self, task_id: str, *, taken: Collection[str], is_call: bool) -> None:
        """Note that the task has a unit of each of these limits: its wait for one is over.

        `is_call`: it had begun, and waited for a call of a model.
        """
        self._limits_taken[task_id] = taken
        if is_call:
            self._at_calls.add(task_id)

    @cached_property
    def _cache(self) -> "CacheOfRun":
        from tasks.worker.result_cache import CacheOfRun  # noqa: PLC0415  few runs use it

        return CacheOfRun(self._run, self)

    def ready(self, task_id: str, *, seconds_ago: float) -> None:
        """Record when the task became ready, to measure how long it waits for a slot."""
        self._ready_times[task_id] = time.monotonic() - seconds_ago

    def is_at_work(self, task_id: str) -> bool:
        """Return whether an attempt at the task is under way: it does not merely wait for a slot or its next attempt."""
        return task_id in self._at_work

    async def make(self, task: LoadedTask, executor: Executor, places: AsyncExitStack) -> Outcome:
        """Make attempts until one succeeds or there is none left. Raises Parked, HeldBack and LeaseLost.

        `places` are those that the task has taken when this returns.
        """
        run, retry = self._run, retry_of(task.params)
        is_resumed = self._is_resumed(task) or task.id in self._at_calls
        self._at_calls.discard(task.id)
        is_interrupted = task.status == Status.IN_PROGRESS and not is_resumed and task.error is None
        if (end := await self._end_of_interrupted(task, executor, is_interrupted=is_interrupted)) is not None:
            return end
        is_begun = is_resumed or is_interrupted
        is_cached = task.params.get("cache") is not None and not run.claim.is_demo
        while True:
            if is_cached:
                try:
                    cached = await self._cache.found(task, executor, is_begun=is_begun)
                except ExecutorError as error:
                    return failed(f"{error} {HOW_TO_CORRECT}")
                if cached is not None:
                    return cached
            try:
                outcome = await self._attempt(task, executor, places, is_begun=is_begun, is_resumed=is_resumed)
            except HeldBack:
                run.recorder.call_left(task)
                raise
            is_begun = is_resumed = False
            if outcome.status is Status.FAILED and run.budget and run.budget.check_again(task.id):
                task.error = outcome.error  # so that no attempt counts as interrupted
                message = "The budget is used up; the next attempt waits for an answer"
                await run.recorder.retrying(task, outcome, message)
                await places.aclose()
                continue
            if not outcome.may_retry or task.attempt >= retry.max_attempts:
                return outcome
            seconds = retry.delay(task.attempt, outcome.retry_after_seconds)
            message = f"Attempt {task.attempt} of {retry.max_attempts:g} failed; the next one starts in {seconds:.1f} s"
            self._forget_waits(task)
            await run.recorder.retrying(task, outcome, message)
            task.error = outcome.error  # so that no attempt counts as interrupted, should the next one wait for a limit
            await places.aclose()
            self._leave_if_stopped(task)
            await asyncio.sleep(seconds)

    # --- an attempt that another worker began ---

    def _is_resumed(self, task: LoadedTask) -> bool:
        """Return whether the attempt that asked a question or took a step continues, unless it has failed since."""
        if self._run.questions.question_of(task.id) is not None:
            return True
        return task.is_called_again and task.attempt > 0 and task.error is None

    async def _end_of_interrupted(
        self, task: LoadedTask, executor: Executor, *, is_interrupted: bool
    ) -> Outcome | None:
        """Return how a task ends whose worker died, or None if it is executed again: if its effect had not begun, or if that is safe.

        Raises Parked to ask. A task without a stored effect was begun by an earlier version.
        """
        claim, tasks = self._run.claim, self._run.standing.tasks
        question = self._run.questions.question_of(task.id)
        if question is not None and question.reply is not None and interruption_in(question) is not None:
            answer, comment = question.reply.answer, question.reply.comment
            if answer == interrupts.DONE:
                most = settings.APFLOW.limits.result_bytes
                return await completed_in_turn(comment, max_bytes=most, is_composed=False)
            if answer != interrupts.REPEAT:
                return failed(interrupts.error_of(claim.interruption))
        had_begun = task.effect == Effect.BEGUN or (is_interrupted and task.effect is None)
        if not had_begun or task.error is not None or not self._is_unsafe(task, executor):
            return None
        if await self._is_repeatable(task, executor):
            return None
        if interrupts.on_interrupt_of(task, tasks) is OnInterrupt.FAIL:
            return failed(interrupts.error_of(claim.interruption))
        text = interrupts.question(
            task.name,
            interruption=claim.interruption,
            executor_id=executor.id,
            key=self.context_of(task, executor).idempotency_key,
            attempt=task.attempt,
            asked_at=claim.now(),
        )
        raise Parked(text, options=interrupts.ANSWERS, memo=interrupts.memo_of(_former_reply(question)))

    def _is_unsafe(self, task: LoadedTask, executor: Executor) -> bool:
        """Return whether the work must not be repeated after its effect has begun, unless someone says so."""
        if self._run.claim.is_demo or executor.may_repeat(task.inputs):
            return False
        return interrupts.on_interrupt_of(task, self._run.standing.tasks) is not OnInterrupt.REPEAT

    async def _is_repeatable(self, task: LoadedTask, executor: Executor) -> bool:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                inputs = await self.inputs_of(task)
                return await executor.is_repeatable(inputs, self.context_of(task, executor))
        except Exception as error:  # noqa: BLE001  (a plug-in may raise anything; without an answer it is not repeated)
            self._log(task, f"Whether it may be repeated is not known: {crashed(executor, error).error}")
            return False

    def _forget_waits(self, task: LoadedTask) -> None:
        """Let the next attempt run a tree of its own; an answer of a person counts for all attempts, unless it is about a result."""
        question = self._run.questions.question_of(task.id)
        if question is not None and (question.kind == WaitKind.RUN or _is_of_check(task, question)):
            self._run.recorder.waited(task)
            self._run.questions.forget(task.id)

    def _leave_if_stopped(self, task: LoadedTask) -> None:
        """Raise asyncio.CancelledError: another worker makes the next attempt, or none is made since the task is cancelled."""
        if self._run.standing.is_winding_down or task.id in self._run.cancellations:
            raise asyncio.CancelledError

    # --- one attempt ---

    async def _attempt(
        self, task: LoadedTask, executor: Executor, places: AsyncExitStack, *, is_begun: bool, is_resumed: bool
    ) -> Outcome:
        """Take the places, and run one attempt.

        `is_begun` continues or repeats the attempt that a worker began before; it is not counted
        again. `is_resumed` continues the one that asked a question or took a step.
        """
        run = self._run
        try:
            pool = self._pool_for(task, executor)
        except ExecutorError as error:
            return failed(str(error))
        except Exception as error:  # noqa: BLE001  (a plug-in may raise anything)
            return replace(crashed(executor, error), may_retry=False)
        resources = resources_of(task.params)
        place = pool.place(user_id=task.user_id, priority=task.priority, resources=resources)
        await places.enter_async_context(place)
        await places.enter_async_context(run.shared.slots.take(task.user_id, task.priority))
        if ready_time := self._ready_times.pop(task.id, None):  # a retry waits for its time, not for a slot
            metrics.waited(time.monotonic() - ready_time)
        self._leave_if_stopped(task)
        if not is_begun and run.budget:
            why = await run.budget.check(task.id, is_new_task=task.attempt == 0)
            if why is not None:
                return failed(why)
        taken: Collection[str] = self._limits_taken.pop(task.id, ())
        facts: Facts = {}
        # With a place already: a unit that waited for one would count long before its attempt.
        if (names := run.shared.limits.asks_for(task.user_id)) is not None and not run.claim.is_demo:
            try:
                facts = await self._facts(task, executor, names, is_resumed=is_resumed)
                if not is_resumed:
                    taken = await run.shared.limits.take(
                        task, facts, run_id=run.claim.run_id, taken=taken, places=places
                    )
            except ExecutorError as error:
                return failed(str(error))
        self._at_work.add(task.id)
        try:
            task.attempt += not is_begun
            if not is_resumed:
                await self._begin(task, effect=Effect.AWAITED if self._is_unsafe(task, executor) else None)
            is_checked = task.params.get("checks") is not None and not run.claim.is_demo
            work = Work(
                executor=executor,
                pool=_checked_pool(pool, task, run) if is_checked else pool,
                inputs=await self.inputs_of(task),
                context=self.context_of(task, executor),
                max_bytes=run.most_bytes_of(task),
                is_checked=not (run.claim.is_demo and task.has_places),
                is_demo=run.claim.is_demo,
            )
            MODELS.set(self._models_of(task, facts, taken, may_park=isinstance(pool, LoopPool)))
            if task.executor_id in task_states.KEEPERS:
                STATES.set(KeptState(task, run_id=run.claim.run_id, recorder=run.recorder, secrets=run.secrets))
            why_cancelled = partial(run.cancellations.message_of, task.id)
            if task.params.get("conversation") is None:
                outcome = await attempt(task, work, why_cancelled=why_cancelled)
                if facts and outcome.retry_after_seconds:
                    await run.shared.limits.hold(facts, task.user_id, outcome.retry_after_seconds)
                return await run.secrets.masked(task, outcome)
            with heard_turns() as turns:
                outcome = await attempt(task, work, why_cancelled=why_cancelled)
            outcome = await run.secrets.masked(task, outcome)
            return replace(outcome, turn=turns[-1]) if turns else outcome
        except ExecutorError as error:
            return failed(f"{error} {HOW_TO_CORRECT}")
        finally:
            await self._end_attempt(task.id)

    async def _end_attempt(self, task_id: str) -> None:
        self._at_work.discard(task_id)
        if (files := self._files.pop(task_id, None)) is not None:
            await files.close()

    def _pool_for(self, task: LoadedTask, executor: Executor) -> Pool:
        if self._run.claim.is_demo:
            return DEMO
        return self._run.shared.pools[pool_name(executor, task.params, inputs=lambda: self.filled_inputs(task))]

    async def _facts(self, task: LoadedTask, executor: Executor, names: Collection[str], *, is_resumed: bool) -> Facts:
        """Return the facts about the task that named limits match: those of `names`. A resumed attempt has its pool and host already."""
        facts: dict[str, Collection[str]] = {"executor": (executor.id,), "user": (task.user_id,)}
        if not self._facts_of_run and ("flow" in names or "tag" in names):
            self._facts_of_run = await pools.read(facts_of_run, self._run.claim.run_id)
        facts |= self._facts_of_run
        if "pool" in names and not is_resumed:
            facts["pool"] = (pool_name(executor, task.params, inputs=lambda: self.filled_inputs(task)),)
        if "host" in names and not is_resumed:
            try:
                host = urlsplit(executor.receiver(await self.inputs_of(task)) or "").hostname
            except Exception:  # noqa: BLE001  (a plug-in may raise anything; no request is made then, and the attempt says why)
                host = None
            facts["host"] = () if host is None else (host,)
        for path in names:
            if "." in path and (value := self._at_path(task, path)) is not None:
                facts[path] = (value,)
        return facts

    def _at_path(self, task: LoadedTask, path: str) -> Any:
        """Return the value of the task or of its run at the path, such as `inputs.customer`; None if there is none."""
        source, *steps = path.split(".")
        if source == "inputs":
            value: Any = self.filled_inputs(task)
        else:
            value = task.params if source == "params" else self._run.values.get(RUN)
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    async def _begin(self, task: LoadedTask, *, effect: Effect | None) -> None:
        """Record the start; of a suspected run before it, so that the database names the task, should this process die of it."""
        run, counted = self._run, None
        if run.budget:
            if task.attempt == 1 and task.status == Status.PENDING:
                run.budget.begin_task()
            if (use := run.budget.day.tick()) is not None:
                run.recorder.day_counted(use)
            counted = run.budget.state() if run.budget.is_limited else None
        await run.recorder.started(task, durably=run.claim.is_suspected, budget=counted, effect=effect)
        task.error = None

    def _models_of(self, task: LoadedTask, facts: Facts, taken: Collection[str], *, may_park: bool) -> Models:
        """Return the models for this task: each request is recorded, and sent only within the budget and the named limits."""
        run = self._run
        models: Models = TracedModels(task, recorder=run.recorder, secrets=run.secrets, latencies=run.shared.latencies)
        if facts:
            models = run.shared.limits.limited(models, task, run, facts=facts, taken=taken, may_park=may_park)
        if run.budget:
            models = run.budget.limited(models, task.id)
        models = WithFallbacks(models, log=partial(self._log, task), latencies=run.shared.latencies)
        return models if task.params.get("cache") is None else self._cache.of_calls(models, task)

    # --- what the executor gets ---

    async def inputs_of(self, task: LoadedTask) -> Json:
        """Return the inputs with the secrets of the task. Raises ExecutorError."""
        of_run = self._run.secrets
        secrets = {} if self._run.claim.is_demo else await of_run.of(task)
        own = await of_run.own_inputs(task)
        inputs = self.filled_inputs(task, {name: secret.value.reveal() for name, secret in secrets.items()}, own=own)
        refuse_misuse(secrets, task, inputs)
        return inputs

    def filled_inputs(
        self,
        task: LoadedTask,
        secrets: Mapping[str, str] = MappingProxyType({}),
        *,
        own: Json | None = None,
        values: Json | None = None,
    ) -> Json:
        """Return the inputs of the task, `own` instead of those that are stored, with what its dependencies returned.

        `values` replaces those of the run.

        Raises ExecutorError if a place has no value, or if what is filled in is too long.
        """
        run = self._run
        from_dependencies, brought = run.results_of(task), run.brought.get(task.id)
        inputs = task.inputs if own is None else own
        # A demo has only example results, which need not have the value of a place.
        if task.has_places and not run.claim.is_demo:
            known = set(map(label_of, task.dependencies))
            run_inputs = (values or run.values_of(task))[RUN]["inputs"]
            inputs = filled_inputs(
                task,
                from_dependencies,
                own=inputs,
                known=known,
                secrets=secrets,
                run_inputs=run_inputs,
                max_characters=None if brought is None else settings.APFLOW.limits.value_bytes,
            )
        if brought is not None:
            inputs = brought.in_inputs(inputs)
        if run.claim.inputs is not None and RUN not in inputs and left_fields(task.executor_id):
            inputs = inputs | (
                values or run.values_of(task)
            )  # for templates and expressions that the executor evaluates itself
        schema = task.schemas.get("input_schema", {})
        return resolved_inputs(inputs, input_schema=schema, from_dependencies=from_dependencies)

    def context_of(self, task: LoadedTask, executor: Executor) -> Context:
        """Return the context of an attempt at the task, or to find out how one ended."""
        run = self._run
        context = Context(
            task_id=task.id,
            run_id=run.claim.run_id,
            root_task_id=run.claim.root_id,
            user_id=task.user_id,
            name=task.name,
            params=task.params,
            schemas=task.schemas,
            dependency_results=run.results_of(task),
            attempt=task.attempt,
            report=partial(self._report, task),
            log=partial(self._log, task),
            reply=self._reply_to(task),
            is_forced=partial(run.cancellations.is_forced, task.id),
            is_given_up=lambda: run.standing.is_given_up,
            spent=partial(self._spent, task),
            fetch=fetch,
            secret=partial(run.secrets.secret, task),
            http=client,
            files=Files(partial(self._file_call, task)),
            config=(settings.APFLOW.executors.config or {}).get(str(task.executor_id), {}),
            begin=partial(self._effect_begins, task) if self._is_unsafe(task, executor) else unstored,
        )
        return with_own_calls(context)

    async def _file_call(self, task: LoadedTask, name: str, arguments: Json) -> Any:
        """Read or save a file for the task. Files that it has not completed are deleted at the end of the attempt."""
        if task.id not in self._files:
            from tasks.worker.task_files import TaskFiles  # noqa: PLC0415  most tasks have none

            self._files[task.id] = TaskFiles(task.user_id, root_id=self._run.claim.root_id)
        return await self._files[task.id].call(name, arguments)

    async def _effect_begins(self, task: LoadedTask) -> None:
        try:
            await self._run.recorder.effect_begins(task)
        except Exception as error:
            raise NotStored from error

    def _report(self, task: LoadedTask, progress: float, message: str = "") -> None:
        self._run.recorder.progressed(task, progress, self._run.secrets.masker.text(message))

    def _log(self, task: LoadedTask, message: str) -> None:
        self._run.recorder.logged(task, self._run.secrets.masker.text(message))

    def _spent(self, task: LoadedTask, usage: Json) -> None:
        task.token_usage = added(task.token_usage, usage)
        self._run.recorder.spent(task, usage)
        if self._run.budget:
            self._run.budget.spend(usage)
            if self._run.budget.is_limited:
                self._run.recorder.counted(self._run.budget.state())

    def _reply_to(self, task: LoadedTask) -> Reply | None:
        question = self._run.questions.question_of(task.id)
        if question is not None:
            if (interruption := interruption_in(question)) is None:
                return question.reply_in_time
            if interruption["reply"] is not None:
                return Reply(**interruption["reply"])
        return self._run.spawner.reply_of_step(task, self._run.read_for(task)) if task.is_called_again else None


def _is_of_check(task: LoadedTask, question: OpenQuestion) -> bool:
    if task.params.get("checks") is None:
        return False
    from tasks.worker.checks import is_check  # noqa: PLC0415  (few tasks have checks)

    return is_check(question.memo)


def _checked_pool(pool: Pool, task: LoadedTask, run: RunParts) -> Pool:
    from tasks.worker.checks import CheckedPool  # noqa: PLC0415  (few tasks have checks)

    return CheckedPool(pool, task, run)


def interruption_in(question: OpenQuestion) -> Json | None:
    """Return the memo of a question whether an interrupted task is repeated; None for another question or wait."""
    return interrupts.asked_in(orjson.loads(question.memo)) if question.kind == WaitKind.QUESTION else None


def _former_reply(question: OpenQuestion | None) -> Json | None:
    """Return what the executor was called with that was interrupted: the reply to its own question, if it had asked one."""
    if question is None:
        return None
    if (interruption := interruption_in(question)) is not None:
        former: Json | None = interruption["reply"]
        return former
    reply = question.reply_in_time
    return None if reply is None else asdict(reply)
