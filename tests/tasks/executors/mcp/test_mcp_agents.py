"""Agents that call tools of MCP servers: a real server, real workers, and a provider on loopback that asks for tools."""

import json
from dataclasses import dataclass
from typing import Any, Final

import pytest
from pytest_django import Settings

from aipartnerupflow.executors import ExecutorError
from apflow_site.config.mcp_servers import McpServer
from tasks.executors.mcp.offered import OfferedTools, offered_tool
from tests.acceptance.test_faults import holder_of
from tests.documents import text
from tests.llm_formats import Says
from tests.llm_site import WITH_KEY, Done, LlmSite
from tests.mcp_site import McpSite
from tests.servers import until
from tests.tasks.executors.mcp.conftest import configure

Json = dict[str, Any]
EXECUTOR: Final = "llm_executor"


@dataclass(frozen=True, kw_only=True)
class Agents:
    site: LlmSite
    mcp: McpSite

    def run(self, tools: list[str], *script: Says, **inputs: Any) -> Done:
        self.site.llm.will(*script)
        return self.site.run(EXECUTOR, {"prompt": "Go.", "tools": tools, **inputs})

    @property
    def sent(self) -> list[Json]:
        """The functions that the model was offered at last."""
        return [tool["function"] for tool in self.site.llm.asked[-1].body["tools"]]

    @property
    def read(self) -> list[str]:
        """What the model read of its tools at last."""
        return [each["content"] for each in self.site.llm.asked[-1].body["messages"] if each["role"] == "tool"]


@pytest.fixture
def agents(mcp_llm_site: LlmSite, mcp_site: McpSite) -> Agents:
    mcp_llm_site.llm.forget()
    return Agents(site=mcp_llm_site, mcp=mcp_site)


def calls(*named: tuple[str, Json]) -> Says:
    return Says(tool_calls=named)


@pytest.mark.parametrize("server", ["web", "pipes"])
def test_a_model_calls_a_tool_of_a_server(agents: Agents, server: str) -> None:
    function = f"mcp_{server}_add"
    done = agents.run(
        [f"mcp:{server}.add"],
        calls((function, {"a": 1, "b": 2}), (function, {"a": "x"})),
        Says(text="It is 3."),
    )
    assert done.task["result"]["content"] == "It is 3.", done.task
    (tool,) = agents.sent
    assert (tool["name"], tool["description"]) == (function, "Add two numbers.")
    assert tool["parameters"]["required"] == ["a", "b"]
    assert agents.read[0] == '{"sum":3}'
    assert agents.read[1].startswith("Not called: the arguments do not fit: ")
    assert agents.mcp.calls == [["add", 1, 2]]
    (call,) = agents.site.server.rpc("tasks.children", {"parent_id": done.task["id"]})
    assert call["schemas"]["method"] == "mcp_executor"
    assert call["inputs"] == {"server": server, "tool": "add", "arguments": {"a": 1, "b": 2}}


def test_all_tools_of_a_server_have_one_name(agents: Agents) -> None:
    done = agents.run(
        ["mcp:web"],
        calls(("mcp_web_fail", {"why": "rust"}), ("mcp_web_picture", {}), ("mcp_web_shout", {"text": "{{secret.x}}"})),
        Says(text="So be it."),
    )
    assert done.task["result"]["content"] == "So be it.", done.task
    assert {"mcp_web_add", "mcp_web_shout", "mcp_web_picture"} <= {tool["name"] for tool in agents.sent}
    assert agents.read[0].startswith("Error: The tool 'fail' of the MCP server 'web' failed: ")
    assert json.loads(agents.read[1])["content"][1]["mimeType"] == "image/png"
    assert agents.read[2] == "{{SECRET.X}}"
    assert "an odd name" not in str(agents.sent)
    assert any("mcp:web.an odd name is left out, because its name has other characters" in line for line in done.logs)


@pytest.mark.parametrize("confirm", ["mcp:web.add", "mcp:web"])
def test_a_person_approves_a_call(agents: Agents, confirm: str) -> None:
    agents.site.llm.will(calls(("mcp_web_add", {"a": 1, "b": 2})), Says(text="No."))
    task_id = agents.site.start(EXECUTOR, {"prompt": "Go.", "tools": ["mcp:web"], "confirm": [confirm]})
    question = agents.site.wait_for_question(f"{task_id}/1/confirm_0")
    assert "'a task' wants to call mcp:web.add with" in question["text"]
    agents.site.server.rpc("tasks.answer", {"task_id": f"{task_id}/1/confirm_0", "answer": "no"})
    assert agents.site.end_of(task_id).task["status"] == "completed"
    assert agents.read == ["Not called: a person has refused it."]
    assert agents.mcp.calls == []


def killed_during(agents: Agents, tool: str, number: int) -> str:
    """An agent whose worker is killed during its second call. Returns its id."""
    agents.site.llm.will(
        calls(("mcp_web_add", {"a": 1, "b": 2})),
        calls((f"mcp_web_{tool}", {"number": number})),
        Says(text="Done."),
    )
    server = agents.site.server
    task_id = agents.site.start(EXECUTOR, {"prompt": "Go.", "tools": ["mcp:web.add", f"mcp:web.{tool}"]}, WITH_KEY)
    until(lambda: tool in [name for name, *_ in agents.mcp.calls], seconds=60, what="the second call")
    server.kill(holder_of(server, task_id))
    return task_id


def test_a_worker_that_dies_during_a_call_does_not_repeat_it(agents: Agents) -> None:
    task_id = killed_during(agents, "wait_for_gate", 7)
    stopped = agents.site.end_of(task_id).task
    assert f"The call of the tool 'mcp_web_wait_for_gate' ({task_id}/2/call_0) was interrupted" in stopped["error"]
    assert [name for name, *_ in agents.mcp.calls if name != "cancelled"] == ["add", "wait_for_gate"]


def test_a_call_that_is_safe_to_repeat_by_its_server_is_repeated_with_the_same_key(agents: Agents) -> None:
    task_id = killed_during(agents, "safe_wait", 8)
    until(lambda: len(agents.mcp.calls) == 3, seconds=60, what="the second call again")
    agents.mcp.open_gate()
    done = agents.site.end_of(task_id)
    assert (done.task["status"], done.task["result"]["content"]) == ("completed", "Done."), done.task
    assert agents.read == ['{"sum":3}', "passed 8"]
    first, second = agents.mcp.calls[1:]
    assert first == second
    assert first[2]


def test_a_task_that_a_server_says_is_safe_to_repeat_is_repeated(agents: Agents) -> None:
    server = agents.site.server
    task_id = agents.site.start("mcp_executor", {"server": "web", "tool": "safe_wait", "arguments": {"number": 9}})
    until(lambda: agents.mcp.calls, seconds=60, what="the call")
    server.kill(holder_of(server, task_id))
    until(lambda: len(agents.mcp.calls) == 2, seconds=60, what="the call again")
    agents.mcp.open_gate()
    assert agents.site.end_of(task_id).task["result"] == {"result": "passed 9"}


def test_the_agent_of_the_page_works(agents: Agents) -> None:
    task = json.loads(text("docs/how-to/agents.md", "Offer tools of MCP servers", "json"))
    agents.site.llm.will(calls(("mcp_stock_packets", {"product": "tea"})), Says(text="12 of tea."))
    task_id: str = agents.site.server.rpc("tasks.execute", {"tasks": task}, **WITH_KEY)["task_id"]
    assert agents.site.end_of(task_id).task["result"]["content"] == "12 of tea."
    assert agents.read == ['{"packets":12}']


def test_an_unknown_tool_fails_the_agent_by_name(agents: Agents) -> None:
    error = agents.site.error_of(EXECUTOR, {"prompt": "Go.", "tools": ["mcp:web.ad"]})
    assert error.startswith("inputs.tools: the MCP server 'web' has no tool 'ad'. Did you mean 'add'")
    error = agents.site.error_of(EXECUTOR, {"prompt": "Go.", "tools": ["mcp:web"], "confirm": ["mcp:web.nope"]})
    assert error.startswith("inputs.confirm: 'mcp:web.nope' is none of the tools mcp:web.add, ")
    assert agents.site.llm.asked == []


def test_a_server_that_is_down_fails_the_agent(agents: Agents) -> None:
    error = agents.site.error_of(EXECUTOR, {"prompt": "Go.", "tools": ["mcp:down.add"]})
    assert error.startswith("The MCP server 'down': cannot connect.")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"tools": ["mcp:wep.add"]}, "there is no MCP server 'wep'. Did you mean 'web'?"),
        ({"tools": ["mcp:"]}, "there is no MCP server ''."),
        ({"tools": ["mcp:web."]}, "'mcp:web.' has no name of a tool after the dot"),
        ({"tools": ["mcp:web.{{x}}"]}, "has no name of a tool after the dot"),
        ({"tools": ["mcp:web.add"], "confirm": ["mcp:web.shout"]}, "'mcp:web.shout' is none of the tools mcp:web.add"),
        ({"tools": ["mcp:web.add"], "confirm": ["mcp:web"]}, "'mcp:web' is none of the tools mcp:web.add"),
    ],
)
def test_names_that_can_never_work_are_refused_before_anything_is_stored(
    agents: Agents, fields: Json, error: str
) -> None:
    refusal = agents.site.refusal_of(EXECUTOR, inputs={"prompt": "Go.", **fields})
    assert error in json.dumps(refusal, ensure_ascii=False)


# --- what a server says of its tools ---

DOUBLED: Final = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(14)} | {"a14": {}}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (None, "its schema is none of an object"),
        ({"type": "string"}, "its schema is none of an object"),
        ({"type": "object", "required": 5}, "its schema is invalid: "),
        ({"type": "object", "description": "x" * 70_000}, "its schema has 70,"),
        ({"type": "object", "$ref": "#/$defs/a0", "$defs": DOUBLED}, "its schema follows "),
        ({"type": "object", "$ref": "http://127.0.0.1/schema"}, "its schema "),
    ],
)
def test_a_schema_that_is_none_or_costs_too_much_is_no_tool(schema: Any, problem: str) -> None:
    found = offered_tool("web", {"name": "t", "description": 5, "inputSchema": schema})
    assert found.problem is not None and problem in found.problem


async def test_tools_are_kept_for_a_minute(settings: Settings, mcp_site: McpSite) -> None:
    """The second question about them reaches no server."""
    configure(settings, web=McpServer(url=mcp_site.url))
    servers = OfferedTools()
    (tool,) = await servers.named("mcp:web.add")
    configure(settings, web=McpServer(url="http://127.0.0.1:1/mcp"))
    assert await servers.named("mcp:web.add") == [tool]
    with pytest.raises(ExecutorError, match="cannot connect"):
        await OfferedTools().named("mcp:web.add")
