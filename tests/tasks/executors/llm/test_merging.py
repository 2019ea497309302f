"""Parts of a stream are joined where they differ in nothing but their text, and nothing is lost."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tasks.executors.llm import merging
from tasks.executors.llm.merging import Coalesced, Merger
from tasks.executors.llm.wire import Wire
from tests import llm_formats
from tests.llm_formats import Says

TEXT = " ".join(f"word{number}" for number in range(200))
CALL = Says(text="Let me see.", tool_calls=(("add", {"a": 1}),))
Json = dict[str, Any]


def openai_call(*pieces: str) -> list[str]:
    def frame(**call: Any) -> str:
        return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'tool_calls': [{'index': 0, **call}]}}]})}\n\n"

    begun = frame(id="c1", type="function", function={"name": "add", "arguments": ""})
    return [begun, *[frame(function={"arguments": piece}) for piece in pieces]]


def joined(frames: list[str], seed: int) -> bytes:
    """Read the frames in pieces of any length, and take what was joined."""
    stream, wire, chance = "".join(frames).encode(), Wire(), random.Random(seed)
    while stream:
        length = chance.randint(1, 400)
        wire.read(stream[:length])
        stream = stream[length:]
    wire.close()
    return wire.merger.take()


def parts(stream: bytes) -> list[Json | str]:
    texts = [line.removeprefix("data: ") for line in stream.decode().splitlines() if line.startswith(("data:", "{"))]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("frames", "fewer"),
    [
        (llm_formats.openai_stream(TEXT, Says(reasoning=TEXT), "m"), 4),
        (llm_formats.anthropic_stream(TEXT, CALL), 9),
        (llm_formats.gemini_stream(TEXT, CALL), 3),
        (llm_formats.ollama_stream(TEXT, Says(), "m"), 2),
        (openai_call(*'{"a": 1, "b": [2]}'), 2),
    ],
    ids=["openai", "anthropic", "gemini", "ollama", "arguments"],
)
def test_texts_are_joined(frames: list[str], fewer: int, seed: int) -> None:
    sent, found = parts("".join(frames).encode()), parts(joined(frames, seed))
    assert len(found) == fewer
    assert strings(found) == strings(sent)


def test_the_usage_is_joined_with_the_end_before_it_if_both_have_arrived() -> None:
    frames = llm_formats.openai_stream("Hello", Says(), "m")
    *_, end, closed = parts(joined(frames, 0))
    assert isinstance(end, dict) and end["choices"][0]["finish_reason"] == "stop"
    assert end["usage"]["total_tokens"] > 0 and closed == "[DONE]"
    late = Merger()
    for frame in frames[-3:-1]:
        late.add(frame.encode(), json.loads(frame.removeprefix("data: ")))
        assert parts(late.take()) == parts(frame.encode())


def strings(value: Any) -> str:
    """All texts that an answer consists of, in their order."""
    names = ("content", "reasoning_content", "arguments", "text", "partial_json", "response")
    if isinstance(value, list):
        return "".join(map(strings, value))
    if not isinstance(value, dict):
        return ""
    return "".join(each if name in names and isinstance(each, str) else strings(each) for name, each in value.items())


@pytest.mark.parametrize(
    "frame",
    [
        {
            "choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": []}}],
            "usage": {"total_tokens": 1},
        },
        {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}}]},
        {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": {"content": "a", "annotations": [{}]}}]},
        {"choices": [{"index": 0, "delta": {"refusal": "a"}}]},
        {"error": {"message": "a"}},
        {"candidates": [{"content": {"parts": [{"text": "a", "thought": True}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]},
        {"response": "a", "done": True},
    ],
)
def test_what_has_more_than_a_text_stays_as_it_is(frame: Json) -> None:
    raw = f"data: {json.dumps(frame)}\n\n".encode()
    merger = Merger()
    for _ in range(2):
        merger.add(raw, json.loads(json.dumps(frame)))
    assert merger.take() == raw * 2


async def test_a_stream_that_is_not_taken_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MAX_WAITING_BYTES", 100)
    merger, sent = Merger(), 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 50:
            sent += 1
            yield b"x" * 60

    taken = []
    async for data in Coalesced(source(), lambda data: merger.add(data, None), merger):
        taken.append(len(data))
        await asyncio.sleep(0)
        assert sent * 60 - sum(taken) <= 200
    assert sum(taken) == 50 * 60


@pytest.mark.parametrize("stream", [llm_formats.openai_stream, llm_formats.anthropic_stream, llm_formats.gemini_stream])
def test_what_was_said_and_not_taken_is_known(stream: Any) -> None:
    model = ("m",) if stream is llm_formats.openai_stream else ()
    wire = Wire()
    wire.read("".join(stream("one two", Says(frames=("",)), *model)[:3]).encode())
    assert wire.merger.text.startswith("one ")
    wire.merger.take()
    assert wire.merger.text == ""
