"""Questions of a server (elicitation) are questions of the task, while no worker waits."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import orjson
import pytest

from aipartnerupflow.executors import Context, ExecutorError, Parked, Reply
from tasks.executors.mcp.executor import Mcp
from tasks.executors.mcp.session import MOST_QUESTIONS, Answers, Asked, problem_of
from tests.mcp_site import McpSite
from tests.servers import Server, new_database, running_server, until

Json = dict[str, Any]
ORDER: Final[Json] = {"tool": "order", "arguments": {"product": "tea"}}


async def asked(context: Context, **inputs: Any) -> Parked:
    with pytest.raises(Parked) as caught:
        await Mcp().execute(inputs, context)
    return caught.value


def answered(context: Context, question: Parked, answer: Any) -> Context:
    return replace(context, reply=Reply(answer=answer, by="alice", memo=orjson.loads(question.memo)))


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("server", ["web", "pipes"])
@pytest.mark.parametrize(("sure", "end"), [("yes", "3 of tea"), ("no", "not ordered")])
async def test_a_tool_asks_twice_and_goes_on(
    context: Context, mcp_site: McpSite, server: str, sure: str, end: str
) -> None:
    first = await asked(context, server=server, **ORDER)
    assert first.question == f"The MCP server '{server}' asks: How much tea?"
    assert first.schema is not None
    assert first.schema["properties"]["packets"] == {"minimum": 1, "title": "How many packets?", "type": "integer"}
    second = await asked(given := answered(context, first, {"packets": 3, "express": True}), server=server, **ORDER)
    assert (second.question, second.options) == (f"The MCP server '{server}' asks: Are you sure?", ["yes", "no"])
    result = await Mcp().execute({"server": server, **ORDER}, answered(given, second, sure))
    assert result == {"result": end}
    assert mcp_site.calls.count(["order", "tea"]) == 3
    assert mcp_site.calls[-1] == ["answered", 3, "accept" if sure == "yes" else "decline"]


@pytest.mark.usefixtures("configured")
async def test_the_format_of_a_field_is_kept(context: Context) -> None:
    question = await asked(context, server="web", tool="invite")
    assert question.schema is not None
    assert question.schema["properties"]["email"] == {"title": "Email", "type": "string", "format": "email"}
    result = await Mcp().execute({"server": "web", "tool": "invite"}, answered(context, question, {"email": "a@b.c"}))
    assert result == {"result": "a@b.c"}


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"mode": "url", "url": "https://example.com"}, "it is no form"),
        ({"requestedSchema": {"type": "object", "properties": [1]}}, "it has no fields"),
        (
            {"requestedSchema": {"type": "object", "properties": {"a": {"type": "object"}}}},
            "is not flat at properties.a",
        ),
        ({"requestedSchema": {"type": "object", "properties": {"a": {"type": "string", "format": "uri"}}}}, None),
        ({"requestedSchema": {"properties": {"a": {"type": "string", "oneOf": [{"const": "x", "title": "X"}]}}}}, None),
        ({"requestedSchema": {"properties": {"a": {"type": "string", "format": "of its own"}}}}, None),
        ({"message": "Sure?"}, None),
        ({"message": 5, "requestedSchema": "x"}, None),
    ],
)
def test_what_cannot_be_asked_is_declined(params: Json, problem: str | None) -> None:
    found = problem_of(params)
    if problem is None:
        assert found is None
        with pytest.raises(Asked):
            Answers().result_for(params)
    else:
        assert found is not None and problem in found
        assert Answers().result_for(params) == {"action": "decline"}


def test_answers_belong_to_what_was_asked() -> None:
    given = [
        {"message": "First?", "schema": {}, "answer": "yes"},
        {"message": "Second?", "schema": {}, "answer": "yes"},
    ]
    answers = Answers(given)
    assert answers.result_for({"message": "First?"}) == {"action": "accept", "content": {}}
    with pytest.raises(Asked, match=r"Another\?"):
        answers.result_for({"message": "Another?"})
    assert answers.given == given[:1]


def test_there_is_an_end_of_questions() -> None:
    given = [{"message": "Again?", "schema": {}, "answer": "yes"}] * MOST_QUESTIONS
    answers = Answers(given)
    for _ in given:
        answers.result_for({"message": "Again?"})
    with pytest.raises(ExecutorError, match="more than 20 questions"):
        answers.result_for({"message": "Again?"})


@pytest.fixture(scope="module")
def site(running_mcp: McpSite) -> Iterator[Server]:
    environment = {
        "AIPARTNERUPFLOW_EXECUTORS_MCP_SERVERS": orjson.dumps({"web": {"url": running_mcp.url}}).decode(),
        "AIPARTNERUPFLOW_WORKER_DRAIN_SECONDS": "1",
    }
    with new_database() as url, running_server(url, env=environment) as server:
        yield server


@pytest.mark.both_engines_nightly
def test_a_person_answers_while_no_worker_waits(site: Server, mcp_site: McpSite) -> None:
    task = {"name": "an order", "schemas": {"method": "mcp_executor"}, "inputs": {"server": "web", **ORDER}}
    task_id = site.rpc("tasks.execute", {"tasks": task})["task_id"]

    def question(text: str) -> bool:
        found = site.rpc("tasks.detail", {"task_id": task_id}).get("question") or {}
        return found.get("text") == f"The MCP server 'web' asks: {text}"

    until(lambda: question("How much tea?"), seconds=60, what="the first question")
    for pid in site.pids().workers:
        site.kill(pid)
    assert site.call("tasks.answer", {"task_id": task_id, "answer": {"packets": 0}})["error"]["code"] == -32602
    site.rpc("tasks.answer", {"task_id": task_id, "answer": {"packets": 2}})
    until(lambda: question("Are you sure?"), seconds=60, what="the second question")
    site.rpc("tasks.answer", {"task_id": task_id, "answer": "yes"})
    site.finished(task_id)
    assert site.rpc("tasks.get", {"task_id": task_id})["result"] == {"result": "2 of tea"}
