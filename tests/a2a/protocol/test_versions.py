"""A2A, versions: what the header may say, what 0.3 looks like, extensions, and capabilities that are off."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import AsyncClient

from a2a.protocol.versions import OPERATIONS, RESULTS, TASK_TREE_EXTENSION, V0_3, V1_0
from tasks.rules.a2a_versions import HTTP_JSON, JSON_RPC, message_in, message_out, task_out
from tests.a2a.a2a_client import BRIEF, ECHO, SLOW, Agent, Json, data, gated, only_event, text
from tests.a2a.protocol.test_agent_card import configure

pytestmark = pytest.mark.both_engines_nightly

NOWHERE = {"id": "nowhere"}
TERMINAL = ("completed", "failed", "canceled", "rejected")


def old_message(value: Any, **fields: Any) -> Json:
    """A message of 0.3: text, or an object as data."""
    part = {"kind": "text", "text": value} if isinstance(value, str) else {"kind": "data", "data": value}
    return {"kind": "message", "messageId": "m", "role": "user", "parts": [part], **fields}


@pytest.mark.requirement("VER-SERVER-001", "VER-CLIENT-002")
@pytest.mark.parametrize(
    ("version", "method", "code"),
    [
        ("1.0", "GetTask", -32001),
        ("1.0.1", "GetTask", -32001),
        ("0.3", "tasks/get", -32001),
        ("0.3.0", "tasks/get", -32001),
        ("0.3", "GetTask", -32009),
        ("1.0", "tasks/get", -32009),
    ],
)
def test_the_header_agrees_with_the_name_of_the_method(alice: Agent, version: str, method: str, code: int) -> None:
    assert alice.error(method, NOWHERE, **{"A2A-Version": version})["code"] == code


@pytest.mark.requirement("VER-SERVER-002")
@pytest.mark.parametrize("version", ["99.0", "2", "0.2", "one", "1"])
@pytest.mark.parametrize("method", ["GetTask", "tasks/get", "SendMessage"])
def test_an_unknown_version_is_refused_by_its_own_error(alice: Agent, method: str, version: str) -> None:
    error = alice.error(method, NOWHERE, **{"A2A-Version": version})
    assert error["code"] == -32009
    assert error["data"][0]["reason"] == "VERSION_NOT_SUPPORTED"
    assert "1.0 and 0.3" in error["message"]


@pytest.mark.requirement("VER-SERVER-003")
@pytest.mark.parametrize("method", ["tasks/get", "GetTask"])
def test_without_a_version_0_3_is_spoken_and_1_0_understood(old_alice: Agent, method: str) -> None:
    assert old_alice.error(method, NOWHERE)["code"] == -32001
    assert old_alice.error(method, NOWHERE, **{"A2A-Version": ""})["code"] == -32001


def test_the_version_may_stand_in_the_query(old_alice: Agent) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": NOWHERE}
    reply = old_alice.http.post("/?A2A-Version=7.0", json=request, headers=old_alice.headers).json()
    assert reply["error"]["code"] == -32009


@pytest.mark.parametrize("version", ["1.0", "99.0", "nonsense"])
def test_our_own_methods_have_no_version(alice: Agent, version: str) -> None:
    assert alice.call("tasks.count", **{"A2A-Version": version})["kind"] == "message"


@pytest.mark.requirement("VER-CLIENT-001")
def test_the_two_versions_share_no_name_so_that_a_client_without_a_header_is_understood() -> None:
    assert not V1_0.methods.keys() & V0_3.methods.keys()
    assert set(V1_0.methods.values()) == set(V0_3.methods.values()) == set(OPERATIONS)
    assert RESULTS[JSON_RPC].keys() == RESULTS[HTTP_JSON].keys() == set(OPERATIONS)


@pytest.mark.parametrize(
    ("version", "is_old"), [("1.0", False), ("1.0.1", False), ("0.3", True), ("0.3.0", True), ("0.3.9", True)]
)
def test_a_patch_number_means_nothing_to_the_card_either(alice: Agent, version: str, is_old: bool) -> None:
    card = alice.http.get("/.well-known/agent-card.json", headers={"A2A-Version": version}).json()
    assert ("protocolVersion" in card, "supportedInterfaces" in card) == (is_old, not is_old)


# --- 0.3 ---


def test_a_client_of_0_3_gets_tasks_of_0_3(old_alice: Agent) -> None:
    task = old_alice.call("message/send", {"message": old_message(ECHO)})
    assert (task["kind"], task["status"]["state"]) == ("task", "completed")
    assert task["artifacts"][-1]["parts"] == [{"kind": "data", "data": {"say": "hello"}}]
    (said,) = task["history"]
    assert (said["kind"], said["role"], said["parts"]) == ("message", "user", old_message(ECHO)["parts"])
    assert old_alice.call("tasks/get", {"id": task["id"], "metadata": {}}) == task
    assert "history" not in old_alice.call("tasks/get", {"id": task["id"], "historyLength": 0})


def test_a_client_of_0_3_is_asked_and_answers(old_alice: Agent) -> None:
    asking = old_alice.call("message/send", {"message": old_message("what?")})
    assert asking["status"]["state"] == "input-required"
    assert asking["status"]["message"]["parts"][0]["kind"] == "text"
    assert asking["status"]["message"]["role"] == "agent"
    answered = old_alice.call("message/send", {"message": old_message(ECHO, taskId=asking["id"])})
    assert (answered["id"], answered["status"]["state"]) == (asking["id"], "completed")


@pytest.mark.parametrize(
    ("configuration", "waits"),
    [({}, True), ({"blocking": True}, True), ({"blocking": None}, True), ({"blocking": False}, False)],
)
def test_a_client_of_0_3_waits_unless_it_says_otherwise(old_alice: Agent, configuration: Json, waits: bool) -> None:
    params = {"message": old_message(BRIEF), "configuration": configuration}
    assert (old_alice.call("message/send", params)["status"]["state"] in TERMINAL) is waits


def test_a_client_of_0_3_streams(old_alice: Agent, gate: Path) -> None:
    results = old_alice.streamed("message/stream", {"message": old_message(BRIEF)})
    kinds = [result["kind"] for result in results]
    assert (kinds[0], kinds[-1]) == ("task", "status-update")
    assert set(kinds[1:]) == {"status-update", "artifact-update"}
    finals = [result["final"] for result in results if result["kind"] == "status-update"]
    assert finals == [False] * (len(finals) - 1) + [True]
    started = old_alice.call(
        "message/send", {"message": old_message(gated(gate)), "configuration": {"blocking": False}}
    )
    with old_alice.stream("tasks/resubscribe", {"id": started["id"]}) as stream:
        again = [next(stream)]
        gate.touch()
        again += stream
    assert (again[0]["id"], again[-1]["status"]["state"]) == (started["id"], "completed")


def test_a_client_of_0_3_cancels(old_alice: Agent) -> None:
    started = old_alice.call("message/send", {"message": old_message(SLOW), "configuration": {"blocking": False}})
    assert old_alice.call("tasks/cancel", {"id": started["id"]})["status"]["state"] == "canceled"
    assert old_alice.error("tasks/cancel", {"id": started["id"]})["code"] == -32002


def test_a_client_of_0_3_has_push_configs(old_alice: Agent) -> None:
    task_id = old_alice.call("message/send", {"message": old_message("what?")})["id"]
    url = "https://example.com/hook"
    given = {"url": url, "authentication": {"schemes": ["Bearer"], "credentials": "c"}}
    method = "tasks/pushNotificationConfig"
    made = old_alice.call(f"{method}/set", {"taskId": task_id, "pushNotificationConfig": given})
    shown = {"id": "default", "url": url, "authentication": {"schemes": ["Bearer"]}}
    assert made == {"taskId": task_id, "pushNotificationConfig": shown}
    assert old_alice.call(f"{method}/get", {"id": task_id}) == made
    assert old_alice.call(f"{method}/list", {"id": task_id}) == [made]
    named = {"id": task_id, "pushNotificationConfigId": "default"}
    assert [old_alice.call(f"{method}/delete", named) for _ in range(2)] == [None, None]
    assert old_alice.call(f"{method}/list", {"id": task_id}) == []


@pytest.mark.parametrize("given", [{}, {"id": None}, {"id": ""}])
def test_a_push_config_of_0_3_that_comes_with_a_message_is_called_default(old_alice: Agent, given: Json) -> None:
    config = given | {"url": "https://example.com/hook"}
    params = {"message": old_message("what?"), "configuration": {"pushNotificationConfig": config}}
    task_id = old_alice.call("message/send", params)["id"]
    made = old_alice.call("tasks/pushNotificationConfig/get", {"id": task_id})
    assert made["pushNotificationConfig"] == {"id": "default", "url": "https://example.com/hook"}
    assert old_alice.call("tasks/pushNotificationConfig/list", {"id": task_id}) == [made]


def test_a_client_of_0_3_lists_and_has_a_card(old_alice: Agent) -> None:
    task = old_alice.call("message/send", {"message": old_message(ECHO)})
    (listed,) = old_alice.call("tasks/list", {"contextId": task["contextId"]})["tasks"]
    assert (listed["kind"], listed["id"]) == ("task", task["id"])
    card = old_alice.call("agent/getAuthenticatedExtendedCard")
    assert (card["protocolVersion"], "supportedInterfaces" in card) == ("0.3.0", False)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"message": None},
        {"message": 7},
        {"message": {"parts": 7, "role": 7}},
        {"message": {"kind": "message", "messageId": "m", "role": "user", "parts": [7]}},
        {"message": {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "file", "file": 7}]}},
        {"message": old_message(ECHO), "configuration": 7},
        {"message": old_message(ECHO), "configuration": {"pushNotificationConfig": {"authentication": {}}}},
    ],
)
def test_what_is_wrong_in_0_3_is_refused(old_alice: Agent, params: Json) -> None:
    assert old_alice.error("message/send", params)["code"] == -32602


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ({"text": "a", "metadata": {"b": 1}}, {"kind": "text", "text": "a", "metadata": {"b": 1}}),
        ({"data": {"a": 1}}, {"kind": "data", "data": {"a": 1}}),
        (
            {"raw": "aGk=", "filename": "a", "mediaType": "text/plain"},
            {"kind": "file", "file": {"bytes": "aGk=", "name": "a", "mimeType": "text/plain"}},
        ),
        ({"url": "https://a/"}, {"kind": "file", "file": {"uri": "https://a/"}}),
    ],
)
def test_parts_go_from_one_version_to_the_other_and_back(new: Json, old: Json) -> None:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [new]}
    older = {"kind": "message", "messageId": "m", "role": "user", "parts": [old]}
    assert message_out(message, JSON_RPC) == older
    assert message_in(older, JSON_RPC) == message


def test_data_that_is_no_object_is_wrapped_for_0_3() -> None:
    message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"data": [1]}]}
    assert message_out(message, JSON_RPC)["parts"] == [{"kind": "data", "data": {"result": [1]}}]


# --- extensions and capabilities ---


@pytest.mark.parametrize("header", ["A2A-Extensions", "X-A2A-Extensions"])
def test_extensions_that_are_known_are_said_to_be_active(alice: Agent, header: str) -> None:
    response = alice.post("ListTasks", **{header: f"https://example.com/other, {TASK_TREE_EXTENSION}"})
    assert response.headers["A2A-Extensions"] == TASK_TREE_EXTENSION
    assert "A2A-Extensions" not in alice.post("ListTasks").headers


async def posted(client: AsyncClient, method: str, params: Json, **headers: str) -> Json:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    response: Any = await client.post("/", request, content_type="application/json", headers=headers)
    reply: Json = only_event(b"".join([part async for part in response])) if response.streaming else response.json()
    return reply


@pytest.mark.requirement("CORE-CAP-004")
async def test_an_extension_that_is_required_must_be_supported(
    async_client: AsyncClient, settings: LazySettings
) -> None:
    uri = "urn:example:required"
    configure(settings, a2a={"required_extensions": (uri,)})
    card = (await async_client.get("/.well-known/agent-card.json")).json()
    assert {each["uri"] for each in card["capabilities"]["extensions"] if each["required"]} == {uri}
    error = (await posted(async_client, "SendMessage", {"message": {}}))["error"]
    assert (error["code"], error["data"][0]["reason"]) == (-32008, "EXTENSION_SUPPORT_REQUIRED")
    supporting = await posted(async_client, "SendMessage", {"message": {}}, **{"A2A-Extensions": f"x, {uri}"})
    assert supporting["error"]["code"] == -32602


@pytest.mark.requirement("CORE-CAP-002")
@pytest.mark.parametrize("method", ["SendStreamingMessage", "SubscribeToTask", "message/stream", "tasks/resubscribe"])
async def test_a_server_that_does_not_stream_says_so(
    async_client: AsyncClient, settings: LazySettings, method: str
) -> None:
    configure(settings, a2a={"streaming": False})
    params = {"message": text("x") if method[0] == "S" else old_message("x")} if "essage" in method else NOWHERE
    assert (await posted(async_client, method, params))["error"]["code"] == -32004
    card = (await async_client.get("/.well-known/agent-card.json")).json()
    assert card["capabilities"]["streaming"] is False


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("CORE-CAP-003", "CARD-EXT-002")
@pytest.mark.parametrize(("is_declared", "code"), [(None, -32004), (False, -32004), (True, -32007)])
@pytest.mark.parametrize("method", ["GetExtendedAgentCard", "agent/getAuthenticatedExtendedCard"])
async def test_an_extended_card_has_to_be_declared_and_configured(
    async_client: AsyncClient, settings: LazySettings, method: str, is_declared: bool | None, code: int
) -> None:
    configure(settings, a2a={"extended_card": is_declared})
    assert (await posted(async_client, method, {}))["error"]["code"] == code


def test_an_answer_of_1_0_is_the_same_object_that_0_3_translates(alice: Agent, old_alice: Agent) -> None:
    task = alice.send(data(ECHO))
    assert old_alice.call("tasks/get", {"id": task["id"]}) == task_out(task, JSON_RPC)
