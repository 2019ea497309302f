"""The chronicle of a run: the changes and events that its engine writes, and how far the tree is."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson

from tasks.queue.leases import Claim
from tasks.rules.strict_json import Json
from tasks.services.pending_runs import INPUT
from tasks.services.questions import OpenQuestion
from tasks.status import Status
from tasks.storage.bulk import db_time
from tasks.telemetry import metrics
from tasks.worker.group_commit import Change, GroupCommit, Kind
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome, storable


class RunRecorder:
    """Each verb makes the row's change and the event that tells of it, and gives both to the journal."""

    def __init__(
        self, claim: Claim, tasks: Iterable[LoadedTask], journal: GroupCommit, *, asking: Iterable[str] = ()
    ) -> None:
        """`asking`: the tasks that have asked a question."""
        self._claim = claim
        self._journal = journal
        self._progress = {task.id: task.progress for task in tasks}
        self._progress_sum = sum(self._progress.values())
        self._asking = set(asking)
        self._start_times: dict[str, float] = {}  # by this worker's monotonic clock

    async def started(self, task: LoadedTask, *, durably: bool) -> None:
        """`durably`: return only when it is known for good that the work may have begun."""
        self._set_progress(task, 0.0)
        self._start_times[task.id] = time.monotonic()
        now = _now()
        event = self._event("task_start", task, Status.IN_PROGRESS)
        change = self._change(Kind.START, (now, now, task.attempt, task.id), event)
        if durably:
            await self._journal.commit(change)
        else:
            self._journal.put(change)

    def progressed(self, task: LoadedTask, progress: float, message: str = "") -> None:
        self._set_progress(task, min(max(0.0, progress), 1.0))  # compared in this order, NaN becomes 0
        event = self._event("progress", task, Status.IN_PROGRESS, message=storable(message))
        self._journal.put(self._change(Kind.PROGRESS, (self._progress[task.id], _now(), task.id), event))

    def logged(self, task: LoadedTask, message: str) -> None:
        self._tell(self._event("log", task, Status.IN_PROGRESS, message=storable(message)))

    def retrying(self, task: LoadedTask, outcome: Outcome, message: str) -> None:
        self._tell(self._event("task_retry", task, Status.IN_PROGRESS, message=message, error=outcome.error))

    async def asked(self, task: LoadedTask, asked: OpenQuestion) -> None:
        """Return when it is durable, and can be answered. Raises LeaseLost."""
        self._close_question(task)
        self._asking.add(task.id)
        options = None if asked.options is None else _text(orjson.dumps(asked.options))
        when = (_now(), db_time(asked.expires_at))
        values = (asked.id, self._claim.run_id, task.id, asked.text, options, asked.memo, *when)
        told = {"required": INPUT, "question_id": asked.id, "text": asked.text, "options": asked.options}
        message = f"waiting for an answer: {asked.text}"
        event = self._event("log", task, Status.IN_PROGRESS, message=message, result=told)
        await self._journal.commit(self._change(Kind.ASK, values, event))

    async def finished(self, task: LoadedTask, outcome: Outcome) -> None:
        """Return when it is durable. Raises LeaseLost."""
        await self._journal.commit(self._finish(task, outcome))

    def finished_unrun(self, task: LoadedTask, outcome: Outcome) -> None:
        """For a task whose end nobody waits for but the end of the run, which is written later."""
        self._journal.put(self._finish(task, outcome))

    async def closed(self, target: LoadedTask, status: Status, result: Any) -> None:
        """The run is over. Raises LeaseLost."""
        event = self._event("final", target, status, message=f"The tree is {status}", result=result, error=target.error)
        event["progress"] = event["tree_progress"]
        await self._journal.commit(self._change(Kind.CLOSE, (status, _now(), self._claim.run_id), event))

    def _close_question(self, task: LoadedTask) -> None:
        if task.id in self._asking:
            self._asking.discard(task.id)
            self._journal.put(self._change(Kind.CLOSE_QUESTION, (_now(), self._claim.run_id, task.id), None))

    def _finish(self, task: LoadedTask, outcome: Outcome) -> Change:
        self._close_question(task)
        if outcome.status is Status.COMPLETED:
            self._set_progress(task, 1.0)
        task.error = outcome.error
        usage = outcome.token_usage or task.token_usage
        now = _now()
        values = (
            outcome.status,
            _text(outcome.stored),
            outcome.error,
            self._progress[task.id],
            _text(orjson.dumps(usage)) if usage else None,
            now,
            now,
            task.id,
        )
        result = None if outcome.stored is None else orjson.Fragment(outcome.stored)
        event = self._event(f"task_{outcome.status}", task, outcome.status, result=result, error=outcome.error)
        change = self._change(Kind.FINISH, values, event)
        seconds = time.monotonic() - self._start_times[task.id] if task.id in self._start_times else None
        change.tally = partial(metrics.finished, task.executor_id, outcome.status, seconds=seconds)
        return change

    def _tell(self, event: Json) -> None:
        self._journal.put(self._change(Kind.EVENT, (), event))

    def _change(self, kind: Kind, values: tuple[Any, ...], event: Json | None) -> Change:
        return Change(kind=kind, run_id=self._claim.run_id, epoch=self._claim.epoch, values=values, event=event)

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
        """An event of contract section 3; the journal gives it its number."""
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
            "timestamp": datetime.now(UTC).isoformat(),
            "protocol": "jsonrpc",
        }

    def _set_progress(self, task: LoadedTask, progress: float) -> None:
        self._progress_sum += progress - self._progress[task.id]
        self._progress[task.id] = progress


def _now() -> str | None:
    return db_time(datetime.now(UTC))


def _text(stored: bytes | None) -> str | None:
    return None if stored is None else stored.decode()
