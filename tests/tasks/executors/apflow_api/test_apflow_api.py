"""Trees of tasks that another real server runs, over connections that break, and servers that are something else."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from aipartnerupflow.executors import Context, ExecutorError, Stopped
from tasks.executors.apflow_api import executor
from tasks.executors.apflow_api.executor import ApflowApi
from tasks.ids import new_id
from tests.cutting import cut_often, cutting
from tests.servers import Server, new_database, running_server, until
from tests.tasks.executors.conftest import Web

pytestmark = pytest.mark.usefixtures("allow_loopback")
Json = dict[str, Any]
CANARY: Final = "canary-of-a-token"
QUICK: Final[Json] = {"name": "echo_executor", "inputs": {"text": "hi"}}
SLOW: Final[Json] = {"name": "sleep_executor", "inputs": {"seconds": 0.6, "steps": 6}}
ENDLESS: Final[Json] = {"name": "sleep_executor", "inputs": {"seconds": 600}}
BAD: Final[Json] = {"name": "rest_executor", "inputs": {"url": "http://10.0.0.1/"}}


@pytest.fixture
def task_here(context: Context) -> Context:
    """A task that no other test has, because it decides the idempotency keys."""
    return replace(context, run_id=new_id(), task_id=new_id())


async def call(server_url: str, method: str, context: Context, *, params: Json, **inputs: Any) -> Json:
    given = {"base_url": server_url, "method": method, "params": params, **inputs}
    Draft202012Validator(ApflowApi.input_schema).validate(given)
    result: Json = await ApflowApi().execute(given, context)
    Draft202012Validator(ApflowApi.result_schema).validate(result)
    return result


async def refusal(server_url: str, method: str, context: Context, *, params: Json, **inputs: Any) -> ExecutorError:
    with pytest.raises(ExecutorError) as caught:
        await call(server_url, method, context, params=params, **inputs)
    return caught.value


def runs_of(server: Server, task_id: str) -> list[Any]:
    return server.query("SELECT status FROM tasks_run WHERE root_id = %s ORDER BY number", task_id)


def runs_named(server: Server, name: str) -> int:
    """How many trees with this root have been stored."""
    ((count,),) = server.query("SELECT count(*) FROM tasks_task WHERE name = %s AND parent_id IS NULL", name)
    return int(count)


async def test_a_run_is_followed_to_its_result(
    open_server: Server, task_here: Context, reports: list[tuple[float, str]]
) -> None:
    result = await call(open_server.url, "tasks.execute", task_here, params={"tasks": SLOW})
    assert (result["status"], result["result"]) == ("completed", {"slept_seconds": 0.6})
    assert await asyncio.to_thread(runs_of, open_server, result["task_id"]) == [("completed",)]
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert any(0 < fraction < 1 for fraction in fractions)


async def test_a_flow_there_is_run(open_server: Server, task_here: Context) -> None:
    params = {"name": new_id(), "tasks": QUICK | {"inputs": {"text": "Hello {{run.inputs.name}}"}}}
    await asyncio.to_thread(open_server.rpc, "flows.save", params)
    given = {"name": params["name"], "inputs": {"name": "Ada"}}
    assert (await call(open_server.url, "flows.run", task_here, params=given))["result"] == {"text": "Hello Ada"}


async def test_other_methods_return_their_result(open_server: Server, task_here: Context) -> None:
    stored = await call(open_server.url, "tasks.create", task_here, params={"tasks": QUICK})
    again = await call(open_server.url, "tasks.create", task_here, params={"tasks": QUICK})
    assert again == stored
    task_id = stored["result"]["id"]
    found = await call(open_server.url, "tasks.get", task_here, params={"task_id": task_id})
    assert found["result"]["status"] == "pending"
    health = await call(f"{open_server.url}/", "system.health", task_here, params={})
    assert health["result"]["ready"] is True


async def test_a_run_need_not_be_waited_for(open_server: Server, task_here: Context) -> None:
    result = await call(open_server.url, "tasks.execute", task_here, params={"tasks": QUICK}, wait_for_completion=False)
    assert result["result"]["status"] == "started"


@pytest.mark.parametrize("place", [b'"type":"task_start"', b'"tree_progress":0.5', b'"type":"final"'])
async def test_a_stream_that_is_cut_is_resumed_and_nothing_runs_twice(
    place: bytes, open_server: Server, task_here: Context
) -> None:
    with cutting(open_server.url, before=place) as proxy:
        result = await call(proxy.url, "tasks.execute", task_here, params={"tasks": SLOW})
    assert (proxy.cuts, result["status"]) == (1, "completed")
    assert await asyncio.to_thread(runs_of, open_server, result["task_id"]) == [("completed",)]


async def test_a_reply_that_is_lost_starts_no_second_run(open_server: Server, task_here: Context) -> None:
    named = SLOW | {"name": new_id(), "schemas": {"method": "sleep_executor"}}
    with cutting(open_server.url, before=b"HTTP/1.1 200") as proxy:
        error = await refusal(proxy.url, "tasks.execute", task_here, params={"tasks": named})
        assert not error.permanent
        retried = replace(task_here, attempt=2)
        result = await call(proxy.url, "tasks.execute", retried, params={"tasks": named})
    assert result["status"] == "completed"
    assert await asyncio.to_thread(runs_named, open_server, named["name"]) == 1


async def test_it_comes_through_a_line_that_breaks_again_and_again(open_server: Server, task_here: Context) -> None:
    with cut_often(open_server.url, every_bytes=2_000, cuts=2) as proxy:
        result = await call(proxy.url, "tasks.execute", task_here, params={"tasks": SLOW})
    assert proxy.cuts > 0
    assert result["result"] == {"slept_seconds": 0.6}


async def test_a_run_that_failed_fails_the_task_and_another_attempt_runs_it_again(
    open_server: Server, task_here: Context
) -> None:
    named = BAD | {"name": new_id(), "schemas": {"method": "rest_executor"}}
    for attempt in (1, 2, 3):
        context = replace(task_here, attempt=attempt)
        error = await refusal(open_server.url, "tasks.execute", context, params={"tasks": named})
        assert "ended as failed: The host '10.0.0.1' is refused" in str(error)
        assert not error.permanent
        assert await asyncio.to_thread(runs_named, open_server, named["name"]) == attempt


async def cancelled(
    server: Server, context: Context, *, url: str | None = None, is_reached: Callable[[], bool] = lambda: True
) -> tuple[BaseException, str, Callable[[], str]]:
    """Cancel the task when its run is at work. Returns what it raised, the run's root, and how that one's status is found."""
    named = ENDLESS | {"name": new_id(), "schemas": {"method": "sleep_executor"}}
    begun = asyncio.create_task(call(url or server.url, "tasks.execute", context, params={"tasks": named}))
    find = "SELECT id, status FROM tasks_task WHERE name = %s AND status = 'in_progress'"

    def root() -> str:
        rows = until(lambda: server.query(find, named["name"]), seconds=60, what="the run there")
        return str(rows[0][0])

    task_id = await asyncio.to_thread(root)
    await asyncio.to_thread(until, is_reached, seconds=60, what="the place where it is cancelled")
    begun.cancel()
    (raised,) = await asyncio.gather(begun, return_exceptions=True)
    assert isinstance(raised, BaseException)
    return raised, task_id, lambda: str(server.query("SELECT status FROM tasks_task WHERE id = %s", task_id)[0][0])


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation takes as long as a busy machine needs for it."""
    monkeypatch.setattr(executor, "CANCEL_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("is_known", [True, False])
async def test_cancelling_reaches_the_run_there(open_server: Server, task_here: Context, is_known: bool) -> None:
    """Also before the first reply has come, with which the run is known."""
    before = b"Such a reply never comes" if is_known else b"HTTP/1.1 200"
    with cutting(open_server.url, before=before, is_held=True) as proxy:
        raised, task_id, status = await cancelled(
            open_server, task_here, url=proxy.url, is_reached=lambda: is_known or proxy.cuts > 0
        )
    assert proxy.cuts == (not is_known)
    assert isinstance(raised, Stopped)
    assert raised.result["task_id"] == task_id
    await asyncio.to_thread(until, lambda: status() == "cancelled", seconds=60, what="the end of the run there")


async def test_a_worker_that_gives_the_task_up_leaves_the_run_to_the_next_one(
    open_server: Server, task_here: Context
) -> None:
    raised, task_id, status = await cancelled(open_server, replace(task_here, is_given_up=lambda: True))
    assert isinstance(raised, asyncio.CancelledError)
    assert await asyncio.to_thread(status) == "in_progress"
    await asyncio.to_thread(open_server.rpc, "tasks.cancel", {"task_id": task_id})


@pytest.mark.parametrize(
    ("method", "params", "says", "is_permanent"),
    [
        ("tasks.get", {"task_id": "no-such-task"}, "refused with -32001", True),
        ("tasks.execute", {"tasks": {"name": "x", "schemas": {"method": "nothing"}}}, "refused with -32003", True),
        ("tasks.execute", {"tasks": {"id": 3}}, "tasks[0].", True),
    ],
)
async def test_what_the_server_refuses_is_the_error(
    method: str, params: Json, says: str, is_permanent: bool, open_server: Server, task_here: Context
) -> None:
    error = await refusal(open_server.url, method, task_here, params=params)
    assert says in str(error)
    assert error.permanent is is_permanent


@pytest.mark.parametrize(
    ("status", "body", "is_permanent"),
    [
        (200, b"<html>", True),
        (200, b'{"jsonrpc": "2.0", "id": 1}', True),
        (200, b"[]", True),
        (404, b"", True),
        (302, b"", True),
        (502, b"<html>", False),
        (429, b"", False),
    ],
)
async def test_a_server_of_another_kind_is_refused(
    status: int, body: bytes, is_permanent: bool, web: Web, task_here: Context
) -> None:
    web.answer(status, body, Content_Type="application/json", Location="http://10.0.0.1/")
    for method, params in (("tasks.get", {"task_id": "x"}), ("tasks.execute", {"tasks": QUICK})):
        error = await refusal(web.url, method, task_here, params=params, auth_token=CANARY)
        assert "not as a server of this kind" in str(error)
        assert error.permanent is is_permanent
        assert CANARY not in str(error)
    assert web.received[0].headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize(
    "event", ["nonsense", "{}", "[]", '{"type": "final"}', '{"jsonrpc": "2.0", "result": null}', '{"jsonrpc": "2.0"}']
)
async def test_a_stream_of_nonsense_is_refused(event: str, web: Web, task_here: Context) -> None:
    web.answer(200, f"data: {event}\n\n".encode(), Content_Type="text/event-stream")
    error = await refusal(web.url, "tasks.execute", task_here, params={"tasks": QUICK})
    assert "not as a server of this kind" in str(error)


async def test_addresses_of_the_own_network_are_refused(task_here: Context) -> None:
    error = await refusal("http://169.254.169.254", "tasks.get", task_here, params={"task_id": "x"})
    assert (error.permanent, "is not public" in str(error)) == (True, True)


@pytest.mark.parametrize("name", ["wait", "use_streaming", "last_event_id"])
def test_parameters_that_the_executor_decides_are_refused(name: str) -> None:
    inputs = {"base_url": "https://flow.example.com", "method": "tasks.execute", "params": {name: True}}
    with pytest.raises(ExecutorError, match=f"inputs.params.{name}: is decided by this executor"):
        ApflowApi().check_with_inputs({}, inputs)


@pytest.mark.timeout(300)
def test_a_worker_that_is_killed_leaves_one_run_there(open_server: Server) -> None:
    """Two whole servers: the worker of the first one dies while the second one works for it."""
    port = open_server.url.rpartition(":")[2]
    allowed = {
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "127.0.0.1",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": port,
    }
    name = new_id()
    there = SLOW | {"name": name, "schemas": {"method": "sleep_executor"}, "inputs": {"seconds": 8}}
    inputs = {"base_url": open_server.url, "method": "tasks.execute", "params": {"tasks": there}}
    task = {"name": "errand", "schemas": {"method": "apflow_api_executor"}, "inputs": inputs}
    with new_database() as database, running_server(database, env=allowed) as server:
        root = server.rpc("tasks.execute", {"tasks": task})["root_task_id"]
        until(lambda: runs_named(open_server, name), seconds=60, what="the run there")
        server.kill(*server.pids().workers)
        final = server.finished(root)[-2]
        result = server.rpc("tasks.get", {"task_id": root})["result"]
    assert (final["status"], result["result"]) == ("completed", {"slept_seconds": 8})
    assert runs_named(open_server, name) == 1
