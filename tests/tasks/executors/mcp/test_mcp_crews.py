"""Crews whose agents call tools of MCP servers: a real server, real processes of crews, and a provider on loopback."""

import json
from dataclasses import dataclass
from typing import Any, Final

import pytest
from pytest_django import Settings

from aipartnerupflow.executors import ExecutorError
from apflow_site.config.mcp_servers import McpServer
from tasks.executors.mcp import offered as of_servers
from tasks.executors.mcp.offered import SERVERS
from tests.documents import text
from tests.llm_formats import Says
from tests.llm_site import KEY, WITH_KEY, Done, LlmSite
from tests.mcp_site import TOKEN, McpSite
from tests.servers import until
from tests.tasks.executors.mcp.conftest import configure

pytestmark = pytest.mark.crews

Json = dict[str, Any]
CREW: Final = "crewai_executor"
BATCH: Final = "batch_crewai_executor"


@dataclass(frozen=True, kw_only=True)
class Crews:
    site: LlmSite
    mcp: McpSite

    def run(self, tools: list[str], *script: Says, **fields: Any) -> Done:
        self.site.llm.will(*script)
        return self.site.run(CREW, {}, params={"works": works(*tools)}, **fields)

    @property
    def sent(self) -> list[Json]:
        """The functions that the model was offered at first."""
        return [tool["function"] for tool in self.site.llm.asked[0].body["tools"]]

    @property
    def read(self) -> list[str]:
        """What the model read of its tools at last."""
        return [each["content"] for each in self.site.llm.asked[-1].body["messages"] if each["role"] == "tool"]


def works(*tools: str, of_task: tuple[str, ...] = ()) -> Json:
    agents = {"a": {"role": "Counter", "tools": list(tools), "llm": "openai/gpt-4"}}
    return {"agents": agents, "tasks": {"t": {"description": "Count.", "agent": "a", "tools": list(of_task)}}}


def calls(*named: tuple[str, Json]) -> Says:
    return Says(tool_calls=named)


@pytest.fixture
def crews(mcp_llm_site: LlmSite, mcp_site: McpSite) -> Crews:
    mcp_llm_site.llm.forget()
    return Crews(site=mcp_llm_site, mcp=mcp_site)


@pytest.mark.parametrize("pool", ["process", "thread"])
@pytest.mark.parametrize("server", ["web", "pipes"])
def test_an_agent_calls_a_tool_of_a_server(crews: Crews, server: str, pool: str) -> None:
    crews.site.llm.will(calls((f"mcp_{server}_add", {"a": 1, "b": 2})), Says(text="It is 3."))
    done = crews.site.run(CREW, {}, params={"works": works(f"mcp:{server}.add", "length"), "pool": pool})
    assert done.task["status"] == "completed", done.task["error"]
    assert done.task["result"]["result"] == "It is 3."
    assert crews.mcp.calls == [["add", 1, 2]]
    assert crews.read == ['{"sum":3}']
    assert f"calls mcp_{server}_add" in done.logs


def test_the_model_sees_a_tool_as_the_server_describes_it(crews: Crews) -> None:
    crews.run(["mcp:web.add"], Says(text="No."))
    (tool,) = crews.sent
    assert (tool["name"], tool["description"]) == ("mcp_web_add", "Add two numbers.")
    assert tool["parameters"]["required"] == ["a", "b"]
    assert "additionalProperties" not in tool["parameters"]
    assert "strict" not in tool


def test_a_definition_within_a_schema_stays_as_it_is(crews: Crews) -> None:
    stops = [{"city": "Porto"}, {"city": "Lisbon", "nights": 2}]
    crews.run(["mcp:web.travel"], calls(("mcp_web_travel", {"stops": stops})), Says(text="Done."))
    stop = crews.sent[0]["parameters"]["$defs"]["Stop"]
    assert stop["required"] == ["city"]
    assert "additionalProperties" not in stop  # CrewAI adds it to what it gets
    assert crews.read == ["Porto - Lisbon"]


def test_a_task_has_all_tools_of_a_server(crews: Crews) -> None:
    crews.site.llm.will(calls(("mcp_web_shout", {"text": "{{secret.x}}"})), Says(text="Done."))
    done = crews.site.run(CREW, {}, params={"works": works(of_task=("mcp:web", "mcp:web.add"))})
    assert done.task["status"] == "completed", done.task["error"]
    assert {"mcp_web_add", "mcp_web_shout", "mcp_web_picture"} <= {tool["name"] for tool in crews.sent}
    assert len(crews.sent) == len({tool["name"] for tool in crews.sent})
    assert crews.read == ["{{SECRET.X}}"]
    assert any("mcp:web.an odd name is left out, because its name has other characters" in line for line in done.logs)


def test_what_goes_wrong_is_read_by_the_model(crews: Crews) -> None:
    script = [
        calls(("mcp_web_fail", {"why": "rust"})),
        calls(("mcp_web_fail", {"why": "rust"})),
        calls(("mcp_web_add", {"a": "x"})),
        Says(text="So be it."),
    ]
    done = crews.run(["mcp:web.fail", "mcp:web.add"], *script)
    assert done.task["status"] == "completed", done.task["error"]
    assert crews.read[0].startswith("Error: The tool 'fail' of the MCP server 'web' failed: ")
    assert crews.read[1] == crews.read[0]
    assert crews.read[2].startswith("Not called: the arguments do not fit: ")
    assert crews.mcp.calls == []


def test_the_same_call_is_made_again(crews: Crews) -> None:
    """CrewAI would remember what the tool returned."""
    again = calls(("mcp_web_add", {"a": 1, "b": 2}))
    crews.run(["mcp:web.add"], again, again, Says(text="Done."))
    assert crews.mcp.calls == [["add", 1, 2]] * 2


@pytest.mark.parametrize("server", ["web", "pipes"])
def test_the_credentials_of_a_server_appear_nowhere(crews: Crews, server: str) -> None:
    done = crews.run([f"mcp:{server}.credentials"], calls((f"mcp_{server}_credentials", {})), Says(text="Done."))
    assert done.task["status"] == "completed", done.task["error"]
    assert len(crews.read) == 1
    recorded = crews.site.server.rpc("runs.calls", {"run_id": done.events[0]["run_id"]})
    everywhere = json.dumps([done.task, done.events, recorded, [asked.body for asked in crews.site.llm.asked]])
    assert TOKEN not in everywhere


@pytest.mark.parametrize("pool", ["process", "thread"])
@pytest.mark.parametrize("server", ["web", "pipes"])
def test_a_cancelled_crew_cancels_the_call(crews: Crews, server: str, pool: str) -> None:
    crews.site.llm.will(calls((f"mcp_{server}_wait_for_gate", {"number": 7})))
    params = {"works": works(f"mcp:{server}.wait_for_gate"), "pool": pool}
    task_id = crews.site.start(CREW, {}, params=params)
    until(lambda: ["wait_for_gate", 7] in crews.mcp.calls, seconds=60, what="the call")
    crews.site.server.rpc("tasks.cancel", {"task_id": task_id})
    assert crews.site.end_of(task_id).task["status"] == "cancelled"
    until(lambda: ["cancelled", 7] in crews.mcp.calls, seconds=60, what="the end of the call")
    assert len(crews.site.llm.asked) == 1


def test_a_model_that_calls_no_functions_writes_its_calls(crews: Crews) -> None:
    wants = 'Thought: I add.\nAction: mcp_web_add\nAction Input: {"a": 1, "b": 2}'
    crews.site.llm.will(Says(text=wants), Says(text="Thought: I know.\nFinal Answer: It is 3."))
    of_house = works("mcp:web.add")
    of_house["agents"]["a"]["llm"] = "corp/small"
    done = crews.site.run(CREW, {}, headers={"X-LLM-API-KEY": f"corp:{KEY}"}, params={"works": of_house})
    assert done.task["status"] == "completed", done.task["error"]
    assert crews.mcp.calls == [["add", 1, 2]]
    assert '{"sum":3}' in str(crews.site.llm.asked[-1].body["messages"])


async def test_a_call_ends_after_a_while(
    settings: Settings, mcp_site: McpSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(settings, web=McpServer(url=mcp_site.url))
    monkeypatch.setattr(of_servers, "CALL_SECONDS", 0.5)
    with pytest.raises(ExecutorError, match="The MCP server 'web' did not answer within"):
        await SERVERS.get().call("web", "wait_for_gate", {"number": 9}, key="k", log=print)


async def test_the_log_lines_of_a_server_are_passed_on(settings: Settings, mcp_site: McpSite) -> None:
    configure(settings, web=McpServer(url=mcp_site.url))
    lines: list[str] = []
    assert await SERVERS.get().call("web", "count", {"to": 1}, key="k", log=lines.append) == {"result": "done"}
    assert lines == ["info: at 1"]


def test_the_crew_of_the_page_works(crews: Crews) -> None:
    task = json.loads(text("docs/how-to/call-mcp-servers.md", "For crews", "json"))
    crews.site.llm.will(calls(("mcp_stock_packets", {"product": "tea"})), Says(text="12 of tea."))
    task_id: str = crews.site.server.rpc("tasks.execute", {"tasks": task}, **WITH_KEY)["task_id"]
    assert crews.site.end_of(task_id).task["result"]["result"] == "12 of tea."


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ("mcp:wab.add", "params.works: there is no MCP server 'wab'. Did you mean 'web'?"),
        ("mcp:web.", "params.works: 'mcp:web.' has no name of a tool after the dot."),
        ("mcp", "params.works.agents.a.tools names 'mcp', but there is no such tool"),
    ],
)
def test_an_unknown_server_is_refused_when_the_task_is_stored(crews: Crews, tool: str, says: str) -> None:
    assert says in str(crews.site.refusal_of(CREW, params={"works": works(tool)}))


def test_a_batch_is_refused_by_the_name_of_its_crew(crews: Crews) -> None:
    refused = crews.site.refusal_of(BATCH, params={"works": {"north": works("mcp:wab.add")}})
    assert "params.works.north: there is no MCP server 'wab'." in str(refused)


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ("mcp:web.ad", "works: the MCP server 'web' has no tool 'ad'. Did you mean 'add'?"),
        ("mcp:down.add", "cannot connect"),
    ],
)
def test_an_unknown_tool_fails_the_task_before_any_model_is_called(crews: Crews, tool: str, says: str) -> None:
    error = crews.site.error_of(CREW, {}, params={"works": works(tool)})
    assert says in error
    assert crews.site.llm.asked == []


def test_crews_of_a_batch_call_tools(crews: Crews) -> None:
    crews.site.llm.will(calls(("mcp_web_add", {"a": 1, "b": 2})), Says(text="It is 3."))
    done = crews.site.run(BATCH, {}, params={"works": {"north": works("mcp:web.add")}})
    assert done.task["status"] == "completed", done.task["error"]
    assert done.task["result"]["north"]["result"] == "It is 3."
    assert "north: calls mcp_web_add" in done.logs
