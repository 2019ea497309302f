"""The output of a graph as JSON."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from aipartnerupflow.executors import ExecutorError, Json

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
            return _message(value, path)
        case BaseModel():
            return as_json(value.model_dump(mode="json"), path=path)
        case datetime() | date() | time() | UUID() | Decimal() | Enum():
            return _plain(value, path)
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


def _plain(value: datetime | date | time | UUID | Decimal | Enum, path: str) -> Any:
    if isinstance(value, Enum):
        return as_json(value.value, path=path)
    return str(value) if isinstance(value, UUID | Decimal) else value.isoformat()


def _message(message: BaseMessage, path: str) -> Json:
    found = {name: getattr(message, name, None) for name in MESSAGE_FIELDS}
    present = {name: each for name, each in found.items() if each or name == "content"}
    return {"type": message.type} | {name: as_json(each, path=f"{path}/{name}") for name, each in present.items()}
