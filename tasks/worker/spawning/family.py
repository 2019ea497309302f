"""The tasks that added others in a run, and the templates of its maps."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter

from tasks.rules.maps import for_each_of, templates_of
from tasks.rules.plan import Items
from tasks.rules.steps import PART
from tasks.status import Status
from tasks.worker.load_run import LoadedTask


class Family:
    """The tasks of a tree as it grows. `status_of` returns how a task stands."""

    def __init__(self, tasks: Iterable[LoadedTask], *, status_of: Callable[[str], Status]) -> None:
        self._status_of = status_of
        self._tasks: dict[str, LoadedTask] = {}
        self._spawned: dict[str, list[LoadedTask]] = {}
        self._templates: dict[str, list[LoadedTask]] = {}
        self.template_ids: set[str] = set()
        """The tasks that never run themselves."""
        self.next_position = 0
        self._spawned_count = 0
        self._promised: dict[str, int] = {}
        self.add(tasks)

    def add(self, tasks: Iterable[LoadedTask]) -> None:
        """Add tasks with all that are below them."""
        new = sorted(tasks, key=attrgetter("position"))
        for task in new:
            self._tasks[task.id] = task
            self.next_position = max(
                self.next_position, task.position + 1, (task.call or {}).get(PART, {}).get("position", 0)
            )
            if task.spawned_by is not None:
                self._spawned_count += 1
                self._promised.pop(task.spawned_by, None)
                self._spawned.setdefault(task.spawned_by, []).append(task)
        for map_id, template in templates_of(new).items():
            self._templates[map_id] = template
            self.template_ids.update(task.id for task in template)

    def promise(self, task_id: str, count: int, *, most: int) -> int:
        """Return how many tasks this one may add, and keep room for `count` if that is enough.

        Several tasks prepare what they add at the same time; together they add at most `most` to the tree.
        """
        self._promised.pop(task_id, None)
        left = max(0, most - self._spawned_count - sum(self._promised.values()))
        if count <= left:
            self._promised[task_id] = count
        return left

    def put_aside(self, task_id: str) -> list[str]:
        """Forget these tasks, and return their ids: the workflow begins another part."""
        past = self.all_below([task_id])
        for each in (task_id, *past):
            self._spawned.pop(each, None)
        self._spawned_count -= len(past)
        return list(past)

    def template_of(self, task_id: str) -> Sequence[LoadedTask]:
        """Return the template of a map, in order; empty for any other task."""
        return self._templates.get(task_id, ())

    def has_spawned(self, task_id: str) -> bool:
        """Return whether the task has added tasks to the tree."""
        return task_id in self._spawned

    def count_rounds(self, loop_id: str) -> int:
        """Return how many rounds of a loop there are."""
        return len(self._spawned.get(loop_id, ())) // self._round_size(loop_id)

    def latest_round(self, loop_id: str) -> Sequence[LoadedTask]:
        """Return the tasks of the latest round of a loop, in order, however many rounds there are before it."""
        return self._spawned.get(loop_id, [])[-self._round_size(loop_id) :]

    def _round_size(self, loop_id: str) -> int:
        return len(self._templates.get(loop_id, ())) or 1

    def spawned_by(self, task_id: str) -> Sequence[LoadedTask]:
        """Return all tasks that this one has spawned, or those of its latest step, in order, without templates of maps among them."""
        spawned, step = self._spawned.get(task_id, []), self._tasks[task_id].step
        latest = spawned if step is None else spawned[-step.tasks :]
        return [task for task in latest if task.id not in self.template_ids]

    def children_of(self, task_id: str) -> Sequence[LoadedTask]:
        """Return those of them that are right below it."""
        return [task for task in self.spawned_by(task_id) if task.parent_id == task_id]

    def all_below(self, task_ids: Iterable[str]) -> set[str]:
        """Return the ids of all tasks that these have spawned, and those again."""
        found, left = set[str](), list(task_ids)
        while left:
            new = {task.id for task in self._spawned.get(left.pop(), ())} - found
            found |= new
            left += new
        return found

    def level_of(self, task: LoadedTask) -> int:
        """Return the level of the task in its tree; the root's is 1."""
        level, above = 1, task.parent_id
        while above is not None:
            level, above = level + 1, self._tasks[above].parent_id
        return level

    def status_of(self, task: LoadedTask) -> Status:
        return self._status_of(task.id)

    def failures(self, task_id: str) -> Iterator[LoadedTask]:
        """Yield the children that failed or were cancelled, without those that may fail."""
        yield from self.failures_among(self.children_of(task_id))

    def failures_among(self, tasks: Iterable[LoadedTask]) -> Iterator[LoadedTask]:
        """Yield those of the tasks that failed or were cancelled, without those that may fail."""
        for task in tasks:
            if self.status_of(task) in (Status.FAILED, Status.CANCELLED) and not task.params.get("allow_failure"):
                yield task

    def may_fail(self, task: LoadedTask) -> bool:
        """Return whether the run completes though the task failed: it says so, or it is part of a map that collects failures."""
        if task.params.get("allow_failure"):
            return True
        above = self._tasks.get(task.parent_id or "")
        while above is not None:
            if (for_each := for_each_of(above.params)) is not None and for_each.collects:
                return True
            above = self._tasks.get(above.parent_id or "")
        return False

    def open_maps(self) -> list[Items]:
        """Return the items of the maps that are under way."""
        under_way = [map_id for map_id in self._templates if not self._status_of(map_id).is_terminal]
        return [items for map_id in under_way if (items := self.items_of(map_id)) is not None]

    def items_of(self, map_id: str) -> Items | None:
        """Return the items of a map that has spawned them; None for any other task."""
        for_each = for_each_of(self._tasks[map_id].params)
        if for_each is None or map_id not in self._spawned:
            return None
        size = len(self._templates[map_id])
        ids = [task.id for task in self._spawned[map_id]]
        parts = [ids[start : start + size] for start in range(0, len(ids), size)]
        runnable = [[task_id for task_id in part if task_id not in self.template_ids] for part in parts]
        return Items(items=runnable, max_parallel=for_each.max_parallel)
