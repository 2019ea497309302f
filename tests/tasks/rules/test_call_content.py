"""What is stored of a model call is bounded, says what is left out, and has no secret."""

import json
from typing import Any

import pytest

from tasks.rules.call_content import CONTENT_BYTES, TEXT_CHARACTERS, stored_content

SECRET = "sk-canary-1234567890"
Json = dict[str, Any]


def masked(text: str) -> str:
    return text.replace(SECRET, "…")


def stored(messages: list[Any], *, answer: str | None = None, tool_calls: list[Any] | None = None) -> Json:
    text = stored_content(messages=messages, answer=answer, tool_calls=tool_calls or [], mask=masked)
    assert SECRET not in text
    content: Json = json.loads(text)
    return content


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def test_reasoning_and_sources_are_stored_within_bounds_and_without_secrets() -> None:
    sources = [{"url": "https://example.com/", "title": SECRET}, *["x" * TEXT_CHARACTERS] * 3]
    thought = SECRET + "t" * (2 * TEXT_CHARACTERS)
    text = stored_content(
        messages=[user("Hi")], answer=None, tool_calls=[], reasoning=thought, citations=sources, mask=masked
    )
    content = json.loads(text)
    assert SECRET not in text
    assert len(text) <= CONTENT_BYTES
    assert "characters left out" in content["reasoning"]
    assert content["citations"][0] == {"url": "https://example.com/", "title": "…"}
    assert content["left_out_citations"] == 4 - len(content["citations"]) > 0
    assert content["messages"] == [user("Hi")]


def test_a_small_conversation_is_stored_as_it_is() -> None:
    messages = [{"role": "system", "content": "Be brief."}, user([{"type": "text", "text": "Hi"}])]
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert stored(messages, answer="Hello.", tool_calls=[call]) == {
        "messages": messages,
        "left_out_messages": 0,
        "answer": "Hello.",
        "reasoning": None,
        "citations": [],
        "left_out_citations": 0,
        "tool_calls": [call],
        "left_out_tool_calls": 0,
        "options": {},
    }


def test_a_long_text_loses_its_middle_and_says_how_much() -> None:
    text = "a" * 20_000 + "b" * 20_000
    shown = stored([user(text)])["messages"][0]["content"]
    assert shown.startswith("aaa")
    assert shown.endswith("bbb")
    assert f"({40_000 - TEXT_CHARACTERS:,} characters left out)" in shown


def test_an_image_loses_its_data() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000}}
    url = stored([user([part])])["messages"][0]["content"][0]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,AAA")
    assert url.endswith(" more characters)")


def test_a_long_conversation_loses_its_older_messages_but_not_the_first() -> None:
    messages = [{"role": "system", "content": "first"}, *(user(f"{number} " + "x" * 5_000) for number in range(50))]
    content = stored(messages, answer="y" * 8_000)
    shown = content["messages"]
    assert shown[0]["content"] == "first"
    assert shown[-1]["content"].startswith("49 ")
    assert content["left_out_messages"] == 51 - len(shown) > 0
    assert shown[1]["content"].startswith(f"{50 - len(shown) + 1} ")


@pytest.mark.parametrize(
    "messages",
    [
        [user("\0" * 100_000)],
        [user([{"type": "text", "text": "é" * 100}] * 10_000)],
        [user("ü" * 9_000)] * 400,
        [{"role": "system", "content": "\0" * 9_000}] * 10,
        [{"x" * 9_000 + str(number): 1 for number in range(100)}],
    ],
)
def test_nothing_stored_is_larger_than_the_bound(messages: list[Any]) -> None:
    call = {"function": {"name": "f", "arguments": "z" * 9_000}}
    text = stored_content(messages=messages, answer="\0" * 50_000, tool_calls=[call] * 100, mask=masked)
    assert len(text.encode()) <= CONTENT_BYTES + 200
    assert json.loads(text)["left_out_tool_calls"] > 0


@pytest.mark.parametrize("before", [0, TEXT_CHARACTERS // 2 - 15, 20_000, 40_000 - TEXT_CHARACTERS // 2 - 10])
def test_secrets_are_masked_also_where_a_text_is_cut(before: int) -> None:
    text = "x" * before + SECRET
    content = stored(
        [user(text + "x" * (40_000 - len(text))), {"role": "user", SECRET: [SECRET]}],
        answer=SECRET,
        tool_calls=[{"arguments": SECRET}],
    )
    assert "canary" not in json.dumps(content)


@pytest.mark.parametrize("odd", ["\ud800", 2**70, {1, 2}, float("nan"), {1: {2: object()}}, b"bytes"])
def test_what_is_no_json_is_no_failure(odd: Any) -> None:
    assert stored([user(odd)])["messages"][0]["role"] == "user"


def test_a_deep_value_is_cut() -> None:
    deep: Any = "bottom"
    for _ in range(500):
        deep = [deep]
    assert "bottom" not in json.dumps(stored([user(deep)]))
