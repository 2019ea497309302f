"""Functions that score, and a workflow that is evaluated and one that scores. They are async, so that they run in the worker."""

from typing import Any

from aipartnerupflow.executors import python_function
from aipartnerupflow.workflows import step, workflow


@python_function
async def is_greeting(result: Any, expected: Any) -> dict[str, Any]:
    """Say whether a result is the greeting that is expected, and why."""
    return {"value": result == expected, "reason": f"It is {result!r}."}


@python_function
async def talks(result: Any) -> str:
    """Return prose."""
    return f"I like {result} very much."


@python_function
async def raises(result: Any) -> bool:
    """Raise an error."""
    raise ValueError("out of order")


@python_function
async def without_result(expected: Any) -> bool:
    """Take no result."""
    return True


@step
async def joined(greeting: str, who: str) -> str:
    """Return both words."""
    return f"{greeting} {who}"


@workflow
async def greeting_to(who: str, greeting: str = "Hello") -> str:
    """Greet."""
    return await joined(greeting, who)


@workflow
async def as_expected(result: Any, expected: Any) -> bool:
    """Compare."""
    return await joined("", str(result)) == await joined("", str(expected))
