"""Load the trees for the engine: one query for many trees, without the ORM's cost per row."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from django.db import connection

from llmkeys.sealed_texts import may_contain
from tasks.models import Task
from tasks.rules.places import has_places
from tasks.rules.steps import Step, read
from tasks.rules.strict_json import Json
from tasks.storage.bulk import marks
from tasks.storage.loads import sized

COLUMNS: Final = (
    "id, root_id, parent_id, position, user_id, name, status, priority, executor_id, "
    "dependencies, inputs, schemas, params, result, error, progress, attempt, started_at, spawned_by, label, effect, token_usage, "
    "steps"
)

SIZES: Final = sized(
    "SELECT root_id, sum(octet_length(inputs) + coalesce(octet_length(params), 0) + coalesce(octet_length(schemas), 0) "
    "+ coalesce(octet_length(result), 0) + coalesce(octet_length(steps), 0)) FROM tasks_task WHERE root_id IN ({marks}) GROUP BY root_id"
)
LOADED_AS_THEY_ARE: Final = tuple(
    name for name in COLUMNS.split(", ") if name not in ("schemas", "params", "token_usage", "steps")
)
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
    step: Step | None = None
    """Its latest step, if it takes any."""
    token_usage: Json | None = None
    """The usage that the executor has reported so far in this run, and before that in the steps that it has taken."""
    has_places: bool = False
    """Whether the inputs may have places (`tasks.rules.places`)."""
    has_sealed: bool = False
    """Whether the inputs may have encrypted texts (`llmkeys.sealed_texts`)."""
    result_bytes: int = 0
    memory: int = 0
    """About how many bytes its JSON takes, once it is parsed."""


def tree_sizes(root_ids: Collection[str]) -> dict[str, int]:
    """Map each root id to the bytes of the texts that `load_trees` would read."""
    roots = list(root_ids)
    with connection.cursor() as cursor:
        cursor.execute(SIZES.format(marks=marks(roots)), roots)
        return dict(cursor.fetchall())


def load_trees(root_ids: Collection[str]) -> dict[str, list[LoadedTask]]:
    """Map each root id to the tasks of its tree, in the order of the request."""
    trees: defaultdict[str, list[LoadedTask]] = defaultdict(list)
    roots = list(root_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {COLUMNS} FROM tasks_task WHERE root_id IN ({marks(roots)}) ORDER BY root_id, position",  # noqa: S608
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
    task = LoadedTask(*(row[:9] + decoded + row[14:-2]))
    if steps:
        task.step = read(orjson.loads(steps))
        task.token_usage = task.step.usage
    if usage:
        task.token_usage = orjson.loads(usage)
    task.has_places = has_places(inputs)
    task.has_sealed = may_contain(inputs)
    task.result_bytes = len(result or "")
    task.memory = TASK_MEMORY + sum(map(_memory_of, (inputs, schemas, params, result, steps)))
    return task


def loaded(row: Task) -> LoadedTask:
    """Convert a row that is not stored yet."""
    fields = {name: getattr(row, name) for name in LOADED_AS_THEY_ARE}
    texts = [orjson.dumps(value).decode() for value in (row.inputs, row.schemas, row.params)]
    return LoadedTask(
        **fields,
        schemas=row.schemas or {},
        params=row.params or {},
        has_places=has_places(texts[0]),
        has_sealed=may_contain(texts[0]),
        memory=TASK_MEMORY + sum(map(_memory_of, texts)),
    )


def memory_of(tasks: Iterable[LoadedTask]) -> int:
    """About how many bytes a tree takes."""
    return sum(task.memory for task in tasks)


def _memory_of(text: str | None) -> int:
    if text is None or len(text) < LARGE_TEXT:
        return len(text or "")
    return len(text) + VALUE_MEMORY * (text.count(",") + text.count("[") + text.count("{"))
