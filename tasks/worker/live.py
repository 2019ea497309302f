"""Workflows as code in a run: their code is at work here while their steps, which are tasks of the tree, run wherever they may.

The rows of steps have in `call` what a replay needs: the path and the hash of the call, and the ends that the code had seen. The first
one has the seed and the beginning of the workflow, too, so that a later run or a copy, which keep it, replay the same values. From its
second part on (`Again`), the row of the workflow has them, with the arguments of the part.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final, Literal

import orjson
from django.conf import settings
from django.db import IntegrityError

from aipartnerupflow.executors import ExecutorError
from aipartnerupflow.workflows.drive import ROOT, Call, Cancel, Command, Difference, Drive, End, Record
from aipartnerupflow.workflows.functions import LocalStep, Workflow
from tasks.executors.plugins import plugins
from tasks.executors.workflows import STEP, WorkflowTask
from tasks.rules.steps import CANCEL, FAILED_AFTER, PART, RAISED
from tasks.rules.strict_json import Json
from tasks.services.runs import cancels
from tasks.status import Status
from tasks.worker.live_rows import Refused, rows_of_calls
from tasks.worker.load_run import LoadedTask, is_live, moment_of
from tasks.worker.outcomes import Outcome, cancelled, completed_in_turn, failed
from tasks.worker.run_parts import RunParts
from tasks.worker.spawning.growth import CannotGrow, Growth, Room, growth_of, stored_id

logger = logging.getLogger(__name__)

TURN_SECONDS: Final = 0.005
"""The time of a replay after which other trees have a turn of the loop."""
TAKEN: Final = "The steps of this workflow cannot be stored: another task has the id of one, which begins with '{id}/'. Give the workflow another id."
CANCELLED: Final = "{name}() was cancelled"
NOT_CLEANED: Final = "{why} (its code could not clean up: {error})"
OTHER_VERSION: Final = (
    "{name}() began with the version {begun_with} of its code, and this worker has {version} (on_mismatch). Execute the task again to continue "
    "with that."
)
TOO_LARGE: Final = (
    "{name}() raised Again with arguments of {size:,} bytes, more than the {most:,} that limits.result_bytes allows. Save large values "
    "with current_context().files, and pass these."
)
NO_LONGER: Final = "Cancelled by its workflow, which no longer waits for it"
ENDED: Final = "Cancelled with its workflow, which failed"


class Live:
    """The workflows of one run whose code is at work. `add` adds steps to the tree, `cancel` stops one, `on_rest` is called when there may
    be more in `resting`, and `on_part` with the number of tasks that are set aside when a workflow begins another part.
    """

    def __init__(
        self,
        run: RunParts,
        *,
        add: Callable[[LoadedTask, Growth], asyncio.Future[None]],
        cancel: Callable[[cancels.Cancel], object],
        on_rest: Callable[[], object],
        on_part: Callable[[int], object],
    ) -> None:
        self._run = run
        self._add_to_tree, self._cancel, self._on_rest, self._on_part = add, cancel, on_rest, on_part
        self._ends: dict[
            str, asyncio.Queue[tuple[str, End] | BaseException]
        ] = {}  # by the id of the step, or of the workflow if it is cancelled
        self._ids: dict[tuple[str, str], str] = {}  # by the workflow and the path of the call
        self._paths: dict[str, str] = {}  # of the steps of the parts that are not over
        self._at_work: set[str] = set()
        self._resting: set[str] = set()
        self._leaving: set[str] = set()  # those whose part is over when all its tasks have ended
        self._unstored: set[asyncio.Future[None]] = set()
        self._bytes = 0  # of the calls of all workflows of the run
        self._drives: dict[str, Drive] = {}
        self._asked: dict[tuple[str, str], asyncio.Future[LocalStep]] = {}
        """Steps that wait for their functions, by workflow and path: its code may not have come to the call again after a crash."""
        self._needs: dict[str, Json | None] = {}

    @property
    def resting(self) -> Collection[str]:
        """The workflows that have nothing to do until a step ends. None rests while steps are not stored: they may be refused."""
        return () if self._unstored else self._resting

    @property
    def needing(self) -> dict[str, Json]:
        """The workflows whose code this worker does not have, with what they need."""
        return {task_id: need for task_id, need in self._needs.items() if need and self._run.standing.is_open(task_id)}

    def lacks_code_of(self, task: LoadedTask) -> bool:
        """Return whether the task is a workflow whose code this worker does not have, or a step of one."""
        if task.executor_id != STEP and not is_live(task):
            return False
        workflow_id = task.spawned_by if task.executor_id == STEP else task.id
        if workflow_id is None or not self._run.standing.is_open(workflow_id):
            return False
        if workflow_id not in self._needs:
            need = self._need_of(self._run.standing.tasks[workflow_id])
            self._needs[workflow_id] = {"need": need} if need else None
        return self._needs[workflow_id] is not None

    def _need_of(self, task: LoadedTask) -> str | None:
        """Return the code that the workflow needs, and this worker does not have; None if it has it, or if the workflow fails without."""
        executor_id = str(task.executor_id)
        begun_with = self._begun_with(task)
        if (workflow := _workflow_here(executor_id)) is None:
            return executor_id if begun_with is None else f"{executor_id}@{begun_with}"
        fails = workflow.set_options.get("on_mismatch") == "fail"
        return None if fails or may_continue(workflow, begun_with) else f"{executor_id}@{begun_with}"

    def _begun_with(self, task: LoadedTask, *, in_any_run: bool = False) -> str | None:
        """Return the version of the code that called the latest steps of the workflow, if that was in this run: another one takes the code
        that it finds.
        """
        for step in reversed(self._run.family.spawned_by(task.id)):
            if step.call is not None and "version" in step.call:
                return str(step.call["version"]) if in_any_run or step.call["run"] == self._run.claim.run_id else None
        return None

    async def run(self, task: LoadedTask, executor: WorkflowTask, inputs: Json) -> Outcome | None:
        """Run the code of a workflow to its end, part after part. None: it needs other code. Raises asyncio.CancelledError when it is cancelled, or put aside."""
        workflow = executor.workflow
        begun_with = self._begun_with(task)
        if not may_continue(workflow, begun_with):
            versions = {"begun_with": begun_with, "version": workflow.version}
            return self.refused(task, OTHER_VERSION.format(name=workflow.__name__, **versions))
        if task.status == Status.PENDING:
            await self._run.recorder.started(task, durably=False)
        self._ends.setdefault(task.id, asyncio.Queue())
        outcome: Outcome | None = None
        try:
            while outcome is None:
                outcome = await self._run_part(task, workflow, executor.arguments_in(inputs))
            return outcome
        except Difference as error:
            return self._differing(task, workflow, error)
        except (CannotGrow, Refused, ValueError, TypeError) as error:
            return self.refused(task, str(error))
        except IntegrityError:
            return self.refused(task, TAKEN.format(id=task.id))
        finally:
            del self._ends[task.id]
            self._at_work.discard(task.id)
            self._resting.discard(task.id)

    async def _run_part(self, task: LoadedTask, workflow: Workflow[..., Any], given: Json) -> Outcome | None:
        """Run the code from its top, with the arguments of the part. None: another part begins."""
        steps = [child for child in self._run.family.spawned_by(task.id) if child.call is not None]
        history = [_record_of(child, self._run.results) for child in steps]
        self._ids |= {(task.id, _path(child)): child.id for child in steps}
        self._paths |= {child.id: _path(child) for child in steps}
        self._bytes += sum(child.memory for child in steps)
        if steps:  # its code has been at work before
            self._at_work.add(task.id)
        part = (task.call or {}).get(PART)
        new = {"seed": f"{self._run.claim.run_id}/{task.id}", "at": moment_of(task.started_at).isoformat()}
        origin = part or (steps[0].call if steps else None) or dict(new)
        if part or steps:
            new.clear()
        if self._begun_with(task) != workflow.version:  # a part takes the code that it finds
            new |= {"version": workflow.version, "run": self._run.claim.run_id}
        drive = workflow.drive(
            part["arguments"] if part else given,
            seed=origin["seed"],
            at=moment_of(origin["at"]),
            history=history,
            is_cancelled=task.id in self._run.cancellations,
        )
        try:
            await _replayed(drive)
            commands = drive.begin()
            self._at_work.add(task.id)
            self._drives[task.id] = drive
            while True:
                self._hand_out(task.id)
                await self._take(task, commands, for_first=new)
                if drive.outcome is not None:
                    break
                step_id, end = await self._news(task)
                path = ROOT if step_id == task.id else self._paths.get(step_id)
                commands = [] if path is None else drive.deliver(path, end)
            if drive.outcome.status == "again":
                return await self._begin_part(task, drive.outcome.result, name=workflow.__name__)
            return await self._outcome_of(task, drive, name=workflow.__name__)
        finally:
            self._drives.pop(task.id, None)
            drive.close()

    async def _news(self, task: LoadedTask) -> tuple[str, End]:
        """Wait for the end of a task, or for the cancellation of the workflow. Raises the error of steps that were refused."""
        ends = self._ends[task.id]
        if ends.empty():
            self._resting.add(task.id)
            self._on_rest()
        if isinstance(news := await ends.get(), BaseException):
            raise news
        return news

    async def _begin_part(self, task: LoadedTask, arguments: Json, *, name: str) -> Outcome | None:
        """Set the tasks of the part aside when all have ended, and store the beginning of the next one."""
        run, most = self._run, settings.APFLOW.limits.result_bytes
        left = list(run.family.all_below([task.id]))
        self._leaving.add(task.id)
        try:
            while left := [each for each in left if run.standing.is_open(each)]:
                await self._news(task)
        finally:
            self._leaving.discard(task.id)
        if (why := run.cancellations.message_of(task.id)) is not None:
            return cancelled(why, max_bytes=most)
        if (size := len(orjson.dumps(arguments))) > most:
            return failed(TOO_LARGE.format(name=name, size=size, most=most))
        over = (task.call or {}).get(PART, {"number": 1})["number"]
        past = run.family.put_aside(task.id)
        for each in past:
            if self._paths.pop(each, None) is not None:
                self._bytes -= run.standing.tasks[each].memory
        seed, at = f"{run.claim.run_id}/{task.id}/{over + 1}", run.claim.now().isoformat()
        part = {
            "number": over + 1,
            "seed": seed,
            "at": at,
            "arguments": arguments,
            "position": run.family.next_position,
        }
        task.call = (task.call or {}) | {PART: part}
        await run.recorder.part_begun(task, over=over, past=past, message=f"part {over + 1} begins")
        self._on_part(len(past))
        return None

    async def function_of(self, task: LoadedTask) -> LocalStep:
        """Return the function of a step that only the code of its workflow has, when this code waits for the step."""
        workflow_id, path = str(task.spawned_by), _path(task)
        asked: asyncio.Future[LocalStep] = asyncio.get_running_loop().create_future()
        self._asked[workflow_id, path] = asked
        try:
            self._hand_out(workflow_id)
            return await asked
        finally:
            del self._asked[workflow_id, path]

    def _hand_out(self, workflow_id: str) -> None:
        functions = self._drives[workflow_id].functions if workflow_id in self._drives else {}
        for (of_workflow, path), asked in self._asked.items():
            if of_workflow == workflow_id and path in functions and not asked.done():
                asked.set_result(functions[path])

    def _differing(self, task: LoadedTask, workflow: Workflow[..., Any], error: Difference) -> Outcome | None:
        """Let the workflow wait for the code that called its steps, or end it, if it was this code, or if it is cancelled."""
        version, fails = self._begun_with(task, in_any_run=True), workflow.set_options.get("on_mismatch") == "fail"
        if version in (None, workflow.version) or fails or task.id in self._run.cancellations:
            return self.refused(task, str(error))
        run_id, need = self._run.claim.run_id, f"{task.executor_id}@{version}"
        self._needs[task.id] = {"need": need, "difference": str(error)}
        self._run.shared.differing.add(run_id)
        for (workflow_id, _), asked in self._asked.items():
            if workflow_id == task.id:
                asked.cancel()  # the step waits, too
        facts = {"event": "run.needs_code", "run": run_id, "task": task.id}
        logger.warning("Run %s waits for %s: its replay differs", run_id, need, extra=facts)
        return None

    def ended(self, task: LoadedTask, outcome: Outcome) -> None:
        """Tell the workflow that made the call how it ended; its code may not be at work yet."""
        workflow_id = task.spawned_by
        if workflow_id is not None and "path" in (task.call or ()) and self._run.standing.is_open(workflow_id):
            self._tell(workflow_id, (task.id, _end_of(task, outcome.status, outcome.result)))
        for each in self._leaving:
            if each != workflow_id:
                self._tell(each, (task.id, End(status="completed", at=self._run.claim.now())))

    def cancel(self, task_id: str) -> bool:
        """Raise asyncio.CancelledError in the code of the workflow, as soon as it is at work. Returns False for other tasks, and for one
        that has not begun.
        """
        task = self._run.standing.tasks[task_id]
        if not is_live(task) or (task.status == Status.PENDING and task_id not in self._at_work):
            return False
        self._tell(task_id, (task_id, End(status="cancelled", at=self._run.claim.now())))
        return True

    def refused(self, task: LoadedTask, error: str) -> Outcome:
        """Cancel what is open of a workflow whose code cannot go on, and return its outcome: failed or, if it was to clean up, cancelled."""
        for step in self._run.family.spawned_by(task.id):
            question = self._run.questions.question_of(step.id)
            is_answered = (
                question is not None and question.reply is not None
            )  # then it ends by itself, and the answer is kept
            if self._run.standing.is_open(step.id) and not is_answered:
                self._cancel(cancels.Cancel(task_id=step.id, force=False, message=ENDED))
        if (why := self._run.cancellations.message_of(task.id)) is None:
            return failed(error)
        return cancelled(NOT_CLEANED.format(why=why, error=error), max_bytes=settings.APFLOW.limits.result_bytes)

    def _tell(self, task_id: str, news: tuple[str, End] | BaseException) -> None:
        self._resting.discard(task_id)
        self._ends.setdefault(task_id, asyncio.Queue()).put_nowait(news)

    async def _take(self, task: LoadedTask, commands: Iterable[Command], *, for_first: Json) -> None:
        """Add the calls to the tree, and stop those that the code no longer waits for."""
        for is_call, some in groupby(commands, key=lambda command: isinstance(command, Call)):
            if is_call:
                await self._add(task, [call for call in some if isinstance(call, Call)], for_first=for_first)
                continue
            for command in some:
                task_id = self._ids[task.id, command.path]
                if isinstance(command, Cancel) and self._run.standing.is_open(task_id):
                    step = self._run.standing.tasks[task_id]
                    step.call = (step.call or {}) | {CANCEL: {"after": command.after, "seen": command.seen}}
                    self._cancel(cancels.Cancel(task_id=task_id, force=False, message=NO_LONGER))

    async def _add(self, task: LoadedTask, calls: Sequence[Call], *, for_first: Json) -> None:
        limits, run = settings.APFLOW.limits, self._run
        if run.family.level_of(task) >= limits.tree_depth:
            raise CannotGrow(
                f"{calls[0].place}: the calls would be on level {limits.tree_depth + 1} of the tree, and it has at most {limits.tree_depth} "
                "(limits.tree_depth). Does a workflow call itself without end?"
            )
        part = (task.call or {}).get(PART)
        above = f"{task.id}/p{part['number']}" if part else task.id
        ids = {call.path: stored_id(f"{above}/{call.path}") for call in calls}
        rows = await rows_of_calls(task, calls, ids, now=run.claim.now())
        room = run.family.promise(task.id, len(calls), most=limits.spawned_tasks)
        if room < len(calls):
            raise CannotGrow(
                f"{len(calls):,} calls are more than the {room:,} tasks that may still be added to this tree (limits.spawned_tasks). "
                "Go on in another part: raise Again(…)."
            )
        rows[0].call = (rows[0].call or {}) | for_first
        for_first.clear()
        growth = growth_of(rows, Room(tasks=room, bytes=limits.run_bytes, used=self._bytes))
        self._bytes += sum(new.memory for new in growth.tasks)
        self._ids |= {(task.id, path): task_id for path, task_id in ids.items()}
        self._paths |= {task_id: path for path, task_id in ids.items()}
        stored = self._add_to_tree(task, growth)
        self._unstored.add(stored)
        stored.add_done_callback(partial(self._stored, task.id))

    def _stored(self, task_id: str, stored: asyncio.Future[None]) -> None:
        """Let the code stop if its steps were refused: their ends would be lost."""
        self._unstored.discard(stored)
        if not stored.cancelled() and (error := stored.exception()) is not None and task_id in self._ends:
            self._tell(task_id, error)
        if self._ends:
            self._on_rest()

    async def _outcome_of(self, task: LoadedTask, drive: Drive, *, name: str) -> Outcome:
        end = drive.outcome
        if end is None or end.status == "cancelled":
            why = self._run.cancellations.message_of(task.id) or CANCELLED.format(name=name)
            return cancelled(why, max_bytes=settings.APFLOW.limits.result_bytes)
        if end.status != "completed":
            if drive.failed_after is not None:
                task.call = (task.call or {}) | {FAILED_AFTER: drive.failed_after}
            return failed(f"{name}() raised {end.exception}: {end.error}")
        try:
            most = settings.APFLOW.limits.result_bytes
            return await completed_in_turn(end.result, max_bytes=most, is_composed=True)
        except ExecutorError as error:
            return failed(str(error))


def versions_here() -> dict[str, str]:
    """Map the ids of the workflows whose code this process has to its versions."""
    return {
        executor_id: cls.workflow.version
        for executor_id, cls in plugins().executors.items()
        if issubclass(cls, WorkflowTask)
    }


def has_code(needs: Iterable[str]) -> bool:
    """Return whether this process has all the code, or code that may continue what it has begun."""
    for need in needs:
        executor_id, _, version = need.partition("@")
        workflow = _workflow_here(executor_id)
        if workflow is None or not may_continue(workflow, version or None):
            return False
    return True


def may_continue(workflow: Workflow[..., Any], begun_with: str | None) -> bool:
    """Return whether the code may continue a run that code of this version has begun; None: that none has begun."""
    return begun_with in (None, workflow.version) or workflow.replays or settings.APFLOW_WORKFLOWS_REPLAY


def _workflow_here(executor_id: str) -> Workflow[..., Any] | None:
    cls = plugins().executors.get(executor_id)
    return cls.workflow if cls is not None and issubclass(cls, WorkflowTask) else None


async def _replayed(drive: Drive) -> None:
    """Replay what is stored, and let others have turns meanwhile. Raises Difference."""
    begun = time.monotonic()
    for _ in drive.replay():
        if time.monotonic() - begun > TURN_SECONDS:
            await asyncio.sleep(0)
            begun = time.monotonic()


def _record_of(child: LoadedTask, results: Any) -> Record:
    """Return the stored call that the task is."""
    stored = child.call = child.call or {}
    is_step = child.executor_id == STEP
    call = Call(
        kind="step" if is_step else stored["kind"],
        target=child.inputs["function"] if is_step else stored["target"],
        inputs=child.inputs["arguments"] if is_step else child.inputs,
        path=stored["path"],
        seen=tuple(stored["seen"]),
        patches=tuple(stored["patches"]),
    )
    status = Status(child.status)
    end = _end_of(child, status, results.get(child.id)) if status.is_terminal else None
    if status is not Status.CANCELLED:
        stored.pop(CANCEL, None)  # of the run before, if it runs again
    if status is not Status.FAILED:
        stored.pop(RAISED, None)
    order = stored.get(CANCEL)
    cancel = order and Cancel(path=call.path, after=order["after"], seen=tuple(order["seen"]))
    return Record(call=call, hash=stored["hash"], end=end, cancel=cancel)


def _path(task: LoadedTask) -> str:
    path: str = (task.call or {})["path"]
    return path


def _end_of(task: LoadedTask, status: Status, result: Any) -> End:
    at, stored = moment_of(task.completed_at), task.call or {}
    if status is Status.COMPLETED:
        for field in stored.get("reads", ()):
            result = result.get(field) if isinstance(result, dict) else None
        return End(status="completed", at=at, result=result)
    exception, arguments = stored.get(RAISED, (None, None))
    ended: Literal["cancelled", "failed"] = "cancelled" if status is Status.CANCELLED else "failed"
    return End(status=ended, at=at, error=task.error, exception=exception, result=arguments)
