"""The demo model: always the same, counted, to be stopped in the middle, and off where the operator wants none."""

import asyncio
import json
from dataclasses import dataclass
from dataclasses import replace as replace_in
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pytest_django import Settings

from aipartnerupflow.executors import ExecutorError, Stopped
from aipartnerupflow.workflows.values import decoded, schema_of
from tasks.executors.llm.client import ask, check
from tasks.executors.llm.prompt import Prompt
from tests.sections import replace

Json = dict[str, Any]


def prompt(text: Any, model: str = "demo/demo") -> Prompt:
    return Prompt(model=model, messages=[{"role": "user", "content": text}], run_id="run-1", user_id="alice")


async def test_the_same_question_gets_the_same_answer_word_by_word() -> None:
    heard: list[str] = []
    usage: list[Json] = []
    first = await ask(prompt("What?\n\nMore."), heard=heard.append, spent=usage.append)
    assert first == await ask(prompt("What?\n\nMore."), spent=usage.append)
    assert (first.content or "").endswith("You asked: What?")
    assert "".join(heard).strip() == first.content
    assert usage == [first.usage | {"model": prompt("").model}] * 2


async def test_parts_of_a_message_are_read() -> None:
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]
    answer = await ask(prompt(parts), spent=lambda usage: None)
    assert (answer.content or "").endswith("You asked: Look:")


async def test_stopped_in_the_middle_it_has_said_what_it_has_said() -> None:
    usage: list[Json] = []
    heard = asyncio.Event()
    asking = asyncio.create_task(ask(prompt("What?"), heard=lambda word: heard.set(), spent=usage.append))
    await heard.wait()
    asking.cancel()
    with pytest.raises(Stopped) as stopped:
        await asking
    assert stopped.value.result["content"].startswith("This")
    assert 0 < usage[0]["completion_tokens"] < 10


async def test_the_operator_may_turn_it_off(settings: Settings) -> None:
    settings.APFLOW_LLM = replace(settings.APFLOW_LLM, demo=False)
    for asked in (check(prompt("What?")), ask(prompt("What?"), spent=lambda usage: None)):
        with pytest.raises(ExecutorError, match=r"disabled \(llm\.demo\)"):
            await asked


async def test_it_calls_the_first_tool_once_and_answers_with_its_result() -> None:
    arguments = {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}, "more": {}}
    schema = {"type": "object", "properties": arguments, "required": ["city", "days", "unit"]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
    asked = replace_in(prompt("Weather in Rome?"), options={"tools": tools})
    usage: list[Json] = []
    first = await ask(asked, spent=usage.append)
    [call] = first.tool_calls
    assert (first.finish_reason, call["function"]["name"]) == ("tool_calls", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Weather in Rome?", "days": 1, "unit": "C"}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "Sunny"}
    calls = {"role": "assistant", "content": None, "tool_calls": [call]}
    second = await ask(replace_in(asked, messages=[*asked.messages, calls, result]), spent=usage.append)
    assert second.tool_calls == []
    assert (second.content or "").endswith("The tool returned: Sunny")
    assert len(usage) == 2


async def test_it_answers_with_an_example_where_json_is_asked_for() -> None:
    properties = {
        "questions": {"type": "array", "items": {"type": "string"}},
        "score": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
        "order": {"type": "object", "properties": {"kind": {"enum": ["tea"]}, "is_big": {"type": "boolean"}}},
        "note": {"type": "string"},
    }
    schema = {"type": "object", "properties": properties, "required": ["questions", "score", "order"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = await ask(replace_in(prompt("Plan."), options={"response_format": wanted}), spent=lambda usage: None)
    order = {"kind": "tea", "is_big": True}
    assert json.loads(answer.content or "") == {"questions": ["Plan.", "Plan."], "score": 3, "order": order}
    wanted = {"type": "json_object"}
    answer = await ask(replace_in(prompt("Plan."), options={"response_format": wanted}), spent=lambda usage: None)
    assert json.loads(answer.content or "") == {"answer": "Plan."}


@dataclass
class Question:
    text: Annotated[str, msgspec.Meta(max_length=9)]
    weight: Annotated[int, msgspec.Meta(ge=3)]
    kind: Literal["open", "closed"]
    parts: list["Question"]
    note: str | None = None


@dataclass
class Plan:
    questions: list[Question]
    is_done: bool


async def test_an_example_of_a_schema_fits_it() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "plan", "schema": schema_of(Plan)}}
    answer = await ask(replace_in(prompt("Plan a trip"), options={"response_format": wanted}), spent=lambda usage: None)
    plan = decoded(json.loads(answer.content or ""), Plan)
    assert [question.text for question in plan.questions] == ["Plan a tr", "Plan a tr"]
    assert plan.questions[0].weight == 3
