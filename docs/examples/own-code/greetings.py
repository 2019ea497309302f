"""Functions that tasks call with `python_executor`."""

from aipartnerupflow.executors import python_function


@python_function
def greet(name: str) -> str:
    """Return a greeting."""
    return f"Hello, {name}!"
