"""The scope of an execution of a task, in trees that grow. Pure."""

from collections.abc import Iterable
from typing import Protocol

from tasks.rules.maps import MappedTask, templates_of
from tasks.rules.tree import StoredTask, nodes_of, scope_of
from tasks.status import Status


class ScopedTask(StoredTask, MappedTask, Protocol):
    """The attributes of a task that are read here."""


def covered_by(target_id: str, tasks: Iterable[ScopedTask]) -> set[str]:
    """Return the ids of what an execution of the task covers in its tree: see `scope_of`.

    A map or a loop that has not completed also needs what its template depends on, since the copies will. Templates are
    covered with it, although they never run themselves.
    """
    tasks = list(tasks)
    templates = templates_of(tasks)
    completed = {task.id for task in tasks if task.status == Status.COMPLETED} if templates else set()
    over = {part.id for map_id in templates.keys() & completed for part in templates[map_id]}
    if not over and any(task.id == target_id and task.parent_id is None for task in tasks):
        return {task.id for task in tasks}  # as `scope_of` would find: the root's descendants are all others
    return scope_of(target_id, nodes_of(task for task in tasks if task.id not in over or task.id == target_id))
