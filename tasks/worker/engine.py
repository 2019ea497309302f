"""The engine: runs one tree from its first ready task to its `final` event.

The loop belongs to the worker process; many trees run on it at once. What may start is `tasks.tree`'s, how a task is executed is
`tasks.worker.attempt`', what is written is `tasks.worker.run_recorder`'s. Here they meet.
"""

import asyncio
import time
from collections.abc import Collection, Iterable
from functools import partial

import orjson
from django.conf import settings
from structlog.contextvars import bind_contextvars

from tasks.executors import get_executor
from tasks.executors.base import Context, Executor, ExecutorError, Parked, Reply, Stopped
from tasks.queue.leases import MAX_LOSSES, Claim
from tasks.queue.suspension import suspend
from tasks.rules.exceptions import ExecutorNotFound
from tasks.rules.inputs import dependency_results, resolved_inputs
from tasks.rules.retry import retry_of
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import added
from tasks.rules.tree import Plan, Step, children_of, descendants, node_of, scope_of
from tasks.services.cancels import Cancel
from tasks.services.questions import OpenQuestion
from tasks.status import Status
from tasks.telemetry import metrics, tracing
from tasks.worker.attempt import STOP_SECONDS, attempt, call_off
from tasks.worker.fair_semaphore import FairSemaphore
from tasks.worker.group_commit import GroupCommit
from tasks.worker.load_run import LoadedTask
from tasks.worker.open_questions import OpenQuestions
from tasks.worker.outcomes import Outcome, cancelled, completed, failed
from tasks.worker.run_recorder import RunRecorder


class TreeRun:
    """One execution of a tree by the worker process that holds its lease."""

    def __init__(
        self,
        claim: Claim,
        tasks: Iterable[LoadedTask],
        *,
        journal: GroupCommit,
        slots: FairSemaphore,
        questions: Collection[OpenQuestion] = (),
    ) -> None:
        self._claim = claim
        self._journal = journal
        self._slots = slots
        self._tasks = {task.id: task for task in tasks}
        nodes = [node_of(task) for task in self._tasks.values()]
        scope = scope_of(claim.target_id, nodes)
        self._nodes = {node.id: node for node in nodes if node.id in scope}
        self._children = children_of(nodes)
        self._plan = Plan(self._nodes.values())
        self._results = {task.id: task.result for task in self._tasks.values() if task.status == Status.COMPLETED}
        self._recorder = RunRecorder(claim, self._tasks.values(), journal, asking=[each.task_id for each in questions])
        self._waiting = OpenQuestions(questions, go_on=lambda task_id: self._start(self._tasks[task_id]))
        self._jobs: dict[str, asyncio.Task[None]] = {}  # of the tasks that may still be stopped
        self._ended_tasks: set[str] = set()  # what has ended by itself, though that may not be durable yet
        self._alive: set[asyncio.Task[None]] = set()
        self._left: set[asyncio.Task[None]] = set()
        self._cancels: dict[str, Cancel] = {}
        self._heard: set[tuple[str, bool]] = set()
        self._is_given_up = False
        self._is_still = asyncio.Event()  # nothing is at work, or all has ended, or something broke
        self._error: BaseException | None = None
        self._ready_times: dict[str, float] = {}
        self._seconds_queued = claim.seconds_old if claim.epoch == 1 else 0.0  # of those that were ready in the queue

    async def run(self, cancels: Collection[Cancel] = ()) -> None:
        """Run what is left of the tree, until its end or until all that is left waits for answers: then it is parked.

        Raises LeaseLost when another worker took over.
        """
        for cancel in cancels:
            self._take_in(cancel)
        try:
            unasked = [task_id for task_id in self._cancels if self._waiting.question_of(task_id) is None]
            self._write_cancelled(unasked)
            self._go_on(self._plan.start(cancelled=unasked))  # the others start, to be called off
            self._seconds_queued = 0.0
            is_over = await self._is_over()
        finally:
            self._waiting.close()
            await self._stop_jobs()
        if not is_over:
            return
        target = self._tasks[self._claim.target_id]
        await self._recorder.closed(target, self._plan.outcome(), self._results.get(target.id))

    @property
    def is_waiting(self) -> bool:
        """Whether `hear` may have to be called."""
        return self._waiting.is_any

    def hear(self, asked: OpenQuestion) -> None:
        """Somebody has answered. The task goes on, if that is news."""
        self._waiting.hear(asked)

    def cancel(self, cancel: Cancel) -> None:
        """Stop what runs, and do not start what waits. What required one of these tasks fails. Asking twice is asking once."""
        news = self._take_in(cancel)
        for task_id in news:
            self._stop(task_id)
        idle = [task_id for task_id in news if task_id not in self._jobs]
        for task_id in idle:
            if self._waiting.question_of(task_id) is not None:
                self._start(self._tasks[task_id])  # to be called off
        self._cancel_unrun([task_id for task_id in idle if task_id not in self._jobs])

    def _take_in(self, cancel: Cancel) -> list[str]:
        """For which tasks the request is news: from now on they are to be cancelled."""
        self._heard.add((cancel.task_id, cancel.force))
        below = reversed([cancel.task_id, *descendants(cancel.task_id, self._children)])
        news = [task_id for task_id in below if self._is_news(task_id, cancel)]
        self._cancels |= dict.fromkeys(news, cancel)
        return news

    def _is_news(self, task_id: str, cancel: Cancel) -> bool:
        known = self._cancels.get(task_id)
        node = self._nodes.get(task_id)
        is_open = node is not None and not node.status.is_terminal and task_id not in self._ended_tasks
        return is_open and (known is None or (cancel.force and not known.force))

    def _stop(self, task_id: str) -> None:
        if (job := self._jobs.get(task_id)) is not None:
            job.cancel()
            asyncio.get_running_loop().call_later(STOP_SECONDS, self._leave, task_id, job)

    def _leave(self, task_id: str, job: asyncio.Task[None]) -> None:
        """A cancelled executor does not stop: go on without it. What it may still return is dropped."""
        if self._jobs.get(task_id) is job:
            del self._jobs[task_id]
            self._alive.discard(job)
            self._left.add(job)
            job.add_done_callback(self._left.discard)
            self._cancel_unrun([task_id])

    def _cancel_unrun(self, task_ids: Collection[str]) -> None:
        self._write_cancelled(task_ids)
        self._go_on(self._plan.settle_together(task_ids, Status.CANCELLED))

    def _write_cancelled(self, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            self._waiting.forget(task_id)
            self._recorder.finished_unrun(self._tasks[task_id], self._cancelled(task_id))

    def _go_on(self, step: Step) -> None:
        for node, cause in step.blocked:
            outcome = failed(f"Not run: required dependency '{cause}' failed")
            self._recorder.finished_unrun(self._tasks[node.id], outcome)
        for node in step.ready:
            self._start(self._tasks[node.id])
        if self._plan.is_finished or not self._alive:
            self._is_still.set()

    async def _is_over(self) -> bool:
        """True when every task has ended, False when those that are left wait for answers, and the run is parked."""
        while True:
            await self._is_still.wait()
            self._is_still.clear()
            if self._error is not None:
                raise self._error
            if self._plan.is_finished:
                return True
            if not self._alive and await self._park():
                return False

    async def _park(self) -> bool:
        """False: somebody has answered or cancelled meanwhile, which the worker's next look brings."""
        if not self._waiting.is_any:  # a fault of ours; parked, it would never be seen
            raise RuntimeError("The run stands still: no task is at work, and none waits for an answer.")
        self._waiting.pause()
        is_parked = await self._journal.call(partial(suspend, self._claim, heard=frozenset(self._heard)))
        if not is_parked:
            self._waiting.resume()
        return is_parked

    # A task's job

    def _start(self, task: LoadedTask) -> None:
        self._ready_times[task.id] = time.monotonic() - self._seconds_queued
        job = self._jobs[task.id] = asyncio.create_task(self._run_task(task))
        self._alive.add(job)
        job.add_done_callback(partial(self._ended, task.id))

    def _ended(self, task_id: str, job: asyncio.Task[None]) -> None:
        self._alive.discard(job)
        if self._jobs.get(task_id) is job and task_id in self._cancels and not self._is_given_up:
            del self._jobs[task_id]  # it was cancelled before its first step, so it could not say that it is
            self._cancel_unrun([task_id])
        error = None if job.cancelled() else job.exception()  # asyncio complains of one that nobody looked at
        self._error = self._error or error
        if self._error is not None or not self._alive:
            self._is_still.set()

    async def _stop_jobs(self) -> None:
        """The run is over, or this worker has to give it up."""
        self._is_given_up = True
        for job in self._alive:
            job.cancel()
        if self._alive:
            await asyncio.wait(self._alive, timeout=STOP_SECONDS)

    async def _run_task(self, task: LoadedTask) -> None:
        bind_contextvars(task=task.id)
        job = self._jobs[task.id]
        try:
            with tracing.span(f"task {task.executor_id or 'group'}", _facts(task)) as note:
                outcome = await self._outcome_or_question(task)
                note(_facts_of(outcome, task))
        except asyncio.CancelledError:
            if task.id not in self._cancels:
                raise
            outcome = self._cancelled(task.id)
        if self._jobs.get(task.id) is not job:
            return  # it was left behind, and its task is settled
        del self._jobs[task.id]  # from here on there is nothing to stop
        if outcome is None:
            self._waiting.rest(task.id)
            return
        self._waiting.forget(task.id)
        self._ended_tasks.add(task.id)
        await self._recorder.finished(task, outcome)
        if outcome.status is Status.COMPLETED:
            self._results[task.id] = outcome.result
        self._go_on(self._plan.settle(task.id, outcome.status))

    async def _outcome_or_question(self, task: LoadedTask) -> Outcome | None:
        """None: the task waits for an answer."""
        asked = self._waiting.question_of(task.id)
        if asked is not None and task.id in self._cancels:
            stopped = await self._call_off(task, asked)
            why = self._cancels[task.id].message
            return cancelled(why, stopped=stopped, max_bytes=settings.APFLOW.limits.result_bytes)
        if asked is not None and asked.is_expired:
            await self._call_off(task, asked)
            return failed(f"Nobody answered in time: {asked.text}")
        if asked is not None and asked.reply is None:
            return None
        try:
            return await self._outcome(task)
        except Parked as parked:
            await self._recorder.asked(task, self._waiting.ask(task.id, parked))
            return None

    async def _call_off(self, task: LoadedTask, asked: OpenQuestion) -> Stopped | None:
        """Nobody will answer, and who asked may have left something waiting elsewhere."""
        try:
            executor = get_executor(str(task.executor_id))
        except ExecutorNotFound:
            return None
        return await call_off(executor, self._inputs(task), self._context(task), memo=orjson.loads(asked.memo))

    async def _outcome(self, task: LoadedTask) -> Outcome:
        if self._claim.losses >= MAX_LOSSES:
            return failed(f"Poison: its run lost {self._claim.losses} workers. Look for crashes in the workers' log.")
        if task.executor_id is None:
            return await self._gather(task)
        try:
            executor = get_executor(task.executor_id)
        except ExecutorNotFound as error:  # it was there when the tree was stored; the configuration has changed since
            return failed(error.message)
        retry = retry_of(task.params)
        is_resumed = self._waiting.question_of(task.id) is not None
        is_interrupted = task.status == Status.IN_PROGRESS and not is_resumed
        if is_interrupted and not executor.idempotent and task.attempt >= retry.max_attempts:
            return failed(
                "Interrupted: its worker died while it ran, and it may not be safe to repeat. Execute it again if it is."
            )
        while True:
            outcome = await self._attempt(task, executor, is_resumed=is_resumed)
            is_resumed = False
            if not outcome.may_retry or task.attempt >= retry.max_attempts:
                return outcome
            seconds = retry.delay(task.attempt, outcome.retry_after_seconds)
            message = f"Attempt {task.attempt} of {retry.max_attempts:g} failed; the next one starts in {seconds:.1f} s"
            self._recorder.retrying(task, outcome, message)
            await asyncio.sleep(seconds)

    async def _gather(self, task: LoadedTask) -> Outcome:
        """A group runs no code: its resolved inputs are its result."""
        await self._recorder.started(task, durably=False)
        try:
            return completed(self._inputs(task), max_bytes=settings.APFLOW.limits.result_bytes)
        except ExecutorError as error:
            return failed(str(error))

    async def _attempt(self, task: LoadedTask, executor: Executor, *, is_resumed: bool) -> Outcome:
        """`is_resumed`: it is the attempt that asked, with the answer."""
        async with self._slots.take(task.user_id, task.priority):
            if ready_time := self._ready_times.pop(
                task.id, None
            ):  # later attempts wait for their time, not for their turn
                metrics.waited(time.monotonic() - ready_time)
            if not is_resumed:
                task.attempt += 1
                await self._recorder.started(task, durably=not executor.idempotent)
            inputs, context = self._inputs(task), self._context(task)
            return await attempt(task, executor, inputs, context, why_cancelled=partial(self._why_cancelled, task.id))

    def _cancelled(self, task_id: str) -> Outcome:
        return Outcome(status=Status.CANCELLED, error=self._cancels[task_id].message)

    def _why_cancelled(self, task_id: str) -> str | None:
        cancel = self._cancels.get(task_id)
        return cancel.message if cancel else None

    def _is_forced(self, task_id: str) -> bool:
        cancel = self._cancels.get(task_id)
        return cancel is not None and cancel.force

    def _reply_to(self, task_id: str) -> Reply | None:
        asked = self._waiting.question_of(task_id)
        return asked.reply if asked else None

    def _inputs(self, task: LoadedTask) -> Json:
        from_dependencies = dependency_results(task.dependencies, self._results)
        schema = task.schemas.get("input_schema", {})
        return resolved_inputs(task.inputs, input_schema=schema, from_dependencies=from_dependencies)

    def _context(self, task: LoadedTask) -> Context:
        return Context(
            task_id=task.id,
            run_id=self._claim.run_id,
            root_task_id=self._claim.root_id,
            user_id=task.user_id,
            name=task.name,
            params=task.params,
            schemas=task.schemas,
            dependency_results=dependency_results(task.dependencies, self._results),
            attempt=task.attempt,
            report=partial(self._recorder.progressed, task),
            log=partial(self._recorder.logged, task),
            reply=self._reply_to(task.id),
            is_forced=partial(self._is_forced, task.id),
            is_given_up=lambda: self._is_given_up,
            spent=partial(_spend, task),
        )


def _facts(task: LoadedTask) -> Json:
    return {"apflow.task.id": task.id, "apflow.task.name": task.name, "apflow.executor.id": task.executor_id}


def _facts_of(outcome: Outcome | None, task: LoadedTask) -> Json:
    status = outcome.status if outcome else "waiting"
    failure = {"error.type": status} if status == Status.FAILED else {}
    return {"apflow.task.status": str(status), "apflow.task.attempt": task.attempt, **failure}


def _spend(task: LoadedTask, usage: Json) -> None:
    task.token_usage = added(task.token_usage, usage)
