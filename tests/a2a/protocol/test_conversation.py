"""A context is a conversation: what the model is sent besides the new message, and how the answer is shown."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from django.conf import LazySettings

from a2a.models import Message
from a2a.protocol.conversation import earlier_messages
from accounts.callers import Caller
from tasks.models import Run, TaskEvent
from tasks.status import Status
from tests.a2a.a2a_client import SETTINGS, Agent, Json, agent_of, text, token_of
from tests.a2a.agui.front_end import FrontEnd, text_in
from tests.a2a.agui.front_end import said as said_in_page
from tests.a2a.protocol.test_agent_card import configure
from tests.documents import texts
from tests.fork_server import MODELS
from tests.llm_formats import Says
from tests.llm_server import llm_server
from tests.servers import Server, new_database, running_server

ALICE = Caller(user_id="alice")
BOB = Caller(user_id="bob")
START = datetime(2026, 1, 1, tzinfo=UTC)


def said(*parts: Json, role: str = "ROLE_USER") -> Json:
    return {"messageId": "m", "role": role, "parts": list(parts)}


def ran(number: int, *messages: Json, result: Any = None, user_id: str = "alice", context_id: str = "c") -> Run:
    """A finished run with its messages."""
    run = Run.objects.create(
        id=f"run-{user_id}-{number}",
        root_id=f"root-{user_id}-{number}",
        target_id=f"root-{user_id}-{number}",
        user_id=user_id,
        context_id=context_id,
        status=Status.COMPLETED if result is not None else Status.FAILED,
        created_at=START + timedelta(minutes=number),
        finished_at=START + timedelta(minutes=number, seconds=1),
    )
    for each in messages:
        Message.objects.create(run=run, body=each, created_at=run.created_at)
    TaskEvent.objects.create(
        run_id=run.id, seq=1, type="final", task_id=run.target_id, payload={"result": result}, created_at=run.created_at
    )
    return run


def texts_of(messages: list[Json]) -> list[str]:
    return [f"{each['role'].removeprefix('ROLE_').lower()}: {each['parts'][0]['text']}" for each in messages]


def earlier(caller: Caller = ALICE, until: Run | None = None, context_id: str = "c") -> list[str]:
    return texts_of(earlier_messages(caller, context_id=context_id, until=until))


@pytest.mark.both_engines
@pytest.mark.django_db
def test_the_earlier_messages_and_answers_come_in_their_order() -> None:
    ran(1, said({"text": "One"}), result="First")
    ran(
        2, said({"text": "Two"}, {"text": "and more"}), said({"text": "Which?"}, role="ROLE_AGENT"), said({"data": [7]})
    )
    last = ran(3, said({"text": "Three"}), said({"raw": "AA=="}), result={"a": 1})
    before = ["user: One", "agent: First", "user: Two\nand more", "agent: Which?", "user: [7]"]
    assert earlier() == [*before, "user: Three", 'agent: {"a":1}']
    assert earlier(until=last) == before


@pytest.mark.both_engines
@pytest.mark.django_db
def test_the_conversation_is_of_one_context_and_one_caller() -> None:
    ran(1, said({"text": "Mine"}), result="Yours")
    ran(2, said({"text": "Elsewhere"}), context_id="other")
    ran(1, said({"text": "Not mine"}), user_id="bob")
    assert earlier() == ["user: Mine", "agent: Yours"]
    assert earlier(BOB) == ["user: Not mine"]
    assert earlier(context_id="new") == earlier(context_id="") == []


@pytest.mark.both_engines
@pytest.mark.django_db
def test_only_the_newest_characters_come_along(settings: LazySettings) -> None:
    ran(1, said({"text": "a" * 10}), result="b" * 10)
    ran(2, said({"text": "c" * 10}), result="d" * 10)
    configure(settings, a2a={"conversation_characters": 39})
    assert [each[-1] for each in earlier()] == ["b", "c", "d"]
    configure(settings, a2a={"conversation_characters": 0})
    assert earlier() == []
    configure(settings, a2a={"conversation_characters": 20})
    ran(3, said({"text": "e"}), result="f" * 50_000)  # not even loaded
    assert [each[-1] for each in earlier()] == ["d", "e"]


@pytest.fixture(scope="module")
def chat_server() -> Iterator[Server]:
    """A server whose texts are for a model."""
    chat = {"AIPARTNERUPFLOW_A2A_TEXT_EXECUTOR": "llm_executor", "AIPARTNERUPFLOW_LLM_DEFAULT_MODEL": "demo/demo"}
    with new_database() as database, running_server(database, env=SETTINGS | chat) as server:
        yield server


@pytest.mark.both_engines_nightly
def test_a_conversation_with_a_model(chat_server: Server) -> None:
    alice, bob = (agent_of(chat_server.http, name) for name in ("alice", "bob"))
    context = str(uuid.uuid4())
    first = alice.send(text("Name a river.", contextId=context))
    ((answer, whole),) = (artifact["parts"] for artifact in first["artifacts"])
    assert answer["text"].endswith("You asked: Name a river.")
    assert whole["data"]["content"] == answer["text"]
    assert first["status"]["message"]["parts"] == [answer]
    second = alice.send(text("And another?", contextId=context))
    history = [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": answer["text"]}]
    assert inputs_of(alice, second) == {"prompt": "And another?", "history": history}
    assert second["status"]["state"] == "TASK_STATE_COMPLETED"
    third = alice.send(text("What is {{ x }}?", contextId=context))
    assert third["status"]["message"]["parts"][0]["text"].endswith("You asked: What is {{ x }}?")
    assert inputs_of(bob, bob.send(text("And I?", contextId=context))) == {"prompt": "And I?"}


def inputs_of(agent: Agent, task: Json) -> Json:
    params = {"task_id": task["metadata"]["rootTaskId"]}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.get", "params": params}
    inputs: Json = agent.http.post("/tasks", json=request, headers=agent.headers).json()["result"]["inputs"]
    return inputs


@pytest.mark.both_engines_nightly
def test_a_text_runs_the_flow_of_the_caller_with_the_conversation() -> None:
    setting, flow = map(yaml.safe_load, texts("docs/how-to/a2a.md", "Answer with a flow", "yaml"))
    assert setting == {"a2a": {"text_flow": flow["name"]}}
    with llm_server() as llm, new_database() as database:
        model = {
            MODELS: "yes",
            "AIPARTNERUPFLOW_A2A_TEXT_FLOW": flow["name"],
            "AIPARTNERUPFLOW_LLM_DEFAULT_MODEL": "openai/gpt-4o-mini",
            "OPENAI_API_KEY": "sk-operator-0123456789",
            "OPENAI_API_BASE": llm.openai_base,
        }
        with running_server(database, env=SETTINGS | model) as server:
            alice, bob = (agent_of(server.http, name) for name in ("alice", "bob"))
            as_alice = {"Authorization": f"Bearer {token_of('alice')}"}
            server.rpc("flows.save", flow, **as_alice)
            llm.will(Says(text="Tea, {{noted}}."), Says(text="You like tea."), Says(text="Tea it is."))
            first = alice.send(text("I like {{tea}}."))
            assert first["status"]["message"]["parts"][0]["text"] == "Tea, {{noted}}."
            alice.send(text("What do I like?", contextId=first["contextId"]))
            history = [
                {"role": "user", "content": "I like {{tea}}."},
                {"role": "assistant", "content": "Tea, {{noted}}."},
            ]
            assert llm.asked[-1].body["messages"] == [*history, {"role": "user", "content": "What do I like?"}]
            events = FrontEnd(http=server.http, token=token_of("alice")).run(
                said_in_page("I like {{tea}}."),
                {"id": "a", "role": "assistant", "content": "Tea, {{noted}}."},
                said_in_page("And now?"),
            )
            assert text_in(events) == "Tea it is."
            assert llm.asked[-1].body["messages"] == [*history, {"role": "user", "content": "And now?"}]
            refused = bob.error("SendMessage", {"message": text("I like tea.")})
            assert "Flow 'assistant' not found" in refused["message"]
