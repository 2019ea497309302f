"""The changes that a run writes, one per step: the update of a row and the event that reports it."""

import asyncio
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Final

import orjson

from apflow_site.db.prepared import unsaved
from tasks.models import Task
from tasks.queue.suspicion import CLEAR
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import Spending
from tasks.status import OnExpiry, Status, WaitKind
from tasks.storage import usage
from tasks.storage.writes import Insert, Row, Statement, Update, Write

if TYPE_CHECKING:
    from tasks.services.waits.equal_calls import CallEnd

Fence = tuple[str, int, str | None]
"""The id of a run, and the epoch and token of the claim of it."""
OPEN_TASK: Final = Update(table="tasks_task", guard="tasks_task.status IN ('pending', 'in_progress')")


@dataclass(slots=True, kw_only=True)
class Change:
    """One step of a run.

    `event` has no sequence number yet. Without `WRITE` only the event is written.
    """

    run_id: str
    epoch: int
    token: str | None
    owner: str = ""
    """The user whose run it is."""
    event: Json | None = None
    then: Json | None = None
    """A second event."""
    rows: Sequence[Task] = ()
    """Tasks that are added to the tree."""
    tally: Callable[[], None] | None = field(default=None, repr=False)
    """Called after the commit, to update metrics."""
    done: asyncio.Future[None] | None = field(default=None, repr=False)
    frees: str | None = None
    """The task that gives back its places of named limits."""
    ends_call: "CallEnd | None" = None
    """The end of an attempt at a task with `params.cache`."""

    WRITE: ClassVar[Write | None] = None
    IS_FENCED: ClassVar[bool] = True
    """Whether it is refused once another worker has claimed the run."""
    NEEDS_RUN: ClassVar[bool] = False
    """Whether it is left out once the run has been deleted."""
    IS_HURRIED: ClassVar[bool] = True
    """Whether it is committed at once if someone waits for it."""
    SUBJECT: ClassVar[tuple[str, ...]] = ()
    """The fields that name what it is about, if it says all about that: of several in one commit, the last is enough."""

    @property
    def fence(self) -> Fence:
        """The claim that allows writing it."""
        return self.run_id, self.epoch, self.token

    @property
    def events(self) -> tuple[Json, ...]:
        return tuple(filter(None, (self.event, self.then)))

    @property
    def row(self) -> Row:
        """The values for `WRITE`."""
        return {}

    @property
    def subject(self) -> Hashable:
        """The subject of the change."""
        return (type(self), *(getattr(self, name) for name in self.SUBJECT)) if self.SUBJECT else id(self)

    @property
    def parts(self) -> Iterator["Change | None"]:
        """Other changes that must be in the same commit, so that no crash can come between them."""
        yield from ()


@dataclass(slots=True, kw_only=True)
class BudgetCounted(Change):
    """The use of the run's budget so far, as JSON: all of it, so a repetition changes nothing."""

    state: str

    WRITE: ClassVar[Write] = Insert(table="tasks_runbudget", key=("run_id",), replaced=("state",))
    SUBJECT: ClassVar[tuple[str, ...]] = ("run_id",)

    @property
    def row(self) -> Row:
        return {"run_id": self.run_id, "state": self.state}


@dataclass(slots=True, kw_only=True)
class DayCounted(Change):
    """The use of the runs of a user on a day in this process: all of it, so a repetition changes nothing."""

    user_id: str
    day: str
    process: str
    tasks: int
    seconds: float

    WRITE: ClassVar[Write] = Insert(
        table="tasks_daycount", key=("user_id", "day", "process"), replaced=("tasks", "seconds")
    )
    SUBJECT: ClassVar[tuple[str, ...]] = ("user_id", "day")
    IS_FENCED: ClassVar[bool] = False

    @property
    def row(self) -> Row:
        count = {"tasks": self.tasks, "seconds": self.seconds}
        return {"user_id": self.user_id, "day": self.day, "process": self.process, **count}


@dataclass(slots=True, kw_only=True)
class TaskStarted(Change):
    task_id: str
    attempt: int
    at: str | None
    effect: str | None = None
    error: str | None = None
    """The error of the attempt, if it has failed in the same commit."""
    counting: BudgetCounted | None = None
    """The count of the task in the budget: without its start it would be counted twice."""

    WRITE: ClassVar[Write] = OPEN_TASK
    SUBJECT: ClassVar[tuple[str, ...]] = ("task_id",)

    @property
    def parts(self) -> Iterator[Change | None]:
        yield self.counting

    @property
    def row(self) -> Row:
        times = {"started_at": self.at, "updated_at": self.at}
        begun = {"status": Status.IN_PROGRESS, "progress": 0.0, "error": self.error}
        return {"id": self.task_id, "attempt": self.attempt, "effect": self.effect, **times, **begun}


@dataclass(slots=True, kw_only=True)
class EffectNoted(Change):
    """The state of a task's effect that is not safe to repeat: begun, or awaited again."""

    task_id: str
    effect: str

    WRITE: ClassVar[Write] = OPEN_TASK
    SUBJECT: ClassVar[tuple[str, ...]] = ("task_id",)

    @property
    def row(self) -> Row:
        return {"id": self.task_id, "effect": self.effect}


@dataclass(slots=True, kw_only=True)
class AttemptFailed(Change):
    """The task stays in progress until its next attempt. Its error shows that no attempt is under way."""

    task_id: str
    error: str | None
    at: str | None

    WRITE: ClassVar[Write] = OPEN_TASK

    @property
    def row(self) -> Row:
        return {"id": self.task_id, "error": self.error, "effect": None, "updated_at": self.at}


@dataclass(slots=True, kw_only=True)
class TaskProgressed(Change):
    """`progress` is from 0 to 1."""

    task_id: str
    progress: float
    at: str | None

    WRITE: ClassVar[Write] = Update(table="tasks_task", guard="tasks_task.status = 'in_progress'")
    SUBJECT: ClassVar[tuple[str, ...]] = ("task_id",)

    @property
    def row(self) -> Row:
        return {"id": self.task_id, "progress": self.progress, "updated_at": self.at}


@dataclass(slots=True, kw_only=True)
class UsageAdded(Change):
    """The usage of a model call. It counts even if the run has gone to another worker: it was spent.

    `key` makes a repetition change nothing; `day` is a date in UTC.
    """

    key: str
    user_id: str
    day: str
    executor_id: str
    spending: Spending

    WRITE: ClassVar[Write] = Statement(usage.ADD)
    IS_FENCED: ClassVar[bool] = False

    @property
    def row(self) -> Row:
        spender = {"user_id": self.user_id, "executor_id": self.executor_id, "run_id": self.run_id}
        return {"id": self.key, "day": self.day, **spender, **self.spending._asdict()}


@dataclass(slots=True, kw_only=True)
class TaskSpent(Change):
    """The token usage of a task so far, as JSON: all of it, so a repetition changes nothing."""

    task_id: str
    token_usage: str

    WRITE: ClassVar[Write] = Update(table="tasks_task")
    SUBJECT: ClassVar[tuple[str, ...]] = ("task_id",)

    @property
    def row(self) -> Row:
        return {"id": self.task_id, "token_usage": self.token_usage}


@dataclass(slots=True, kw_only=True)
class TaskChecked(Change):
    """The results of the checks of a task so far, as JSON: all of them, so a repetition changes nothing."""

    task_id: str
    checks: str

    WRITE: ClassVar[Write] = Update(table="tasks_task")
    SUBJECT: ClassVar[tuple[str, ...]] = ("task_id",)

    @property
    def row(self) -> Row:
        return {"id": self.task_id, "checks": self.checks}


@dataclass(slots=True, kw_only=True)
class ModelCalled(Change):
    """A call of a model: a row of `tasks.models.ModelCall`, whose id makes a repetition change nothing.

    It is recorded even if the run has gone to another worker, unless the run is deleted.
    """

    call: Row

    WRITE: ClassVar[Write] = Insert(table="tasks_modelcall")
    IS_FENCED: ClassVar[bool] = False
    NEEDS_RUN: ClassVar[bool] = True

    @property
    def row(self) -> Row:
        return self.call


@dataclass(slots=True, kw_only=True)
class StateStored(Change):
    """Parts of the state that a task keeps until it ends: those that it stores, by key, and those that it deletes."""

    task_id: str
    stored: Mapping[str, bytes]
    deleted: Sequence[str]


@dataclass(slots=True, kw_only=True)
class QuestionClosed(Change):
    """Closes the open question of the task, if there is one: it can no longer be answered."""

    task_id: str
    at: str | None
    counting: BudgetCounted | None = None
    """The count of the tree that the task waited for: without the end of the wait it would be counted twice."""

    WRITE: ClassVar[Write] = Update(
        table="tasks_question", key=("run_id", "task_id"), guard="tasks_question.closed_at IS NULL"
    )

    @property
    def parts(self) -> Iterator[Change | None]:
        yield self.counting

    @property
    def row(self) -> Row:
        return {"run_id": self.run_id, "task_id": self.task_id, "closed_at": self.at}


def _with_count(closing: QuestionClosed | None) -> Iterator[Change | None]:
    yield closing
    yield None if closing is None else closing.counting


@dataclass(slots=True, kw_only=True)
class QuestionAssigned(Change):
    """Lists a question, which is neither answered nor closed, for one of its assignees. A repetition is refused."""

    question_id: str
    name: str

    WRITE: ClassVar[Write] = Statement(
        "INSERT INTO tasks_assignee (question_id, name) SELECT id, %(name)s FROM tasks_question "
        "WHERE id = %(question_id)s AND answered_at IS NULL AND closed_at IS NULL ON CONFLICT DO NOTHING"
    )

    @property
    def row(self) -> Row:
        return {"name": self.name, "question_id": self.question_id}


@dataclass(slots=True, kw_only=True)
class QuestionAsked(Change):
    """`options`, `schema`, `assignees`, `alarms` and `memo` are JSON text."""

    task_id: str
    question_id: str
    text: str
    options: str | None
    schema: str | None
    assignees: str | None
    alarms: str | None
    alarm_at: str | None
    memo: str
    at: str | None
    expires_at: str | None
    kind: str = WaitKind.QUESTION
    on_expiry: str = OnExpiry.FAIL
    wanted_event: str | None = None
    """The name of the event that the task waits for, of the user `wanted_of`, with what it must `match` as JSON text."""
    wanted_of: str | None = None
    match: str | None = None
    since: str | None = None
    tree: str | None = None
    """The tree that is to run, as JSON text."""
    limited_user: str | None = None
    """The user whose limit of waits it counts against. None: it is no wait of a task, but about the budget of the run."""
    assigned: Sequence[QuestionAssigned] = ()

    WRITE: ClassVar[Write] = Insert(table="tasks_question")

    @property
    def is_for_people(self) -> bool:
        """Whether it is a question, and no other wait."""
        return self.kind == WaitKind.QUESTION

    @property
    def parts(self) -> Iterator[Change | None]:
        yield from self.assigned

    @property
    def row(self) -> Row:
        form = {"options": self.options, "schema": self.schema, "assignees": self.assignees}
        ends = {"expires_at": self.expires_at, "on_expiry": self.on_expiry}
        wanted = {"user_id": self.wanted_of, "event": self.wanted_event, "match": self.match, "since": self.since}
        return {
            "id": self.question_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "kind": self.kind,
            "text": self.text,
            "memo": self.memo,
            "asked_at": self.at,
            "alarms": self.alarms,
            "alarm_at": self.alarm_at,
            "tree": self.tree,
            **form,
            **ends,
            **wanted,
        }


@dataclass(slots=True, kw_only=True)
class QuestionAlarmed(Change):
    """An alarm of a question that is not answered: of the alarms `before` it, `alarms` are left, and `alarm_at` is the next of them.

    `before`, `alarms` and `assignees` are JSON text. A repetition finds other alarms, and is refused.
    """

    question_id: str
    before: str | None
    assignees: str | None
    alarms: str | None
    alarm_at: str | None
    assigned: Sequence[QuestionAssigned] = ()
    is_for_people: ClassVar[bool] = True

    WRITE: ClassVar[Write] = Statement(
        "UPDATE tasks_question SET assignees = %(assignees)s, alarms = %(alarms)s, alarm_at = %(alarm_at)s "
        "WHERE id = %(id)s AND alarms = %(before)s AND answered_at IS NULL AND closed_at IS NULL"
    )

    @property
    def parts(self) -> Iterator[Change | None]:
        yield from self.assigned

    @property
    def row(self) -> Row:
        now = {"assignees": self.assignees, "alarms": self.alarms, "alarm_at": self.alarm_at}
        return {"id": self.question_id, "before": self.before, **now}


@dataclass(slots=True, kw_only=True)
class TurnAdded(Change):
    """The part of a task in a conversation. `said` is JSON text of so many `characters`."""

    user_id: str
    name: str
    task_id: str
    said: str
    characters: int
    at: str | None

    WRITE: ClassVar[Write] = Insert(
        table="tasks_conversationturn", key=("run_id", "task_id"), replaced=("said", "characters")
    )

    @property
    def row(self) -> Row:
        where = {"user_id": self.user_id, "name": self.name, "run_id": self.run_id, "task_id": self.task_id}
        return {**where, "said": self.said, "characters": self.characters, "created_at": self.at}


@dataclass(slots=True, kw_only=True)
class ResultTaken(Change):
    """The task completes with the result of an equal one: `cached_from` names it, as JSON text."""

    task_id: str
    cached_from: str

    WRITE: ClassVar[Write] = OPEN_TASK

    @property
    def row(self) -> Row:
        return {"id": self.task_id, "cached_from": self.cached_from}


@dataclass(slots=True, kw_only=True)
class TaskFinished(Change):
    """`result` and `token_usage` are JSON text; `progress` is from 0 to 1."""

    task_id: str
    status: str | None
    at: str | None
    result: str | None = None
    error: str | None = None
    cause_id: str | None = None
    progress: float = 1.0
    token_usage: str | None = None
    start: TaskStarted | None = None
    """The start of the task, if it is written in the same commit."""
    closing: QuestionClosed | None = None
    """The end of its question or wait: without it another worker would ask or wait again."""
    steps: str | None = None
    """The steps that it still has, as JSON text; None: all of them."""
    call: str | None = None
    """The call of a workflow that it is, as JSON text, with the order that cancelled it; None: it stays."""
    turn: TurnAdded | None = None
    """The turn of the task in its conversation: it is there if and only if its task has completed."""
    keeps_state: bool = False
    """Whether it may have stored a state, which ends with it."""
    taking: ResultTaken | None = None

    WRITE: ClassVar[Write] = Update(
        table="tasks_task", guard=OPEN_TASK.guard, kept=("steps", "call", "started_at", "attempt")
    )

    @property
    def parts(self) -> Iterator[Change | None]:
        yield from _with_count(self.closing)
        yield self.turn
        yield self.taking

    @property
    def row(self) -> Row:
        return {
            "id": self.task_id,
            "status": self.status,
            "result": self.result,
            "error": self.error,
            "cause_id": self.cause_id,
            "progress": self.progress,
            "token_usage": self.token_usage,
            "steps": self.steps,
            "call": self.call,
            "started_at": self.start and self.start.at,
            "attempt": self.start and self.start.attempt,
            "completed_at": self.at,
            "updated_at": self.at,
        }


@dataclass(slots=True, kw_only=True)
class TasksSpawned(Change):
    """Adds tasks below one that stays open. A repetition finds the first of them, and is refused."""

    task_id: str
    at: str | None
    steps: str | None = None
    """The step that they are, as JSON text, if they are one: without them it would be taken again."""
    closing: QuestionClosed | None = None
    """The end of the question or wait that came before."""

    WRITE: ClassVar[Write] = Statement(
        "UPDATE tasks_task SET has_children = %(has_children)s, updated_at = %(at)s, steps = COALESCE(%(steps)s, steps) "  # noqa: S608  (constants of ours)
        f"WHERE id = %(id)s AND {OPEN_TASK.guard} "
        "AND NOT EXISTS (SELECT 1 FROM tasks_task AS added WHERE id = %(first)s AND root_id = %(root_id)s)"
    )

    @property
    def parts(self) -> Iterator[Change | None]:
        yield from _with_count(self.closing)

    @property
    def row(self) -> Row:
        first = {"first": self.rows[0].id, "root_id": self.rows[0].root_id}
        return {"id": self.task_id, "has_children": True, "at": self.at, "steps": self.steps, **first}


@dataclass(slots=True, kw_only=True)
class ChildrenNoted(Change):
    """The task has tasks below it now."""

    task_id: str
    at: str | None

    WRITE: ClassVar[Write] = OPEN_TASK

    @property
    def row(self) -> Row:
        return {"id": self.task_id, "has_children": True, "updated_at": self.at}


@dataclass(slots=True, kw_only=True)
class StepsAdded(Change):
    """Adds the steps that the code of a workflow calls. Their rows come first in a commit: a quick step starts and ends in the same one.

    A repetition is refused, as is a step whose id another task has: `is_written` tells them apart.
    """

    task_id: str
    first: ChildrenNoted | None = None
    """It comes with the first steps of the workflow."""
    whole: Sequence[Task] = ()
    """The rows as they are at the end of the commit: `rows_of` sets them."""

    IS_HURRIED: ClassVar[bool] = False

    @property
    def parts(self) -> Iterator[Change | None]:
        yield self.first

    def is_written(self) -> bool:
        """Return whether an earlier commit, whose confirmation was lost, has added these very steps."""
        last = self.rows[-1]
        return Task.objects.filter(id=last.id, root_id=last.root_id, spawned_by=self.task_id).exists()


@dataclass(slots=True, kw_only=True)
class PartBegun(Change):
    """A workflow begins another part: `call` has its number and its arguments as JSON text. `past` are the tasks of the part `over`."""

    task_id: str
    call: str
    at: str | None
    over: int
    past: Sequence[str]

    WRITE: ClassVar[Write] = OPEN_TASK

    @property
    def row(self) -> Row:
        return {"id": self.task_id, "call": self.call, "updated_at": self.at}


@dataclass(slots=True, kw_only=True)
class RunCleared(Change):
    """The run has made progress: deaths before that no longer count."""

    WRITE: ClassVar[Write] = Statement(CLEAR)

    @property
    def row(self) -> Row:
        return {"run_id": self.run_id}


@dataclass(slots=True, kw_only=True)
class RunClosed(Change):
    """Ends the run and releases its lease (`tasks.worker.commit`)."""

    status: str
    at: str | None
    wait_id: str | None = None
    """The wait of another run's task that ends with this run."""
    failures: str | None = None
    """The first tasks that failed the run, as JSON (`Run.failures`)."""
    error_key: str | None = None
    """The key of the error of the first of them; every failed run has one."""


@dataclass(slots=True, kw_only=True)
class EventAdded(Change):
    """Adds an event without changing a row."""


IN_ORDER: Final[tuple[type[Change], ...]] = (
    StepsAdded,
    ChildrenNoted,
    UsageAdded,
    ModelCalled,
    BudgetCounted,
    DayCounted,
    AttemptFailed,
    TaskStarted,
    TaskSpent,
    TaskChecked,
    EffectNoted,
    TaskProgressed,
    QuestionClosed,
    QuestionAsked,
    QuestionAlarmed,
    QuestionAssigned,
    TasksSpawned,
    ResultTaken,
    TaskFinished,
    TurnAdded,
    PartBegun,
    RunCleared,
)
"""The changes of one commit are written kind by kind, in the order in which a task goes through
them. A failed attempt comes before the start of the next one. The end of a run comes last, with
its last event.
"""


def rows_of(changes: Sequence[Change]) -> list[Change]:
    """Return what one commit writes: the changes with their parts, and of each subject the latest change alone.

    A task that starts and ends in the commit is one row, and so are the start of a task and the state of its effect.
    """
    latest = dict[Hashable, Change]()
    for change in filter(None, chain.from_iterable((each, *each.parts) for each in changes)):
        if isinstance(change, TaskStarted):
            latest.pop((EffectNoted, change.task_id), None)
        elif isinstance(change, AttemptFailed):  # it is written before the start, which must not hide it
            start = latest.get((TaskStarted, change.task_id))
            if isinstance(start, TaskStarted):
                start.error, start.effect = change.error, None
            latest.pop((EffectNoted, change.task_id), None)
        latest[change.subject] = change
    for change in list(latest.values()):
        if isinstance(change, TaskFinished):
            start = latest.pop((TaskStarted, change.task_id), None)
            change.start = start if isinstance(start, TaskStarted) else None
            latest.pop((TaskSpent, change.task_id), None)
    for start in list(latest.values()):
        if isinstance(start, TaskStarted):
            effect = latest.pop((EffectNoted, start.task_id), None)
            start.effect = effect.effect if isinstance(effect, EffectNoted) else start.effect
    if added := [change for change in latest.values() if isinstance(change, StepsAdded)]:
        _fold(added, latest)
    return list(latest.values())


def _fold(added: Sequence[StepsAdded], latest: dict[Hashable, Change]) -> None:
    """Let the rows of steps have their start and their end, if they come in the same commit and nothing else of them does.

    The rows of the changes stay as they are: if this commit is refused, each change is written alone.
    """
    new = {row.id: row for change in added for row in change.rows}
    of_step = dict[str, list[Change]]()
    for change in latest.values():
        task_id = getattr(change, "task_id", None)
        if task_id in new and not isinstance(change, UsageAdded | ModelCalled | EventAdded | StateStored):
            of_step.setdefault(task_id, []).append(change)
    for task_id, changes in of_step.items():
        [change, *others] = changes
        if not others and isinstance(change, TaskStarted | TaskFinished):
            given = {name: _column(name, value) for name, value in change.row.items() if value is not None}
            new[task_id] = unsaved(Task, vars(new[task_id]) | given)
            del latest[change.subject]
    for each in added:
        each.whole = [new[row.id] for row in each.rows]


def _column(name: str, value: Any) -> Any:
    """Return the value of a change as that of a row that is not stored yet."""
    if name in ("started_at", "completed_at", "updated_at"):
        return datetime.fromisoformat(value)
    return orjson.Fragment(value) if name in ("result", "token_usage", "steps", "call") else value
