"""Loads graphs. Imported only where they run."""

import asyncio
import inspect
from importlib import import_module
from typing import Any, Final

from langgraph.pregel import Pregel

from aipartnerupflow.executors import ExecutorError

Graph = Pregel[Any, Any, Any, Any]
_loaded: Final[dict[str, Graph]] = {}
"""The graphs of this process by their paths: compiled once, as modules are imported once."""


async def graph_at(path: str) -> Graph:
    """Return the compiled graph at `package.module:name`. Raises ExecutorError, permanent, if there is none."""
    if path not in _loaded:
        found = await asyncio.to_thread(_found_at, path)
        if callable(found) and not isinstance(found, Pregel) and not _is_builder(found):
            found = found()
            found = await found if inspect.isawaitable(found) else found
        _loaded[path] = _compiled(found, path)
    return _loaded[path]


def _found_at(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ExecutorError(
            f"The graph {path} cannot be loaded: {error}. The operator may correct executors.langgraph.graphs.",
            permanent=True,
        ) from error


def _is_builder(found: Any) -> bool:
    return hasattr(found, "compile") and not inspect.isclass(found)


def _compiled(found: Any, path: str) -> Graph:
    graph = found.compile() if _is_builder(found) else found
    if not isinstance(graph, Pregel):
        raise ExecutorError(
            f"{path} is no graph of LangGraph, but {type(graph).__name__}. The operator may correct executors.langgraph.graphs: name a "
            "compiled graph, a StateGraph, or a function without arguments that returns one.",
            permanent=True,
        )
    return graph
