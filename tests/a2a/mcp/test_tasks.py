"""Runs as tasks of the extension, and questions as forms that a client shows to its user."""

from dataclasses import replace
from pathlib import Path

import pytest

from a2a.mcp.inputs import requests_of
from tasks.models import Question
from tests.a2a.a2a_client import token_of
from tests.a2a.mcp.mcp_client import PREFIX, Client, Json
from tests.servers import until

EXTENSION = f"{PREFIX}tasks"
APPROVAL: Json = {"name": "approval_executor", "arguments": {"question": "Publish it?", "options": ["yes", "no"]}}
YES: Json = {"action": "accept", "content": {"answer": "yes", "comment": "well done"}}


@pytest.fixture
def tasks(modern: Client) -> Client:
    """A client that has declared the extension."""
    return replace(modern, capabilities={"extensions": {EXTENSION: {}}})


@pytest.fixture
def asker(modern: Client) -> Client:
    """A client that asks its user with forms."""
    return replace(modern, capabilities={"elicitation": {"form": {}}})


def settled(client: Client, task_id: str, *statuses: str) -> Json:
    """The task once it has one of these statuses."""

    def look() -> Json | None:
        found = client.result("tasks/get", {"taskId": task_id})
        return found if found["status"] in statuses else None

    found = until(look, seconds=60, what=f"a task that is {statuses}")
    assert found is not None
    return found


def test_the_server_offers_the_extension(modern: Client) -> None:
    assert modern.result("server/discover")["capabilities"]["extensions"][EXTENSION] == {}


def test_a_call_becomes_a_task_that_has_the_result(tasks: Client) -> None:
    created = tasks.result("tools/call", {"name": "echo_executor", "arguments": {"say": "hello"}})
    assert (created["resultType"], created["status"], created["ttlMs"]) == ("task", "working", None)
    assert created.keys().isdisjoint({"result", "error", "content"})
    ended = settled(tasks, created["taskId"], "completed")
    assert (ended["resultType"], ended["createdAt"]) == ("complete", created["createdAt"])
    assert ended["result"]["structuredContent"]["result"] == {"say": "hello"}
    assert tasks.result("tasks/cancel", {"taskId": created["taskId"]}) == {"resultType": "complete"}


def test_a_failed_run_is_a_completed_task_whose_result_is_an_error(tasks: Client) -> None:
    created = tasks.result("tools/call", {"name": "scripted_executor", "arguments": {"then": "fail"}})
    ended = settled(tasks, created["taskId"], "completed", "failed")
    assert (ended["status"], ended["result"]["isError"]) == ("completed", True)


def test_a_task_is_cancelled(tasks: Client, tmp_path: Path) -> None:
    arguments = {"gate": str(tmp_path / "gate")}
    created = tasks.result("tools/call", {"name": "scripted_executor", "arguments": arguments})
    working = settled(tasks, created["taskId"], "working")
    assert "of 1 done" in working["statusMessage"]
    assert tasks.result("tasks/cancel", {"taskId": created["taskId"]}) == {"resultType": "complete"}
    settled(tasks, created["taskId"], "cancelled")


def test_a_form_keeps_its_formats() -> None:
    schema = {"properties": {"to": {"type": "string", "format": "email"}}, "required": ["to"]}
    (request,) = requests_of([Question(id="q", text="Whom?", schema=schema)]).values()
    assert request["params"]["requestedSchema"] == {"type": "object", **schema}


def test_a_question_is_answered_by_an_update(tasks: Client) -> None:
    created = tasks.result("tools/call", APPROVAL)
    task_id = created["taskId"]
    waiting = settled(tasks, task_id, "input_required")
    ((question_id, request),) = waiting["inputRequests"].items()
    assert request["method"] == "elicitation/create"
    assert request["params"]["message"] == "Publish it?"
    assert request["params"]["requestedSchema"]["properties"]["answer"]["enum"] == ["yes", "no"]
    unknown = {"taskId": task_id, "inputResponses": {"unknown": {"action": "accept"}}}
    assert tasks.result("tasks/update", unknown) == {"resultType": "complete"}
    for wrong in (5, {"action": "perhaps"}, {"action": "accept"}, {"action": "accept", "content": {"answer": "maybe"}}):
        assert (
            tasks.error("tasks/update", {"taskId": task_id, "inputResponses": {question_id: wrong}})["code"] == -32602
        )
    tasks.result("tasks/update", {"taskId": task_id, "inputResponses": {question_id: YES}})
    ended = settled(tasks, task_id, "completed")
    assert ended["result"]["structuredContent"]["status"] == "completed"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_tasks_are_for_clients_that_know_them_and_for_their_owner(tasks: Client, modern: Client, method: str) -> None:
    task_id = tasks.result("tools/call", {"name": "echo_executor", "arguments": {}})["taskId"]
    params: Json = {"taskId": task_id, "inputResponses": {}}
    refused = modern.post(method, params)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, -32021)
    assert refused.json()["error"]["data"] == {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
    other = replace(tasks, token=token_of("bob"))
    missing = "0" * len(task_id)
    theirs = other.error(method, params)
    assert theirs["code"] == -32602
    assert str(theirs) == str(other.error(method, params | {"taskId": missing}))
    assert tasks.error(method, {"inputResponses": {}})["code"] == -32602


def test_a_client_that_can_ask_its_user_gets_the_question_and_calls_again(asker: Client) -> None:
    asked = asker.result("tools/call", APPROVAL)
    assert asked["resultType"] == "input_required"
    ((question_id, _),) = asked["inputRequests"].items()
    again = APPROVAL | {"requestState": asked["requestState"], "inputResponses": {question_id: YES}}
    ended = asker.result("tools/call", again)
    assert (ended["resultType"], ended["structuredContent"]["status"]) == ("complete", "completed")


def test_a_state_that_was_changed_or_is_of_another_is_refused(asker: Client) -> None:
    asked = asker.result("tools/call", APPROVAL)
    answers = dict.fromkeys(asked["inputRequests"], YES)
    again = APPROVAL | {"inputResponses": answers}
    state = asked["requestState"]
    for wrong in (state[:-1], f"{state}x", "", 5):
        assert asker.error("tools/call", again | {"requestState": wrong})["code"] == -32602
    other = replace(asker, token=token_of("bob"))
    assert other.error("tools/call", again | {"requestState": state})["code"] == -32602
    assert asker.result("tools/call", again | {"requestState": state})["resultType"] == "complete"


# --- clients of earlier eras, which the server asks in the stream of a call ---


@pytest.fixture
def older(legacy: Client) -> Client:
    """A client in a session that asks its user."""
    return legacy.begun(elicitation={})


def test_an_older_client_asks_its_user_in_the_stream_of_the_call(older: Client) -> None:
    with older.stream("tools/call", APPROVAL) as messages:
        asked = next(message for message in messages if message.get("method") == "elicitation/create")
        assert (asked["params"]["mode"], asked["params"]["message"]) == ("form", "Publish it?")
        replace(older, token=token_of("bob"), session=None).reply(asked["id"], result=YES)
        older.reply(asked["id"], result=YES)
        ended = next(message["result"] for message in messages if "result" in message)
    assert ended["structuredContent"]["status"] == "completed"


@pytest.mark.parametrize(
    "reply",
    [
        {"result": {"action": "decline"}},
        {"error": {"code": -1, "message": "no"}},
        {"result": {"action": "accept", "content": {"answer": "perhaps"}}},
    ],
)
def test_a_question_that_is_not_answered_stays_open(older: Client, reply: Json) -> None:
    with older.stream("tools/call", APPROVAL) as messages:
        asked = next(message for message in messages if message.get("method") == "elicitation/create")
        older.reply(asked["id"], **reply)
        found = next(message["result"] for message in messages if "result" in message)["structuredContent"]
    assert (found["status"], found["questions"][0]["text"]) == ("in_progress", "Publish it?")
    older.call("answer_question", task_id=found["questions"][0]["task_id"], answer="yes")
    assert older.data("get_run", run_id=found["run_id"], wait_seconds=45)["status"] == "completed"


def test_a_reply_to_nothing_is_taken(older: Client) -> None:
    older.reply("no-such-question", result=YES)
    older.reply("no-such-question", result={"action": "accept", "content": 5})
