"""Runs over `POST /responses`, with OpenAI's own library."""

from itertools import groupby
from typing import Any

import pytest

from tests.a2a.openai.conftest import openai
from tests.a2a.openai.wire import ASK, ECHO, HISTORY, MODEL, rpc, saved, task, types
from tests.llm_formats import Says
from tests.llm_server import LlmServer
from tests.servers import Server

pytestmark = pytest.mark.both_engines
STREAM = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def test_a_flow_answers_a_text(openai_server: Server, alice: Any, model: LlmServer) -> None:
    model.will(Says(text="Hello Ada."))
    found = alice.responses.create(model=saved(openai_server, MODEL), input="Greet Ada.", metadata={"of": "test"})
    assert (found.status, found.output_text) == ("completed", "Hello Ada.")
    assert model.asked[-1].last_message == "Greet Ada."
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (10, 4, 14)
    assert found.metadata == {"of": "test"}
    again = alice.responses.retrieve(found.id)
    assert again.model_dump() == found.model_dump()


def test_a_stream_has_the_words_and_the_order_of_the_wire(openai_server: Server, alice: Any, model: LlmServer) -> None:
    model.will(Says(text="One two three."))
    with alice.responses.create(model=saved(openai_server, MODEL), input="Count.", stream=True) as stream:
        events = list(stream)
    assert [kind for kind, _ in groupby(types(events))] == STREAM
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "One two three."
    last = events[-1].response
    assert (last.status, last.output_text) == ("completed", "One two three.")
    assert last.output[0].id == events[2].item.id
    for after in (0, 4, len(events) - 2):
        with alice.responses.retrieve(last.id, stream=True, starting_after=after) as resumed:
            assert [each.model_dump() for each in resumed] == [each.model_dump() for each in events[after + 1 :]]


def test_words_arrive_while_the_model_writes(openai_server: Server, alice: Any, model: LlmServer) -> None:
    model.will(Says(text="One two three.", stalls_after=2))
    with alice.responses.create(model=saved(openai_server, MODEL), input="Count.", stream=True) as stream:
        begun = next(each for each in stream if each.type == "response.created").response
        assert next(each for each in stream if each.type == "response.output_text.delta").delta.startswith("One")
        alice.responses.cancel(begun.id)
        last = list(stream)[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "cancelled")


def test_a_background_response_is_the_run(openai_server: Server, alice: Any) -> None:
    flow = saved(openai_server, task("nap", "sleep_executor", inputs={"seconds": 600}))
    begun = alice.responses.create(model=flow, background=True)
    assert begun.status in ("queued", "in_progress")
    (run,) = rpc(openai_server, "alice", "runs.list", {"flow": flow.removeprefix("flow:")})["runs"]
    assert begun.id == f"resp_{run['id']}"
    assert alice.responses.cancel(begun.id).status == "cancelled"
    assert alice.responses.retrieve(begun.id).status == "cancelled"
    with alice.responses.retrieve(begun.id, stream=True) as stream:
        assert list(stream)[-1].type == "response.incomplete"
    alice.responses.delete(begun.id)
    with pytest.raises(openai.NotFoundError):
        alice.responses.retrieve(begun.id)


def test_a_result_that_is_no_text_is_json(openai_server: Server, alice: Any) -> None:
    found = alice.responses.create(model=saved(openai_server, ECHO), input="Ada")
    assert found.output_text == '{"say":"Ada"}'
    assert found.usage is None


def test_a_run_that_fails_is_a_response_that_failed(openai_server: Server, alice: Any) -> None:
    found = alice.responses.create(
        model=saved(openai_server, task("bad", "scripted_executor", inputs={"then": "fail"}))
    )
    assert (found.status, found.error.code) == ("failed", "server_error")
    assert found.error.message.startswith("Task 'bad' failed: ")
    with alice.responses.retrieve(found.id, stream=True) as stream:
        assert list(stream)[-1].type == "response.failed"


def test_a_question_is_a_call_and_its_output_the_answer(openai_server: Server, alice: Any) -> None:
    flow = saved(openai_server, ASK)
    with alice.responses.create(model=flow, stream=True) as stream:
        events = list(stream)
    assert types(events) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    asked = events[-1].response
    (call,) = asked.output
    assert (call.type, call.name) == ("function_call", "ask")
    assert '"question":"Publish?"' in call.arguments
    output = {"type": "function_call_output", "call_id": call.call_id}
    with pytest.raises(openai.BadRequestError) as refused:
        alice.responses.create(model=flow, previous_response_id=asked.id, input=[output | {"output": "maybe"}])
    assert refused.value.param == "input[0].output"
    with pytest.raises(openai.ConflictError):
        alice.responses.create(model=flow, previous_response_id=asked.id, input="Hello?")
    answered = alice.responses.create(model=flow, previous_response_id=asked.id, input=[output | {"output": "yes"}])
    assert answered.status == "completed"
    assert '"answer":"yes"' in answered.output_text
    assert answered.previous_response_id == asked.id
    assert answered.id != asked.id
    with pytest.raises(openai.ConflictError):
        alice.responses.create(model=flow, previous_response_id=asked.id, input=[output | {"output": "no"}])
    assert alice.responses.retrieve(asked.id).output == asked.output  # it ends where it ended
    assert alice.responses.retrieve(answered.id).output == answered.output


def test_two_questions_at_once_are_two_responses(openai_server: Server, alice: Any) -> None:
    root = task("root", None)
    flow = saved(openai_server, root, *(ASK | {"id": name, "name": name, "parent_id": "root"} for name in ("a", "b")))
    found = alice.responses.create(model=flow)
    asked = set()
    while found.output and found.output[-1].type == "function_call":
        asked.add(found.output[-1].arguments)
        output = {"type": "function_call_output", "call_id": found.output[-1].call_id, "output": '{"answer": "yes"}'}
        found = alice.responses.create(model=flow, previous_response_id=found.id, input=[output])
    assert (found.status, len(asked)) == ("completed", 2)


def test_a_workflow_runs_with_inputs_and_asks(openai_server: Server, alice: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        alice.responses.create(model="workflow:careless", input="Hello")
    assert refused.value.param == "input"
    found = alice.responses.create(model="workflow:careless", input='{"count": 1}')
    for question in ("Go on?", "May I clean up?"):
        (call,) = found.output
        assert question in call.arguments
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "yes"}
        found = alice.responses.create(model="workflow:careless", input=[call.model_dump(exclude_none=True), output])
    assert found.status == "completed"
    given = alice.responses.create(model="workflow:careless", extra_body={"inputs": {"count": 1}}, background=True)
    alice.responses.cancel(given.id)


def test_the_agent_reads_the_conversation(openai_server: Server, alice: Any, model: LlmServer) -> None:
    model.will(Says(text="Hello Ada."), Says(text="Ada."))
    first = alice.responses.create(model="agent", input="I am Ada.", instructions="Be short.")
    assert model.asked[-1].body["messages"][0] == {"role": "system", "content": "Be short."}
    second = alice.responses.create(model="agent", input="Who am I?", previous_response_id=first.id)
    assert second.output_text == "Ada."
    said = [(each["role"], each["content"]) for each in model.asked[-1].body["messages"]]
    assert said == [("user", "I am Ada."), ("assistant", "Hello Ada."), ("user", "Who am I?")]


def test_a_flow_that_takes_a_history_reads_the_conversation(
    openai_server: Server, alice: Any, model: LlmServer
) -> None:
    model.will(Says(text="Hello Ada."), Says(text="Ada."))
    flow = saved(openai_server, HISTORY)
    first = alice.responses.create(model=flow, input="I am Ada.")
    alice.responses.create(model=flow, input="Who am I?", previous_response_id=first.id)
    said = [each["content"] for each in model.asked[-1].body["messages"]]
    assert said == ["I am Ada.", "Hello Ada.", "Who am I?"]


def test_the_functions_of_the_client_are_its_own_to_call(openai_server: Server, alice: Any, model: LlmServer) -> None:
    tools = [
        {
            "type": "function",
            "name": "clock",
            "description": "The time.",
            "parameters": {"type": "object"},
            "strict": True,
        }
    ]
    model.will(Says(tool_calls=(("clock", {"zone": "UTC"}),)), Says(text="It is noon."), Says(text="It is noon."))
    first = alice.responses.create(model="agent", input="What time is it?", tools=tools)
    assert model.asked[-1].body["tools"][0]["function"]["strict"] is True
    assert first.tools[0].strict is True
    (call,) = first.output
    assert (call.type, call.name, call.arguments) == ("function_call", "clock", '{"zone": "UTC"}')
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "12:00"}
    then = alice.responses.create(model="agent", input=[output], previous_response_id=first.id, tools=tools)
    assert then.output_text == "It is noon."
    stored = model.asked[-1].body["messages"]
    question = {"role": "user", "content": "What time is it?"}
    alice.responses.create(model="agent", input=[question, call.model_dump(exclude_none=True), output], tools=tools)
    assert [each["role"] for each in stored] == ["user", "assistant", "tool"]
    assert [each["role"] for each in model.asked[-1].body["messages"]] == ["user", "assistant", "tool"]


def test_a_key_makes_a_request_once(openai_server: Server, alice: Any) -> None:
    flow = saved(openai_server, ECHO)
    once = {"model": flow, "input": "Ada", "extra_headers": {"Idempotency-Key": flow}}
    first, second = (alice.responses.create(**once) for _ in range(2))
    assert first.id == second.id
    with pytest.raises(openai.BadRequestError) as refused:
        alice.responses.create(**once | {"input": "Bob"})
    assert refused.value.param == "Idempotency-Key"


def test_the_models_are_what_runs(openai_server: Server, alice: Any, bob: Any) -> None:
    flow = saved(openai_server, ECHO)
    known = {each.id for each in alice.models.list()}
    assert {flow, "agent", "workflow:careless"} <= known
    assert flow not in {each.id for each in bob.models.list()}
    assert alice.models.retrieve(flow).id == flow
    with pytest.raises(openai.NotFoundError):
        bob.models.retrieve(flow)
