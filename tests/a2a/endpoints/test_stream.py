from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.a2a.conftest import Rpc, frames_of

Frames = Iterator[tuple[str | None, dict[str, Any]]]

TREE = {
    "tasks": [
        {"id": "root", "name": "root"},
        {"id": "step", "name": "sleep_executor", "parent_id": "root", "inputs": {"seconds": 0.4, "steps": 3}},
    ]
}


@pytest.fixture
def finished(rpc: Rpc) -> str:
    """The id of a tree that ran."""
    task_id: str = rpc("tasks.execute", TREE | {"wait": True})["task_id"]
    return task_id


@contextmanager
def executing(http: httpx.Client, params: Any, *, path: str = "/tasks", **headers: str) -> Iterator[Frames]:
    """The frames of tasks.execute, as they come."""
    request = {"jsonrpc": "2.0", "method": "tasks.execute", "params": params | {"use_streaming": True}, "id": "s"}
    with http.stream("POST", path, json=request, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        yield frames_of(response.iter_lines())


def events_of(http: httpx.Client, task_id: str, **headers: str) -> list[tuple[str | None, dict[str, Any]]]:
    with http.stream("GET", f"/tasks/{task_id}/events", headers=headers) as response:
        assert response.status_code == 200
        return list(frames_of(response.iter_lines()))


def test_a_stream_is_the_reply_and_then_every_event_with_its_number(http: httpx.Client) -> None:
    with executing(http, TREE) as frames:
        (reply_id, reply), *events = frames
    assert (reply_id, reply["id"], reply["result"]["status"]) == (None, "s", "started")
    numbers = [event["seq"] for _, event in events]
    assert numbers == list(range(1, len(events) + 1))
    assert [event_id for event_id, _ in events] == [str(number) for number in numbers]
    kinds = [event["type"] for _, event in events]
    assert kinds[0] == "task_start"
    assert kinds.count("progress") == 2
    assert kinds[-2:] == ["final", "stream_end"]
    assert kinds.count("task_completed") == 2
    final, end = events[-2][1], events[-1][1]
    assert (final["status"], final["tree_progress"], final["task_id"]) == ("completed", 1.0, reply["result"]["task_id"])
    assert final | {"type": "stream_end", "seq": final["seq"] + 1} == end
    assert {event["run_id"] for _, event in events} == {final["run_id"]}


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that is not there yet: gated tasks end once it is."""
    return tmp_path / "gate"


def gated(gate: Path) -> Any:
    step = {"id": "step", "name": "scripted_executor", "parent_id": "root", "inputs": {"gate": str(gate)}}
    return {"tasks": [{"id": "root", "name": "root"}, step]}


def test_events_come_as_they_happen(http: httpx.Client, rpc: Rpc, gate: Path) -> None:
    with executing(http, gated(gate)) as frames:
        _, reply = next(frames)
        assert next(frames)[1]["type"] == "task_start"
        assert rpc("tasks.get", {"task_id": reply["result"]["ids"]["step"]})["status"] == "in_progress"
        gate.touch()
        assert [event["type"] for _, event in frames][-1] == "stream_end"


def test_a_client_that_leaves_does_not_stop_the_run_and_may_come_back(http: httpx.Client) -> None:
    with executing(http, TREE) as frames:
        task_id = next(frames)[1]["result"]["task_id"]
        seen, _ = next(frames)
    assert seen == "1"
    rest = events_of(http, task_id, **{"Last-Event-ID": seen})
    assert [event["seq"] for _, event in rest] == list(range(2, len(rest) + 2))
    assert (rest[-2][1]["type"], rest[-2][1]["status"]) == ("final", "completed")


@pytest.mark.parametrize("by_header", [True, False])
@pytest.mark.parametrize("seen", [0, 3, 6, 7])
def test_a_finished_tree_is_replayed_and_not_run_again(
    http: httpx.Client, rpc: Rpc, finished: str, seen: int, by_header: bool
) -> None:
    everything = events_of(http, finished)
    params: dict[str, Any] = {"task_id": finished} | ({} if by_header else {"last_event_id": seen})
    with executing(http, params, **({"Last-Event-ID": str(seen)} if by_header else {})) as frames:
        (_, reply), *rest = frames
    assert reply["result"]["status"] == "completed"
    assert rest == everything[seen:]


@pytest.mark.parametrize("headers", [{}, {"Last-Event-ID": "0"}])
def test_a_running_tree_is_followed(http: httpx.Client, rpc: Rpc, headers: dict[str, str], gate: Path) -> None:
    started = rpc("tasks.execute", gated(gate))
    with executing(http, {"task_id": started["task_id"]}, **headers) as frames:
        _, reply = next(frames)
        gate.touch()
        events = list(frames)
    assert reply["result"]["status"] == "already_running"
    assert [event["seq"] for _, event in events] == list(range(1, len(events) + 1))


def test_without_a_number_a_finished_tree_runs_again(http: httpx.Client, finished: str) -> None:
    (_, first), *_ = events_of(http, finished)
    with executing(http, {"task_id": finished}) as frames:
        (_, reply), (_, event), *_ = frames
    assert reply["result"]["status"] == "started"
    assert event["run_id"] != first["run_id"]


def test_the_events_of_any_task_are_those_of_its_tree(http: httpx.Client, rpc: Rpc, finished: str) -> None:
    (child,) = rpc("tasks.tree", {"task_id": finished})["children"]
    assert events_of(http, child["id"]) == events_of(http, finished)


def test_who_has_everything_need_not_come_back(http: httpx.Client, finished: str) -> None:
    last = events_of(http, finished)[-1][0]
    response = http.get(f"/tasks/{finished}/events", headers={"Last-Event-ID": str(last)})
    assert response.status_code == 204


def test_the_number_of_an_earlier_run_begins_at_the_beginning(http: httpx.Client, finished: str) -> None:
    assert events_of(http, finished, **{"Last-Event-ID": "1000"}) == events_of(http, finished)


def test_a_browser_that_reconnects_after_another_run_gets_all_of_it_and_is_notified(
    http: httpx.Client, rpc: Rpc, gate: Path
) -> None:
    slow = {"name": "scripted_executor", "inputs": {"gate": str(gate), "steps": 3}}
    with executing(http, {"tasks": [slow]}) as frames:
        finished = next(frames)[1]["result"]["task_id"]
        old_id, _ = next(frames)
        rpc("tasks.cancel", {"task_ids": [finished]})
        list(frames)
    gate.touch()
    rpc("tasks.execute", {"task_id": finished, "wait": True})
    latest = [(str(event_id), event) for event_id, event in events_of(http, finished)]
    assert [event["seq"] for _, event in latest] == list(range(1, len(latest) + 1))
    for before in (str(old_id), f"2:{latest[0][1]['run_id'][:-1]}"):
        assert events_of(http, finished, **{"Last-Event-ID": before}) == latest
        again = http.get(f"/tasks/{finished}/events", headers={"Last-Event-ID": before}).text
        assert again.startswith(f": the tree was executed again: all events of its latest run {latest[0][1]['run_id']}")
    assert latest[3][0] == f"4:{latest[0][1]['run_id']}"
    assert events_of(http, finished, **{"Last-Event-ID": latest[3][0]}) == latest[4:]
    with executing(http, {"task_id": finished, "last_event_id": latest[3][0]}) as frames:
        assert list(frames)[1:] == latest[4:]
    assert http.get(f"/tasks/{finished}/events", headers={"Last-Event-ID": latest[-1][0]}).status_code == 204


def test_there_is_nothing_to_follow_without_a_run(http: httpx.Client, rpc: Rpc) -> None:
    stored = rpc("tasks.create", {"name": "a"})
    for task_id in (stored["id"], "nowhere"):
        response = http.get(f"/tasks/{task_id}/events")
        assert (response.status_code, response.json()["error"]["code"]) == (404, -32001)


@pytest.mark.parametrize("last_event_id", ["x", "-1", "1.5"])
def test_a_number_that_is_none_is_refused(http: httpx.Client, finished: str, last_event_id: str) -> None:
    response = http.get(f"/tasks/{finished}/events", headers={"Last-Event-ID": last_event_id})
    assert response.status_code == 400
    assert response.json()["error"]["data"][0]["field"] == "last_event_id"


def test_what_goes_wrong_before_the_first_frame_is_a_plain_answer(refusal: Rpc) -> None:
    assert refusal("tasks.execute", {"task_id": "nowhere", "use_streaming": True})["code"] == -32001


def test_new_tasks_cannot_be_resumed(http: httpx.Client) -> None:
    request = {"jsonrpc": "2.0", "method": "tasks.execute", "params": TREE | {"use_streaming": True}, "id": 1}
    error = http.post("/tasks", json=request, headers={"Last-Event-ID": "3"}).json()["error"]
    assert (error["code"], error["data"][0]["field"]) == (-32602, "last_event_id")


def test_on_the_root_address_the_frames_are_a2a_updates(http: httpx.Client) -> None:
    with executing(http, TREE, path="/") as frames:
        (first_id, first), *updates = frames
    assert first_id is None
    task = first["result"]
    assert (first["id"], task["kind"]) == ("s", "task")
    assert [event_id for event_id, _ in updates] == [str(number) for number in range(1, len(updates) + 1)]
    assert {update["id"] for _, update in updates} == {"s"}
    results = [update["result"] for _, update in updates]
    assert {(result["taskId"], result["contextId"]) for result in results} == {(task["id"], task["contextId"])}
    kinds = [result["kind"] for result in results]
    assert set(kinds) == {"status-update", "artifact-update"}
    assert kinds.count("artifact-update") == 2
    assert [result["final"] for result in results[-2:]] == [True, True]
    assert results[-1]["status"]["state"] == "completed"
