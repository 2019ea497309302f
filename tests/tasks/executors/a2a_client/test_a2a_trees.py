"""Trees of ours whose tasks are done by another server of ours: in both versions and bindings, with questions and to the bitter end."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from asgiref.sync import async_to_sync
from pytest_django import Settings

from accounts.callers import LOCAL
from aipartnerupflow.executors import Context
from tasks.executors.a2a_client import executor
from tasks.executors.a2a_client.executor import A2a
from tasks.ids import new_id
from tasks.models import Run
from tasks.queue.leases import SUSPENDED
from tasks.services import trees
from tasks.services.runs.cancels import ask, cancel_tasks
from tasks.services.waits.questions import answer, open_questions
from tasks.worker import attempt, engine
from tests.servers import Server, until
from tests.tasks.executors.a2a_client.agents import FakeAgent, Stream, agent_running, task
from tests.workers import Json, WorkerThread, result_of, run_tree

pytestmark = pytest.mark.django_db(transaction=True)

CANARY = "canary-of-a-secret-token"


@pytest.fixture(scope="module")
def other_server(open_server: Server) -> Server:
    """The other agent: a whole server with its worker."""
    return open_server


@pytest.fixture
def agent() -> Iterator[FakeAgent]:
    with agent_running(FakeAgent()) as agent:
        agent.speaks("1.0")
        yield agent


@pytest.fixture(autouse=True)
def allow_loopback(settings: Settings) -> None:
    settings.APFLOW_ALLOW_PRIVATE = ("127.0.0.1",)
    settings.APFLOW_REST_ALLOWED_PORTS = range(1, 65536)


def errand(url: str, **inputs: Any) -> Json:
    return {
        "id": "errand",
        "name": "errand",
        "schemas": {"method": "a2a_executor"},
        "inputs": {"agent_url": url} | inputs,
    }


def card_of(other_server: Server, version: str, binding: str) -> Json:
    """The other's card as if it spoke nothing else."""
    address = f"{other_server.url}/.well-known/agent-card.json"
    card: Json = httpx.get(address, headers={"A2A-Version": version}, timeout=60).json()
    if version == "1.0":
        interfaces = card["supportedInterfaces"]
        return card | {"supportedInterfaces": [each for each in interfaces if each["protocolBinding"] == binding]}
    addresses = {each["transport"]: each["url"] for each in card["additionalInterfaces"]}
    return card | {"url": addresses[binding], "preferredTransport": binding, "additionalInterfaces": []}


TREE = {
    "tasks": [
        {"id": "sum", "name": "aggregate_results_executor", "dependencies": ["slow"]},
        {"id": "slow", "parent_id": "sum", "name": "sleep_executor", "inputs": {"seconds": 0.3, "steps": 3}},
    ]
}


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
@pytest.mark.parametrize("version", ["1.0", "0.3"])
def test_a_tree_runs_at_another_server(
    worker: WorkerThread, other_server: Server, agent: FakeAgent, version: str, binding: str, streams: bool
) -> None:
    agent.card = card_of(other_server, version, binding)
    agent.card["capabilities"]["streaming"] = streams
    ran = run_tree(worker, [errand(agent.url, data=TREE)])
    result = ran.tasks["errand"].result
    assert result["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    *of_tasks, of_all = [artifact["name"] for artifact in result["artifacts"]]
    assert (sorted(of_tasks), of_all) == (["aggregate_results_executor", "sleep_executor"], "result")
    assert result["artifacts"][-1]["parts"][0]["data"]["count"] == 1
    if streams:
        assert any("of 3" in message for message in _progress_of(ran.run)), _progress_of(ran.run)


def test_the_card_of_a_server_is_found_by_its_address(worker: WorkerThread, other_server: Server) -> None:
    data = {"skill": "echo_executor", "inputs": {"say": "hello"}}
    ran = run_tree(worker, [errand(other_server.url, data=data)])
    assert ran.tasks["errand"].result["artifacts"][-1]["parts"][0]["data"] == {"say": "hello"}


def test_what_the_other_asks_is_asked_here(worker: WorkerThread, other_server: Server) -> None:
    data = {"skill": "approval_executor", "inputs": {"question": "Publish it?", "options": ["yes", "no"]}}
    run = _start(worker, errand(other_server.url, data=data))
    assert (run.lease_owner, run.finished_at) == (SUSPENDED, None)
    (question,) = open_questions(LOCAL)
    assert (question.text, question.options) == ("aipartnerupflow: Publish it?", ["yes", "no"])
    answer(caller=LOCAL, task_id="errand", answer="no")
    worker.work()
    result = result_of(run).tasks["errand"].result
    assert result["artifacts"][-1]["parts"][0]["data"]["answer"] == "no"


def test_a_vague_message_is_asked_about_until_it_is_clear(worker: WorkerThread, other_server: Server) -> None:
    run = _start(worker, errand(other_server.url, message="Do something."))
    (question,) = open_questions(LOCAL)
    assert "skill" in question.text
    answer(caller=LOCAL, task_id="errand", answer={"skill": "echo_executor", "inputs": {"say": "hello"}})
    worker.work()
    result = result_of(run).tasks["errand"].result
    assert result["artifacts"][-1]["parts"][0]["data"] == {"say": "hello"}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation takes as long as a busy machine needs for it."""
    monkeypatch.setattr(executor, "CANCEL_SECONDS", 60.0)
    for module in (attempt, engine):
        monkeypatch.setattr(module, "STOP_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
def test_cancelling_here_cancels_there(worker: WorkerThread, other_server: Server) -> None:
    data = {"skill": "sleep_executor", "inputs": {"seconds": 60, "steps": 600}}
    run = trees.execute_tree(caller=LOCAL, tasks=[errand(other_server.url, data=data)]).run
    working = threading.Thread(target=worker.work)
    working.start()
    until(lambda: _progress_of(run), seconds=60, what="progress")
    async_to_sync(cancel_tasks)(LOCAL, task_ids=["errand"])
    working.join()
    task = result_of(run).tasks["errand"]
    assert task.status == "cancelled"
    assert task.result["task"]["status"]["state"] == "TASK_STATE_CANCELED"


@pytest.mark.usefixtures("patient")
def test_cancelling_what_waits_here_cancels_it_there(worker: WorkerThread, other_server: Server) -> None:
    data = {"skill": "approval_executor", "inputs": {"question": "Publish it?"}}
    run = _start(worker, errand(other_server.url, data=data))
    assert run.lease_owner == SUSPENDED
    ask(caller=LOCAL, task_ids=["errand"], force=False, message="Never mind")
    worker.work()
    task = result_of(run).tasks["errand"]
    assert (task.status, task.error) == ("cancelled", "Never mind")
    assert task.result["task"]["status"]["state"] == "TASK_STATE_CANCELED"
    (there,) = other_server.query("SELECT status FROM tasks_run WHERE id = %s", task.result["task"]["id"])
    assert there == ("cancelled",)


async def test_what_a_dead_worker_began_is_followed_and_not_begun_again(other_server: Server, context: Context) -> None:
    inputs = {
        "agent_url": other_server.url,
        "data": {"skill": "sleep_executor", "inputs": {"seconds": 0.5, "steps": 5}},
    }
    of_one_run = replace(context, run_id=new_id())
    first = asyncio.create_task(A2a().execute(inputs, of_one_run))
    again = await A2a().execute(inputs, replace(of_one_run, attempt=2))
    assert (await first)["task"]["id"] == again["task"]["id"]
    assert again["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


def test_an_agent_that_shows_the_credentials_shows_them_to_nobody(worker: WorkerThread, agent: FakeAgent) -> None:
    agent.script = {"SendStreamingMessage": [Stream([{"task": task("FAILED", f"the token {CANARY} is old")}])]}
    ran = run_tree(worker, [errand(agent.url, message="hi", auth={"bearer": CANARY})])
    assert agent.asked[0].headers["authorization"] == f"Bearer {CANARY}"
    error = str(ran.tasks["errand"].error)
    assert "is old" in error
    assert CANARY not in str(ran.events) + error


def _start(worker: WorkerThread, *tasks: Json) -> Run:
    run = trees.execute_tree(caller=LOCAL, tasks=list(tasks)).run
    worker.work()
    run.refresh_from_db()
    return run


def _progress_of(run: Run) -> list[str]:
    return [event["message"] for event in result_of(run).events if event["type"] == "progress" and event["message"]]
