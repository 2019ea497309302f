"""A2A 0.3, in both of its encodings, in terms of 1.0; and what goes there and back is the same."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.a2a_versions import (
    AUTH_REQUIRED,
    CANCELED,
    COMPLETED,
    DEFAULT_CONFIG,
    FAILED,
    HTTP_JSON,
    INPUT_REQUIRED,
    JSON_RPC,
    REJECTED,
    Encoding,
    configuration_in,
    configuration_out,
    message_in,
    message_out,
    push_config_in,
    push_config_out,
    response_in,
    response_out,
    send_in,
    send_out,
    task_in,
    task_out,
)
from tasks.rules.strict_json import Json

MESSAGE: Json = {"messageId": "m", "role": "ROLE_AGENT"}


@pytest.mark.parametrize(
    ("of_json_rpc", "of_http", "part"),
    [
        ({"kind": "text", "text": "hi"}, {"text": "hi"}, {"text": "hi"}),
        ({"kind": "data", "data": {"data": 1}}, {"data": {"data": {"data": 1}}}, {"data": {"data": 1}}),
        (
            {"kind": "file", "file": {"bytes": "aGk=", "name": "a.txt", "mimeType": "text/plain"}},
            {"file": {"fileWithBytes": "aGk=", "name": "a.txt", "mimeType": "text/plain"}},
            {"raw": "aGk=", "filename": "a.txt", "mediaType": "text/plain"},
        ),
        (
            {"kind": "file", "file": {"uri": "https://example.com/a"}, "metadata": {"n": 1}},
            {"file": {"fileWithUri": "https://example.com/a"}, "metadata": {"n": 1}},
            {"url": "https://example.com/a", "metadata": {"n": 1}},
        ),
    ],
)
def test_a_part_is_the_same_in_every_dialect(of_json_rpc: Json, of_http: Json, part: Json) -> None:
    expected = {"message": MESSAGE | {"parts": [part]}}
    assert response_in({"kind": "message", "messageId": "m", "role": "agent", "parts": [of_json_rpc]}) == expected
    assert response_in({"message": MESSAGE | {"content": [of_http]}}) == expected
    assert response_in({"msg": MESSAGE | {"content": [of_http]}}) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("input-required", "INPUT_REQUIRED"),
        ("canceled", "CANCELED"),
        ("TASK_STATE_CANCELLED", "CANCELED"),
        ("TASK_STATE_AUTH_REQUIRED", "AUTH_REQUIRED"),
        ("unknown", "UNKNOWN"),
    ],
)
def test_states_have_the_names_of_1_0(old: str, new: str) -> None:
    assert task_in({"kind": "task", "id": "t", "status": {"state": old}}) == {
        "id": "t",
        "status": {"state": f"TASK_STATE_{new}"},
    }


@pytest.mark.parametrize("odd", [{}, {"kind": "cake"}, {"hello": 1}])
def test_what_is_nothing_of_a2as_is_nothing(odd: Json) -> None:
    assert response_in(odd) == {}


# --- there and back ---

names = st.text("abc-/ é", min_size=1, max_size=5)
objects = st.dictionaries(
    names | st.sampled_from(["data", "kind", "file", "text", "parts"]), st.none() | st.integers() | names
)
states = st.sampled_from(
    [COMPLETED, FAILED, CANCELED, REJECTED, INPUT_REQUIRED, AUTH_REQUIRED, "TASK_STATE_WORKING", "TASK_STATE_SUBMITTED"]
)


def record(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(required, optional=optional)


def parts() -> st.SearchStrategy[list[Json]]:
    of_file = {"filename": names, "mediaType": names, "metadata": objects}
    kinds = [
        record({"text": names}, {"metadata": objects}),
        record({"data": objects}, {"metadata": objects}),
        record({"raw": names}, of_file),
        record({"url": names}, of_file),
    ]
    return st.lists(st.one_of(kinds), max_size=3)


messages = record(
    {"messageId": names, "role": st.sampled_from(["ROLE_USER", "ROLE_AGENT"]), "parts": parts()},
    {"contextId": names, "taskId": names, "metadata": objects, "extensions": st.lists(names, max_size=2)},
)
artifacts = record(
    {"artifactId": names, "parts": parts()},
    {"name": names, "description": names, "metadata": objects, "extensions": st.lists(names, max_size=2)},
)
statuses = record({"state": states, "timestamp": names}, {"message": messages})
tasks = record(
    {"id": names, "contextId": names, "status": statuses},
    {"artifacts": st.lists(artifacts, max_size=2), "history": st.lists(messages, max_size=2), "metadata": objects},
)
updates = {"taskId": names, "contextId": names}
responses = st.one_of(
    tasks.map(lambda task: {"task": task}),
    messages.map(lambda message: {"message": message}),
    record({**updates, "status": statuses}, {"metadata": objects}).map(lambda update: {"statusUpdate": update}),
    record(
        {**updates, "artifact": artifacts}, {"append": st.booleans(), "lastChunk": st.booleans(), "metadata": objects}
    ).map(lambda update: {"artifactUpdate": update}),
)
push_configs = record(
    {"url": names, "id": names},
    {"token": names, "authentication": record({"scheme": names, "credentials": names}, {})},
)
configurations = record(
    {"returnImmediately": st.booleans()},
    {
        "taskPushNotificationConfig": push_configs,
        "acceptedOutputModes": st.lists(names, max_size=2),
        "historyLength": st.integers(0, 9),
    },
)
encodings = st.sampled_from([JSON_RPC, HTTP_JSON])


@given(tasks, encodings)
def test_a_task_goes_to_0_3_and_back(task: Json, encoding: Encoding) -> None:
    assert task_in(task_out(task, encoding)) == task


@given(responses, encodings)
def test_a_response_goes_to_0_3_and_back(response: Json, encoding: Encoding) -> None:
    assert response_in(response_out(response, encoding)) == response


@given(messages, encodings)
def test_a_message_goes_to_0_3_and_back(message: Json, encoding: Encoding) -> None:
    assert message_in(message_out(message, encoding), encoding) == message


@given(st.fixed_dictionaries({"message": messages, "configuration": configurations}), encodings)
def test_the_parameters_of_a_message_go_to_0_3_and_back(params: Json, encoding: Encoding) -> None:
    assert send_in(send_out(params, encoding), encoding) == params


@given(configurations, encodings)
def test_a_configuration_goes_to_0_3_and_back(configuration: Json, encoding: Encoding) -> None:
    assert configuration_in(configuration_out(configuration, encoding), encoding) == configuration


@given(push_configs)
def test_a_push_config_goes_to_0_3_and_back(config: Json) -> None:
    assert push_config_in(push_config_out(config)) == config
    assert push_config_in({"url": config["url"]})["id"] == DEFAULT_CONFIG


@given(tasks)
def test_the_objects_of_the_two_encodings_differ(task: Json) -> None:
    typed, plain = task_out(task, JSON_RPC), task_out(task, HTTP_JSON)
    assert (typed["kind"], "kind" in plain) == ("task", False)
    assert plain["status"]["state"].replace("CANCELLED", "CANCELED") == task["status"]["state"]
