"""What OpenAI's wires refuse, by name, and what others learn of a response."""

from typing import Any

import pytest

from tests.a2a.openai.conftest import Make
from tests.a2a.openai.wire import ASK, ECHO, Json, error_of, headers_of, saved, task
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly
TWO = task("two", "echo_executor", inputs={"a": "{{run.inputs.first}}", "b": "{{run.inputs.second}}"})
CLOCK = {"type": "function", "name": "clock", "parameters": {"type": "object"}}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
AT_DEFAULTS: Json = {
    "store": True,
    "temperature": 1.0,
    "top_p": 1,
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "truncation": "disabled",
    "include": [],
    "tools": [],
    "text": {"format": {"type": "text"}},
    "reasoning": {},
    "service_tier": "auto",
    "max_output_tokens": None,
    "instructions": None,
    "stream_options": None,
}
REFUSED: list[tuple[Json, str]] = [
    ({"store": False}, "store"),
    ({"temperature": 0.2}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"max_output_tokens": 100}, "max_output_tokens"),
    ({"text": {"format": {"type": "json_object"}}}, "text"),
    ({"reasoning": {"effort": "high"}}, "reasoning"),
    ({"user": "ada"}, "user"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"inptu": "a"}, "inptu"),
    ({"model": None}, "model"),
    ({"stream": "yes"}, "stream"),
    ({"instructions": "Be short."}, "instructions"),
    ({"tools": [CLOCK]}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [CLOCK | {"strict": "yes"}]}, "tools[0]"),
    ({"metadata": {"a": 1}}, "metadata[...]"),
    ({"input": [{"role": "user", "content": [IMAGE]}]}, "input[0]"),
    ({"input": [{"role": "user", "content": [IMAGE | {"detail": "high"}]}]}, "input[0].content[0].detail"),
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "a"}]}]}, "input[0].content[0].type"),
    ({"input": [{"type": "item_reference", "id": "a"}]}, "input[0].type"),
    ({"input": [{"role": "robot", "content": "a"}]}, "input[0].role"),
    ({"input": [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}]}, "input[0]"),
    ({"input": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "input[0]"),
    ({"input": [{"type": "function_call_output", "call_id": "a", "output": "b"}]}, "input[0]"),
    ({"input": '{"who": "Ada", "when": 1}'}, "inputs.when"),
    ({"inputs": {"whom": "Ada"}}, "inputs.whom"),
]


def test_what_is_not_honoured_is_refused_by_name(openai_server: Server) -> None:
    own = {"model": saved(openai_server, ECHO, inputs_schema={"properties": {"who": {"type": "string"}}}), "input": "a"}
    wrong = []
    for given, param in REFUSED:
        response = openai_server.http.post("/v1/responses", json=own | given, headers=headers_of("alice"))
        error = response.json().get("error", {})
        if (response.status_code, error.get("param"), error.get("type")) != (400, param, "invalid_request_error"):
            wrong.append((given, param, response.text))
    assert wrong == []
    accepted = openai_server.http.post("/responses/", json=own | AT_DEFAULTS, headers=headers_of("alice"))
    assert accepted.json()["status"] == "completed"


def test_a_text_whose_input_is_not_clear_is_refused(openai_server: Server) -> None:
    for tasks, schema, names in (
        ([TWO], None, ["first", "second"]),
        ([task("none", "echo_executor")], None, ["no input for a text"]),
        (
            [TWO],
            {"properties": {"first": {"type": "integer"}, "second": {"enum": [1], "type": "number"}}},
            ["no input"],
        ),
    ):
        own = {"model": saved(openai_server, *tasks, inputs_schema=schema), "input": "a"}
        error = error_of(openai_server.http.post("/v1/responses", json=own, headers=headers_of("alice")))
        assert error["param"] == "input"
        assert all(name in error["message"] for name in names)


def test_chat_completions_refuse_by_name_too(openai_server: Server) -> None:
    own = {"model": saved(openai_server, ECHO), "messages": [{"role": "user", "content": "a"}]}
    for given, param in (
        ({"n": 2}, "n"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"stop": ["a"]}, "stop"),
        ({"store": True}, "store"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "user", "content": "a", "name": "ada"}]}, "messages[0].name"),
        ({"messages": [{"role": "tool", "content": "a", "tool_call_id": "b"}]}, "messages[0]"),
        ({"tools": [{"type": "function", "function": {"name": "clock"}}]}, "tools"),
    ):
        error = error_of(openai_server.http.post("/chat/completions", json=own | given, headers=headers_of("alice")))
        assert error["param"] == param, given


def test_another_gets_the_same_as_if_it_were_not_there(openai_server: Server, alice: Any, client_of: Make) -> None:
    flow = saved(openai_server, ASK)
    asked = alice.responses.create(model=flow)
    absent = f"resp_{'0' * 8}-0000-7000-8000-{'0' * 12}"
    (call,) = asked.output
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "yes"}
    other_output = output | {"call_id": f"ask_1_{absent.removeprefix('resp_')}"}
    http, bob = openai_server.http, headers_of("bob")

    def bytes_of(method: str, path: str, response_id: str, **body: Any) -> tuple[int, bytes]:
        found = http.request(method, path.format(response_id), headers=bob, json=body or None)
        return found.status_code, found.content.replace(response_id.encode(), b"ID")

    for method, path in (
        ("GET", "/v1/responses/{}"),
        ("GET", "/v1/responses/{}?stream=true"),
        ("DELETE", "/v1/responses/{}"),
        ("POST", "/v1/responses/{}/cancel"),
    ):
        assert bytes_of(method, path, asked.id) == bytes_of(method, path, absent)
        assert bytes_of(method, path, asked.id)[0] == 404
    own = saved(openai_server, ECHO, user="bob")
    for path, field in (("/v1/responses", "input"), ("/v1/chat/completions", "messages")):
        tool = {"role": "tool", "content": "yes"}
        answers = set()
        for each in (output, other_output):
            sent = [each] if field == "input" else [tool | {"tool_call_id": each["call_id"]}]
            answers.add(http.post(path, json={"model": own, field: sent}, headers=bob).content)
        assert len(answers) == 1
    previous = [
        bytes_of("POST", "/v1/responses", each, model=own, input="a", previous_response_id=each)
        for each in (asked.id, absent)
    ]
    assert previous[0] == previous[1]
    assert previous[0][0] == 404
    assert alice.responses.retrieve(asked.id).status == "completed"


def test_who_may_not_run_may_not_run_here(openai_server: Server, client_of: Make) -> None:
    body = {"model": "agent", "input": "a"}
    denied = openai_server.http.post("/v1/responses", json=body)
    assert (denied.status_code, error_of(denied)["type"]) == (401, "authentication_error")
    openai = client_of("vera", "viewer")
    assert openai.models.list().data
    with pytest.raises(Exception, match="needs the role") as refused:
        openai.responses.create(**body)
    assert refused.value.type == "permission_error"  # type: ignore[attr-defined]


def test_a_response_of_another_client_is_none(openai_server: Server, alice: Any) -> None:
    """A client of A2A chooses the ids of its messages."""
    flow = saved(openai_server, ECHO)
    response = alice.responses.create(model=flow, input="Ada")
    for wrong in (f"{response.id}_1", response.id[:-1], "resp_1", response.id.removeprefix("resp_")):
        found = openai_server.http.get(f"/v1/responses/{wrong}", headers=headers_of("alice"))
        assert (found.status_code, error_of(found)["code"]) == (404, "response_not_found")
    for query in ("?stream=maybe", "?starting_after=1", "?stream=true&starting_after=-1", "?include[]=a"):
        found = openai_server.http.get(f"/v1/responses/{response.id}{query}", headers=headers_of("alice"))
        assert found.status_code == 400, query
