"""Handles of runs: started, followed, waited for and cancelled, by both clients."""

import asyncio

import pytest

from aipartnerupflow.client import AsyncClient, AsyncRun, Client, InvalidRequest, Run
from tests.servers import Json, Server

ECHO: Json = {"name": "echo_executor", "inputs": {"text": "{{run.inputs.word}}"}}
SLEEP: Json = {"name": "sleep_executor", "inputs": {"seconds": 60}}


def test_a_run_is_started_followed_and_waited_for(server: Server) -> None:
    with Client(server.url) as client:
        run = client.start(ECHO, run_inputs={"word": "hi"})
        assert isinstance(run, Run)
        assert run.started["status"] == "started"
        assert [event["type"] for event in run.events()][-1] == "final"
        tree = run.wait()
        assert (tree["id"], tree["run_status"], tree["result"]) == (run.task_id, "completed", {"text": "hi"})
        again = client.start(task_id=run.task_id, copy_execution=True)
        assert again.wait()["result"] == {"text": "hi"}
        assert again.task_id != run.task_id
        assert run.task_id in repr(run)


def test_a_flow_is_started_with_inputs(server: Server) -> None:
    with Client(server.url) as client:
        client.save_flow("handle", [ECHO])
        for name in ("inputs", "run_inputs"):
            options: Json = {name: {"word": "tea"}}
            assert client.start(flow="handle", **options).wait()["result"] == {"text": "tea"}
            assert client.start(ECHO, **options).wait()["result"] == {"text": "tea"}
            assert list(client.stream(flow="handle", **options))[-1]["result"] == {"text": "tea"}
            assert client.run_flow("handle", wait=True, **options)["task"]["result"] == {"text": "tea"}


def test_a_run_is_cancelled(server: Server) -> None:
    with Client(server.url) as client:
        run = client.start(SLEEP)
        assert run.cancel(force=True)[0]["status"] == "cancelled"
        assert run.wait()["run_status"] == "cancelled"


def test_the_same_with_asyncio(server: Server) -> None:
    async def main() -> None:
        async with AsyncClient(server.url) as client:
            run = await client.start(ECHO, run_inputs={"word": "hi"})
            assert isinstance(run, AsyncRun)
            assert [event["type"] async for event in run.events()][-1] == "final"
            assert (await run.wait())["result"] == (await run.tree())["result"] == {"text": "hi"}
            slow = await client.start(SLEEP)
            await slow.cancel(force=True)
            assert (await slow.wait())["run_status"] == "cancelled"

    asyncio.run(main())


def test_what_cannot_be_started_says_so(server: Server) -> None:
    with Client(server.url) as client:
        with pytest.raises(TypeError, match="one of tasks, task_id and flow"):
            client.start()
        with pytest.raises(TypeError, match="one of tasks, task_id and flow"):
            client.start(ECHO, flow="handle")
        for started in ({"tasks": ECHO}, {"flow": "handle"}):
            with pytest.raises(TypeError, match="two names"):
                client.start(**started, inputs={"word": "tea"}, run_inputs={"word": "tea"})
        with pytest.raises(TypeError, match="unexpected keyword"):
            client.start(ECHO, no_such_option=1)
        with pytest.raises(InvalidRequest):
            client.start({"name": ""})
