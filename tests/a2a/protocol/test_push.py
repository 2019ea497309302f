"""A2A, push notifications: configs are made, shown, listed and removed, and what happens reaches the client's address."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import AsyncClient

from tests.a2a.a2a_client import BRIEF, ECHO, SLOW, TREE, Agent, Json, data, text
from tests.a2a.protocol.test_agent_card import configure
from tests.a2a.schemas import check
from tests.receiver import Delivery, Receiver, receiving
from tests.servers import Server, until

pytestmark = pytest.mark.both_engines_nightly

CREATE = "CreateTaskPushNotificationConfig"
GET = "GetTaskPushNotificationConfig"
LIST = "ListTaskPushNotificationConfigs"
DELETE = "DeleteTaskPushNotificationConfig"
AUTHENTICATION = {"scheme": "Bearer", "credentials": "a-credential"}
HOOK = "https://example.com/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def task_id(alice: Agent) -> Iterator[str]:
    """A Task that works until the test is over."""
    task_id = alice.start(data(SLOW))["id"]
    yield task_id
    alice.post("CancelTask", {"id": task_id})


CHAIN: Json = {
    "tasks": [
        {"id": "last", "name": "echo_executor", "dependencies": ["first"]},
        {"id": "first", "name": "echo_executor", "parent_id": "last"},
    ]
}


def config_of(task_id: str, url: str = HOOK, **more: Any) -> Json:
    return {"taskId": task_id, "url": url, **more}


def until_over(receiver: Receiver) -> list[Delivery]:
    """What came, once the last of it is there."""

    def is_over() -> bool:
        states = [str(event) for event in receiver.events()]
        return any("TASK_STATE_COMPLETED" in state or "'state': 'completed'" in state for state in states)

    until(is_over, seconds=60, what="the end at the receiver")
    return list(receiver.received)


@pytest.mark.requirement("PUSH-CREATE-001", "PUSH-GET-001")
def test_a_config_is_made_and_shown_without_its_secrets(alice: Agent, task_id: str) -> None:
    given = config_of(task_id, id="mine", token="a-token", authentication=AUTHENTICATION)
    made = alice.call(CREATE, given)
    check(made, "PushConfig")
    assert made == {"taskId": task_id, "id": "mine", "url": HOOK, "authentication": {"scheme": "Bearer"}}
    assert alice.call(GET, {"taskId": task_id, "id": "mine"}) == made


@pytest.mark.requirement("PUSH-CREATE-002", "PUSH-LIST-001")
def test_the_configs_of_a_task_stay_until_they_are_removed(alice: Agent, task_id: str) -> None:
    made = [alice.call(CREATE, config_of(task_id, f"{HOOK}/{number}")) for number in range(3)]
    assert len({config["id"] for config in made}) == 3
    assert alice.call(LIST, {"taskId": task_id}) == {"configs": made, "nextPageToken": ""}
    alice.call(DELETE, {"taskId": task_id, "id": made[1]["id"]})
    assert alice.call(LIST, {"taskId": task_id})["configs"] == [made[0], made[2]]


def test_the_configs_of_a_task_come_in_pages(alice: Agent, task_id: str) -> None:
    made = [alice.call(CREATE, config_of(task_id, f"{HOOK}/{number}")) for number in range(5)]
    pages, token = [], ""
    for _ in range(3):
        page = alice.call(LIST, {"taskId": task_id, "pageSize": 2, "pageToken": token})
        pages.append(page["configs"])
        token = page["nextPageToken"]
    assert (pages, token) == ([made[:2], made[2:4], made[4:]], "")
    whole = {"configs": made, "nextPageToken": ""}
    assert alice.call(LIST, {"taskId": task_id, "pageSize": 5}) == alice.call(LIST, {"taskId": task_id}) == whole
    error = alice.error(LIST, {"taskId": task_id, "pageToken": "nonsense"})
    assert (error["code"], error["data"][0]["fieldViolations"][0]["field"]) == (-32602, "pageToken")


def test_the_same_id_names_one_config_of_each_task(alice: Agent, task_id: str) -> None:
    other = alice.asking()["id"]
    for each in (task_id, other):
        alice.call(CREATE, config_of(each, f"{HOOK}/{each}", id="same"))
    alice.call(CREATE, config_of(other, HOOK, id="same"))
    assert alice.call(GET, {"taskId": task_id, "id": "same"})["url"] == f"{HOOK}/{task_id}"
    assert [config["url"] for config in alice.call(LIST, {"taskId": other})["configs"]] == [HOOK]


@pytest.mark.requirement("PUSH-GET-002")
def test_a_config_that_is_not_there_is_not_found(alice: Agent, bob: Agent, task_id: str) -> None:
    named = {"taskId": task_id, "id": "mine"}
    assert alice.error(GET, named)["code"] == -32001
    alice.call(CREATE, config_of(task_id, id="mine"))
    assert bob.error(GET, named)["code"] == -32001


@pytest.mark.requirement("PUSH-DEL-001", "PUSH-DEL-002")
def test_a_config_can_be_removed_more_than_once(alice: Agent, task_id: str) -> None:
    named = {"taskId": task_id, "id": alice.call(CREATE, config_of(task_id))["id"]}
    assert [alice.call(DELETE, named) for _ in range(2)] == [{}, {}]
    assert alice.error(GET, named)["code"] == -32001
    assert alice.call(LIST, {"taskId": task_id})["configs"] == []


def test_a_task_that_is_over_may_have_a_config(alice: Agent) -> None:
    task_id = alice.send(data(ECHO))["id"]
    assert alice.call(CREATE, config_of(task_id, id="late"))["id"] == "late"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "nonsense"}, "url"),
        ({"url": ""}, "url"),
        ({"url": "https://user:password@example.com/"}, "url"),
        ({"token": "a\r\nSet-Cookie: b"}, "token"),
        ({"authentication": {"scheme": "Bearer\r\nx", "credentials": "a"}}, "authentication.scheme"),
        ({"authentication": {"scheme": "Bearer", "credentials": "a\r\nb"}}, "authentication.credentials"),
    ],
)
def test_an_address_or_a_secret_that_could_not_be_sent_is_refused(
    alice: Agent, task_id: str, change: Json, field: str
) -> None:
    error = alice.error(CREATE, config_of(task_id) | change)
    assert error["code"] == -32602
    assert error["data"][0]["fieldViolations"][0]["field"] == field


@pytest.mark.requirement("PUSH-DELIVER-001", "PUSH-DELIVER-002", "PUSH-DELIVER-003")
@pytest.mark.parametrize("given", [BRIEF, TREE])
def test_what_happens_arrives_in_its_order_with_the_credentials(alice: Agent, receiver: Receiver, given: Json) -> None:
    config = {"url": receiver.url, "token": "a-token", "authentication": AUTHENTICATION}
    task = alice.send(data(given), taskPushNotificationConfig=config)
    deliveries = until_over(receiver)
    for delivery in deliveries:
        check(delivery.event, "StreamResponse")
        assert delivery.headers["authorization"] == "Bearer a-credential"
        assert delivery.headers["x-a2a-notification-token"] == "a-token"
        assert delivery.headers["content-type"] == "application/a2a+json"
    updates = [next(iter(delivery.event.values())) for delivery in deliveries]
    assert {update["taskId"] for update in updates} == {task["id"]}
    numbers = [update["metadata"]["seq"] for update in updates]
    ends = 2 if given is TREE else 1  # the result and the status that stays; the result of an only task was sent before
    assert numbers == [*range(1, numbers[-1]), *[numbers[-1]] * ends]
    done = alice.get(task["id"])
    assert updates[-1]["status"] == done["status"]
    artifacts = {update["artifact"]["artifactId"]: update["artifact"] for update in updates if "artifact" in update}
    assert artifacts == {artifact["artifactId"]: artifact for artifact in done["artifacts"]}


def test_a_question_arrives_too_and_what_comes_of_its_answer(alice: Agent, receiver: Receiver) -> None:
    asking = alice.send(text("what?"), taskPushNotificationConfig={"url": receiver.url})
    (question,) = receiver.until_count(1)
    assert question["statusUpdate"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    alice.send(data(ECHO, taskId=asking["id"]))
    assert until_over(receiver)[-1].event["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


def test_a_receiver_that_fails_is_tried_again(alice: Agent, receiver: Receiver) -> None:
    receiver.answer(500)
    alice.send(data(ECHO), taskPushNotificationConfig={"url": receiver.url})
    first, second = until_over(receiver)[:2]
    assert first.body == second.body


def test_the_end_comes_again_as_a_whole_until_all_of_it_has_arrived(alice: Agent, receiver: Receiver) -> None:
    alice.send(data(CHAIN), taskPushNotificationConfig={"url": receiver.url})
    count = len(until_over(receiver))
    receiver.received.clear()
    receiver.answer(*[200] * (count - 1), 500)
    alice.send(data(CHAIN), taskPushNotificationConfig={"url": receiver.url})
    until(lambda: len(receiver.received) == count + 2, seconds=60, what="the end for the second time")
    bodies = [delivery.body for delivery in receiver.received]
    assert bodies[count - 2 : count] == bodies[count:]


def test_to_a_client_of_0_3_the_task_is_sent(old_alice: Agent, receiver: Receiver) -> None:
    config = {"url": receiver.url, "token": "a-token", "authentication": {"schemes": ["Basic"], "credentials": "YTpi"}}
    params = {
        "message": {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "data", "data": BRIEF}]},
        "configuration": {"blocking": True, "pushNotificationConfig": config},
    }
    task = old_alice.call("message/send", params)
    deliveries = until_over(receiver)
    for delivery in deliveries:
        assert (delivery.event["kind"], delivery.event["id"]) == ("task", task["id"])
        assert delivery.headers["authorization"] == "Basic YTpi"
        assert delivery.headers["x-a2a-notification-token"] == "a-token"
    assert deliveries[-1].event == task


def test_a_client_of_0_3_gets_the_end_once_however_late(
    agent_server: Server, old_alice: Agent, receiver: Receiver
) -> None:
    """Each delivery has the Task as it is then: after the first was refused for a while, that is the end."""
    receiver.answer(500)
    params = {
        "message": {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "data", "data": ECHO}]},
        "configuration": {"blocking": True, "pushNotificationConfig": {"url": receiver.url}},
    }
    task = old_alice.call("message/send", params)
    of_run = "SELECT closed_at FROM tasks_webhook WHERE run_id = %s AND closed_at IS NOT NULL"
    until(lambda: agent_server.query(of_run, task["id"]), seconds=60, what="the last delivery")
    assert receiver.events()[1:].count(task) == 1


@pytest.mark.requirement("CORE-CAP-001")
@pytest.mark.parametrize(
    ("method", "params"),
    [
        (CREATE, {"taskId": "t", "url": HOOK}),
        (CREATE, {"url": 7}),
        ("tasks/pushNotificationConfig/set", []),
        (GET, {"taskId": "t", "id": "c"}),
        (LIST, {"taskId": "t"}),
        (DELETE, {"taskId": "t", "id": "c"}),
        ("SendMessage", {"message": data(ECHO), "configuration": {"taskPushNotificationConfig": {"url": HOOK}}}),
    ],
)
async def test_a_server_without_push_says_so_first(
    async_client: AsyncClient, settings: LazySettings, method: str, params: Json
) -> None:
    configure(settings, a2a={"push_notifications": False})
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    response = await async_client.post("/", request, content_type="application/json")
    assert response.json()["error"]["code"] == -32003
    card = (await async_client.get("/.well-known/agent-card.json")).json()
    assert card["capabilities"]["pushNotifications"] is False
