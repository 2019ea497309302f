"""The decorator that lets tasks call a function by its name."""

from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

Function = Callable[..., Any]
MARK: Final = "is_python_function"
SCHEMA: Final = "python_function_schema"
IDEMPOTENT: Final = "is_idempotent"
Marked = TypeVar("Marked", bound=Function)


@overload
def python_function(function: Marked) -> Marked: ...
@overload
def python_function(
    *, schema: dict[str, Any] | None = None, idempotent: bool = False
) -> Callable[[Marked], Marked]: ...
def python_function(
    function: Function | None = None, *, schema: dict[str, Any] | None = None, idempotent: bool = False
) -> Any:
    """Let tasks call this function, by its `__name__`, through `python_executor`, and models as a tool.

    The function stays as it is. The server finds it when its module is in `executors.modules`; two
    functions with the same name stop the start. A task passes `arguments` by keyword, as JSON values,
    and the return value, which must be JSON too, is its result. An exception that is not an
    `ExecutorError` fails the task with `name() raised Type: text`.

    A plain function runs on a thread, by default in a process of its own, a coroutine function on the
    event loop.

    A model reads its docstring and the JSON Schema of its arguments. That is made of the type hints, unless
    `@python_function(schema={…})` gives it.

    `idempotent` means that a repeated call does no harm: after a crash of the worker in the middle of a call, the function is
    called again. `current_context().idempotency_key` is the same text both times, for services that can tell a repeat.
    """

    def marked(function: Marked) -> Marked:
        function.__dict__[MARK] = True
        function.__dict__[SCHEMA] = schema
        function.__dict__[IDEMPOTENT] = idempotent
        return function

    return marked if function is None else marked(function)


def is_python_function(function: Function) -> bool:
    """Return whether the function is marked."""
    return MARK in vars(function)


def is_idempotent(function: Function) -> bool:
    """Return whether a repeated call of the function does no harm."""
    return vars(function).get(IDEMPOTENT) is True


def given_schema(function: Function) -> dict[str, Any] | None:
    """Return the JSON Schema that the function was marked with, or None."""
    schema: dict[str, Any] | None = vars(function).get(SCHEMA)
    return schema
