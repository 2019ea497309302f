"""The decorator that lets tasks call a function by its name."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

Function = Callable[..., Any]
MARK: Final = "is_python_function"
Marked = TypeVar("Marked", bound=Function)


def python_function(function: Marked) -> Marked:
    """Let tasks call this function, by its `__name__`, through `python_executor`.

    The function stays as it is. The server finds it when its module is in `executors.modules`; two
    functions with the same name stop the start. A task passes `arguments` by keyword, as JSON values,
    and the return value, which must be JSON too, is its result. An exception that is not an
    `ExecutorError` fails the task with `name() raised Type: text`.

    A plain function runs on a thread, by default in a process of its own, a coroutine function on the
    event loop.
    """
    function.__dict__[MARK] = True
    return function


def is_python_function(function: Function) -> bool:
    """Return whether the function is marked."""
    return MARK in vars(function)
