"""Records a run: turns each step into a change with its event, and tracks the tree's progress."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypedDict

import orjson

from apflow_site.db import pools
from tasks.ids import new_id
from tasks.models.runs import FAILURES, LONGEST_ERROR
from tasks.queue.leases import Claim
from tasks.rules.error_texts import key_of
from tasks.rules.exceptions import TooManyWaits
from tasks.rules.steps import RAISED
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import more_counts, spending_of
from tasks.rules.waits import as_json
from tasks.rules.words import TOKEN
from tasks.services.runs import child_runs
from tasks.services.trees import task_states
from tasks.services.trees.pending_runs import INPUT
from tasks.services.waits.questions import OpenQuestion
from tasks.status import Effect, Status, WaitKind
from tasks.storage.bulk import db_time
from tasks.telemetry import metrics, run_log
from tasks.worker.changes import (
    AttemptFailed,
    BudgetCounted,
    Change,
    ChildrenNoted,
    DayCounted,
    EffectNoted,
    EventAdded,
    ModelCalled,
    PartBegun,
    QuestionAlarmed,
    QuestionAsked,
    QuestionAssigned,
    QuestionClosed,
    ResultTaken,
    RunCleared,
    RunClosed,
    StateStored,
    StepsAdded,
    TaskChecked,
    TaskFinished,
    TaskProgressed,
    TaskSpent,
    TasksSpawned,
    TaskStarted,
    TurnAdded,
    UsageAdded,
)
from tasks.worker.day_budget import DayUse
from tasks.worker.group_commit import GroupCommit
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome, storable
from tasks.worker.spawning.growth import Growth
from tasks.worker.task_limits import TaskLimits

if TYPE_CHECKING:
    from tasks.services.waits.equal_calls import CallEnd
    from tasks.worker.result_cache import Calling

MODEL_CHARACTERS: Final = 255
ERROR_CHARACTERS: Final = 1_000
MOST_STEPS: Final = 2**31 - 1
COUNTS: Final = "prompt_tokens completion_tokens total_tokens cached_tokens reasoning_tokens cost_nanos".split()
CALL_ID: Final = "call_id"
"""The field of a usage report that names the recorded call. Executors report calls of their own without it."""
SHOWN: Final = 100
"""The number of ids of new tasks that their event has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a model. `duration_ms` is None for one that an executor made itself, `first_token_ms` for an answer that came at once."""

    id: str
    model: str
    started_at: datetime
    status: Status
    duration_ms: int | None = None
    first_token_ms: int | None = None
    agent: str | None = None
    crew_task: str | None = None
    step: int | None = None
    usage: Json | None = None
    finish_reason: str | None = None
    error: str | None = None
    content: str | None = None


class Fence(TypedDict):
    """The fields of every change, by which it is refused once another worker has claimed the run."""

    run_id: str
    epoch: int
    token: str | None
    owner: str


class RunRecorder:
    """Each method builds the change of a row and its event, and passes both to the writer."""

    def __init__(
        self,
        claim: Claim,
        tasks: Iterable[LoadedTask],
        writer: GroupCommit,
        *,
        owner: str,
        asking: Iterable[str] = (),
        limits: TaskLimits | None = None,
    ) -> None:
        """`owner` is the user whose run it is; `asking` contains the ids of the tasks with an open question.

        A task may have places of the named `limits`, which it gives back at the end of its attempt.
        """
        self._limits = limits
        self._claim = claim
        self._fence = Fence(run_id=claim.run_id, epoch=claim.epoch, token=claim.token, owner=owner)
        self._writer = writer
        self._progress = {task.id: task.progress for task in tasks}
        self._progress_sum = sum(self._progress.values())
        self._asking = set(asking)
        self.count_of_wait: Callable[[str], str | None] | None = None
        """Returns the state of the run's budget that is stored with the end of a task's wait, if that changes it."""
        self._has_record = bool(claim.losses or claim.strikes)  # progress clears it
        self._start_times: dict[str, float] = {}  # by this worker's monotonic clock
        self._calls: dict[str, Calling] = {}  # of the tasks with `params.cache`
        self._taken: dict[str, Json] = {}  # the tasks whose results others have taken, by the ids of those

    async def started(
        self, task: LoadedTask, *, durably: bool, budget: str | None = None, effect: Effect | None = None
    ) -> None:
        """Record the start.

        With `durably`, return after the commit, so that a crash cannot hide that work began. `budget` is
        the state of the run's budget, with this task. `effect` is None for a task that is safe to repeat.
        """
        task.effect = effect
        self._set_progress(task, 0.0)
        self._start_times[task.id] = time.monotonic()
        task.started_at = now = self._now()
        event = self._event("task_start", task, Status.IN_PROGRESS)
        counting = None if budget is None else BudgetCounted(**self._fence, state=budget)
        change = TaskStarted(
            **self._fence, event=event, task_id=task.id, attempt=task.attempt, at=now, effect=effect, counting=counting
        )
        if durably:
            await self._writer.commit(change)
        else:
            self._writer.put(change)

    async def effect_begins(self, task: LoadedTask) -> None:
        """Return when it is committed that the effect of the task begins. Raises LeaseLost."""
        if task.effect != Effect.BEGUN:
            task.effect = Effect.BEGUN
            await self._writer.commit(EffectNoted(**self._fence, task_id=task.id, effect=Effect.BEGUN))

    def _effect_over(self, task: LoadedTask) -> list[Change]:
        """Return the end of a part of the task, before which its effect began: that of the next part has not."""
        if task.effect != Effect.BEGUN:
            return []
        task.effect = Effect.AWAITED
        return [EffectNoted(**self._fence, task_id=task.id, effect=Effect.AWAITED)]

    def progressed(self, task: LoadedTask, progress: float, message: str = "") -> None:
        self._set_progress(task, min(max(0.0, progress), 1.0))  # compared in this order, NaN becomes 0
        event = self._event("progress", task, Status.IN_PROGRESS, message=storable(message))
        progress = self._progress[task.id]
        self._writer.put(TaskProgressed(**self._fence, event=event, task_id=task.id, progress=progress, at=self._now()))

    def logged(self, task: LoadedTask, message: str) -> None:
        self._add(self._event("log", task, Status.IN_PROGRESS, message=storable(message)))

    def heard(self, task: LoadedTask, call: Call, text: str, *, kind: str) -> None:
        """Publish words of a model as they arrive, with the call that they belong to and their kind."""
        by = {
            "kind": kind,
            "call_id": call.id,
            "model": _short(call.model),
            "agent": _short(call.agent) or task.name,
            "crew_task": _short(call.crew_task),
            "step": call.step,
        }
        self._add(self._event(TOKEN, task, Status.IN_PROGRESS, message=storable(text), result=by))

    def now(self) -> datetime:
        """Return the time, by the clock of the database."""
        return self._claim.now()

    def spent(self, task: LoadedTask, usage: Json) -> None:
        """Record what a model call used, at once: a crash of the worker later does not undo it.

        A call that the executor made itself is recorded as a call too.
        """
        self._writer.put(self._usage_added(task, usage))
        if CALL_ID not in usage:
            self._writer.put(self._reported(task, usage))
        self._writer.put(TaskSpent(**self._fence, task_id=task.id, token_usage=orjson.dumps(task.token_usage).decode()))

    def checked(self, task: LoadedTask, record: Json, records: Sequence[Json]) -> None:
        """Record the result of a check. `records` are all results so far."""
        name = f"The check '{record['name']}' on the {record['on']}"
        message = f"{name} passed" if record["passed"] else f"{name} did not pass: {record['reason']}"
        event = self._event("log", task, Status.IN_PROGRESS, message=storable(message), result={"check": record})
        checks = orjson.dumps(records).decode()
        self._writer.put(TaskChecked(**self._fence, event=event, task_id=task.id, checks=checks))

    def called(self, task: LoadedTask, call: Call) -> None:
        """Record a call of a model."""
        self._writer.put(self._model_called(task, call))

    def _reported(self, task: LoadedTask, usage: Json) -> ModelCalled:
        """Return the call of a model that is only known by its usage."""
        model, agent, step = spending_of(usage).model, usage.get("agent"), usage.get("step")
        call = Call(
            id=new_id(),
            model=model,
            started_at=self.now(),
            status=Status.COMPLETED,
            usage=usage,
            agent=agent if isinstance(agent, str) else None,
            step=step if type(step) is int and 0 < step <= MOST_STEPS else None,
        )
        return self._model_called(task, call)

    def _model_called(self, task: LoadedTask, call: Call) -> ModelCalled:
        row = {
            "id": call.id,
            "run_id": self._claim.run_id,
            "root_id": self._claim.root_id,
            "task_id": task.id,
            "user_id": task.user_id,
            "executor_id": task.executor_id or metrics.GROUP,
            "attempt": task.attempt,
            "step": call.step,
            "agent": _short(call.agent),
            "crew_task": _short(call.crew_task),
            "model": _short(call.model),
            "status": call.status,
            "started_at": db_time(call.started_at),
            "duration_ms": call.duration_ms,
            "first_token_ms": call.first_token_ms,
            **dict(zip(COUNTS, _counts(call.usage), strict=True)),
            "finish_reason": _short(call.finish_reason, 64),
            "error": _short(call.error, ERROR_CHARACTERS),
            "content": call.content,
        }
        return ModelCalled(**self._fence, call=row)

    async def state_stored(self, task: LoadedTask, stored: Mapping[str, bytes], *, deleted: Sequence[str]) -> None:
        """Return when these parts of the task's state are stored, and those are deleted. Raises LeaseLost.

        The work of the task until then is a part that is over: its next effect is awaited.
        """
        change = StateStored(**self._fence, task_id=task.id, stored=stored, deleted=deleted)
        await self._writer.commit_together([change, *self._effect_over(task)])

    def counted(self, budget: str) -> None:
        """Record what the run has used of its budget."""
        self._writer.put(BudgetCounted(**self._fence, state=budget))

    def day_counted(self, use: DayUse) -> None:
        """Record what the owner of the run has used today."""
        self._writer.put(DayCounted(**self._fence, **asdict(use)))

    async def budget_settled(self, task: LoadedTask, budget: str) -> None:
        """Return when the answer about the budget, and the end of its question, are committed. Raises LeaseLost."""
        counted = BudgetCounted(**self._fence, state=budget)
        closed = self._question_closed(task)
        await self._writer.commit_together([counted, closed] if closed else [counted])

    def _usage_added(self, task: LoadedTask, usage: Json) -> UsageAdded:
        spending = spending_of(usage)
        return UsageAdded(
            **self._fence,
            key=new_id(),
            user_id=task.user_id,
            day=self._claim.now().date().isoformat(),
            executor_id=task.executor_id or metrics.GROUP,
            spending=spending._replace(model=storable(spending.model)[:MODEL_CHARACTERS]),
        )

    async def retrying(self, task: LoadedTask, outcome: Outcome, message: str) -> None:
        """Return when the failed attempt is committed. Raises LeaseLost."""
        run_log.task_failed(run_id=self._claim.run_id, task=task, seconds=self._seconds_of(task), will_retry=True)
        task.effect = None
        event = self._event("task_retry", task, Status.IN_PROGRESS, message=message, error=outcome.error)
        await self._writer.commit(
            AttemptFailed(
                **self._fence,
                event=event,
                task_id=task.id,
                error=outcome.error,
                at=self._now(),
                frees=self._freed_by(task),
                ends_call=self._end_of_call(task),
            )
        )

    def calling(self, task: LoadedTask, call: "Calling") -> None:
        """Note that the task makes this call, whose result is stored with its end."""
        self._calls[task.id] = call

    def taken(self, task: LoadedTask, cached_from: Json) -> None:
        """Note that the task ends with the result of this one."""
        self._calls.pop(task.id, None)
        self._taken[task.id] = cached_from

    def answered(self, end: "CallEnd") -> None:
        """Store the answer of a model to a task whose calls are taken from the cache one by one."""
        self._writer.put(Change(**self._fence, ends_call=end))

    def call_left(self, task: LoadedTask) -> None:
        """Let another task make the call: this one does not begin yet."""
        if (end := self._end_of_call(task)) is not None:
            self._writer.put(Change(**self._fence, ends_call=end))

    def _end_of_call(self, task: LoadedTask, outcome: Outcome | None = None) -> "CallEnd | None":
        """Return the end of the task's call, with the result of the outcome; None for a task without `params.cache`."""
        if task.params.get("cache") is None:
            return None
        from tasks.worker.result_cache import end_of  # noqa: PLC0415  few runs use it

        stored = outcome.stored if outcome is not None and outcome.status is Status.COMPLETED else None
        return end_of(self._calls.pop(task.id, None), task, self._claim, result=stored)

    async def asked(
        self, task: LoadedTask, question: OpenQuestion, *, is_limited: bool, is_at_work: bool = False
    ) -> None:
        """Return when the question is committed and can be answered.

        `is_limited`: it counts against the limit of its user. `is_at_work`: the attempt waits where it is, and its
        effect may have begun. Raises LeaseLost or TooManyWaits.
        """
        closed = self._question_closed(task)
        self._asking.add(task.id)
        required_input, message = None, f"waiting {question.text}"
        if question.kind == WaitKind.QUESTION:
            message = f"waiting for an answer: {question.text}"
            required_input = _required(question)
        change = QuestionAsked(
            **self._fence,
            event=self._event("log", task, Status.IN_PROGRESS, message=message, result=required_input),
            task_id=task.id,
            question_id=question.id,
            text=question.text,
            options=_json(question.options),
            schema=_json(question.schema),
            assignees=_json(question.assignees),
            **_alarms(question),
            memo=question.memo,
            at=db_time(question.asked_at),
            expires_at=db_time(question.expires_at),
            kind=question.kind,
            on_expiry=question.on_expiry,
            **_wanted(task, question),
            assigned=self._assigned(question),
            tree=None if question.tree is None else _text(orjson.dumps(question.tree)),
            limited_user=task.user_id if is_limited else None,
            frees=None if question.kind == WaitKind.LIMIT else self._freed_by(task),
            ends_call=None if question.kind in (WaitKind.LIMIT, WaitKind.CALL) else self._end_of_call(task),
        )
        try:
            over = () if is_at_work else self._effect_over(task)
            await self._writer.commit_together([*([closed] if closed else []), change, *over])
        except TooManyWaits:
            self._asking.discard(task.id)
            raise

    def _assigned(self, question: OpenQuestion, *, but: Collection[str] = ()) -> list[QuestionAssigned]:
        names = [name for name in question.assignees or () if name not in but]
        return [QuestionAssigned(**self._fence, question_id=question.id, name=name) for name in names]

    async def alarmed(self, task: LoadedTask, question: OpenQuestion, *, before: OpenQuestion) -> None:
        """Record the first alarm of the question `before` it: a reminder, or further assignees. Raises LeaseLost."""
        added = before.alarms[0].assignees
        message = f"escalated to {', '.join(added)}" if added else "still waiting for an answer"
        kind: Json = {"escalated_to": [*added]} if added else {"is_reminder": True}
        message = f"{message}: {question.text}"
        change = QuestionAlarmed(
            **self._fence,
            event=self._event("log", task, Status.IN_PROGRESS, message=message, result=_required(question) | kind),
            question_id=question.id,
            before=_alarms(before)["alarms"],
            assignees=_json(question.assignees),
            assigned=self._assigned(question, but=before.assignees or ()),
            **_alarms(question),
        )
        await self._writer.commit(change)

    def waited(self, task: LoadedTask) -> None:
        """Record that the task no longer waits."""
        if (closed := self._question_closed(task)) is not None:
            self._writer.put(closed)

    async def grown(self, task: LoadedTask, growth: Growth, outcome: Outcome | None) -> None:
        """Return when the new tasks are stored, and with them the outcome of their spawner if it has one. Raises LeaseLost."""
        for new in growth.tasks:
            self._progress[new.id] = 0.0
        self._calls.pop(task.id, None)  # what adds tasks is no result to take
        changes = (
            self._growth_of_open(task, growth) if outcome is None else self._growth_of_ended(task, growth, outcome)
        )
        changes[0].rows = growth.rows
        await self._writer.commit_together(changes)
        metrics.created([row.executor_id for row in growth.rows])

    def steps_added(self, task: LoadedTask, growth: Growth, *, is_first: bool) -> asyncio.Future[None]:
        """Record the steps that a workflow calls, before all that follows. The future ends when they are stored, or are refused."""
        for new in growth.tasks:
            self._progress[new.id] = 0.0
        event = self._event_of_growth(task, growth, Status.IN_PROGRESS)
        first = ChildrenNoted(**self._fence, task_id=task.id, at=self._now()) if is_first else None
        change = StepsAdded(**self._fence, event=event, task_id=task.id, rows=growth.rows, first=first)
        metrics.created([row.executor_id for row in growth.rows])
        return self._writer.put_in_order(change)

    async def part_begun(self, task: LoadedTask, *, over: int, past: Sequence[str], message: str) -> None:
        """Return when the workflow is in another part, and the tasks of the one before are set aside. Raises LeaseLost."""
        event = self._event("log", task, Status.IN_PROGRESS, message=message)
        call = orjson.dumps(task.call).decode()
        await self._writer.commit(
            PartBegun(**self._fence, event=event, task_id=task.id, call=call, at=self._now(), over=over, past=past)
        )

    def _growth_of_open(self, task: LoadedTask, growth: Growth) -> list[Change]:
        event = self._event_of_growth(task, growth, Status.IN_PROGRESS)
        return [
            TasksSpawned(
                **self._fence,
                event=event,
                task_id=task.id,
                at=self._now(),
                closing=self._question_closed(task),
                steps=None if growth.step is None else _json(growth.step.stored()),
                frees=self._freed_by(task),
                ends_call=self._end_of_call(task),
            ),
            *self._effect_over(task),
        ]

    def _growth_of_ended(self, task: LoadedTask, growth: Growth, outcome: Outcome) -> list[Change]:
        """Return the changes of a task that ends and adds tasks. The end comes first, and is one change with the new tasks: no crash can come between them."""
        *before, end = self.changes_at_end(task, outcome)
        end.then = self._event_of_growth(task, growth, outcome.status)
        return [end, *before]

    def _event_of_growth(self, task: LoadedTask, growth: Growth, status: Status) -> Json:
        below = [row.id for row in growth.rows if row.parent_id == task.id]
        message = f"{len(growth.rows):,} task{'s' if len(growth.rows) > 1 else ''} added below this one"
        result = {"count": len(growth.rows), "task_ids": below[:SHOWN]}
        if growth.step is not None:
            result["step"] = growth.step.number
        return self._event("task_spawned", task, status, message=message, result=result)

    async def call_off(self, wait: OpenQuestion, *, force: bool) -> Json | None:
        """Cancel the tree for which a task no longer waits, and return the state of its budget, if it has one."""
        return await pools.write(child_runs.call_off, wait, force=force)

    async def finished(self, task: LoadedTask, outcome: Outcome) -> None:
        """Return when the outcome is committed. Raises LeaseLost."""
        await self._writer.commit_together(self.changes_at_end(task, outcome))

    def finished_unrun(self, task: LoadedTask, outcome: Outcome) -> None:
        """Queue the end of a task that never ran.

        Not awaited: the run's last commit follows in the same queue.
        """
        for change in self.changes_at_end(task, outcome):
            self._writer.put(change)

    async def closed(
        self,
        target: LoadedTask,
        status: Status,
        result: Any,
        *,
        failures: Iterable[LoadedTask] = (),
        after: Sequence[Change] = (),
    ) -> None:
        """End the run, in one commit with the changes that come before it. Raises LeaseLost.

        `failures` are the tasks that failed it, the cause first; the run names the first ones.
        """
        named = [
            {"task_id": task.id, "name": task.name, "error": (task.error or "")[:LONGEST_ERROR]}
            | ({} if task.cause_id is None else {"cause_id": task.cause_id})
            for task in islice(failures, FAILURES)
        ]
        event = self._event("final", target, status, message=f"Run {status}", result=result, error=target.error)
        event["progress"] = event["tree_progress"]
        cause = named[0]["error"] if named else target.error or ""
        end = RunClosed(
            **self._fence,
            event=event,
            status=status,
            at=self._now(),
            wait_id=self._claim.wait_id,
            failures=_json(named) if named else None,
            error_key=key_of(cause) if status is Status.FAILED else None,
        )
        await self._writer.commit_together([*after, end])

    def changes_at_end(self, task: LoadedTask, outcome: Outcome) -> list[Change]:
        """Return what records the end of the task, for `finished`, `closed` or another thread to write."""
        before: list[Change] = [RunCleared(**self._fence)] if self._has_record else []
        self._has_record = False
        if outcome.status in (Status.COMPLETED, Status.SKIPPED):
            self._set_progress(task, 1.0)
        task.error, task.completed_at = outcome.error, self._now()
        if task.call is not None and outcome.raised is not None:
            task.call = task.call | {RAISED: outcome.raised}
        usage = outcome.token_usage or task.token_usage
        result = None if outcome.stored is None else orjson.Fragment(outcome.stored)
        event = self._event(f"task_{outcome.status}", task, outcome.status, result=result, error=outcome.error)
        if outcome.cause_id is not None:
            event |= {"not_run": True, "cause_id": outcome.cause_id}
        taking = None
        if (cached_from := self._taken.get(task.id)) is not None and outcome.status is Status.COMPLETED:
            event["cached_from"] = cached_from
            event["message"] = (
                f"with the result of {cached_from['task_id'] or 'a task of another user'}, from the cache"
            )
            taking = ResultTaken(**self._fence, task_id=task.id, cached_from=orjson.dumps(cached_from).decode())
        seconds = self._seconds_of(task)
        if outcome.status is Status.FAILED and seconds is not None:
            run_log.task_failed(run_id=self._claim.run_id, task=task, seconds=seconds, will_retry=False)
        if outcome.token_usage and not task.token_usage:  # the executor has reported it only now, at its end
            before += [self._usage_added(task, outcome.token_usage), self._reported(task, outcome.token_usage)]
        finished = TaskFinished(
            **self._fence,
            event=event,
            tally=partial(metrics.finished, task.executor_id, outcome.status, seconds=seconds),
            task_id=task.id,
            status=outcome.status,
            result=_text(outcome.stored),
            error=outcome.error,
            cause_id=outcome.cause_id,
            progress=self._progress[task.id],
            token_usage=_text(orjson.dumps(usage)) if usage else None,
            at=task.completed_at,
            closing=self._question_closed(task),
            steps=_json(task.step.over()) if task.step and outcome.status is Status.COMPLETED else None,
            call=_json(task.call) if task.call and outcome.status is not Status.COMPLETED else None,
            turn=self._turn_of(task, outcome),
            keeps_state=task.executor_id in task_states.KEEPERS,
            frees=self._freed_by(task),
            taking=taking,
            ends_call=self._end_of_call(task, outcome),
        )
        return [*before, finished]

    def _freed_by(self, task: LoadedTask) -> str | None:
        """Return the task if it may have places of its own; after another worker had the run, that is not known."""
        limits, claim = self._limits, self._claim
        if limits is None or not limits.has_places:
            return None
        return task.id if not claim.is_first or limits.has_own_places(task, claim.run_id) else None

    def _turn_of(self, task: LoadedTask, outcome: Outcome) -> TurnAdded | None:
        if outcome.turn is None or outcome.status is not Status.COMPLETED:
            return None
        turn = outcome.turn
        return TurnAdded(
            **self._fence,
            user_id=turn.user_id,
            name=turn.name,
            task_id=task.id,
            said=orjson.dumps(turn.said).decode(),
            characters=turn.characters,
            at=self._now(),
        )

    def _seconds_of(self, task: LoadedTask) -> float | None:
        """Return the seconds of the latest attempt in this worker. None: none has begun."""
        started = self._start_times.get(task.id)
        return None if started is None else time.monotonic() - started

    def _question_closed(self, task: LoadedTask) -> QuestionClosed | None:
        if task.id not in self._asking:
            return None
        self._asking.discard(task.id)
        budget = None if self.count_of_wait is None else self.count_of_wait(task.id)
        counting = None if budget is None else BudgetCounted(**self._fence, state=budget)
        return QuestionClosed(**self._fence, task_id=task.id, at=self._now(), counting=counting)

    def _add(self, event: Json) -> None:
        self._writer.put(EventAdded(**self._fence, event=event))

    def _event(
        self,
        type_: str,
        task: LoadedTask,
        status: Status,
        *,
        message: str = "",
        result: Any = None,
        error: str | None = None,
    ) -> Json:
        """Return an event. The writer assigns its sequence number."""
        return {
            "type": type_,
            "seq": 0,
            "run_id": self._claim.run_id,
            "task_id": task.id,
            "root_task_id": self._claim.root_id,
            "status": status,
            "progress": self._progress[task.id],
            "tree_progress": round(self._progress_sum / len(self._progress), 6),
            "message": message,
            "result": result,
            "error": error,
            "timestamp": self._claim.now().isoformat(),
            "protocol": "jsonrpc",
        }

    def _set_progress(self, task: LoadedTask, progress: float) -> None:
        self._progress_sum += progress - self._progress[task.id]
        self._progress[task.id] = progress

    def _now(self) -> str | None:
        return db_time(self._claim.now())


class Alarms(TypedDict):
    """The fields of a change about the alarms of a question."""

    alarms: str | None
    alarm_at: str | None


def _alarms(question: OpenQuestion) -> Alarms:
    coming = question.alarms
    return Alarms(alarms=_json(as_json(coming)) if coming else None, alarm_at=db_time(coming[0].at) if coming else None)


class Wanted(TypedDict, total=False):
    """The fields of a change about the event that a task waits for."""

    wanted_of: str
    wanted_event: str
    match: str
    since: str | None


def _wanted(task: LoadedTask, question: OpenQuestion) -> Wanted:
    if question.event is None or question.match is None:
        return {}
    match = orjson.dumps(question.match).decode()
    return Wanted(wanted_of=task.user_id, wanted_event=question.event, match=match, since=db_time(question.since))


def _required(question: OpenQuestion) -> Json:
    """Return the content of a question's event for clients."""
    return {
        "required": INPUT,
        "question_id": question.id,
        "text": question.text,
        "options": question.options,
        "schema": question.schema,
        "assignees": question.assignees,
    }


def _counts(usage: Json | None) -> tuple[int | None, ...]:
    """Return the numbers of a call as columns: None for what is unknown."""
    if usage is None:
        return (None,) * 6
    spending, more = spending_of(usage), more_counts(usage)
    counts = (spending.prompt_tokens, spending.completion_tokens, spending.total_tokens)
    return *counts, *more, None if spending.unpriced else spending.cost_nanos


def _short(text: str | None, most: int = MODEL_CHARACTERS) -> str | None:
    return None if text is None else storable(text)[:most]


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _text(stored: bytes | None) -> str | None:
    return None if stored is None else stored.decode()
