"""The poll of a worker, on its writer's thread: claim runs, load their trees, and read what running ones have to know.

The trees are loaded with one query for many, without the ORM's cost per row.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, cast

import orjson
from django.db import connection

from llmkeys.sealed_texts import may_contain
from tasks.models import Task
from tasks.models.trees import COLUMNS
from tasks.queue.leases import ANY_REQUEST, ANY_WEBHOOK, Claim
from tasks.rules.files import VALUE_MARK
from tasks.rules.places import has_places
from tasks.rules.steps import Step, read
from tasks.rules.strict_json import Json
from tasks.rules.tree import WORKFLOW
from tasks.services.runs.cancels import Cancel, pending_cancels
from tasks.services.waits.questions import OpenQuestion, open_of
from tasks.storage.bulk import marks
from tasks.storage.loads import sized
from tasks.worker.shares import TreeMemory

SIZES: Final = sized(
    "SELECT root_id, sum(octet_length(inputs) + coalesce(octet_length(params), 0) + coalesce(octet_length(schemas), 0) "
    "+ coalesce(octet_length(result), 0) + coalesce(octet_length(steps), 0) "
    "+ coalesce(octet_length(call), 0)) FROM tasks_task WHERE root_id IN ({marks}) AND part IS NULL GROUP BY root_id"
)
MOVED: Final = VALUE_MARK.decode()
TASK_MEMORY: Final = 2048
"""The bytes that a task takes without its JSON."""
VALUE_MEMORY: Final = 64
"""The bytes that each value in a list or object takes, besides its text."""
LARGE_TEXT: Final = 1024
"""In shorter texts the values are not counted."""


@dataclass(slots=True)
class LoadedTask:
    """A task as the engine works on it."""

    id: str
    root_id: str
    parent_id: str | None
    position: int
    user_id: str
    name: str
    status: str
    priority: int
    executor_id: str | None
    dependencies: list[Json]
    inputs: Json
    schemas: Json
    params: Json
    result: Any
    error: str | None
    progress: float
    attempt: int
    started_at: Any
    """A time in the database's own form: only good to find the latest."""
    spawned_by: str | None = None
    label: str | None = None
    """Its id in the request, if another one is stored."""
    effect: str | None = None
    """`tasks.status.Effect`."""
    cause_id: str | None = None
    """The failed task that kept this one from running."""
    completed_at: Any = None
    """A time in the database's own form, too."""
    call: Json | None = None
    """The call of a workflow that it is, for a replay."""
    step: Step | None = None
    """Its latest step, if it takes any."""
    token_usage: Json | None = None
    """The usage that the executor has reported so far in this run, and before that in the steps that it has taken."""
    has_places: bool = False
    """Whether the inputs may have places (`tasks.rules.places`)."""
    has_sealed: bool = False
    """Whether the inputs may have encrypted texts (`llmkeys.sealed_texts`)."""
    has_moved: bool = False
    """Whether the inputs may have large values that are stored as files (`tasks.rules.files`)."""
    returns_moved: bool = False
    """Whether the result may have them."""
    result_bytes: int = 0
    memory: int = 0
    """About how many bytes its JSON takes, once it is parsed."""

    @property
    def is_called_again(self) -> bool:
        """Whether the executor is called again when the tasks of the latest step are over."""
        return self.step is not None and self.step.again


def is_live(task: LoadedTask) -> bool:
    """Return whether the task is a workflow, whose code runs beside its steps."""
    return (task.executor_id or "").startswith(WORKFLOW)


def moment_of(stored: Any) -> datetime:
    """Return a time of the database, which is text on SQLite, with its time zone."""
    moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


SELECTED: Final = [*(field.name for field in fields(LoadedTask) if field.name in COLUMNS), "steps"]
CALL: Final = SELECTED.index("call")
LOADED_AS_THEY_ARE: Final = [name for name in SELECTED if name not in ("schemas", "params", "token_usage", "steps")]


def tree_sizes(root_ids: Collection[str]) -> dict[str, int]:
    """Map each root id to the bytes of the texts that `load_trees` would read."""
    roots = list(root_ids)
    with connection.cursor() as cursor:
        cursor.execute(SIZES.format(marks=marks(roots)), roots)
        return dict(cursor.fetchall())


def load_trees(root_ids: Collection[str]) -> dict[str, list[LoadedTask]]:
    """Map each root id to the tasks of its tree, in the order of the request. Parts of workflows that are over are not read."""
    trees: defaultdict[str, list[LoadedTask]] = defaultdict(list)
    roots = list(root_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(SELECTED)} FROM tasks_task WHERE root_id IN ({marks(roots)}) AND part IS NULL "  # noqa: S608
            "ORDER BY root_id, position",
            roots,
        )
        for row in cursor.fetchall():
            task = _task(row)
            trees[task.root_id].append(task)
    return trees


def _task(row: tuple[Any, ...]) -> LoadedTask:
    dependencies, inputs, schemas, params, result = row[9:14]
    decoded = (
        orjson.loads(dependencies),
        orjson.loads(inputs),
        orjson.loads(schemas) if schemas else {},
        orjson.loads(params) if params else {},
        orjson.loads(result) if result else None,
    )
    usage, steps = row[-2:]
    call = cast("str | None", row[CALL])
    task = LoadedTask(*(row[:9] + decoded + row[14:-2]))
    if call:
        task.call = orjson.loads(call)
    if steps:
        task.step = read(orjson.loads(steps))
        task.token_usage = task.step.usage
    if usage:
        task.token_usage = orjson.loads(usage)
    task.has_places = has_places(inputs)
    task.has_sealed = may_contain(inputs)
    task.has_moved, task.returns_moved = MOVED in inputs, MOVED in (result or "")
    task.result_bytes = len(result or "")
    task.memory = TASK_MEMORY + sum(map(_memory_of, (inputs, schemas, params, result, steps, call)))
    return task


def loaded(row: Task) -> LoadedTask:
    """Convert a row that is not stored yet."""
    fields = {name: getattr(row, name) for name in LOADED_AS_THEY_ARE}
    texts = [orjson.dumps(value).decode() for value in (row.inputs, row.schemas, row.params, row.call)]
    return LoadedTask(
        **fields,
        schemas=row.schemas or {},
        params=row.params or {},
        has_places=has_places(texts[0]),
        has_sealed=may_contain(texts[0]),
        has_moved=MOVED in texts[0],
        memory=TASK_MEMORY + sum(map(_memory_of, texts)),
    )


def memory_of(tasks: Iterable[LoadedTask]) -> int:
    """About how many bytes a tree takes."""
    return sum(task.memory for task in tasks)


def _memory_of(text: str | None) -> int:
    if text is None or len(text) < LARGE_TEXT:
        return len(text or "")
    return len(text) + VALUE_MEMORY * (text.count(",") + text.count("[") + text.count("{"))


ClaimedTree = tuple[Claim, list[LoadedTask], list[OpenQuestion]]
PART_BYTES: Final = 2**20
"""The bytes of JSON of several trees that are loaded at once."""
LOOK: Final = f"SELECT {ANY_REQUEST}, {ANY_WEBHOOK}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result of a poll: claimed runs and, by run, cancel requests and questions with replies."""

    claimed: list[ClaimedTree]
    cancels: defaultdict[str, list[Cancel]]
    replies: dict[str, list[OpenQuestion]]
    is_any_webhook: bool


def poll(
    claim: Callable[[], list[Claim]], release: Callable[..., None], *, memory: TreeMemory, waiting: Sequence[str]
) -> Found:
    """Claim runs for which there is memory. `waiting`: runs that have asked a question."""
    claims = claim()
    is_any_request, is_any_webhook = _seen_by(claims[0]) if claims else _look()
    trees = _loaded([claimed.root_id for claimed in claims], memory) if claims else {}
    if left := [claimed.run_id for claimed in claims if claimed.root_id not in trees]:
        release(run_ids=left)
        claims = [claimed for claimed in claims if claimed.root_id in trees]
    questions = open_of([*waiting, *(claimed.run_id for claimed in claims if not claimed.is_first)])
    return Found(
        claimed=[(claimed, trees[claimed.root_id], questions[claimed.run_id]) for claimed in claims],
        cancels=pending_cancels() if is_any_request else defaultdict(list),
        replies={run_id: [each for each in questions[run_id] if each.reply is not None] for run_id in waiting},
        is_any_webhook=is_any_webhook,
    )


def _seen_by(claim: Claim) -> tuple[bool, bool]:
    return claim.is_any_request, claim.is_any_webhook


def _look() -> tuple[bool, bool]:
    with connection.cursor() as cursor:
        cursor.execute(LOOK)
        is_any_request, is_any_webhook = cursor.fetchone()
    return bool(is_any_request), bool(is_any_webhook)


def _loaded(root_ids: Sequence[str], memory: TreeMemory) -> dict[str, list[LoadedTask]]:
    """Load the trees for which there is memory, in order, the large ones one by one."""
    sizes = tree_sizes(root_ids) if len(root_ids) > 1 else {}
    trees: dict[str, list[LoadedTask]] = {}
    for part in _parts(root_ids, sizes):
        for root_id, tasks in load_trees(part).items():
            if not memory.has_room(tasks[0].user_id):
                continue
            trees[root_id] = tasks
            memory.take(tasks[0].user_id, memory_of(tasks))
        if memory.is_full:
            break
    return trees


def _parts(root_ids: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Divide the trees into parts of at most PART_BYTES, or of one tree."""
    part, size = list[str](), 0
    for root_id in root_ids:
        if part and size + sizes.get(root_id, 0) > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(root_id)
        size += sizes.get(root_id, 0)
    yield part
