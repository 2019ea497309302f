"""The A2A executor and agents that do what our own server does not: speak 0.3 only, err, break off, stay silent."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from aipartnerupflow.executors import Context, ExecutorError, Parked, Reply, Stopped
from tasks.executors.a2a_client import executor
from tasks.executors.a2a_client.executor import A2a
from tests.tasks.executors.a2a_client.agents import (
    FakeAgent,
    Http,
    Json,
    Refusal,
    Stream,
    agent_running,
    artifact,
    status,
    task,
)

pytestmark = pytest.mark.usefixtures("allow_loopback")

CANARY = "canary-of-a-secret-token"


@pytest.fixture
def agent() -> Iterator[FakeAgent]:
    """It speaks 1.0 by JSON-RPC, and streams."""
    with agent_running(FakeAgent()) as agent:
        agent.speaks("1.0")
        yield agent


async def call(agent: FakeAgent, context: Context, **inputs: Any) -> Json:
    inputs = {"agent_url": agent.url, "message": "Write a poem."} | inputs
    Draft202012Validator(A2a.input_schema).validate(inputs)
    result: Json = await A2a().execute(inputs, context)
    Draft202012Validator(A2a.result_schema).validate(result)
    return result


DONE = [
    {"task": task()},
    status("WORKING", "rhyming", progress=0.5),
    artifact("Roses "),
    artifact("are red", append=True),
    status("COMPLETED"),
]


async def test_a_stream_is_followed_to_its_end(
    agent: FakeAgent, context: Context, logs: list[str], reports: list[tuple[float, str]]
) -> None:
    agent.script = {"SendStreamingMessage": [Stream(DONE)]}
    result = await call(agent, context, data={"mood": "blue"}, metadata={"skillId": "poet"})
    assert result["text"] == "Roses are red"
    assert result["artifacts"] == [
        {"artifactId": "a-1", "name": "poem", "parts": [{"text": "Roses "}, {"text": "are red"}]}
    ]
    assert (result["task"]["id"], result["task"]["status"]["state"]) == ("t-1", "TASK_STATE_COMPLETED")
    assert (reports, logs) == ([(0.5, "rhyming")], ["artifact: poem"])
    (asked,) = agent.asked
    message = asked.params["message"]
    assert message["parts"] == [{"text": "Write a poem."}, {"data": {"mood": "blue"}}]
    assert (message["role"], message["metadata"]) == ("ROLE_USER", {"skillId": "poet"})
    assert asked.headers["a2a-version"] == "1.0"
    assert asked.headers["idempotency-key"] == message["messageId"]


TASK_OF_0_3 = {"kind": "task", "id": "t-1", "contextId": "c-1", "status": {"state": "working"}}
POEM_OF_0_3 = {"artifactId": "a-1", "parts": [{"kind": "text", "text": "Roses"}, {"kind": "data", "data": {"n": 1}}]}
ABOUT = {"taskId": "t-1", "contextId": "c-1"}
STREAM_OF_0_3 = [
    TASK_OF_0_3,
    {"kind": "artifact-update", **ABOUT, "artifact": POEM_OF_0_3, "lastChunk": True},
    {"kind": "status-update", **ABOUT, "status": {"state": "completed"}, "final": True},
]
STREAM_OF_0_3_HTTP = [
    {"task": {"id": "t-1", "contextId": "c-1", "status": {"state": "TASK_STATE_WORKING"}}},
    {
        "artifactUpdate": ABOUT
        | {"artifact": {"artifactId": "a-1", "parts": [{"text": "Roses"}, {"data": {"data": {"n": 1}}}]}}
    },
    {"statusUpdate": ABOUT | {"status": {"state": "TASK_STATE_COMPLETED"}, "final": True}},
]


@pytest.mark.parametrize(
    ("binding", "method", "script", "parts"),
    [
        (
            "JSONRPC",
            "message/stream",
            STREAM_OF_0_3,
            [{"kind": "text", "text": "Write a poem."}, {"kind": "data", "data": {"result": [1]}}],
        ),
        (
            "HTTP+JSON",
            "POST /a2a/v1/message:stream",
            STREAM_OF_0_3_HTTP,
            [{"text": "Write a poem."}, {"data": {"data": {"result": [1]}}}],
        ),
    ],
)
async def test_an_agent_of_0_3_looks_like_one_of_1_0(
    agent: FakeAgent, context: Context, binding: str, method: str, script: list[Json], parts: list[Json]
) -> None:
    agent.speaks("0.3", binding=binding)
    agent.script = {method: [Stream(script)]}
    result = await call(agent, context, data=[1])
    assert result["task"] == {"id": "t-1", "contextId": "c-1", "status": {"state": "TASK_STATE_COMPLETED"}}
    assert result["artifacts"] == [{"artifactId": "a-1", "parts": [{"text": "Roses"}, {"data": {"n": 1}}]}]
    (asked,) = agent.asked
    message = asked.params["message"]
    assert message.get("parts", message.get("content")) == parts
    assert asked.headers["a2a-version"] == "0.3"


async def test_an_agent_that_does_not_stream_is_asked_for_the_task(agent: FakeAgent, context: Context) -> None:
    agent.speaks("1.0", streams=False)
    done = task("COMPLETED", artifacts=[artifact("Roses")["artifactUpdate"]["artifact"]])
    agent.script = {"SendMessage": [{"task": task()}], "GetTask": [task(), done]}
    assert (await call(agent, context))["text"] == "Roses"
    assert agent.methods() == ["SendMessage", "GetTask", "GetTask"]
    assert agent.asked[0].params["configuration"] == {"returnImmediately": True}
    assert agent.asked[1].params == {"id": "t-1"}


async def test_http_json_has_its_routes_and_bare_answers(agent: FakeAgent, context: Context) -> None:
    agent.speaks("1.0", binding="HTTP+JSON", streams=False)
    agent.card["supportedInterfaces"][0]["tenant"] = "blue team"
    agent.script = {
        "POST /a2a/blue%20team/message:send": [{"task": task() | {"id": "a/b"}}],
        "GET /a2a/blue%20team/tasks/a%2Fb": [task("COMPLETED", "Done.")],
    }
    assert (await call(agent, context))["text"] == "Done."


async def test_an_agent_may_only_say_something(agent: FakeAgent, context: Context) -> None:
    message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "Hello."}]}
    agent.script = {"SendStreamingMessage": [Stream([{"message": message}])]}
    assert await call(agent, context) == {"task": None, "artifacts": [], "text": "Hello.", "message": message}


async def test_a_stream_that_breaks_is_taken_up_again(agent: FakeAgent, context: Context) -> None:
    agent.script = {
        "SendStreamingMessage": [Stream([{"task": task()}, artifact("Roses ")], breaks=True)],
        "GetTask": [Http(503), task(artifacts=[artifact("Roses ")["artifactUpdate"]["artifact"]])],
        "SubscribeToTask": [Stream([{"task": task()}, artifact("are red", append=True), status("COMPLETED")])],
    }
    assert (await call(agent, context))["text"] == "Roses are red"
    assert agent.methods() == ["SendStreamingMessage", "GetTask", "GetTask", "SubscribeToTask"]


async def test_an_agent_that_cannot_be_subscribed_to_is_asked(agent: FakeAgent, context: Context) -> None:
    agent.script = {
        "SendStreamingMessage": [Stream([{"task": task()}])],
        "GetTask": [task(), task("COMPLETED", "Done.")],
    }
    assert (await call(agent, context))["text"] == "Done."
    assert agent.methods() == ["SendStreamingMessage", "GetTask", "SubscribeToTask", "GetTask"]


async def test_without_waiting_the_task_is_handed_over(agent: FakeAgent, context: Context) -> None:
    agent.script = {"SendMessage": [{"task": task("SUBMITTED")}]}
    result = await call(agent, context, wait=False)
    assert result["task"]["status"]["state"] == "TASK_STATE_SUBMITTED"
    assert agent.methods() == ["SendMessage"]


@pytest.mark.parametrize(
    ("answer", "text", "is_permanent"),
    [
        (
            Stream([{"task": task()}, status("FAILED", "No rhyme.")]),
            "The agent 'fake' has failed the task t-1: No rhyme.",
            False,
        ),
        (Stream([{"task": task("REJECTED", "No poems.")}]), "has rejected the task t-1: No poems.", True),
        (Stream([{"task": task("CANCELED")}]), "has canceled the task t-1, without giving a reason.", False),
        (Refusal(-32602, "message: wrong"), "The agent 'fake' refused with -32602: message: wrong", True),
        (Refusal(-32603, "oops"), "refused with -32603: oops", False),
        (Http(401), "answered 401", True),
        (Http(503, {"error": {"message": "tired"}}), "answered 503: tired", False),
        (Stream([]), "ended its response without sending anything", False),
        (Stream([{"nothing": 1}]), "sent an invalid response: not an object of A2A", False),
        (Stream([{"task": {"id": 7}}]), "sent an invalid response: not an object of A2A", False),
        (Http(200, {"hello": 1}), "sent an invalid response: not a JSON-RPC response", False),
    ],
)
async def test_what_goes_wrong_says_why(
    agent: FakeAgent, context: Context, answer: Any, text: str, is_permanent: bool
) -> None:
    agent.script = {"SendStreamingMessage": [answer]}
    with pytest.raises(ExecutorError, match=text) as caught:
        await call(agent, context)
    assert caught.value.permanent is is_permanent


async def test_retry_after_is_heard(agent: FakeAgent, context: Context) -> None:
    agent.script = {"SendStreamingMessage": [Http(429, headers={"Retry_After": "7"})]}
    with pytest.raises(ExecutorError) as caught:
        await call(agent, context)
    assert (caught.value.permanent, caught.value.retry_after_seconds) == (False, 7.0)


async def test_a_message_or_data_is_needed(agent: FakeAgent, context: Context) -> None:
    with pytest.raises(ExecutorError, match="Give `message`"):
        await A2a().execute({"agent_url": agent.url}, context)
    assert agent.asked == []


async def test_results_of_dependencies_fill_the_message(agent: FakeAgent, context: Context) -> None:
    agent.script = {"SendStreamingMessage": [Stream(DONE)]}
    await call(agent, context, message="On {{topic.text}}.", topic={"text": "roses"})
    assert agent.asked[0].params["message"]["parts"] == [{"text": "On roses."}]
    with pytest.raises(ExecutorError, match="no value for 'nothing'"):
        await call(agent, context, message="On {{nothing}}.")


# --- again ---


async def test_a_message_is_the_same_when_it_comes_again_and_another_in_the_next_run(
    agent: FakeAgent, context: Context
) -> None:
    agent.script = {"SendStreamingMessage": [Stream(DONE)]}
    for again in (context, replace(context, attempt=2), replace(context, run_id="run-2")):
        await call(agent, again)
    first, second, third = (asked.params["message"]["messageId"] for asked in agent.asked)
    assert first == second != third


async def test_an_attempt_after_a_failed_one_is_another_message_when_the_agent_knows_the_first(
    agent: FakeAgent, context: Context
) -> None:
    agent.script = {"SendStreamingMessage": [Stream([{"task": task("FAILED")}]), Stream(DONE)]}
    assert (await call(agent, replace(context, attempt=2)))["text"] == "Roses are red"
    known, new = (asked.headers["idempotency-key"] for asked in agent.asked)
    assert known != new


# --- questions ---


async def test_a_question_is_passed_up_and_its_answer_down(agent: FakeAgent, context: Context) -> None:
    asking = task("INPUT_REQUIRED", "Which city?")
    asking["status"]["message"]["metadata"] = {"options": ["Lisbon", "Porto"], "nodeId": "n-1"}
    agent.script = {
        "SendStreamingMessage": [Stream([{"task": asking}]), Stream([{"task": asking}, status("WORKING"), *DONE[2:]])],
        "GetTask": [asking],
    }
    with pytest.raises(Parked, match="fake: Which city\\?") as parked:
        await call(agent, context)
    assert parked.value.options == ["Lisbon", "Porto"]
    reply = Reply(
        answer="Porto",
        by="alice",
        memo={"task_id": "t-1", "context_id": "c-1", "metadata": {"nodeId": "n-1"}, "turn": 1},
    )
    result = await call(agent, replace(context, reply=reply))
    assert result["text"] == "Roses are red"
    message = agent.asked[-1].params["message"]
    assert (message["taskId"], message["contextId"], message["metadata"]) == ("t-1", "c-1", {"nodeId": "n-1"})
    assert message["parts"] == [{"text": "Porto"}]
    assert message["messageId"] != agent.asked[0].params["message"]["messageId"]


async def test_an_agent_may_take_its_time_to_take_an_answer_in(agent: FakeAgent, context: Context) -> None:
    agent.speaks("1.0", streams=False)
    asking = task("INPUT_REQUIRED", "Which city?")
    agent.script = {"SendMessage": [{"task": asking}], "GetTask": [asking, task(), task("COMPLETED", "Porto it is.")]}
    reply = Reply(answer="Porto", by="alice", memo={"task_id": "t-1", "context_id": "c-1", "metadata": {}, "turn": 1})
    assert (await call(agent, replace(context, reply=reply)))["text"] == "Porto it is."


async def test_an_answer_that_the_agent_refuses_is_not_lost_in_silence(agent: FakeAgent, context: Context) -> None:
    agent.script = {
        "GetTask": [Http(503), task("INPUT_REQUIRED", "Which city?")],
        "SendStreamingMessage": [Refusal(-32602, "no city")],
    }
    reply = Reply(answer=7, by="alice", memo={"task_id": "t-1", "context_id": None, "metadata": {}, "turn": 1})
    with pytest.raises(ExecutorError, match="refused with -32602: no city"):
        await call(agent, replace(context, reply=reply))
    assert agent.asked[-1].params["message"]["parts"] == [{"data": 7}]


async def test_an_agent_that_went_on_by_itself_gets_no_answer(agent: FakeAgent, context: Context) -> None:
    agent.script = {"GetTask": [task("COMPLETED", "It was Porto.")]}
    reply = Reply(answer="Porto", by="alice", memo={"task_id": "t-1", "context_id": None, "metadata": {}, "turn": 1})
    assert (await call(agent, replace(context, reply=reply)))["text"] == "It was Porto."
    assert agent.methods() == ["GetTask"]


async def test_an_agent_that_needs_a_key_says_so(agent: FakeAgent, context: Context) -> None:
    agent.script = {
        "SendStreamingMessage": [Stream([{"task": task("AUTH_REQUIRED", "Log in at example.com.")}], stays=True)]
    }
    with pytest.raises(Parked, match="Give it to the agent directly, not here"):
        await call(agent, context)


# --- cancelling ---


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation takes as long as a busy machine needs for it."""
    monkeypatch.setattr(executor, "CANCEL_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
async def test_cancelling_is_passed_down(agent: FakeAgent, context: Context) -> None:
    agent.script = {
        "SendStreamingMessage": [Stream([{"task": task()}, artifact("Roses ")], stays=True)],
        "CancelTask": [task("CANCELED")],
    }
    job = await _at_work(agent, context)
    job.cancel()
    with pytest.raises(Stopped) as stopped:
        await job
    assert stopped.value.result["text"] == "Roses "
    assert agent.asked[-1].method == "CancelTask"
    assert agent.asked[-1].params == {"id": "t-1"}


async def test_a_worker_that_stops_leaves_the_agent_at_work(agent: FakeAgent, context: Context) -> None:
    agent.script = {"SendStreamingMessage": [Stream([{"task": task()}, artifact("Roses ")], stays=True)]}
    job = await _at_work(agent, replace(context, is_given_up=lambda: True))
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert agent.methods() == ["SendStreamingMessage"]


async def test_an_agent_that_cannot_cancel_is_left_with_a_word(
    agent: FakeAgent, context: Context, logs: list[str]
) -> None:
    agent.script = {"SendStreamingMessage": [Stream([{"task": task()}, artifact("Roses ")], stays=True)]}
    job = await _at_work(agent, context)
    job.cancel()
    with pytest.raises(Stopped):
        await job
    assert "Could not cancel the agent's task t-1, which may still be running." in logs[-1]


@pytest.mark.usefixtures("patient")
async def test_cancelling_an_answer_on_its_way_is_passed_down(agent: FakeAgent, context: Context) -> None:
    agent.script = {"GetTask": [Http(503)], "CancelTask": [task("CANCELED")]}
    memo: Json = {"task_id": "t-1", "context_id": None, "metadata": {}, "turn": 1}
    job = asyncio.create_task(call(agent, replace(context, reply=Reply(answer="Porto", by="alice", memo=memo))))
    await asyncio.to_thread(agent.wait_for, "GetTask")
    job.cancel()
    with pytest.raises(Stopped):
        await job
    assert agent.asked[-1].params == {"id": "t-1"}


async def _at_work(agent: FakeAgent, context: Context) -> "asyncio.Task[Json]":
    """A call whose first artifact is there."""
    heard = asyncio.Event()

    def log(line: str) -> None:
        context.log(line)
        heard.set()

    job = asyncio.create_task(call(agent, replace(context, log=log)))
    await asyncio.wait_for(heard.wait(), 60)
    return job


# --- cards and credentials ---


async def test_the_card_is_kept_for_a_minute(agent: FakeAgent, context: Context) -> None:
    agent.script = {"SendStreamingMessage": [Stream(DONE)]}
    executor = A2a()
    for _ in range(3):
        await executor.execute({"agent_url": agent.url, "message": "hi"}, context)
    assert agent.cards_given == 1


@pytest.mark.parametrize("path", ["/.well-known/agent.json", "/.well-known/agent-card.json", "/agents/poet/card.json"])
async def test_the_card_is_found_where_it_may_be(agent: FakeAgent, context: Context, path: str) -> None:
    agent.card_path = path
    agent.script = {"SendStreamingMessage": [Stream(DONE)]}
    url = agent.url + (path if "poet" in path else "/")
    assert (await call(agent, context, agent_url=url))["text"] == "Roses are red"


@pytest.mark.parametrize(
    ("card", "text"),
    [
        ({"capabilities": {}}, "is not an agent card"),
        (
            {"name": "x", "supportedInterfaces": [{"url": "x", "protocolBinding": "GRPC"}]},
            "speaks GRPC of 1.0. JSONRPC or HTTP",
        ),
        ({"name": "x", "url": "x", "protocolVersion": "7.0.0"}, "speaks JSONRPC of 7.0"),
        ({"name": "x"}, "speaks nothing"),
    ],
)
async def test_a_card_that_leads_nowhere_says_why(agent: FakeAgent, context: Context, card: Json, text: str) -> None:
    agent.card = card
    with pytest.raises(ExecutorError, match=text):
        await call(agent, context)


async def test_a_card_that_is_not_public_gets_the_credentials_and_is_not_kept(
    agent: FakeAgent, context: Context
) -> None:
    agent.card_status = 401
    agent.script = {"SendStreamingMessage": [Stream(DONE)]}
    executor = A2a()
    inputs = {"agent_url": agent.url, "message": "hi", "auth": {"bearer": CANARY}}
    for _ in range(2):
        await executor.execute(inputs, context)
    assert agent.cards_given == 4
    assert agent.asked[0].headers["authorization"] == f"Bearer {CANARY}"
    with pytest.raises(ExecutorError, match="it answered 401"):
        await executor.execute({"agent_url": agent.url, "message": "hi"}, context)


async def test_credentials_do_not_follow_a_card_to_another_host(agent: FakeAgent, context: Context) -> None:
    agent.card["supportedInterfaces"][0]["url"] = f"http://localhost:{agent.port}/a2a"
    with pytest.raises(ExecutorError, match="credentials are not sent there"):
        await call(agent, context, auth={"apikey": {"value": CANARY}})
    assert agent.asked == []


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.2", "169.254.169.254", "[::1]", "2130706433", "user@127.0.0.1"])
async def test_an_address_that_is_not_public_is_refused_wherever_it_comes_from(
    agent: FakeAgent, context: Context, host: str, streams: bool
) -> None:
    with pytest.raises(ExecutorError, match="refused"):
        await call(agent, context, agent_url=f"http://{host}:{agent.port}")
    agent.speaks("1.0", streams=streams)
    agent.card["supportedInterfaces"][0]["url"] = f"http://{host}:{agent.port}/a2a"
    with pytest.raises(ExecutorError, match="refused"):
        await call(agent, context)
    assert agent.asked == []
