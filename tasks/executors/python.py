"""Calls functions that the operator's own modules offer with `@python_function`, and no others."""

import asyncio
import inspect
from difflib import get_close_matches
from typing import Any, ClassVar

from tasks.executors.base import Context, Executor, ExecutorError, Json
from tasks.executors.plugins import Function, plugins


class Python(Executor):
    """What the function returns is the result. A plain function runs in a thread, an async one on the event loop."""

    id = "python_executor"
    name = "Python function"
    description = (
        "Calls a function that the operator registered. Cancelling frees the task at once; "
        "a function that is not async cannot be interrupted, so it runs on to its end and its result is dropped."
    )
    tags = ("core", "code")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "function": {"type": "string", "description": "The name of a registered function"},
            "arguments": {"type": "object", "default": {}, "description": "Passed by keyword"},
        },
        "required": ["function"],
    }
    example: ClassVar[Json] = {"function": "add", "arguments": {"a": 1, "b": 2}}
    idempotent = False

    async def execute(self, inputs: Json, context: Context) -> Any:
        function = _function(inputs["function"])
        arguments = inputs.get("arguments", {})
        _check_arguments(function, arguments)
        try:
            if inspect.iscoroutinefunction(function):
                return await function(**arguments)
            return await asyncio.to_thread(function, **arguments)
        except ExecutorError:
            raise
        except Exception as error:  # the operator's function may raise anything
            raise ExecutorError(f"{function.__name__}() raised {type(error).__name__}: {error}") from error


def _function(name: str) -> Function:
    functions = plugins().functions
    if name not in functions:
        close = get_close_matches(name, sorted(functions))
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ExecutorError(
            f"Function '{name}' is not registered.{hint} "
            "Mark it with @python_function in a module named in executors.modules.",
            permanent=True,
        )
    return functions[name]


def _check_arguments(function: Function, arguments: Json) -> None:
    """Raises ExecutorError when the arguments do not fit, so that it is told from a TypeError within the function."""
    signature = inspect.signature(function)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ExecutorError(
            f"The arguments do not fit {function.__name__}{signature}: {error}.", permanent=True
        ) from error
