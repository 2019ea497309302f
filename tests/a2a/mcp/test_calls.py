"""Calls of tools up to 2025-11-25: a notification cancels them, a cut connection does not, and their streams are resumed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.mcp.conftest import settings_of
from tests.a2a.mcp.mcp_client import LEGACY, Client, Events, Json
from tests.servers import Server, running_server, until

OLDER = ("2025-06-18", "2025-03-26", "2024-11-05")
YES: Json = {"action": "accept", "content": {"answer": "yes"}}


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that is not there yet: gated tasks end once it is."""
    return tmp_path / "gate"


@pytest.fixture(scope="module")
def other_http(mcp_server: Server) -> Iterator[httpx.Client]:
    """Another host of the same server, without workers."""
    with running_server(mcp_server.database_url, "--no-worker", env=settings_of(wait_seconds=110)) as server:
        yield server.http


@pytest.fixture
def status_of(mcp_server: Server) -> Callable[[str], str]:
    def status_of(run_id: str) -> str:
        ((status,),) = mcp_server.query("SELECT status FROM tasks_run WHERE id = %s", run_id)
        return str(status)

    return status_of


def newest_run(client: Client) -> str:
    run_id: str = replace(client, session=None).data("list_runs", limit=1)["runs"][0]["id"]
    return run_id


def first_message(events: Events) -> tuple[str, Json]:
    """The first message of a stream, and its id."""
    return next((event_id, message) for event_id, message in events if event_id and message)


@pytest.mark.both_engines
def test_a_notification_cancels_a_call_at_any_process(
    legacy: Client, other_http: httpx.Client, gate: Path, status_of: Callable[[str], str]
) -> None:
    client = legacy.begun()
    with client.calling("scripted_executor", gate=str(gate)) as (call_id, events):
        first_message(events)
        run_id = newest_run(client)
        client.cancel(call_id, at=other_http)
        assert [message for _, message in events if message and "method" not in message] == []
    until(lambda: status_of(run_id) == "cancelled", seconds=60, what="the end of a run that its client has cancelled")


@pytest.mark.both_engines
def test_a_call_that_was_cut_continues_and_is_resumed_at_any_process(
    legacy: Client, mcp_server: Server, gate: Path
) -> None:
    settings = settings_of(wait_seconds=110)
    with running_server(mcp_server.database_url, "--no-worker", env=settings) as away:
        client = replace(legacy, http=away.http).begun()
        with client.calling("scripted_executor", gate=str(gate), steps=3, seconds=1.5) as (call_id, events):
            assert next(events)[1] is None
            last_event_id, message = first_message(events)
            away.kill(away.pid)
            with pytest.raises(httpx.RemoteProtocolError):
                list(events)
    client = replace(client, http=mcp_server.http)
    with client.resumed(last_event_id) as events:
        gate.touch()
        rest = [(event_id, message) for event_id, message in events if message]
    steps = [message["params"]["progress"] for _, message in rest if message.get("method") == "notifications/progress"]
    assert steps == sorted(set(steps))
    assert steps[0] > message["params"]["progress"], "what the client has is not sent again"
    ended_id, ended = rest[-1]
    assert (ended["id"], ended["result"]["structuredContent"]["status"]) == (call_id, "completed")
    assert ended_id
    headers = client.request("ping", {})[1] | {"Last-Event-ID": ended_id}
    assert client.http.get("/mcp", headers=headers).status_code == 204


def test_a_call_that_is_cancelled_before_it_begins_gets_no_reply(
    legacy: Client, gate: Path, status_of: Callable[[str], str]
) -> None:
    client = legacy.begun()
    body, headers = client.request("tools/call", {"name": "scripted_executor", "arguments": {"gate": str(gate)}})
    client.cancel(body["id"])
    response = client.http.post("/mcp", json=body, headers=headers)
    assert response.headers.get("content-type") != "text/event-stream" or b'"result"' not in response.content
    assert b'"result"' not in response.content
    run_id = newest_run(client)
    until(lambda: status_of(run_id) == "cancelled", seconds=60, what="the end of a run that was cancelled early")


@pytest.mark.parametrize("version", [LEGACY, *OLDER])
def test_no_earlier_revision_takes_a_cut_connection_for_a_cancellation(
    legacy: Client, gate: Path, version: str
) -> None:
    """The first event of a stream is empty in 2025-11-25 only: clients of those before it cannot read it."""
    client = replace(legacy, version=version).begun()
    with client.calling("scripted_executor", gate=str(gate)) as (_, events):
        event_id, message = next(events)
        assert (event_id is not None, message is None) == (True, version == LEGACY)
        first_message(events) if message is None else None
        run_id = newest_run(client)
    client.data("scripted_executor")  # the server has served a further call, and the run is still there
    assert client.data("get_run", run_id=run_id)["status"] == "in_progress"
    gate.touch()
    assert client.data("get_run", run_id=run_id, wait_seconds=45)["status"] == "completed"


def test_a_client_without_a_session_cuts_nothing_off(legacy: Client, gate: Path) -> None:
    with legacy.calling("scripted_executor", gate=str(gate)) as (_, events):
        assert next(events)[0] is None, "nothing could resume it"
        run_id = newest_run(legacy)
    gate.touch()
    assert legacy.data("get_run", run_id=run_id, wait_seconds=45)["status"] == "completed"


def test_to_cancel_a_call_that_only_waits_leaves_the_run(legacy: Client, gate: Path) -> None:
    client = legacy.begun()
    with client.calling("scripted_executor", gate=str(gate)) as (_, events):
        first_message(events)
        run_id = newest_run(client)
    with client.calling("get_run", run_id=run_id, wait_seconds=45) as (call_id, events):
        last_event_id, _ = next(events)
        assert last_event_id
        client.cancel(call_id)
        gate.touch()
        assert [message for _, message in events if message and "result" in message] == []
    with client.calling("get_run", run_id=run_id, wait_seconds=45) as (_, _):
        pass
    headers = client.request("ping", {})[1] | {"Last-Event-ID": last_event_id}
    assert client.http.get("/mcp", headers=headers).status_code == 204
    assert client.data("get_run", run_id=run_id)["status"] == "completed"


def test_a_question_is_asked_once_however_often_a_stream_is_resumed(legacy: Client) -> None:
    client = legacy.begun(elicitation={})
    with client.calling("approval_executor", question="Publish?", options=["yes", "no"]) as (call_id, events):
        first_id, _ = next(events)
        assert first_id
        asked_id, asked = next(
            (event_id, each) for event_id, each in events if each and "params" in each and "id" in each
        )
        assert asked_id
    with client.resumed(first_id) as events:
        again = next(message for _, message in events if message and "id" in message)
        assert again == asked, "the client may have lost it"
    with client.resumed(asked_id) as events:
        client.reply(asked["id"], result=YES)
        rest = [message for _, message in events if message and "id" in message]
    assert [(each["id"], each["result"]["structuredContent"]["status"]) for each in rest] == [(call_id, "completed")]


def test_the_calls_of_others_are_not_there(legacy: Client, gate: Path) -> None:
    client = legacy.begun()
    bob = replace(legacy, token=token_of("bob")).begun()
    with client.calling("scripted_executor", gate=str(gate)) as (call_id, events):
        last_event_id, _ = first_message(events)
        run_id = newest_run(client)
        for other in (bob, legacy.begun()):
            other.cancel(call_id)
            headers = other.request("ping", {})[1]
            for wrong in (last_event_id, "1:999999999", "1", "x:y", f"{'9' * 30}:1"):
                refused = other.http.get("/mcp", headers=headers | {"Last-Event-ID": wrong})
                assert (refused.status_code, refused.json()["error"]["code"]) == (400, -32600)
        unknown: list[Any] = [None, True, {}, "x" * 300]
        for nonsense in unknown:
            client.cancel(nonsense)
        gate.touch()
        (ended,) = [message for _, message in events if message and "result" in message]
    assert (ended["id"], ended["result"]["structuredContent"]["run_id"]) == (call_id, run_id)
    assert ended["result"]["structuredContent"]["status"] == "completed"
