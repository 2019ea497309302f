"""The cancellations of one run: which of its tasks have to stop, why, and whether at once."""

from collections.abc import Callable, Iterable, Mapping

from tasks.rules.tree import descendants
from tasks.services.runs.cancels import Cancel
from tasks.status import Status
from tasks.worker.outcomes import Outcome


class Cancellations:
    """The cancelled tasks of a run.

    `children` maps a task's id to those of its children; `is_open` returns whether a task can still
    be cancelled.
    """

    def __init__(self, children: dict[str, list[str]], *, is_open: Callable[[str], bool]) -> None:
        self._children = children
        self._is_open = is_open
        self._by_task: dict[str, Cancel] = {}
        self._sheltered: set[str] = set()
        self._heard: set[tuple[str, bool]] = set()
        self._carried_out: set[tuple[str, bool]] = (
            set()
        )  # each poll brings them again; they are news only after the tree has grown

    def add(self, cancel: Cancel) -> list[str]:
        """Return the ids of the tasks that this request newly cancels, the deepest first."""
        request = (cancel.task_id, cancel.force)
        if request in self._carried_out:
            return []
        self._heard.add(request)
        self._carried_out.add(request)
        below = [cancel.task_id, *descendants(cancel.task_id, self._children)]
        if cancel.force or cancel.task_id in self._sheltered:
            self._sheltered.difference_update(below)
        new = [task_id for task_id in reversed(below) if self._is_new(task_id, cancel)]
        self._by_task |= dict.fromkeys(new, cancel)
        return new

    def shelter(self, task_ids: Iterable[str]) -> None:
        """Keep cancellations of tasks above from these, with which the code of a cancelled workflow cleans up."""
        self._sheltered.update(task_ids)

    def is_sheltered(self, task_id: str) -> bool:
        """Return whether a cancelled workflow cleans up with the task, or with one that it is below."""
        return task_id in self._sheltered

    def grow(self, children: Mapping[str, list[str]]) -> None:
        """Learn of new tasks: what is cancelled is so with all that is added below it later."""
        self._carried_out.clear()
        for parent_id, new in children.items():
            self._children.setdefault(parent_id, []).extend(new)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._by_task

    @property
    def task_ids(self) -> list[str]:
        return list(self._by_task)

    @property
    def heard(self) -> frozenset[tuple[str, bool]]:
        """The requests received so far, as (task id, force)."""
        return frozenset(self._heard)

    def message_of(self, task_id: str) -> str | None:
        """Return why the task has to stop; None if it has not."""
        cancel = self._by_task.get(task_id)
        return cancel.message if cancel else None

    def is_forced(self, task_id: str) -> bool:
        cancel = self._by_task.get(task_id)
        return cancel is not None and cancel.force

    def outcome_of(self, task_id: str) -> Outcome:
        """Return the outcome of a cancelled task without a partial result."""
        return Outcome(status=Status.CANCELLED, error=self._by_task[task_id].message)

    def _is_new(self, task_id: str, cancel: Cancel) -> bool:
        known = self._by_task.get(task_id)
        is_open = self._is_open(task_id) and task_id not in self._sheltered
        return is_open and (known is None or (cancel.force and not known.force))
