"""`Tree`: the tasks of a tree that a client starts; `Run` and `AsyncRun`: handles of its runs."""

import re
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from . import calls, run_calls
from .calls import Call, Tasks
from .types import Cancellation, Event, Execution, Task

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


if TYPE_CHECKING:
    from .clients import AsyncClient, Client


def starting(tasks: Tasks | None, *, task_id: str | None, flow: str | None, options: Any) -> Call[Any]:
    """Return the call that starts a run: of new tasks, of a stored task, or of a flow. Raises TypeError unless one is given."""
    if sum(each is not None for each in (tasks, task_id, flow)) != 1:
        raise TypeError("Give one of tasks, task_id and flow.")
    if flow is not None:
        return run_calls.run_flow(flow, **options)
    return calls.execute(tasks, task_id=task_id, **options)


class _Handle:
    def __init__(self, started: Execution) -> None:
        self.started = started
        """The server's reply, with the ids of the tasks and warnings."""
        self.task_id = started["root_task_id"]
        """The root of the tree."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.task_id!r}>"


class Run(_Handle):
    """A run that `Client.start` has started."""

    def __init__(self, client: "Client", started: Execution) -> None:
        super().__init__(started)
        self._client = client

    def events(self, *, after: int = 0) -> Generator[Event]:
        """Yield the events up to `final`, as `Client.follow` does."""
        return self._client.follow(self.task_id, after=after)

    def wait(self) -> Task:
        """Wait for the end and return the tree, with all results. The status of the run is in `run_status`."""
        for _ in self.events():
            pass
        return self._client.load(calls.tree(self.task_id))

    def tree(self) -> Task:
        """Return the tree as it is now."""
        return self._client.tree(self.task_id)

    def cancel(self, *, force: bool = False) -> list[Cancellation]:
        """Cancel the run; with `force`, without time to clean up."""
        return self._client.cancel(self.task_id, force=force)


class AsyncRun(_Handle):
    """A run that `AsyncClient.start` has started."""

    def __init__(self, client: "AsyncClient", started: Execution) -> None:
        super().__init__(started)
        self._client = client

    def events(self, *, after: int = 0) -> AsyncGenerator[Event]:
        """Like `Run.events`."""
        return self._client.follow(self.task_id, after=after)

    async def wait(self) -> Task:
        """Like `Run.wait`. `asyncio.timeout` limits it."""
        async with aclosing(self.events()) as events:
            async for _ in events:
                pass
        return await self._client.load(calls.tree(self.task_id))

    async def tree(self) -> Task:
        """Like `Run.tree`."""
        return await self._client.tree(self.task_id)

    async def cancel(self, *, force: bool = False) -> list[Cancellation]:
        """Like `Run.cancel`."""
        return await self._client.cancel(self.task_id, force=force)
