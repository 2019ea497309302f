"""Both clients against a real server: what they answer, how they fail, and that a stream survives its server."""

import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from typing import Any

import pytest

from aipartnerupflow.client import (
    AsyncClient,
    AuthenticationFailed,
    Client,
    Conflict,
    InvalidRequest,
    NotFound,
    RpcError,
    TimedOut,
    Unreachable,
)
from aipartnerupflow.client.types import Event, Task
from tests.aipartnerupflow.conftest import step, tree
from tests.cutting import cutting
from tests.ports import free_port
from tests.servers import Server, new_database, running_server

SECRET = "a text that is long enough for a secret, and no example"


def numbers(events: list[Event]) -> list[int]:
    return [event["seq"] for event in events]


def run_id_of(events: list[Event]) -> set[str]:
    return {event["run_id"] for event in events}


async def all_of(items: AsyncGenerator[Any]) -> list[Any]:
    async with aclosing(items):
        return [item async for item in items]


def test_a_tree_is_stored_read_and_run(client: Client) -> None:
    created = client.create(tree(step("a"), step("b")))
    root_id = created["id"]
    assert [child["name"] for child in created.get("children", [])] == ["Step a", "Step b"]
    assert client.get(root_id)["status"] == "pending"
    done = client.execute(task_id=root_id, wait=True, wait_timeout_seconds=110)
    assert (done["status"], done["task"]["status"]) == ("completed", "completed")
    (run,) = client.runs(task_id=root_id)["runs"]
    facts = {"run_id": run["id"], "run_number": 1, "run_status": "completed"}
    assert client.tree(created["ids"]["a"]) == {**done["task"], **facts}


def test_a_stream_ends_with_the_final_event(client: Client) -> None:
    events = list(client.stream(tree(step("a", seconds=0.2, steps=2))))
    assert numbers(events) == list(range(1, len(events) + 1))
    assert [events[0]["type"], events[-1]["type"], events[-1]["status"]] == ["task_start", "final", "completed"]
    root_id = events[0]["root_task_id"]
    assert list(client.follow(root_id)) == events
    assert list(client.follow(root_id, after=3)) == events[3:]


def test_who_has_every_event_gets_no_more(client: Client) -> None:
    events = list(client.stream(step("one", None)))
    assert list(client.follow(events[0]["task_id"], after=len(events) + 1)) == []


def test_a_stream_goes_on_where_text_has_separators_of_lines(client: Client) -> None:
    text = "one\u2028two\u0085three\x1cfour\rfive\nsix"
    events = list(client.stream(step("one", None, text=text)))
    assert events[-1]["result"]["inputs"]["text"] == text


def test_a_list_goes_on_over_its_pages(client: Client) -> None:
    for number in range(5):
        client.create({"name": f"page {number}", "user_id": "pages"})
    names = [task["name"] for task in client.list(user_id="pages", page_size=2)]
    assert names == [f"page {number}" for number in reversed(range(5))]
    oldest = client.list(user_id="pages", order="created_at", page_size=2)
    assert [task["name"] for task in islice(oldest, 3)] == ["page 0", "page 1", "page 2"]
    assert list(client.list(user_id="pages", status=["failed", "cancelled"])) == []


def test_a_tree_is_changed_copied_counted_and_deleted(client: Client) -> None:
    created = client.create(tree(step("a"), step("b")))
    root_id, first = created["id"], created["ids"]["a"]
    assert client.update(first, name="Other", schemas=None)["schemas"] is None
    assert [task["name"] for task in client.children(root_id)] == ["Other", "Step b"]
    assert client.detail(first)["resolved_inputs"] == {}
    copied = client.copy(root_id, children=True)
    assert (copied["original_task_id"], set(copied["ids"])) == (root_id, set(created["ids"].values()))
    assert [task["name"] for task in client.preview_copy(root_id, copy_mode="full")] == ["Root", "Other", "Step b"]
    assert client.count()["total"] >= 6
    assert client.delete(root_id) == {"success": True, "task_id": root_id, "deleted_count": 3, "children_deleted": 2}


def test_what_runs_is_found_and_stopped(client: Client) -> None:
    root_id = client.execute(step("one", None, seconds=30))["root_task_id"]
    assert root_id in [task["id"] for task in client.running()]
    assert client.running_count()["count"] >= 1
    assert [state["is_running"] for state in client.status(root_id)] == [True]
    assert [answer["status"] for answer in client.cancel(root_id)] == ["cancelled"]
    assert [state["status"] for state in client.status([root_id, "nowhere"])] == ["cancelled", "not_found"]
    with pytest.raises(Conflict):
        client.update(root_id, name="late")


def test_a_call_with_a_key_is_carried_out_once(client: Client) -> None:
    first, second = (client.create({"name": "once"}, idempotency_key="the same") for _ in range(2))
    assert first == second
    with pytest.raises(InvalidRequest, match="Idempotency-Key"):
        client.create({"name": "another"}, idempotency_key="the same")


async def test_the_async_client_does_the_same(server: Server, client: Client) -> None:
    async with AsyncClient(server.url) as other:
        events = await all_of(other.stream(tree(step("a"), step("b", seconds=0.1, steps=2))))
        root_id = events[0]["root_task_id"]
        assert events == list(client.follow(root_id))
        assert await other.tree(root_id) == client.tree(root_id)
        for number in range(4):
            await other.create({"name": f"{number}", "user_id": "async-pages"})
        listed: list[Task] = await all_of(other.list(root_only=False, page_size=3, user_id="async-pages"))
        assert listed == list(client.list(root_only=False, user_id="async-pages"))
        assert len(listed) == 4
        with pytest.raises(NotFound):
            await other.get("nowhere")
        with pytest.raises(NotFound):
            await all_of(other.follow("nowhere"))


REFUSALS: list[tuple[str, Callable[[Client], object], type[RpcError], int]] = [
    ("no task", lambda client: client.get("nowhere"), NotFound, -32001),
    ("no task to follow", lambda client: list(client.follow("nowhere")), NotFound, -32001),
    ("an id with a slash", lambda client: list(client.follow("no/where?#")), NotFound, -32001),
    ("not started yet", lambda client: list(client.follow(client.create({"name": "x"})["id"])), NotFound, -32001),
    ("neither tasks nor id", lambda client: client.execute(), InvalidRequest, -32602),
    (
        "no executor",
        lambda client: client.create({"name": "x", "params": {"executor_id": "?"}}),
        InvalidRequest,
        -32003,
    ),
    ("two roots", lambda client: client.create([{"name": "a"}, {"name": "b"}]), InvalidRequest, -32012),
]


@pytest.mark.parametrize(("call", "kind", "code"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_a_refusal_is_an_exception(
    client: Client, call: Callable[[Client], object], kind: type[RpcError], code: int
) -> None:
    with pytest.raises(RpcError) as refused:
        call(client)
    assert (type(refused.value), refused.value.code) == (kind, code)
    assert refused.value.message == str(refused.value) != ""


def test_what_is_wrong_stands_in_the_data(client: Client) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.create({"name": "", "priority": 9})
    assert [fault["field"] for fault in refused.value.data] == ["tasks[0].name", "tasks[0].priority"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "localhost:8000"}, "'localhost:8000' is not the URL of a server"),
        ({"url": "http://[::1"}, "'http://[::1' is not a URL"),
        ({"url": "ftp://example.com"}, "'ftp://example.com' is not the URL of a server"),
        ({"token": "né"}, "The token is empty or has invalid characters"),
        ({"token": "two\nlines"}, "The token is empty or has invalid characters"),
        ({"token": " "}, "The token is empty or has invalid characters"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said.replace("[", r"\[")):
        Client(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("call", [lambda client: client.get("x"), lambda client: list(client.follow("x"))])
def test_nobody_answers(call: Callable[[Client], object]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as client, pytest.raises(Unreachable, match=f"No answer from {url}: .+ aipartnerupflow serve"):
        call(client)


@contextmanager
def stranger(status: int, body: bytes, *, silent: bool = False) -> Iterator[str]:
    """The address of a web server that is none of ours."""
    released = threading.Event()

    class Stranger(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if silent:
                released.wait(60)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Stranger) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{web.server_port}"
        finally:
            released.set()
            web.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (404, b"no"), (302, b""), (500, b"[]"), (200, b'{"a": 1}')]
)
def test_another_kind_of_server_answers(status: int, body: bytes) -> None:
    with stranger(status, body) as url, Client(url) as client, pytest.raises(Unreachable, match="not JSON-RPC"):
        client.get("x")


@pytest.mark.parametrize("status", [404, 503])
def test_another_kind_of_server_has_no_stream(status: int) -> None:
    with stranger(status, b"no") as url, Client(url) as client, pytest.raises(Unreachable):
        list(client.follow("x"))


def test_an_answer_that_takes_too_long_is_not_waited_for() -> None:
    with (
        stranger(200, b"", silent=True) as url,
        Client(url, timeout_seconds=0.2) as client,
        pytest.raises(TimedOut, match="did not answer in time"),
    ):
        client.get("x")


def test_a_token_is_needed_where_authentication_is_on() -> None:
    with (
        new_database() as database_url,
        running_server(database_url, env={"AIPARTNERUPFLOW_JWT_SECRET": SECRET}) as server,
    ):
        for token in (None, "wrong"):
            with Client(server.url, token=token) as client:
                with pytest.raises(AuthenticationFailed):
                    client.get("x")
                with pytest.raises(AuthenticationFailed):
                    list(client.follow("x"))


def test_a_stream_survives_its_server(tmp_path: Any) -> None:
    """kill -9 in the middle, another server on the same port and database: no event is missing, none comes twice."""
    port, gate = free_port(), tmp_path / "gate"
    slow = tree(step("last", gate=str(gate)), *[step(str(number), seconds=2, steps=4) for number in range(3)])
    with new_database() as database_url, Client(f"http://127.0.0.1:{port}") as client:
        with running_server(database_url, port=port, data_dir=tmp_path) as first:
            stream = client.stream(slow)
            seen = list(islice(stream, 4))
            first.kill(*[process.pid for process in first.processes()])
        gate.touch()
        with running_server(database_url, port=port, data_dir=tmp_path):
            seen += stream
            assert seen == list(Client(client.url).follow(seen[0]["root_task_id"]))
    assert numbers(seen) == list(range(1, len(seen) + 1))
    assert (seen[-1]["type"], seen[-1]["status"], len(run_id_of(seen))) == ("final", "completed", 1)


async def test_an_async_stream_survives_its_server(tmp_path: Any) -> None:
    port, gate = free_port(), tmp_path / "gate"
    with new_database() as database_url:
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            with running_server(database_url, port=port, data_dir=tmp_path) as first:
                stream = client.stream(tree(step("last", gate=str(gate)), step("a", seconds=2, steps=8)))
                seen = [await anext(stream) for _ in range(3)]
                first.kill(*[process.pid for process in first.processes()])
            gate.touch()
            with running_server(database_url, port=port, data_dir=tmp_path):
                seen += await all_of(stream)
    assert numbers(seen) == list(range(1, len(seen) + 1))
    assert (seen[-1]["type"], len(run_id_of(seen))) == ("final", 1)


TREE_AT_THE_END = b'"run_status":"completed"'
"""It is in the tree that a client loads when the run has ended, and in no reply or event before."""


def test_the_tree_at_the_end_is_loaded_again_when_the_connection_breaks(server: Server) -> None:
    with cutting(server.url, before=TREE_AT_THE_END) as proxy, Client(proxy.url) as client:
        assert client.start(step("one", None)).wait()["run_status"] == "completed"
        assert proxy.cuts == 1


async def test_an_async_client_loads_the_tree_again_too(server: Server) -> None:
    with cutting(server.url, before=TREE_AT_THE_END) as proxy:
        async with AsyncClient(proxy.url) as client:
            run = await client.start(step("one", None))
            assert (await run.wait())["run_status"] == "completed"
        assert proxy.cuts == 1


@pytest.mark.parametrize("status", [502, 503])
def test_a_call_that_only_loads_is_given_up_with_the_last_reason(status: int) -> None:
    with (
        stranger(status, b"no") as url,
        Client(url, resume_seconds=0.3) as client,
        pytest.raises(Unreachable, match=f"No answer from .*: HTTP {status}"),
    ):
        client.load(Client.tree("x"))


def test_a_stream_whose_server_stays_away_is_given_up() -> None:
    with (
        new_database() as database_url,
        running_server(database_url) as server,
        Client(server.url, resume_seconds=0.3) as client,
    ):
        stream = client.stream(step("one", None, seconds=30))
        next(stream)
        server.kill(*[process.pid for process in server.processes()])
        with pytest.raises(Unreachable, match="No answer from"):
            next(stream)


def test_the_client_loads_nothing_of_the_server() -> None:
    program = "import sys, aipartnerupflow.client; print(*{name.split('.')[0] for name in sys.modules})"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(said.stdout.split()) & {"django", "msgspec", "typer", "uvicorn", "tasks", "a2a"}
