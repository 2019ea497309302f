"""An answer that came at once, written as the stream that was asked for.

Some services and proxies answer with one JSON document, as if no stream had been asked for.
"""

from typing import Any

import orjson

from aipartnerupflow.executors import Json


def as_stream(body: bytes) -> bytes:
    """Return the answer of a provider as server-sent events. A body that is no answer is returned as it is."""
    try:
        whole: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(whole, dict):
        return body
    if isinstance(whole.get("choices"), list):
        return b"".join(map(_event, [*_of_openai(whole)])) + b"data: [DONE]\n\n"
    if whole.get("type") == "message" and isinstance(whole.get("content"), list):
        return b"".join(map(_event, _of_anthropic(whole)))
    if whole.get("done") is True:
        return b"".join(orjson.dumps(line) + b"\n" for line in _of_ollama(whole))
    return _event(whole)  # Gemini's are like a part of its streams


def _event(frame: Json) -> bytes:
    kind = frame.get("type")
    name = f"event: {kind}\n".encode() if isinstance(kind, str) else b""
    return name + b"data: " + orjson.dumps(frame) + b"\n\n"


def _of_openai(whole: Json) -> list[Json]:
    usage = whole.get("usage")
    head = {name: value for name, value in whole.items() if name not in ("choices", "usage", "object")}
    head["object"] = "chat.completion.chunk"
    frames = [head | {"choices": [_choice(choice)]} for choice in whole["choices"][:1] if isinstance(choice, dict)]
    return [*frames, head | {"choices": [], "usage": usage}] if usage else frames


def _choice(choice: Json) -> Json:
    message = choice.get("message") or {}
    calls = [call | {"index": index} for index, call in enumerate(message.get("tool_calls") or ())]
    delta = message | ({"tool_calls": calls} if calls else {})
    return {
        "index": 0,
        "delta": {name: value for name, value in delta.items() if value is not None},
        "finish_reason": choice.get("finish_reason") or "stop",
    }


def _of_ollama(whole: Json) -> list[Json]:
    """Return the text in a line of its own: LiteLLM reads none in the last one."""
    text = {name: whole[name] for name in ("model", "response", "message") if name in whole}
    return [text | {"done": False}, whole | {"response": "", "message": {"role": "assistant", "content": ""}}]


def _of_anthropic(whole: Json) -> list[Json]:
    usage = whole.get("usage") or {}
    head = whole | {"content": [], "stop_reason": None}
    return [
        {"type": "message_start", "message": head},
        *(frame for index, block in enumerate(whole["content"]) for frame in _block(index, block)),
        {
            "type": "message_delta",
            "delta": {"stop_reason": whole.get("stop_reason"), "stop_sequence": whole.get("stop_sequence")},
            "usage": {"output_tokens": usage.get("output_tokens", 0)},
        },
        {"type": "message_stop"},
    ]


def _block(index: int, block: Json) -> list[Json]:
    match block.get("type"):
        case "text":
            begun, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block.get("text", "")}
        case "tool_use":
            begun = block | {"input": {}}
            delta = {"type": "input_json_delta", "partial_json": orjson.dumps(block.get("input") or {}).decode()}
        case "thinking":
            begun = {"type": "thinking", "thinking": ""}
            delta = {"type": "thinking_delta", "thinking": block.get("thinking", "")}
        case _:
            return []
    return [
        {"type": "content_block_start", "index": index, "content_block": begun},
        {"type": "content_block_delta", "index": index, "delta": delta},
        {"type": "content_block_stop", "index": index},
    ]
