"""`Run` and `AsyncRun`: handles of runs that a client has started."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

from . import calls, run_calls
from .calls import Call, Tasks
from .errors import RunFailed
from .types import Cancellation, Event, Execution, Json, Task

if TYPE_CHECKING:
    from .clients import AsyncClient, Client


P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Workflow(Protocol[P, R_co]):
    """A function with `@workflow` (`aipartnerupflow.workflows`), which the server has, too."""

    def as_task(self, *args: P.args, **kwargs: P.kwargs) -> Json: ...
    def returned(self, result: Any, /) -> R_co: ...


def starting(
    tasks: Tasks | None = None, *, task_id: str | None = None, flow: str | None = None, **options: Any
) -> Call[Any]:
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


class WorkflowRun(Run, Generic[R_co]):
    """A run of a workflow that `Client.start` has started."""

    def __init__(self, client: "Client", started: Execution, workflow: Workflow[..., R_co]) -> None:
        super().__init__(client, started)
        self._workflow = workflow

    def result(self) -> R_co:
        """Wait for the end, and return the result as a value of the declared type. Raises RunFailed."""
        return self._workflow.returned(_result_of(self.wait()))


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


class AsyncWorkflowRun(AsyncRun, Generic[R_co]):
    """A run of a workflow that `AsyncClient.start` has started."""

    def __init__(self, client: "AsyncClient", started: Execution, workflow: Workflow[..., R_co]) -> None:
        super().__init__(client, started)
        self._workflow = workflow

    async def result(self) -> R_co:
        """Like `WorkflowRun.result`."""
        return self._workflow.returned(_result_of(await self.wait()))


def _result_of(tree: Task) -> Any:
    if tree["run_status"] != "completed":
        raise RunFailed(f"'{tree['name']}' has {tree['run_status']}: {tree['error']}", data=tree)
    return tree["result"]
