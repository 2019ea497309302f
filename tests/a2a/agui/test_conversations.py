"""The whole conversation of a thread reaches a language model, with the tools of the front end."""

from typing import Any

import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.agui.front_end import FrontEnd, said, task, text_in, tree, types
from tests.llm_formats import Says
from tests.llm_server import LlmServer
from tests.servers import Server

CLOCK = {"name": "clock", "description": "The time.", "parameters": {"type": "object", "properties": {}}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def alice(listening_server: Server, listening: LlmServer) -> FrontEnd:
    listening.forget()
    return FrontEnd(http=listening_server.http, token=token_of("alice"))


def asked(llm: LlmServer) -> list[Any]:
    messages: list[Any] = llm.asked[-1].body["messages"]
    return messages


def test_a_model_reads_the_whole_conversation(alice: FrontEnd, listening: LlmServer) -> None:
    listening.will(Says(text="Fine, {{secret.token}} and you?"))
    events = alice.run(
        {"id": "s", "role": "system", "content": "Be brief."},
        said("hello {{secret.token}}"),
        {"id": "a", "role": "assistant", "content": "Hi {{there}}."},
        {"id": "think", "role": "reasoning", "content": "Hm."},
        {"id": "shown", "role": "activity", "activityType": "chart", "content": {}},
        said("how are you, {{name}}?"),
        context=[{"description": "The page", "value": "prices"}],
    )
    assert text_in(events) == "Fine, {{secret.token}} and you?"
    assert asked(listening) == [
        {"role": "system", "content": "The page: prices"},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello {{secret.token}}"},
        {"role": "assistant", "content": "Hi {{there}}."},
        {"role": "user", "content": "how are you, {{name}}?"},
    ]


def test_the_front_end_carries_out_its_own_tools(alice: FrontEnd, listening: LlmServer) -> None:
    listening.will(Says(tool_calls=(("clock", {"zone": "UTC"}),)), Says(text="It is noon."))
    question = said("What is the time?")
    events = alice.run(question, tools=[CLOCK], threadId="t-tools")
    start, arguments, end = (event for event in events if event["type"].startswith("TOOL_CALL"))
    assert [event["type"] for event in (start, arguments, end)] == [
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
    ]
    assert start["toolCallName"] == "clock"
    assert arguments["delta"] == '{"zone": "UTC"}'
    assert events[-1]["outcome"] == {"type": "success", "pendingToolCallIds": [start["toolCallId"]]}
    assert [tool["function"]["name"] for tool in listening.asked[-1].body["tools"]] == ["clock"]

    call = {"id": start["toolCallId"], "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    answer = {"id": "t", "role": "tool", "toolCallId": start["toolCallId"], "content": "12:00"}
    events = alice.run(
        question, {"id": "c", "role": "assistant", "toolCalls": [call]}, answer, tools=[CLOCK], threadId="t-tools"
    )
    assert text_in(events) == "It is noon."
    assert asked(listening)[-1] == {"role": "tool", "tool_call_id": start["toolCallId"], "content": "12:00"}
    assert asked(listening)[-2]["tool_calls"][0]["function"]["name"] == "clock"

    listening.will(Says(tool_calls=(("clock", {"zone": "UTC"}),)))
    events = alice.run(question, tools=[CLOCK], protocolVersion=None)
    assert events[-1]["outcome"] == {"type": "success"}, "the schema of clients before 1.0 is strict"


def test_a_model_sees_an_image(alice: FrontEnd, listening: LlmServer) -> None:
    image = {"type": "image", "source": {"type": "data", "value": PIXEL, "mimeType": "image/png"}}
    message = said("") | {"content": [{"type": "text", "text": "What is it?"}, image]}
    assert alice.run(message)[-1]["type"] == "RUN_FINISHED"
    shown = asked(listening)[-1]["content"]
    assert shown[1]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"


def test_a_file_that_no_model_gets_is_refused(alice: FrontEnd) -> None:
    video = {"type": "video", "source": {"type": "url", "value": "https://example.org/v.mp4"}}
    message = said("") | {"content": [{"type": "text", "text": "What is it?"}, video]}
    assert alice.refused(message)["data"][0]["field"] == "messages[0].content[1]"


def test_the_name_of_a_skill_still_works_and_its_result_is_a_message(alice: FrontEnd) -> None:
    events = alice.run(said('echo_executor: {"say": "hello"}'))
    assert text_in(events) == '{"say":"hello"}'
    assert "TEXT_MESSAGE_END" in types(events)
    error = alice.refused(said('echo_executor: {"say": "hello"}'), tools=[CLOCK])
    assert error["data"][0]["field"] == "tools"


def test_the_calls_of_an_agent_are_shown_with_their_results(alice: FrontEnd, listening: LlmServer) -> None:
    listening.will(
        Says(text="Let me see.", tool_calls=(("echo_executor", {"say": "{{a}}"}), ("unknown", {}))),
        Says(text="It says {{a}}."),
    )
    agent = task("agent", "llm_executor", inputs={"prompt": "Go.", "tools": ["echo_executor"]})
    events = alice.run(**tree(agent))
    assert events[-1]["outcome"] == {"type": "success"}, "no call is left to the front end"
    start, arguments, _, result = (event for event in events if event["type"].startswith("TOOL_CALL"))
    assert (start["toolCallName"], arguments["delta"], result["content"]) == (
        "echo_executor",
        '{"say":"{{a}}"}',
        '{"say":"{{a}}"}',
    )
    assert start["toolCallId"] == result["toolCallId"]
    assert text_in(events).endswith("It says {{a}}.")
    opened = [event["messageId"] for event in events if event["type"] == "TEXT_MESSAGE_START"]
    assert len(opened) == len(set(opened)) == types(events).count("TEXT_MESSAGE_END")
    assert [event["stepName"] for event in events if event["type"] == "STEP_STARTED"] == ["agent"]


def test_the_calls_of_a_subagent_are_its_own(alice: FrontEnd, listening: LlmServer) -> None:
    listening.will(Says(tool_calls=(("echo_executor", {"say": "a"}),)), Says(text="Done."))
    root = task("root", None)
    agent = task("agent", "llm_executor", inputs={"prompt": "Go.", "tools": ["echo_executor"]}, parent_id=root["id"])
    events = alice.run(**tree(root, agent))
    calls = [event for event in events if event["type"].startswith("TOOL_CALL")]
    assert {event["subagentRunId"] for event in calls} == {agent["id"]}
    assert text_in(events, subagent=agent["id"]) == "Done."
