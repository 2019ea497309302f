"""A2A 1.0, streams: what they begin and end with, their order, and that all who follow see the same."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tasks.rules.a2a_versions import TERMINAL
from tests.a2a.a2a_client import BRIEF, ECHO, FAILING, SLOW, TREE, Agent, Json, data, gated, states_of, text
from tests.a2a.schemas import check

pytestmark = pytest.mark.both_engines_nightly


def started(agent: Agent, given: Json) -> str:
    task_id: str = agent.start(data(given))["id"]
    return task_id


def artifacts_of(results: list[Json]) -> list[Json]:
    return [result["artifactUpdate"]["artifact"] for result in results if "artifactUpdate" in result]


@pytest.mark.requirement("CORE-STREAM-001", "CORE-STREAM-003", "STREAM-ORDER-001")
@pytest.mark.parametrize("given", [ECHO, BRIEF, TREE, FAILING])
def test_a_stream_is_the_task_then_what_happens_in_its_order_until_the_end(alice: Agent, given: Json) -> None:
    results = alice.streamed("SendStreamingMessage", {"message": data(given)})
    for result in results:
        check(result, "StreamResponse")
    assert results[0].keys() == {"task"}
    numbers = [next(iter(result.values()))["metadata"]["seq"] for result in results[1:]]
    assert numbers == sorted(numbers)
    states = states_of(results)
    assert states[:-1] == [each for each in ("SUBMITTED", "WORKING") if each in states]
    last = results[-1]["statusUpdate"]
    assert last["status"]["state"] in TERMINAL
    task = alice.get(last["taskId"])
    assert last["status"] == task["status"]
    assert sorted(map(str, artifacts_of(results))) == sorted(map(str, task.get("artifacts", [])))


def test_a_stream_comes_as_it_happens_and_has_the_steps(alice: Agent) -> None:
    with alice.stream("SendStreamingMessage", {"message": data(SLOW)}) as results:
        task_id = next(results)["task"]["id"]
        step = next(result for result in results if "message" in result["statusUpdate"]["status"])
        assert step["statusUpdate"]["status"]["message"]["parts"] == [{"text": "step 1 of 600"}]
        assert alice.state(task_id) == "TASK_STATE_WORKING"
        alice.call("CancelTask", {"id": task_id})
        assert states_of(list(results))[-1] == "CANCELED"


def test_a_stream_that_a_message_began_ends_with_a_question(alice: Agent) -> None:
    results = alice.streamed("SendStreamingMessage", {"message": text("what?")})
    assert states_of(results) == ["INPUT_REQUIRED"]


@pytest.mark.requirement("STREAM-ORDER-002", "STREAM-ORDER-003")
def test_all_streams_of_a_task_tell_the_same_in_the_same_order(alice: Agent) -> None:
    asking = alice.asking()
    with (
        alice.stream("SubscribeToTask", {"id": asking["id"]}) as one,
        alice.stream("SubscribeToTask", {"id": asking["id"]}) as two,
    ):
        assert next(one) == next(two) == {"task": asking}
        alice.start(data(BRIEF, taskId=asking["id"]))
        first, second = list(one), list(two)
    assert first == second
    assert states_of(first)[-1] == "COMPLETED"


@pytest.mark.requirement("STREAM-ORDER-004")
def test_a_client_that_leaves_stops_neither_the_task_nor_the_others(alice: Agent, gate: Path) -> None:
    task_id = started(alice, gated(gate))
    with alice.stream("SubscribeToTask", {"id": task_id}) as stays:
        assert "task" in next(stays)
        with alice.stream("SubscribeToTask", {"id": task_id}) as leaves:
            assert "task" in next(leaves)
        gate.touch()
        assert states_of(list(stays))[-1] == "COMPLETED"
    assert alice.state(task_id) == "TASK_STATE_COMPLETED"


@pytest.mark.requirement("STREAM-SUB-001", "STREAM-SUB-002")
def test_a_subscription_begins_with_the_task_and_ends_with_its_end(alice: Agent, gate: Path) -> None:
    task_id = started(alice, gated(gate))
    with alice.stream("SubscribeToTask", {"id": task_id}) as stream:
        results = [next(stream)]
        gate.touch()
        results += stream
    for result in results:
        check(result, "StreamResponse")
    assert results[0]["task"]["id"] == task_id
    assert [("task" in result) for result in results[1:]] == [False] * (len(results) - 1)
    assert states_of(results)[-1] == "COMPLETED"


@pytest.mark.requirement("STREAM-SUB-002")
def test_a_subscription_outlives_a_question(alice: Agent) -> None:
    asking = alice.asking()
    with alice.stream("SubscribeToTask", {"id": asking["id"]}) as results:
        assert next(results) == {"task": asking}
        again = alice.send(text("still unclear", taskId=asking["id"]))
        update = next(results)["statusUpdate"]
        assert update["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        assert update["status"]["message"]["parts"] == again["status"]["message"]["parts"]
        alice.start(data(ECHO, taskId=asking["id"]))
        assert states_of(list(results))[-1] == "COMPLETED"


def test_a_question_that_is_cancelled_ends_its_subscriptions(alice: Agent) -> None:
    asking = alice.asking()
    with alice.stream("SubscribeToTask", {"id": asking["id"]}) as results:
        next(results)
        alice.call("CancelTask", {"id": asking["id"]})
        assert states_of(list(results)) == ["CANCELED"]


@pytest.mark.requirement("STREAM-SUB-003")
@pytest.mark.parametrize("given", [ECHO, FAILING])
def test_a_task_that_is_over_cannot_be_followed(alice: Agent, given: Json) -> None:
    assert alice.error("SubscribeToTask", {"id": alice.send(data(given))["id"]})["code"] == -32004


@pytest.mark.requirement("STREAM-SUB-004")
def test_an_unknown_task_cannot_be_followed(alice: Agent) -> None:
    assert alice.error("SubscribeToTask", {"id": "nowhere"})["code"] == -32001


@pytest.mark.requirement("JSONRPC-SSE-001")
def test_a_stream_is_server_sent_events_of_json_rpc_responses(alice: Agent) -> None:
    request = {"jsonrpc": "2.0", "id": 7, "method": "SendStreamingMessage", "params": {"message": data(ECHO)}}
    with alice.http.stream("POST", "/", json=request, headers=alice.headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith('data: {"jsonrpc":"2.0","id":7,"result":{') for line in lines)


@pytest.mark.parametrize("number", [8])
def test_many_follow_many(alice: Agent, gate: Path, number: int) -> None:
    task_ids = [started(alice, gated(gate)) for _ in range(number)]
    all_follow = Barrier(number, action=gate.touch)

    def last_of(task_id: str) -> str:
        with alice.stream("SubscribeToTask", {"id": task_id}) as stream:
            assert "task" in next(stream)
            all_follow.wait(60)
            return states_of(list(stream))[-1]

    with ThreadPoolExecutor(number) as threads:
        assert set(threads.map(last_of, task_ids)) == {"COMPLETED"}
