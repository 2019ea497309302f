"""The state that an executor keeps of a task until the task ends, so that another worker continues where this one died."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Final, Protocol

from aipartnerupflow.executors import ExecutorError


class States(Protocol):
    """The state of one task in its run: a few values by key, of at most 64 characters each."""

    async def load(self) -> dict[str, bytes]:
        """Return all that is stored. Call it first in each attempt."""
        ...

    async def save(self, stored: Mapping[str, bytes], *, deleted: Sequence[str] = ()) -> None:
        """Return when the values are stored, and those keys deleted, in one transaction.

        Raises ExecutorError, permanent, if the task keeps too much, or a named secret.
        """
        ...


class _Nowhere:
    """The missing state of a context that no worker made."""

    async def load(self) -> dict[str, bytes]:
        raise ExecutorError("No worker keeps the state of this task.", permanent=True)

    async def save(self, stored: Mapping[str, bytes], *, deleted: Sequence[str] = ()) -> None:
        await self.load()


STATES: Final[ContextVar[States]] = ContextVar("the state of the task", default=_Nowhere())  # noqa: B039  (it has no state)
