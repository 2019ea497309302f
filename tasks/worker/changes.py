"""The changes that a run writes, one per step: the update of a row and the event that reports it."""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple

from tasks.models import Task
from tasks.queue.suspicion import CLEAR
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import Spending
from tasks.status import OnExpiry, WaitKind
from tasks.storage import usage
from tasks.storage.bulk import marks

CALL_COLUMNS: Final = (
    *("id", "run_id", "root_id", "task_id", "user_id", "executor_id", "attempt", "step", "agent", "crew_task", "model"),
    *("status", "started_at", "duration_ms", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"),
    *("reasoning_tokens", "cost_nanos", "finish_reason", "error", "content"),
)

Fence = tuple[str, int, str | None]
"""The id of a run, and the epoch and token of the claim of it."""


@dataclass(slots=True, kw_only=True)
class Change:
    """One step of a run.

    `event` has no sequence number yet; `STATEMENT` is empty if only the event is written.
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

    STATEMENT: ClassVar[str] = ""
    TYPES: ClassVar[tuple[str, ...]] = ()
    """PostgreSQL's types of the parameters, if one statement shall write many of these."""
    IS_FENCED: ClassVar[bool] = True
    """Whether it is refused once another worker has claimed the run."""
    NEEDS_RUN: ClassVar[bool] = False
    """Whether it is left out once the run has been deleted."""

    @property
    def fence(self) -> Fence:
        """The claim that allows writing it."""
        return self.run_id, self.epoch, self.token

    @property
    def events(self) -> tuple[Json, ...]:
        return tuple(filter(None, (self.event, self.then)))

    @property
    def values(self) -> tuple[Any, ...]:
        """The parameters of `STATEMENT`."""
        return ()


@dataclass(slots=True, kw_only=True)
class BudgetCounted(Change):
    """The use of the run's budget so far, as JSON: all of it, so a repetition changes nothing."""

    state: str

    STATEMENT: ClassVar[str] = (
        "INSERT INTO tasks_runbudget (run_id, state) VALUES (%s, %s) "
        "ON CONFLICT (run_id) DO UPDATE SET state = excluded.state"
    )

    @property
    def subject(self) -> Hashable:
        """The subject of the count: a newer one replaces it."""
        return self.run_id

    @property
    def values(self) -> tuple[Any, ...]:
        return self.run_id, self.state


@dataclass(slots=True, kw_only=True)
class DayCounted(Change):
    """The use of the runs of a user on a day in this process: all of it, so a repetition changes nothing."""

    user_id: str
    day: str
    process: str
    tasks: int
    seconds: float

    STATEMENT: ClassVar[str] = (
        "INSERT INTO tasks_daycount (user_id, day, process, tasks, seconds) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (user_id, day, process) DO UPDATE SET tasks = excluded.tasks, seconds = excluded.seconds"
    )
    IS_FENCED: ClassVar[bool] = False

    @property
    def subject(self) -> Hashable:
        return self.user_id, self.day

    @property
    def values(self) -> tuple[Any, ...]:
        return self.user_id, self.day, self.process, self.tasks, self.seconds


@dataclass(slots=True, kw_only=True)
class TaskStarted(Change):
    task_id: str
    attempt: int
    at: str | None
    effect: str | None = None
    counting: BudgetCounted | None = None
    """The count of the task in the budget: never without its start, or it would be counted twice."""

    STATEMENT: ClassVar[str] = (
        "UPDATE tasks_task SET status = 'in_progress', started_at = %s, updated_at = %s, attempt = %s, effect = %s, progress = 0, error = NULL "
        "WHERE id = %s AND status IN ('pending', 'in_progress')"
    )
    TYPES: ClassVar[tuple[str, ...]] = ("timestamptz", "timestamptz", "integer", "varchar", "varchar")

    @property
    def values(self) -> tuple[Any, ...]:
        return self.at, self.at, self.attempt, self.effect, self.task_id


@dataclass(slots=True, kw_only=True)
class EffectNoted(Change):
    """The state of a task's effect that is not safe to repeat: begun, or awaited again."""

    task_id: str
    effect: str

    STATEMENT: ClassVar[str] = (
        "UPDATE tasks_task SET effect = %s WHERE id = %s AND status IN ('pending', 'in_progress')"
    )
    TYPES: ClassVar[tuple[str, ...]] = ("varchar", "varchar")

    @property
    def values(self) -> tuple[Any, ...]:
        return self.effect, self.task_id


@dataclass(slots=True, kw_only=True)
class AttemptFailed(Change):
    """The task stays in progress until its next attempt. Its error shows that no attempt is under way."""

    task_id: str
    error: str | None
    at: str | None

    STATEMENT: ClassVar[str] = (
        "UPDATE tasks_task SET error = %s, effect = NULL, updated_at = %s WHERE id = %s AND status IN ('pending', 'in_progress')"
    )

    @property
    def values(self) -> tuple[Any, ...]:
        return self.error, self.at, self.task_id


@dataclass(slots=True, kw_only=True)
class TaskProgressed(Change):
    """`progress` is from 0 to 1."""

    task_id: str
    progress: float
    at: str | None

    STATEMENT: ClassVar[str] = (
        "UPDATE tasks_task SET progress = %s, updated_at = %s WHERE id = %s AND status = 'in_progress'"
    )

    @property
    def values(self) -> tuple[Any, ...]:
        return self.progress, self.at, self.task_id


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

    STATEMENT: ClassVar[str] = usage.ADD
    IS_FENCED: ClassVar[bool] = False

    @property
    def values(self) -> tuple[Any, ...]:
        model, *numbers = self.spending
        return self.key, self.user_id, self.day, model, self.executor_id, self.run_id, *numbers


@dataclass(slots=True, kw_only=True)
class TaskSpent(Change):
    """The token usage of a task so far, as JSON: all of it, so a repetition changes nothing."""

    task_id: str
    token_usage: str

    STATEMENT: ClassVar[str] = "UPDATE tasks_task SET token_usage = %s WHERE id = %s"
    TYPES: ClassVar[tuple[str, ...]] = ("text", "varchar")

    @property
    def subject(self) -> Hashable:
        """The subject of the usage: a newer one replaces it."""
        return "task", self.task_id

    @property
    def values(self) -> tuple[Any, ...]:
        return self.token_usage, self.task_id


@dataclass(slots=True, kw_only=True)
class ModelCalled(Change):
    """A call of a model. It is recorded even if the run has gone to another worker, unless the run is deleted.

    `row` has the columns `CALL_COLUMNS`, the first of which makes a repetition change nothing.
    """

    row: tuple[Any, ...]

    STATEMENT: ClassVar[str] = (
        f"INSERT INTO tasks_modelcall ({', '.join(CALL_COLUMNS)}) VALUES ({marks(CALL_COLUMNS)}) ON CONFLICT DO NOTHING"  # noqa: S608  (constants of ours)
    )
    IS_FENCED: ClassVar[bool] = False
    NEEDS_RUN: ClassVar[bool] = True

    @property
    def values(self) -> tuple[Any, ...]:
        return self.row


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

    STATEMENT: ClassVar[str] = (
        "UPDATE tasks_question SET closed_at = %s WHERE run_id = %s AND task_id = %s AND closed_at IS NULL"
    )

    @property
    def values(self) -> tuple[Any, ...]:
        return self.at, self.run_id, self.task_id


class WantedEvent(NamedTuple):
    """The event that a task waits for, as columns."""

    user_id: str | None = None
    event: str | None = None
    match: str | None = None
    since: str | None = None


@dataclass(slots=True, kw_only=True)
class QuestionAssigned(Change):
    """Lists a question, which is neither answered nor closed, for one of its assignees. A repetition is refused."""

    question_id: str
    name: str

    STATEMENT: ClassVar[str] = (
        "INSERT INTO tasks_assignee (question_id, name) SELECT id, %s FROM tasks_question "
        "WHERE id = %s AND answered_at IS NULL AND closed_at IS NULL ON CONFLICT DO NOTHING"
    )

    @property
    def values(self) -> tuple[Any, ...]:
        return self.name, self.question_id


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
    wanted: WantedEvent | None = None
    tree: str | None = None
    """The tree that is to run, as JSON text."""
    limited_user: str | None = None
    """The user whose limit of waits it counts against. None: it is no wait of a task, but about the budget of the run."""
    assigned: Sequence[QuestionAssigned] = ()
    """Written together with it, so that no crash can come between them."""

    STATEMENT: ClassVar[str] = (
        "INSERT INTO tasks_question (id, run_id, task_id, text, options, schema, assignees, alarms, alarm_at, memo, asked_at, expires_at, kind, on_expiry, "
        "tree, user_id, event, match, since) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
    )

    @property
    def is_for_people(self) -> bool:
        """Whether it is a question, and no other wait."""
        return self.kind == WaitKind.QUESTION

    @property
    def values(self) -> tuple[Any, ...]:
        form = (self.options, self.schema, self.assignees, self.alarms, self.alarm_at, self.memo)
        question = (self.question_id, self.run_id, self.task_id, self.text, *form)
        ends = (self.at, self.expires_at, self.kind, self.on_expiry, self.tree)
        return *question, *ends, *(self.wanted or WantedEvent())


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
    """Written together with it."""
    is_for_people: ClassVar[bool] = True

    STATEMENT: ClassVar[str] = (
        "UPDATE tasks_question SET assignees = %s, alarms = %s, alarm_at = %s "
        "WHERE id = %s AND alarms = %s AND answered_at IS NULL AND closed_at IS NULL"
    )

    @property
    def values(self) -> tuple[Any, ...]:
        return self.assignees, self.alarms, self.alarm_at, self.question_id, self.before


@dataclass(slots=True, kw_only=True)
class TurnAdded(Change):
    """The part of a task in a conversation. `said` is JSON text of so many `characters`."""

    user_id: str
    name: str
    task_id: str
    said: str
    characters: int
    at: str | None

    STATEMENT: ClassVar[str] = (
        "INSERT INTO tasks_conversationturn (user_id, name, run_id, task_id, said, characters, created_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (run_id, task_id) DO UPDATE SET said = excluded.said, "
        "characters = excluded.characters"
    )

    @property
    def values(self) -> tuple[Any, ...]:
        return self.user_id, self.name, self.run_id, self.task_id, self.said, self.characters, self.at


@dataclass(slots=True, kw_only=True)
class TaskFinished(Change):
    """`result` and `token_usage` are JSON text; `progress` is from 0 to 1."""

    task_id: str
    status: str | None
    at: str | None
    result: str | None = None
    error: str | None = None
    progress: float = 1.0
    token_usage: str | None = None
    start: TaskStarted | None = None
    """The start of the task, if it is written in the same commit."""
    closing: QuestionClosed | None = None
    """The end of its question or wait: never without that of the task, or another worker would ask or wait again."""
    steps: str | None = None
    """The steps that it still has, as JSON text; None: all of them."""
    turn: TurnAdded | None = None
    """The turn of the task in its conversation. One commit stores both: a turn is there if and only if its task has completed."""
    keeps_state: bool = False
    """Whether it may have stored a state, which ends with it."""

    STATEMENT: ClassVar[str] = (
        "UPDATE tasks_task SET status = %s, result = %s, error = %s, progress = %s, token_usage = %s, steps = COALESCE(%s, steps), "
        "started_at = COALESCE(%s, started_at), attempt = COALESCE(%s, attempt), "
        "completed_at = %s, updated_at = %s WHERE id = %s AND status IN ('pending', 'in_progress')"
    )
    TYPES: ClassVar[tuple[str, ...]] = (
        *("varchar", "text", "text", "float8", "text", "text"),
        *("timestamptz", "integer", "timestamptz", "timestamptz", "varchar"),
    )

    @property
    def values(self) -> tuple[Any, ...]:
        outcome = (self.status, self.result, self.error, self.progress, self.token_usage, self.steps)
        start = (self.start.at, self.start.attempt) if self.start else (None, None)
        return *outcome, *start, self.at, self.at, self.task_id


@dataclass(slots=True, kw_only=True)
class TasksSpawned(Change):
    """Adds tasks below one that stays open. A repetition finds the first of them, and is refused.

    `steps` is the step that they are, as JSON text, if they are one: never without them, or it would be taken again.
    """

    task_id: str
    at: str | None
    steps: str | None = None
    closing: QuestionClosed | None = None
    """The end of the question or wait that came before."""

    STATEMENT: ClassVar[str] = (
        "UPDATE tasks_task SET has_children = %s, updated_at = %s, steps = COALESCE(%s, steps) WHERE id = %s AND status IN ('pending', 'in_progress') "
        "AND NOT EXISTS (SELECT 1 FROM tasks_task WHERE id = %s AND root_id = %s)"
    )

    @property
    def values(self) -> tuple[Any, ...]:
        return True, self.at, self.steps, self.task_id, self.rows[0].id, self.rows[0].root_id


@dataclass(slots=True, kw_only=True)
class RunCleared(Change):
    """The run has made progress: deaths before that no longer count."""

    STATEMENT: ClassVar[str] = CLEAR

    @property
    def values(self) -> tuple[Any, ...]:
        return (self.run_id,)


@dataclass(slots=True, kw_only=True)
class RunClosed(Change):
    """Ends the run and releases its lease (`tasks.worker.commit`)."""

    status: str
    at: str | None
    wait_id: str | None = None
    """The wait of another run's task that ends with this run."""
    failures: str | None = None
    """The first tasks that failed the run, as JSON (`Run.failures`)."""


@dataclass(slots=True, kw_only=True)
class EventAdded(Change):
    """Adds an event without changing a row."""


IN_ORDER: Final[tuple[type[Change], ...]] = (
    UsageAdded,
    ModelCalled,
    BudgetCounted,
    DayCounted,
    AttemptFailed,
    TaskStarted,
    TaskSpent,
    EffectNoted,
    TaskProgressed,
    QuestionClosed,
    QuestionAsked,
    QuestionAlarmed,
    QuestionAssigned,
    TasksSpawned,
    TaskFinished,
    TurnAdded,
    RunCleared,
)
"""The changes of one commit are written kind by kind, in the order in which a task goes through
them. A failed attempt comes before the start of the next one. The end of a run comes last, with
its last event.
"""


COUNTS: Final = BudgetCounted | DayCounted | TaskSpent
"""The changes of which the newest in a commit includes the others."""


def rows_of(changes: Sequence[Change]) -> list[Change]:
    """Return the changes without the starts of tasks that end in the same commit, with what is a part of others, the ends of
    their questions, the assignees of questions and turns of conversations, and with one count of each budget and day and
    the latest effect of each task, which is written with its start if that is among them.
    """
    effects = _latest_effects(changes)
    starts = {change.task_id: change for change in changes if isinstance(change, TaskStarted)}
    for change in changes:
        if isinstance(change, TaskFinished):
            change.start = starts.pop(change.task_id, None)
    closings = [
        change.closing for change in changes if isinstance(change, TaskFinished | TasksSpawned) and change.closing
    ]
    assigned = [
        each for change in changes if isinstance(change, QuestionAsked | QuestionAlarmed) for each in change.assigned
    ]
    turns = [change.turn for change in changes if isinstance(change, TaskFinished) and change.turn]
    for start in starts.values():
        if (noted := effects.pop(start.task_id, None)) is not None:
            start.effect = noted.effect
    rows = [change for change in changes if not isinstance(change, TaskStarted) or change.task_id in starts]
    rows = [change for change in rows if not isinstance(change, EffectNoted)]
    return [*_without_budgets(rows), *effects.values(), *closings, *assigned, *turns, *_latest_budgets(changes)]


def _latest_effects(changes: Sequence[Change]) -> dict[str, EffectNoted]:
    """Return what is noted of each task after the start that is among the changes, if there is one."""
    effects = dict[str, EffectNoted]()
    for change in changes:
        if isinstance(change, TaskStarted):
            effects.pop(change.task_id, None)
        elif isinstance(change, EffectNoted):
            effects[change.task_id] = change
    return effects


def _without_budgets(changes: Sequence[Change]) -> list[Change]:
    return [change for change in changes if not isinstance(change, COUNTS)]


def _latest_budgets(changes: Sequence[Change]) -> list[Change]:
    """Return the newest count of each run, task, and user and day: it includes those before it.

    Without the usage of the tasks that end, which their ends have.
    """
    ended = {change.task_id for change in changes if isinstance(change, TaskFinished)}
    counted = [change.counting if isinstance(change, TaskStarted) else change for change in changes]
    newest = {change.subject: change for change in counted if isinstance(change, COUNTS)}
    return [change for change in newest.values() if not (isinstance(change, TaskSpent) and change.task_id in ended)]
