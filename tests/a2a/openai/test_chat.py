"""Runs over `POST /chat/completions`, with OpenAI's own library."""

from typing import Any

import pytest

from tests.a2a.openai.conftest import openai
from tests.a2a.openai.wire import ASK, ECHO, MODEL, saved, task
from tests.llm_formats import Says
from tests.llm_server import LlmServer
from tests.servers import Server

pytestmark = pytest.mark.both_engines


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_a_flow_answers_whole_and_in_a_stream(openai_server: Server, alice: Any, model: LlmServer) -> None:
    flow = saved(openai_server, MODEL)
    model.will(Says(text="Hello Ada."), Says(text="Hello Ada."))
    whole = alice.chat.completions.create(model=flow, messages=[user("Greet Ada.")])
    (choice,) = whole.choices
    assert (choice.message.content, choice.finish_reason) == ("Hello Ada.", "stop")
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (10, 4)
    options = {"include_usage": True}
    streamed = alice.chat.completions.create(
        model=flow, messages=[user("Greet Ada.")], stream=True, stream_options=options
    )
    with streamed:
        chunks = list(streamed)
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(texts) == "Hello Ada."
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 14)


def test_a_question_is_a_call_and_a_message_of_the_tool_the_answer(openai_server: Server, alice: Any) -> None:
    flow = saved(openai_server, ASK)
    (choice,) = alice.chat.completions.create(model=flow, messages=[]).choices
    assert (choice.message.content, choice.finish_reason) == ("Publish?", "tool_calls")
    (call,) = choice.message.tool_calls
    assert call.function.name == "ask"
    past = [choice.message.model_dump(exclude_none=True, exclude={"refusal", "annotations"})]
    answer = {"role": "tool", "tool_call_id": call.id, "content": "yes"}
    with alice.chat.completions.create(model=flow, messages=[*past, answer], stream=True) as stream:
        text = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
    assert '"answer":"yes"' in text
    with pytest.raises(openai.ConflictError):
        alice.chat.completions.create(model=flow, messages=[*past, answer])
    with pytest.raises(openai.BadRequestError) as refused:
        unknown = answer | {"tool_call_id": call.id[:-4] + "0000"}
        alice.chat.completions.create(model=flow, messages=[*past, unknown])
    assert refused.value.param == "messages[1].tool_call_id"


def test_the_agent_gets_functions_and_the_conversation(alice: Any, model: LlmServer) -> None:
    tools = [{"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}]
    model.will(Says(tool_calls=(("clock", {}),)), Says(text="It is noon."))
    asked = [{"role": "system", "content": "Be short."}, user("What time is it?")]
    (choice,) = alice.chat.completions.create(model="agent", messages=asked, tools=tools).choices
    (call,) = choice.message.tool_calls
    assert (call.function.name, choice.finish_reason) == ("clock", "tool_calls")
    past = choice.message.model_dump(exclude_none=True, exclude={"refusal", "annotations"})
    told = {"role": "tool", "tool_call_id": call.id, "content": "12:00"}
    (choice,) = alice.chat.completions.create(model="agent", messages=[*asked, past, told], tools=tools).choices
    assert choice.message.content == "It is noon."
    assert [each["role"] for each in model.asked[-1].body["messages"]] == ["system", "user", "assistant", "tool"]


def test_a_run_that_fails_is_an_error_that_is_not_tried_again(openai_server: Server, alice: Any) -> None:
    flow = saved(openai_server, task("bad", "scripted_executor", inputs={"then": "fail"}))
    with pytest.raises(openai.UnprocessableEntityError) as failed:
        alice.chat.completions.create(model=flow, messages=[])
    assert (failed.value.code, failed.value.message.count("Task 'bad' failed: ")) == ("run_failed", 1)
    with pytest.raises(openai.APIError) as broken:
        list(alice.chat.completions.create(model=flow, messages=[], stream=True))
    assert "Task 'bad' failed: " in broken.value.message


def test_inputs_may_be_sent_as_an_object(openai_server: Server, alice: Any) -> None:
    flow = saved(openai_server, ECHO)
    for given in ({"messages": [user('{"who": "Ada"}')]}, {"messages": [], "extra_body": {"inputs": {"who": "Ada"}}}):
        (choice,) = alice.chat.completions.create(model=flow, **given).choices
        assert choice.message.content == '{"say":"Ada"}'
