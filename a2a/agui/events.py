"""The events of AG-UI 1.0 that this server sends, each with the fields that it fills."""

import re
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tasks.rules.strict_json import Json

VERSION: Final = "1.0"


class Event(
    Struct,
    rename="camel",
    tag_field="type",
    tag=lambda name: re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper(),
    frozen=True,
    kw_only=True,
    omit_defaults=True,
):
    """Base class of all events. `timestamp` is in milliseconds since 1970."""

    timestamp: int | UnsetType = UNSET

    def to_json(self) -> Json:
        found: Json = msgspec.to_builtins(self)
        return found


class Attributed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An event that belongs to a subagent, if `subagent_run_id` is set."""

    subagent_run_id: str | UnsetType = UNSET


class RunStarted(Event, frozen=True, kw_only=True, omit_defaults=True):
    thread_id: str
    run_id: str
    parent_run_id: str | UnsetType = UNSET
    protocol_version: str | UnsetType = UNSET


class RunFinished(Event, frozen=True, kw_only=True, omit_defaults=True):
    """`outcome` has a `type`: success, interrupt or cancelled. `usage` has an object for each model."""

    thread_id: str
    run_id: str
    outcome: Any = UNSET
    result: Any = UNSET
    usage: list[Json] | UnsetType = UNSET


class RunError(Event, frozen=True, kw_only=True, omit_defaults=True):
    message: str
    code: str | UnsetType = UNSET
    usage: list[Json] | UnsetType = UNSET


class StepStarted(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    step_name: str


class StepFinished(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    step_name: str


class SubagentStarted(Event, frozen=True, kw_only=True, omit_defaults=True):
    subagent_run_id: str
    name: str


class SubagentFinished(Event, frozen=True, kw_only=True, omit_defaults=True):
    subagent_run_id: str
    outcome: Json


class SubagentError(Event, frozen=True, kw_only=True, omit_defaults=True):
    subagent_run_id: str
    message: str


class TextMessageStart(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    message_id: str
    role: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class TextMessageContent(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    message_id: str
    delta: str


class TextMessageEnd(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    message_id: str


class ReasoningStart(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    message_id: str


class ReasoningMessageStart(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    message_id: str
    role: str


class ReasoningMessageContent(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    message_id: str
    delta: str


class ReasoningMessageEnd(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    message_id: str


class ReasoningEnd(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    message_id: str


class ToolCallStart(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    tool_call_id: str
    tool_call_name: str
    parent_message_id: str | UnsetType = UNSET


class ToolCallArgs(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    tool_call_id: str
    delta: str


class ToolCallEnd(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    tool_call_id: str


class ToolCallResult(Attributed, frozen=True, kw_only=True, omit_defaults=True):
    message_id: str
    tool_call_id: str
    content: str


class StateSnapshot(Event, frozen=True, kw_only=True, omit_defaults=True):
    snapshot: Any


class StateDelta(Event, frozen=True, kw_only=True, omit_defaults=True):
    """`delta` is a JSON Patch (RFC 6902)."""

    delta: list[Json]


def milliseconds(timestamp: str) -> int:
    """Return the time of an event of ours as AG-UI has it."""
    return int(datetime.fromisoformat(timestamp).timestamp() * 1000)
