"""How providers write an answer: as OpenAI and Azure, Anthropic, Gemini and Ollama do, streamed or whole."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]
USAGE: Final[Json] = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
ANTHROPIC_ENDS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
GEMINI_ENDS: Final = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """One answer. `text` None: the fingerprint of the key, and the last message. `stalls_after`: so many words, and then silence;
    `cut_after`: so many frames, and then the connection is closed.

    `frames` are further lines of a stream instead of its end; `raw` is a body as it is, of `content_type`.
    """

    text: str | None = None
    tool_calls: tuple[tuple[str, Json], ...] = ()
    ids: str = "call"
    """The beginning of the ids of its calls."""
    finish: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    logprobs: tuple[Json, ...] = ()
    usage: Json | None = field(default_factory=lambda: dict(USAGE))
    status: int = 200
    headers: Json = field(default_factory=dict)
    error: str | Json = "No."
    stalls_after: int | None = None
    cut_after: int | None = None
    plain: bool = False
    frames: tuple[str, ...] = ()
    raw: str | None = None
    content_type: str = "text/event-stream"

    @property
    def end(self) -> str:
        return self.finish or ("tool_calls" if self.tool_calls else "stop")


def words(text: str) -> list[str]:
    return [word + " " for word in text.split(" ")[:-1]] + [text.split(" ")[-1]] if text else []


def openai_whole(text: str, says: Says, model: str) -> Json:
    message = {"role": "assistant", "content": None if says.tool_calls else text, "tool_calls": _calls(says) or None}
    if says.refusal:
        message["refusal"] = says.refusal
    choice = {"index": 0, "message": message, "finish_reason": says.end}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": says.usage,
    }


def openai_stream(text: str, says: Says, model: str) -> list[str]:
    def chunk(*choices: Json, **more: Any) -> str:
        head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}
        return f"data: {json.dumps({**head, 'choices': list(choices), **more})}\n\n"

    def delta(finish_reason: str | None = None, **fields: Any) -> Json:
        return {"index": 0, "delta": fields, "finish_reason": finish_reason}

    thought = [chunk(delta(reasoning_content=word)) for word in words(says.reasoning or "")]
    likely = {"logprobs": {"content": list(says.logprobs)}} if says.logprobs else {}
    said = [] if says.tool_calls else [chunk(delta(role="assistant", content=word) | likely) for word in words(text)]
    refused = [chunk(delta(refusal=word)) for word in words(says.refusal or "")]
    called = [chunk(delta(role="assistant", tool_calls=_calls(says)))] if says.tool_calls else []
    begun = [*thought, *said, *refused, *called]
    if says.frames:
        return [*begun, *says.frames]
    usage = [chunk(usage=says.usage)] if says.usage else []
    return [*begun, chunk(delta(says.end)), *usage, "data: [DONE]\n\n"]


def anthropic_whole(text: str, says: Says) -> Json:
    calls = [
        {"type": "tool_use", "id": f"call_{index}", "name": name, "input": arguments}
        for index, (name, arguments) in enumerate(says.tool_calls)
    ]
    return {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": text}, *calls],
        "stop_reason": ANTHROPIC_ENDS[says.end],
        "stop_sequence": None,
        "usage": {"input_tokens": USAGE["prompt_tokens"], "output_tokens": USAGE["completion_tokens"]},
    }


def anthropic_stream(text: str, says: Says) -> list[str]:
    def event(kind: str, **fields: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    def block(index: int, content: Json, *deltas: Json) -> list[str]:
        return [
            event("content_block_start", index=index, content_block=content),
            *[event("content_block_delta", index=index, delta=delta) for delta in deltas],
            event("content_block_stop", index=index),
        ]

    message = anthropic_whole("", says) | {"content": [], "stop_reason": None}
    message["usage"] = {"input_tokens": USAGE["prompt_tokens"], "output_tokens": 1}
    said = block(0, {"type": "text", "text": ""}, *[{"type": "text_delta", "text": word} for word in words(text)])
    called = [
        frame
        for index, (name, arguments) in enumerate(says.tool_calls, 1)
        for frame in block(
            index,
            {"type": "tool_use", "id": f"call_{index}", "name": name, "input": {}},
            {"type": "input_json_delta", "partial_json": json.dumps(arguments)},
        )
    ]
    begun = [event("message_start", message=message), *said, *called]
    if says.frames:
        return [*begun, *says.frames]
    ends = {"stop_reason": ANTHROPIC_ENDS[says.end], "stop_sequence": None}
    return [
        *begun,
        event("message_delta", delta=ends, usage={"output_tokens": USAGE["completion_tokens"]}),
        event("message_stop"),
    ]


def gemini_stream(text: str, says: Says) -> list[str]:
    def chunk(parts: list[Json], **more: Any) -> str:
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
        counts = {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}
        return f"data: {json.dumps({'candidates': [candidate], 'usageMetadata': counts})}\r\n\r\n"

    said = [chunk([{"text": word}]) for word in words(text)]
    called = [chunk([{"functionCall": {"name": name, "args": arguments}}]) for name, arguments in says.tool_calls]
    if says.frames:
        return [*said, *called, *says.frames]
    return [*said, *called, chunk([{"text": ""}], finishReason=GEMINI_ENDS.get(says.end, "STOP"))]


def gemini_whole(text: str, says: Says) -> Json:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": GEMINI_ENDS[says.end]}
    counts = {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}
    return {"candidates": [candidate], "usageMetadata": counts}


def ollama_whole(text: str, says: Says, model: str) -> Json:
    return {"model": model, "response": text, "done": True, "prompt_eval_count": 10, "eval_count": 4}


def ollama_stream(text: str, says: Says, model: str) -> list[str]:
    """As `/api/generate` streams: a JSON object on each line."""
    head = {"model": model, "created_at": "2026-01-01T00:00:00Z"}

    def line(**fields: Any) -> str:
        return json.dumps({**head, **fields}) + "\n"

    said = [line(response=word, done=False) for word in words(text)]
    if says.frames:
        return [*said, *says.frames]
    reason = "length" if says.end == "length" else "stop"
    return [*said, line(response="", done=True, done_reason=reason, prompt_eval_count=10, eval_count=4)]


def _calls(says: Says) -> list[Json]:
    return [
        {
            "index": index,
            "id": f"{says.ids}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for index, (name, arguments) in enumerate(says.tool_calls)
    ]
