"""Processes that a test forks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any, Final

FORK: Final = get_context("fork")


@contextmanager
def forked(target: Callable[..., object], *args: Any) -> Iterator[BaseProcess]:
    """A process that calls it. It is killed at the end."""
    process = FORK.Process(target=target, args=args, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
