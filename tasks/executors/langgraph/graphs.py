"""Loads graphs. Imported only where they run."""

import asyncio
import inspect
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from importlib import import_module
from typing import Any, Final
from uuid import UUID

from langchain_core.messages import BaseMessage
from langgraph.pregel import Pregel
from pydantic import BaseModel

from aipartnerupflow.executors import ExecutorError

MESSAGE_FIELDS: Final = ("content", "name", "id", "tool_calls", "tool_call_id", "usage_metadata")


def as_json(value: Any, *, path: str = "") -> Any:
    """Return the value as JSON: messages, models and dataclasses as objects, times as text.

    Raises ExecutorError, permanent, naming what has no such form.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case BaseMessage():
            found = {name: getattr(value, name, None) for name in MESSAGE_FIELDS}
            present = {name: each for name, each in found.items() if each or name == "content"}
            return {"type": value.type} | as_json(present, path=path)
        case BaseModel():
            return as_json(value.model_dump(mode="json"), path=path)
        case Enum():
            return as_json(value.value, path=path)
        case datetime() | date() | time() | UUID() | Decimal():
            return str(value) if isinstance(value, UUID | Decimal) else value.isoformat()
        case Mapping():
            return {str(name): as_json(each, path=f"{path}/{name}") for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [as_json(each, path=f"{path}/{index}") for index, each in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: as_json(getattr(value, each.name), path=f"{path}/{each.name}") for each in fields(value)}
    raise ExecutorError(
        f"The output of the graph cannot be a result: '{path or '/'}' is a {type(value).__name__}, which has no form in JSON. Give the graph "
        "an output_schema without it.",
        permanent=True,
    )


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
        graph = found.compile() if _is_builder(found) else found
        if not isinstance(graph, Pregel):
            raise ExecutorError(
                f"{path} is no graph of LangGraph, but {type(graph).__name__}. The operator may correct executors.langgraph.graphs: name a "
                "compiled graph, a StateGraph, or a function without arguments that returns one.",
                permanent=True,
            )
        _loaded[path] = graph
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
