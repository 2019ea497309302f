"""Compare two runs task by task. The tasks of different trees are matched by the ids that were sent."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from accounts.callers import Caller
from llmkeys import sealed_texts
from tasks.models import Run, Task
from tasks.rules.strict_json import TEXT, Json
from tasks.services.history import RunFacts, inputs_of, own_run
from tasks.services.history.past_trees import past_tree
from tasks.status import Status
from tasks.storage import loads

Key = tuple[str, int]
COMPARED: Final = ("status", "inputs", "params", "result", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A task in both runs, or in one of them. `changed` has the names of the fields that differ."""

    key: str
    a: Task | None
    b: Task | None
    changed: list[str]

    @property
    def name(self) -> str:
        found = self.b or self.a
        return found.name if found else self.key

    @property
    def is_changed(self) -> bool:
        return bool(self.changed) or self.a is None or self.b is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs with their inputs, and their tasks in the order of the second one."""

    a: RunFacts
    b: RunFacts
    inputs: tuple[Json, Json]
    pairs: list[Pair]
    warnings: list[str]


def success_before(*, caller: Caller, run_id: str) -> Run | None:
    """Return the last run before this one that completed, of its flow or, without one, of its tree. Raises RunNotFound."""
    run = own_run(caller=caller, run_id=run_id)
    same = {"flow_id": run.flow_id} if run.flow_id else {"root_id": run.root_id}
    before = Run.objects.for_caller(caller).filter(**same, status=Status.COMPLETED, created_at__lt=run.created_at)
    return before.order_by("-created_at", "-id").first()


def compare(*, caller: Caller, a: str, b: str) -> Comparison:
    """Compare two runs of the caller. Raises RunNotFound or ResponseTooLarge."""
    first, second = past_tree(caller=caller, run_id=a), past_tree(caller=caller, run_id=b)
    ours, theirs = _keyed(first.tasks), _keyed(second.tasks)
    if first.facts.run.root_id != second.facts.run.root_id:
        # One flow, or a tree and its copy: their roots are one task.
        ours, theirs = _with_root_first(ours), _with_root_first(theirs)
    pairs = []
    for key in (*theirs, *(key for key in ours if key not in theirs)):
        one, other = ours.get(key), theirs.get(key)
        changed = [name for name in COMPARED if _differs(one, other, name)] if one and other else []
        pairs.append(Pair(key=key[0], a=one, b=other, changed=changed))
    return Comparison(
        a=first.facts,
        b=second.facts,
        inputs=(inputs_of(first.facts.run.id), inputs_of(second.facts.run.id)),
        pairs=pairs,
        warnings=list(dict.fromkeys([*first.warnings, *second.warnings])),
    )


def _keyed(tasks: Sequence[Task]) -> dict[Key, Task]:
    """Return the tasks by the id that was sent and, if several have it, by their order."""
    seen = Counter[str]()
    keyed: dict[Key, Task] = {}
    for task in tasks:
        name = task.label or task.id
        keyed[name, seen[name]] = task
        seen[name] += 1
    return keyed


def _with_root_first(tasks: dict[Key, Task]) -> dict[Key, Task]:
    return {("(root)", 0) if task.is_root else key: task for key, task in tasks.items()}


def _differs(a: Task, b: Task, name: str) -> bool:
    """Return whether a field differs. The order of the members of an object means nothing."""
    if name not in loads.JSON_COLUMNS:
        return bool(getattr(a, name) != getattr(b, name))
    texts = [vars(task)[name + TEXT] or "null" for task in (a, b)]
    if texts[0] == texts[1]:
        return False
    values = (
        sealed_texts.fingerprinted(orjson.loads(text), owner=task.user_id)
        for text, task in zip(texts, (a, b), strict=True)
    )
    return bool(next(values) != next(values))


def seconds_of(task: Task) -> float | None:
    """Return how long the task took from its start to its end. None if it has not both."""
    if task.started_at is None or task.completed_at is None:
        return None
    return max(0.0, (task.completed_at - task.started_at).total_seconds())
