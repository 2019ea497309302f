"""A response as a chat completion: one choice, with the text of all messages and the calls of functions."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson

from a2a.core.exceptions import RunFailed
from a2a.openai.following import Following
from a2a.openai.parts import CALL
from tasks.rules.strict_json import Json


def completion(response: Json) -> Json:
    """Return a response that has ended as a completion. Raises RunFailed if its run failed, was cancelled or has not ended."""
    _refuse_other_ends(response)
    items = response["output"]
    texts = [part["text"] for item in items if item["type"] == "message" for part in item["content"]]
    texts += [_question(item) for item in items if item["type"] == "function_call"]
    calls = [_call(item) for item in items if item["type"] == "function_call"]
    message: Json = {"role": "assistant", "content": "".join(texts) or None, "refusal": None}
    choice = {
        "index": 0,
        "message": message | ({"tool_calls": calls} if calls else {}),
        "logprobs": None,
        "finish_reason": "tool_calls" if calls else "stop",
    }
    return _common(response) | {"object": "chat.completion", "choices": [choice], "usage": _usage(response)}


async def chunks(following: Following, *, has_usage: bool) -> AsyncGenerator[list[Json]]:
    """Yield the completion in chunks. Raises ShuttingDown, and RunFailed as `completion` does."""
    calls = 0
    common: Json = {}
    async with aclosing(following.events()) as found:
        async for events in found:
            made: list[Json] = []
            for event in events:
                match event:
                    case {"type": "response.created", "response": response}:
                        common = _common(response) | {"object": "chat.completion.chunk"}
                        made.append(common | _choice({"role": "assistant", "content": ""}))
                    case {"type": "response.output_text.delta", "delta": delta}:
                        made.append(common | _choice({"content": delta}))
                    case {"type": "response.output_item.done", "item": {"type": "function_call"} as item}:
                        if text := _question(item):
                            made.append(common | _choice({"content": text}))
                        made.append(common | _choice({"tool_calls": [{"index": calls, **_call(item)}]}))
                        calls += 1
            if made:
                yield made
    response = following.last or {}
    _refuse_other_ends(response)
    last = [common | _choice({}, finish_reason="tool_calls" if calls else "stop")]
    if has_usage:
        last.append(common | {"choices": [], "usage": _usage(response)})
    yield last


def _refuse_other_ends(response: Json) -> None:
    if response["status"] == "completed":
        return
    reason = (response["error"] or {}).get("message") or f"The run is {response['status']}."
    raise RunFailed(f"{reason} GET /v1/responses/{response['id']} has its end.")


def _common(response: Json) -> Json:
    return {
        "id": f"chatcmpl-{response['id'].removeprefix('resp_')}",
        "created": response["created_at"],
        "model": response["model"],
    }


def _choice(delta: Json, *, finish_reason: str | None = None) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}


def _call(item: Json) -> Json:
    return {
        "id": item["call_id"],
        "type": "function",
        "function": {"name": item["name"], "arguments": item["arguments"]},
    }


def _question(item: Json) -> str:
    """Return the question of a call that asks a person: the text for clients that show no calls. Empty for another call."""
    return str(orjson.loads(item["arguments"])["question"]) if CALL.fullmatch(item["call_id"]) else ""


def _usage(response: Json) -> Any:
    used = response["usage"]
    if used is None:
        return None
    return {
        "prompt_tokens": used["input_tokens"],
        "completion_tokens": used["output_tokens"],
        "total_tokens": used["total_tokens"],
        "prompt_tokens_details": {"cached_tokens": used["input_tokens_details"]["cached_tokens"]},
        "completion_tokens_details": used["output_tokens_details"],
    }
