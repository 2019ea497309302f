"""The ids that every log line of a piece of work has: of its request, run and task."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

_IDS: Final[ContextVar[Mapping[str, str]]] = ContextVar("log_ids", default=MappingProxyType({}))


def log_ids() -> Mapping[str, str]:
    """The ids of the current work, by what they are of."""
    return _IDS.get()


def add_log_ids(**ids: str) -> None:
    """Add these to the log lines of the current asyncio task or thread, to its end."""
    _IDS.set({**_IDS.get(), **ids})


@contextmanager
def with_log_ids(**ids: str) -> Iterator[None]:
    """Add these to the log lines within the block."""
    token = _IDS.set({**_IDS.get(), **ids})
    try:
        yield
    finally:
        _IDS.reset(token)
