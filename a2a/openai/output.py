"""The output items of a response, and the events of the wire that say how they come about. Made of the events of AG-UI.

The output has the words of the task that the run is of, and not those of tasks below it, and the calls of functions that the
client must answer. Tools that the server calls by itself are no items: a client would call them again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from msgspec import UNSET

from a2a.agui import events as agui
from a2a.agui.events import Event
from a2a.core.mapping import answer_schema
from a2a.openai.params import PLAIN
from a2a.openai.parts import ASK, Part, call_id_of
from tasks.models import Question
from tasks.rules.strict_json import Json
from tasks.status import Status

STATUSES: Final = {
    Status.PENDING: "queued",
    Status.IN_PROGRESS: "in_progress",
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
}
ENDS: Final = {"completed": "response.completed", "failed": "response.failed", "cancelled": "response.incomplete"}
"""The last event by the status. The wire has none for a response that was cancelled."""


@dataclass(slots=True, kw_only=True)
class Output:
    """The items so far. Each event has a sequence number: the same one whenever the log is read again."""

    items: list[Json] = field(default_factory=list)
    pending_calls: list[str]
    """The calls of the client's functions, which `Translator` collects."""
    _numbers: dict[str, int] = field(default_factory=dict)
    """The number of each item by its id in AG-UI."""
    _next: int = 0

    def event(self, type_: str, **more: Any) -> Json:
        """Return an event with the next sequence number."""
        self._next += 1
        return {"type": f"response.{type_}", "sequence_number": self._next - 1, **more}

    def of(self, events: Sequence[Event]) -> list[Json]:
        """Return the events of the wire for those of AG-UI."""
        return [made for event in events for made in self._translate(event)]

    def ask(self, event: Json) -> list[Json]:
        """Return the events by which our event, which asks a person, calls the function `ask`."""
        asked = event["result"]
        question = Question(text=asked["text"], options=asked.get("options"), schema=asked.get("schema"))
        arguments = {"question": asked["text"], "answer_schema": answer_schema(question), "task_id": event["task_id"]}
        call_id = call_id_of(event)
        return [
            *self._begin(call_id, _call(call_id, ASK)),
            *self._add_arguments(call_id, orjson.dumps(arguments).decode()),
            *self._end_call(call_id),
        ]

    def _translate(self, event: Event) -> Iterator[Json]:
        if getattr(event, "subagent_run_id", UNSET) is not UNSET:
            return
        match event:
            case agui.TextMessageStart(message_id=key):
                item = {
                    "type": "message",
                    "id": f"msg_{key}",
                    "status": "in_progress",
                    "role": "assistant",
                    "content": [],
                }
                yield from self._begin(key, item)
                yield self._of(key, "content_part.added", content_index=0, part=_text(""))
                self.items[self._numbers[key]]["content"].append(_text(""))
            case agui.TextMessageContent(message_id=key, delta=delta):
                self._part(key)["text"] += delta
                yield self._of(key, "output_text.delta", content_index=0, delta=delta, logprobs=[])
            case agui.TextMessageEnd(message_id=key):
                part = self._part(key)
                yield self._of(key, "output_text.done", content_index=0, text=part["text"], logprobs=[])
                yield self._of(key, "content_part.done", content_index=0, part=dict(part))
                yield self._end(key)
            case agui.ReasoningStart(message_id=key):
                content = [{"type": "reasoning_text", "text": ""}]
                item = {"type": "reasoning", "id": f"rs_{key}", "summary": [], "status": "in_progress"}
                yield from self._begin(key, item | {"content": []})
                self.items[self._numbers[key]]["content"] = content
            case agui.ReasoningMessageContent(message_id=key, delta=delta):
                self._part(key)["text"] += delta
                yield self._of(key, "reasoning_text.delta", content_index=0, delta=delta)
            case agui.ReasoningEnd(message_id=key):
                yield self._of(key, "reasoning_text.done", content_index=0, text=self._part(key)["text"])
                yield self._end(key)
            case agui.ToolCallStart(tool_call_id=key, tool_call_name=name) if key in self.pending_calls:
                yield from self._begin(key, _call(key, name))
            case agui.ToolCallArgs(tool_call_id=key, delta=delta) if key in self._numbers:
                yield from self._add_arguments(key, delta)
            case agui.ToolCallEnd(tool_call_id=key) if key in self._numbers:
                yield from self._end_call(key)

    def _begin(self, key: str, item: Json) -> Iterator[Json]:
        number = self._numbers[key] = len(self.items)
        self.items.append(item)
        shown = {name: list(value) if isinstance(value, list) else value for name, value in item.items()}
        yield self.event("output_item.added", output_index=number, item=shown)

    def _end(self, key: str) -> Json:
        number = self._numbers[key]
        self.items[number]["status"] = "completed"
        return self.event("output_item.done", output_index=number, item=self.items[number])

    def _add_arguments(self, key: str, delta: str) -> Iterator[Json]:
        self.items[self._numbers[key]]["arguments"] += delta
        yield self._of(key, "function_call_arguments.delta", delta=delta)

    def _end_call(self, key: str) -> Iterator[Json]:
        item = self.items[self._numbers[key]]
        yield self._of(key, "function_call_arguments.done", name=item["name"], arguments=item["arguments"])
        yield self._end(key)

    def _of(self, key: str, type_: str, **more: Any) -> Json:
        number = self._numbers[key]
        return self.event(type_, item_id=self.items[number]["id"], output_index=number, **more)

    def _part(self, key: str) -> Json:
        part: Json = self.items[self._numbers[key]]["content"][0]
        return part


def _text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call(call_id: str, name: str) -> Json:
    return {
        "type": "function_call",
        "id": f"fc_{call_id}",
        "call_id": call_id,
        "name": name,
        "arguments": "",
        "status": "in_progress",
    }


def resource(
    part: Part,
    *,
    status: str,
    output: Sequence[Json],
    usage: dict[str, int] | None = None,
    error: str | None = None,
    completed_at: int | None = None,
) -> Json:
    """Return a response, with the fields that every response has."""
    facts = part.facts
    return {
        "id": part.id,
        "object": "response",
        "created_at": int(part.created_at.timestamp()),
        "completed_at": completed_at,
        "status": status,
        "background": facts.background,
        "error": None if error is None else {"code": "server_error", "message": error},
        "incomplete_details": None,
        "instructions": facts.instructions,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": facts.metadata,
        "model": facts.model,
        "output": list(output),
        "parallel_tool_calls": True,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "previous_response_id": facts.previous_response_id,
        "prompt_cache_key": None,
        "reasoning": None,
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1,
        "text": {"format": PLAIN},
        "tool_choice": "auto",
        "tools": facts.tools,
        "top_logprobs": 0,
        "top_p": 1,
        "truncation": "disabled",
        "usage": None if usage is None else _usage(usage),
        "user": None,
    }


def _usage(used: dict[str, int]) -> Json:
    return {
        "input_tokens": used["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": used["cached_tokens"], "cache_write_tokens": 0},
        "output_tokens": used["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": used["reasoning_tokens"]},
        "total_tokens": used["total_tokens"],
    }
