"""The extension for clients that lose their connection: numbers, subscriptions after one, and messages sent twice."""

import uuid
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from a2a.protocol.versions import RESUME_EXTENSION
from tests.a2a.a2a_client import BRIEF, ECHO, TREE, Agent, Json, data, gated, states_of, text
from tests.a2a.schemas import check
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly


def seqs_of(results: list[Json]) -> list[int]:
    """The numbers of the updates, without the Task at the beginning."""
    assert "task" in results[0]
    return [next(iter(result.values()))["metadata"]["seq"] for result in results[1:]]


def followed(agent: Agent, task_id: str, after: int) -> list[Json]:
    return agent.streamed("SubscribeToTask", {"id": task_id, "after": after})


@pytest.mark.parametrize("given", [ECHO, BRIEF, TREE])
def test_a_subscription_replays_what_followed_an_update(alice: Agent, given: Json) -> None:
    streamed = alice.streamed("SendStreamingMessage", {"message": data(given)})
    task = alice.get(streamed[0]["task"]["id"])
    last = task["metadata"]["seq"]
    assert seqs_of(streamed)[-1] == last
    whole = followed(alice, task["id"], 0)
    assert whole[0] == {"task": alice.call("GetTask", {"id": task["id"]})}
    assert whole[1:] == streamed[1:]
    for result in whole:
        check(result, "StreamResponse")
    rest = followed(alice, task["id"], 2)
    assert seqs_of(rest) == [number for number in seqs_of(whole) if number > 2]
    assert followed(alice, task["id"], last) == whole[:1]


@pytest.mark.both_engines
def test_a_client_that_returns_misses_nothing_and_receives_nothing_twice(alice: Agent, gate: Path) -> None:
    tasks = [
        {"id": "last", "name": "aggregate_results_executor", "dependencies": ["second"]},
        {"id": "first", "name": "echo_executor", "parent_id": "last"},
        {
            "id": "second",
            "name": "scripted_executor",
            "parent_id": "last",
            "inputs": gated(gate)["inputs"],
            "dependencies": ["first"],
        },
    ]
    task_id = alice.start(data({"tasks": tasks}))["id"]
    with alice.stream("SubscribeToTask", {"id": task_id, "after": 0}) as stream:
        before = [next(stream) for _ in range(3)]
    gate.touch()
    alice.streamed("SubscribeToTask", {"id": task_id, "after": seqs_of(before)[-1]})
    after = followed(alice, task_id, seqs_of(before)[-1])
    numbers = [*seqs_of(before), *seqs_of(after)]
    assert sorted(set(numbers)) == list(range(1, numbers[-1] + 1))
    assert numbers == sorted(numbers)
    assert states_of(after)[-1] == "COMPLETED"


def test_a_number_that_is_not_there_yet_is_refused(alice: Agent) -> None:
    task = alice.send(data(ECHO))
    for after in (task["metadata"]["seq"] + 1, -1, "x"):
        error = alice.error("SubscribeToTask", {"id": task["id"], "after": after})
        assert (error["code"], error["data"][0]["fieldViolations"][0]["field"]) == (-32602, "after")
    assert alice.error("SubscribeToTask", {"id": task["id"]})["code"] == -32004


@pytest.mark.both_engines
def test_updates_that_were_deleted_are_named(alice: Agent, agent_server: Server) -> None:
    task = alice.send(data(ECHO))
    last = task["metadata"]["seq"]
    agent_server.query("DELETE FROM tasks_taskevent WHERE run_id = %s AND seq <= 2", task["id"])
    error = alice.error("SubscribeToTask", {"id": task["id"], "after": 1})
    (info,) = error["data"]
    assert (error["code"], info["reason"]) == (-32040, "EVENTS_GONE")
    assert info["metadata"] == {"taskId": task["id"], "firstSeq": "2", "lastSeq": "2"}
    assert "updates 2 to 2" in error["message"]
    assert seqs_of(followed(alice, task["id"], 2))[-1] == last
    agent_server.query("DELETE FROM tasks_taskevent WHERE run_id = %s", task["id"])
    (info,) = alice.error("SubscribeToTask", {"id": task["id"], "after": 0})["data"]
    assert (info["metadata"]["firstSeq"], info["metadata"]["lastSeq"]) == ("1", str(last))


def test_the_tasks_of_others_are_not_there(alice: Agent, bob: Agent) -> None:
    task_id = alice.send(data(ECHO))["id"]
    params = {"id": task_id, "after": 0}
    assert bob.error("SubscribeToTask", params)["code"] == -32001


def test_the_other_bindings_take_it_too(alice: Agent, old_alice: Agent) -> None:
    task_id = alice.send(data(ECHO))["id"]
    whole = followed(alice, task_id, 0)
    older = old_alice.streamed("tasks/resubscribe", {"id": task_id, "after": 0})
    assert [each["kind"] for each in older] == ["task", *(next(iter(each)) for each in map(dashed, whole[1:]))]
    requests = [("GET", "?after=0", None), ("POST", "", {"after": 0})]
    for method, query, body in requests:
        path = f"/tasks/{task_id}:subscribe{query}"
        response = alice.http.request(method, path, json=body, headers=alice.headers)
        assert results_in(response) == whole
    gone = alice.http.get(f"/tasks/{task_id}:subscribe?after=99", headers=alice.headers)
    assert gone.status_code == 400


def dashed(update: Json) -> Json:
    names = {"statusUpdate": "status-update", "artifactUpdate": "artifact-update"}
    return {names[name]: value for name, value in update.items()}


def results_in(response: httpx.Response) -> list[Any]:
    return [orjson.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line]


def test_the_extension_is_activated_by_its_header(alice: Agent) -> None:
    response = alice.post("GetTask", {"id": "nowhere"}, **{"A2A-Extensions": RESUME_EXTENSION})
    assert response.headers["A2A-Extensions"] == RESUME_EXTENSION


# --- messages that are sent twice ---


@pytest.mark.both_engines
def test_a_question_and_an_answer_are_safe_to_repeat(alice: Agent) -> None:
    ask, answer, reply = ({"Idempotency-Key": str(uuid.uuid4())} for _ in range(3))
    hello = {"message": text("hello")}
    first, second = (alice.call("SendMessage", hello, **ask)["task"] for _ in range(2))
    assert first == second
    assert len(first["history"]) == 2
    follow_up = {"message": text("Echo: hello", taskId=first["id"])}
    done, again = (alice.call("SendMessage", follow_up, **answer)["task"] for _ in range(2))
    assert done == again
    assert (done["id"], done["status"]["state"]) == (first["id"], "TASK_STATE_COMPLETED")
    approval = {"skill": "approval_executor", "inputs": {"question": "Publish it?"}}
    asking = alice.send(data(approval))
    yes = {"message": text("yes", taskId=asking["id"])}
    done, again = (alice.call("SendMessage", yes, **reply)["task"] for _ in range(2))
    assert done == again
    assert done["status"]["state"] == "TASK_STATE_COMPLETED"
    assert alice.error("SendMessage", {"message": text("no", taskId=asking["id"])}, **reply)["code"] == -32602


def test_a_stream_that_is_asked_for_twice_is_of_the_same_task(alice: Agent) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": data(ECHO)}}
    headers = alice.headers | {"Idempotency-Key": str(uuid.uuid4())}
    first, second = (results_in(alice.http.post("/", json=request, headers=headers)) for _ in range(2))
    assert first[0]["result"]["task"]["id"] == second[0]["result"]["task"]["id"]
    assert second[0]["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


def test_a_key_that_was_refused_is_still_free(alice: Agent) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    alice.error("SendMessage", {"message": text("more", taskId="nowhere")}, **key)
    assert alice.call("SendMessage", {"message": data(ECHO)}, **key)["task"]["id"]
