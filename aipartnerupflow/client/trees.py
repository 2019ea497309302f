"""`Tree`: builds the list of tasks that `execute` and `save_flow` take, with ids, parents and dependencies."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

NOT_IN_IDS: Final = re.compile(r"[^a-z0-9]+")


class TreeTask:
    """A task of a `Tree`. `id` is unique in the tree, and `fields` is the task as it is sent."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self.id: str = fields["id"]

    def __repr__(self) -> str:
        return f"<TreeTask {self.id!r}>"

    def place(self, path: str = "") -> str:
        """Return the text that stands for the result of this task, or the value at `path` in it, in inputs of a dependent."""
        return f"{{{{{self.id}{'.' if path else ''}{path}}}}}"

    def __rshift__(self, dependent: "TreeTask") -> "TreeTask":
        """Let another task run after this one: `fetch >> write >> send`. Returns the other task."""
        dependent.run_after(self)
        return dependent

    def run_after(self, *dependencies: "TreeTask") -> None:
        """Add dependencies of this task."""
        known = self.fields.setdefault("dependencies", [])
        known += [each.id for each in dependencies if each.id not in known]


class Tree:
    """A tree to run: its root is a group of the tasks that are added to it.

    `fields` are further fields of the root, such as `params`.
    """

    def __init__(self, name: str, **fields: Any) -> None:
        self._tasks: list[TreeTask] = []
        self._ids: set[str] = set()
        self.root = self._add({"id": self._new_id(name), "name": name, **fields})

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks, as `Client.execute` and `Client.save_flow` take them."""
        return [dict(task.fields) for task in self._tasks]

    def task(
        self,
        name: str,
        executor: str | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        after: TreeTask | Iterable[TreeTask] = (),
        parent: TreeTask | None = None,
        **fields: Any,
    ) -> TreeTask:
        """Add a task, which runs after others. Without an `executor` it is a group of the tasks below it.

        `parent` is by default the root; `fields` are further fields of the task, such as `params` or an `id` of your own.
        Raises ValueError for an id that the tree has already.
        """
        task = {"id": fields.pop("id", None) or self._new_id(name), "name": name, "parent_id": (parent or self.root).id}
        if executor is not None:
            task["schemas"] = {"method": executor}
        if inputs is not None:
            task["inputs"] = dict(inputs)
        added = self._add(task | fields)
        added.run_after(*([after] if isinstance(after, TreeTask) else after))
        return added

    def _add(self, fields: dict[str, Any]) -> TreeTask:
        task = TreeTask(fields)
        if task.id in self._ids:
            raise ValueError(f"The tree has a task with the id {task.id!r} already.")
        self._ids.add(task.id)
        self._tasks.append(task)
        return task

    def _new_id(self, name: str) -> str:
        """Make an id of the name, with a number if another task has it."""
        base = NOT_IN_IDS.sub("-", name.lower()).strip("-") or "task"
        numbered = (f"{base}-{number}" for number in range(2, len(self._ids) + 3))
        return next(each for each in [base, *numbered] if each not in self._ids)
