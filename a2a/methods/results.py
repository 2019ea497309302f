"""Results of methods: the native JSON, and the rows from which `/` builds A2A objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db.models import Avg, Count

from a2a.core.mapping import TreeFacts, a2a_message, a2a_task, facts_of, native_task, native_tree
from a2a.live.sse import Stream
from a2a.methods.params import picked
from accounts.callers import Caller
from tasks.ids import new_id
from tasks.models import Run, Task
from tasks.rules.exceptions import TaskNotFound
from tasks.rules.strict_json import Json
from tasks.services.trees import queries
from tasks.services.trees.queries import TaskRow
from tasks.storage import loads


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The result of a method about one task.

    `run` is the run of the reply (default: the latest); `stream` follows the reply.
    """

    native: Json
    task: Task | TaskRow
    run: Run | None = None
    stream: Stream | None = None
    with_children: bool = False
    """Whether the metadata of the A2A Task contains the tree, or only the task."""
    metadata: Json = field(default_factory=dict)
    """Further metadata of the A2A Task."""

    def as_a2a(self, caller: Caller) -> Json:
        """Return one A2A Task; a root has the results of its whole tree as artifacts."""
        if not self.task.is_root and not self.with_children:
            return _a2a_part(caller, self)
        run, tree = _snapshot(caller=caller, task_id=self.task.id, run=self.run)
        task = next(each for each in tree if each.id == self.task.id)
        # The task in the metadata of the result is older than the snapshot, but may have more fields.
        shown = self.metadata.get("task", {}) | (native_tree(tree) if self.with_children else native_task(task))
        return a2a_task(
            task,
            run=run,
            facts=facts_of(tree),
            results_of=tree if task.is_root else [task],
            metadata=self.metadata | {"task": shown},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskListResult:
    """The result of a method about many tasks.

    With `by_cursor`, a `next_cursor` of None is the last page. `fields` are those of a task that the metadata of an A2A
    Task has; None for all.
    """

    native: Any
    tasks: Sequence[Task]
    fields: Sequence[str] | None = None
    by_cursor: bool = False
    next_cursor: str | None = None
    stream: None = None

    def as_a2a(self, caller: Caller) -> Any:
        """Return a list of A2A Tasks, each with its own result only; with a cursor, a message with the page."""
        shown = [*_a2a_tasks(caller, self.tasks, fields=self.fields).values()]
        if not self.by_cursor:
            return shown
        return a2a_message({"tasks": shown, "next_cursor": self.next_cursor}, message_id=new_id())


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersResult:
    """One reply for each of many tasks. `native` lists them, each with its `task_id`."""

    native: Sequence[Json]
    stream: None = None

    def as_a2a(self, caller: Caller) -> list[Json]:
        """Return a list of A2A Tasks with the replies in their metadata; for an unknown task, a message."""
        found = _found(caller=caller, task_ids=[answer["task_id"] for answer in self.native])
        shown = _a2a_tasks(caller, found)
        for answer in self.native:
            if answer["task_id"] in shown:
                shown[answer["task_id"]]["metadata"]["answer"] = answer
        return [
            shown.get(answer["task_id"]) or a2a_message(answer, message_id=f"{answer['task_id']}-answer")
            for answer in self.native
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataResult:
    """The result of a method that is not about tasks."""

    native: Any
    stream: None = None

    def as_a2a(self, caller: Caller) -> Json:
        """Return a message with the native result as its data part."""
        return a2a_message(self.native, message_id=new_id())


def _a2a_part(caller: Caller, result: TaskResult) -> Json:
    """One A2A Task of a part of a tree, for which the rest of the tree is not loaded."""
    run, (task,) = _snapshot(caller=caller, task_id=result.task.id, run=result.run, rows_of=_alone)
    facts = _facts_of_trees(caller=caller, root_ids=[task.root_id])
    shown = result.metadata.get("task", {}) | native_task(task)
    return a2a_task(
        task,
        run=run,
        facts=facts[task.root_id],
        results_of=[task],
        metadata=result.metadata | {"task": shown},
    )


def _alone(*, caller: Caller, task_id: str) -> list[Task]:
    """Return the task, which the method has loaded and counted before. Raises TaskNotFound."""
    found = list(loads.with_texts(Task.objects.for_caller(caller).filter(id=task_id)))
    if not found:
        raise TaskNotFound(task_id)
    return found


def _a2a_tasks(caller: Caller, tasks: Sequence[Task], *, fields: Sequence[str] | None = None) -> dict[str, Json]:
    """A2A Tasks by id, without tasks that have been deleted meanwhile."""
    root_ids = sorted({task.root_id for task in tasks})
    runs = queries.latest_runs(caller=caller, root_ids=root_ids)
    facts = _facts_of_trees(caller=caller, root_ids=root_ids)
    return {
        task.id: a2a_task(
            task,
            run=runs.get(task.root_id),
            facts=facts[task.root_id],
            results_of=[task],
            metadata={"task": picked(native_task(task), fields)},
        )
        for task in tasks
        if task.root_id in facts
    }


def _snapshot(
    *, caller: Caller, task_id: str, run: Run | None, rows_of: Callable[..., list[Task]] | None = None
) -> tuple[Run | None, list[Task]]:
    """Read a run (default: the latest) and its tree consistently. Raises TaskNotFound or ResponseTooLarge."""

    def run_now() -> Run | None:
        if run is None:
            return queries.latest_run(caller=caller, task_id=task_id)
        return Run.objects.filter(id=run.id).first()

    read = partial(queries.get_tree, with_texts=True) if rows_of is None else rows_of
    return at_once(run_now, partial(read, caller=caller, task_id=task_id))


def at_once(run_of: Callable[[], Run | None], tree_of: Callable[[], list[Task]]) -> tuple[Run | None, list[Task]]:
    """Read a tree between two reads of its run with the same status; repeat until they agree.

    This ends: a run changes its status only a few times.
    """
    run = run_of()
    while True:
        tree = tree_of()
        before, run = run, run_of()
        if _standing(before) == _standing(run):
            return run, tree


def _standing(run: Run | None) -> tuple[str, str] | None:
    return None if run is None else (run.id, run.status)


def _found(*, caller: Caller, task_ids: Sequence[str]) -> list[Task]:
    found = Task.objects.for_caller(caller).filter(id__in=task_ids)
    loads.spend_on(found, *loads.TASK_COLUMNS)
    return list(loads.with_texts(found))


def _facts_of_trees(*, caller: Caller, root_ids: Sequence[str]) -> Mapping[str, TreeFacts]:
    tasks = Task.objects.for_caller(caller).filter(root_id__in=root_ids).order_by()
    rows = tasks.values_list("root_id").annotate(Count("id"), Avg("progress"))
    return {root_id: TreeFacts(task_count=count, progress=progress) for root_id, count, progress in rows}
