"""One flow with a question: started by each interface that people already use, and answered there, or in the inbox."""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import uuid4

import pytest
from openai import OpenAI

from tests.a2a.agui.front_end import FrontEnd
from tests.a2a.mcp.mcp_client import LEGACY, Client
from tests.servers import Server, new_database, running_server, until
from tests.shell import new_shell

pytestmark = pytest.mark.both_engines
Json = dict[str, Any]
TEXT: Final = "The bridge is open."
SECRET: Final = "the-secret-of-the-repository"
FLOW: Final = {
    "name": "announce",
    "inputs_schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "tasks": [
        {
            "id": "publish",
            "name": "Publish",
            "schemas": {"method": "echo_executor"},
            "dependencies": ["ask"],
            "inputs": {"text": "{{run.inputs.text}}", "answer": "{{ask.answer}}"},
        },
        {
            "id": "ask",
            "name": "Ask",
            "parent_id": "publish",
            "schemas": {"method": "approval_executor"},
            "inputs": {"question": "Publish it?"},
        },
    ],
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as database, running_server(database) as found:
        found.rpc("flows.save", FLOW)
        found.rpc("secrets.set", {"name": "of_github", "value": SECRET}, path="/system")
        hook = {"verifier": "github", "secrets": ["of_github"], "flow": "announce"}
        found.rpc("hooks.set", {"name": "issues", "inputs": {"text": "{{body.title}}"}, **hook})
        yield found


def asking(server: Server) -> str:
    """The task that asks, once it does: no other run is under way."""
    asked = until(lambda: server.rpc("questions.list", {})["questions"], seconds=60, what="the question")
    return str(asked[0]["task_id"])


def newest_root(server: Server) -> str:
    return str(server.query("SELECT root_id FROM tasks_run ORDER BY id DESC LIMIT 1")[0][0])


def by_mcp(server: Server, _: Any) -> str:
    """The host asks its user, by elicitation."""
    client = Client(http=server.http, version=LEGACY).begun(elicitation={"form": {}})
    call = {"name": "run_flow", "arguments": {"name": "announce", "inputs": {"text": TEXT}}}
    body, headers = client.request("tools/call", call)
    with server.http.stream("POST", "/mcp", json=body, headers=headers) as response:
        for line in response.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else {}
            if message.get("method") == "elicitation/create":
                client.reply(message["id"], result={"action": "accept", "content": {"answer": "yes"}})
            if "result" in message:
                return str(message["result"]["structuredContent"]["task_id"])
    raise AssertionError("no result")


def by_openai(server: Server, _: Any) -> str:
    """The question is the call of a function."""
    with OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        asks = client.responses.create(model="flow:announce", input=TEXT)
        (call,) = [item for item in asks.output if item.type == "function_call"]
        answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "yes"}
        done = client.responses.create(model="flow:announce", previous_response_id=asks.id, input=[answer])
    assert (done.status, json.loads(done.output_text)["answer"]) == ("completed", "yes")
    return newest_root(server)


def by_chat(server: Server, _: Any) -> str:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        messages: list[Any] = [{"role": "user", "content": TEXT}]
        asks = client.chat.completions.create(model="flow:announce", messages=messages).choices[0].message
        assert asks.tool_calls is not None
        messages += [asks, {"role": "tool", "tool_call_id": asks.tool_calls[0].id, "content": "yes"}]
        done = client.chat.completions.create(model="flow:announce", messages=messages)
    assert json.loads(done.choices[0].message.content or "")["answer"] == "yes"
    return newest_root(server)


def by_hook(server: Server, _: Any) -> str:
    """GitHub only delivers, so people answer in the inbox."""
    body = json.dumps({"title": TEXT}).encode()
    headers = {
        "X-Hub-Signature-256": f"sha256={hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}",
        "X-GitHub-Delivery": uuid4().hex,
        "Content-Type": "application/json",
    }
    address = server.rpc("hooks.get", {"name": "issues"})["url"]
    assert server.http.post(address, content=body, headers=headers).json()["outcome"] == "started"
    server.rpc("tasks.answer", {"task_id": asking(server), "answer": "yes"})
    return newest_root(server)


def by_ag_ui(server: Server, _: Any) -> str:
    """The front end resumes the thread with the answer."""
    front_end, thread = FrontEnd(http=server.http), uuid4().hex
    asks = front_end.run(threadId=thread, forwardedProps={"flow": "announce", "inputs": {"text": TEXT}})
    (interrupt,) = asks[-1]["outcome"]["interrupts"]
    answer = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"answer": "yes"}}
    assert front_end.run(threadId=thread, resume=[answer])[-1]["type"] == "RUN_FINISHED"
    return newest_root(server)


def by_command(server: Server, factory: pytest.TempPathFactory) -> str:
    """A coding agent has the command line: it checks a flow without a server, and runs and answers it on one."""
    shell = new_shell(factory)
    (shell.folder / "announce.json").write_text(json.dumps(FLOW))
    shell.run("aipartnerupflow flows validate announce.json")
    run = f"aipartnerupflow run flow:announce --input 'text={TEXT}' --no-wait"
    shell.run(run, AIPARTNERUPFLOW_URL=server.url)
    shell.run(f"aipartnerupflow tasks answer {asking(server)} yes", AIPARTNERUPFLOW_URL=server.url)
    return newest_root(server)


WAYS: Final[list[Callable[[Server, pytest.TempPathFactory], str]]] = [
    by_mcp,
    by_openai,
    by_chat,
    by_hook,
    by_ag_ui,
    by_command,
]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_a_flow_is_started_and_answered(
    way: Callable[[Server, pytest.TempPathFactory], str], server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root_id = way(server, tmp_path_factory)
    assert server.finished(root_id)[-1]["status"] == "completed"
    result = server.rpc("tasks.get", {"task_id": root_id})["result"]
    assert (result["text"], result["answer"]) == (TEXT, "yes")
