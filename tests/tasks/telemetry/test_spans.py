"""Spans and metrics of agents, tools, models and workflows, by way of a real collector, and their names in the published conventions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.semconv import schemas
from opentelemetry.semconv._incubating.attributes import (
    gen_ai_attributes,
    mcp_attributes,
    openai_attributes,
)
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes

from tasks.telemetry.genai import PROVIDERS
from tasks.telemetry.otel import HISTOGRAMS, SCHEMA
from tests.acceptance.test_faults import holder_of
from tests.llm_formats import Says
from tests.llm_site import LlmSite, running_llm_site
from tests.mcp_site import TOKEN, running_mcp_server
from tests.otlp import Receiver, Span, collector, receiving
from tests.servers import until
from tests.tasks.executors.a2a_client.agents import FakeAgent, Stream, agent_running, artifact, status, task

Json = dict[str, Any]
CLIENT, INTERNAL = 3, 1
SECRET: Final = "the-secret-of-the-weather"
REGISTRY: Final = frozenset(
    value
    for module in (gen_ai_attributes, mcp_attributes, openai_attributes, error_attributes, server_attributes)
    for name, value in vars(module).items()
    if name.isupper()
)


@dataclass(frozen=True, kw_only=True)
class Site:
    llm: LlmSite
    spans: Receiver
    agent: FakeAgent
    gate: Path
    """The tool `safe_wait` returns when there is this file."""

    @property
    def calls(self) -> list[str]:
        file = self.gate.with_name("calls")
        return file.read_text().splitlines() if file.exists() else []

    def below(self, span: Span, *, at_least: int = 1) -> list[Span]:
        """The spans whose parent it is, once so many are here."""

        def found() -> list[Span]:
            below = [each for each in list(self.spans.spans) if each["parent"] == span["id"]]
            return below if len(below) >= at_least else []

        try:
            return until(found, seconds=60, what=f"{at_least} spans below {span['name']}")
        except AssertionError as error:
            names = [(each["name"], each["parent"]) for each in self.spans.spans if each["trace"] == span["trace"]]
            raise AssertionError(f"{error}, whose id is {span['id']}. Its trace has {names}") from None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server whose spans have content, and go through the collector."""
    folder = tmp_path_factory.mktemp("telemetry")
    with (
        receiving() as spans,
        collector(spans, folder) as (http, _),
        agent_running(FakeAgent()) as agent,
        running_mcp_server(folder) as mcp,
    ):
        servers = {
            "web": {"url": mcp.url, "headers": {"Authorization": f"Bearer {TOKEN}"}},
            "pipes": {"command": mcp.command, "env": mcp.environment},
        }
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": http,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "120",  # a batch that takes longer on its way is dropped
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "AIPARTNERUPFLOW_TELEMETRY_CONTENT": "true",
            "AIPARTNERUPFLOW_EXECUTORS_MCP_SERVERS": json.dumps(servers),
            "AIPARTNERUPFLOW_EXECUTORS_MODULES": "tests.agent_tools",
            "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "127.0.0.1",
            "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": str(agent.port),
            "AGENT_CALLS": str(folder / "calls"),
            "AGENT_GATE": str(folder / "gate"),
        }
        with running_llm_site(environment) as llm:
            yield Site(llm=llm, spans=spans, agent=agent, gate=folder / "gate")


@pytest.fixture(autouse=True)
def forgotten(site: Site) -> None:
    site.llm.llm.forget()
    site.gate.with_name("calls").unlink(missing_ok=True)


def test_an_agent_its_models_and_its_tools_are_one_tree_with_the_attributes_of_the_conventions(site: Site) -> None:
    site.llm.llm.will(
        Says(tool_calls=(("weather", {"city": SECRET}), ("mcp_web_add", {"a": 1, "b": 2}))), Says(text="It is warm.")
    )
    inputs = {"prompt": f"How is {SECRET}?", "tools": ["weather", "mcp:web.add"], "temperature": 0, "max_tokens": 99}
    inputs |= {"stop": "END", "seed": 7, "top_p": 1}
    params = {"conversation": "a-talk"}
    done = site.llm.run("llm_executor", inputs, name="forecaster", params=params)
    assert done.task["status"] == "completed", done.task["error"]
    agent = site.spans.named("invoke_agent forecaster")
    run = site.spans.named("run", **{"apflow.root_task.id": done.task["id"]})
    assert (agent["parent"], agent["kind"], agent["is_error"]) == (run["id"], INTERNAL, False)
    assert (
        agent.items()
        >= {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "forecaster",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.conversation.id": "a-talk",
            "gen_ai.usage.input_tokens": 20,
        }.items()
    )
    below = site.below(agent, at_least=4)
    first, last = sorted((each for each in below if each["name"] == "chat gpt-4o-mini"), key=lambda each: each["began"])
    address = site.llm.llm.url.removeprefix("http://").split(":")
    assert (
        first.items()
        >= {
            "kind": CLIENT,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.request.temperature": 0.0,
            "gen_ai.request.top_p": 1.0,
            "gen_ai.request.max_tokens": 99,
            "gen_ai.request.seed": 7,
            "gen_ai.request.stop_sequences": ("END",),
            "gen_ai.request.stream": True,
            "gen_ai.conversation.id": "a-talk",
            "gen_ai.response.model": "gpt-4o-mini",
            "gen_ai.response.finish_reasons": ("tool_calls",),
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 4,
            "gen_ai.usage.cache_read.input_tokens": 0,
            "server.address": address[0],
            "server.port": int(address[1]),
        }.items()
    )
    assert last["gen_ai.response.id"]
    assert 0 < last["gen_ai.response.time_to_first_chunk"] < (last["ended"] - last["began"]) / 1e9
    assert [asked.trace for asked in site.llm.llm.asked] == [
        f"00-{each['trace']}-{each['id']}-01" for each in (first, last)
    ]
    own, of_server = (
        site.spans.named(f"execute_tool {name}", parent=agent["id"]) for name in ("weather", "mcp:web.add")
    )
    assert (
        own.items()
        >= {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "weather",
            "gen_ai.tool.call.id": "call_0",
            "gen_ai.tool.type": "function",
            "kind": INTERNAL,
        }.items()
    )
    assert json.loads(own["gen_ai.tool.call.result"])["degrees"] == 21
    assert (of_server["kind"], of_server["mcp.method.name"], of_server["gen_ai.tool.type"]) == (
        CLIENT,
        "tools/call",
        "extension",
    )
    assert of_server["server.port"] > 0
    said = json.loads(last["gen_ai.input.messages"])
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "tool"]
    assert said[0]["parts"] == [{"type": "text", "content": f"How is {SECRET}?"}]
    assert said[1]["parts"][1]["arguments"] == {"a": 1, "b": 2}
    answer = {"role": "assistant", "parts": [{"type": "text", "content": "It is warm."}], "finish_reason": "stop"}
    assert json.loads(last["gen_ai.output.messages"]) == [answer]
    assert [tool["name"] for tool in json.loads(first["gen_ai.tool.definitions"])] == ["weather", "mcp_web_add"]
    facts = {"gen_ai.request.model": "gpt-4o-mini", "gen_ai.provider.name": "openai", "server.address": address[0]}
    for kind in ("input", "output"):
        point = site.spans.point("gen_ai.client.token.usage", **facts | {"gen_ai.token.type": kind})
        assert (point["unit"], point["bounds"]) == ("{token}", [4**power for power in range(14)])
    point = site.spans.point("gen_ai.client.operation.duration", **facts | {"gen_ai.operation.name": "chat"})
    assert (point["unit"], point["bounds"][:2], point["bounds"][-1]) == ("s", [0.01, 0.02], 81.92)
    assert site.spans.point("gen_ai.client.operation.time_to_first_chunk", **facts)["sum"] > 0


@pytest.mark.parametrize(
    ("says", "error"),
    [(Says(status=429), "429"), (Says(status=503), "503"), (Says(refusal="I will not."), "refusal")],
)
def test_the_error_type_of_a_failed_call_is_what_the_provider_answered(site: Site, says: Says, error: str) -> None:
    site.llm.llm.will(says)
    done = site.llm.run("llm_executor", {"prompt": "Go."}, name=f"fails {error}")
    assert done.task["status"] == "failed"
    span = site.spans.named("chat gpt-4o-mini", **{"error.type": error})
    around = site.spans.named("task llm_executor", **{"apflow.task.id": done.task["id"]})
    assert (span["is_error"], span["parent"], around["error.type"]) == (True, around["id"], "failed")
    assert site.spans.point("gen_ai.client.operation.duration", **{"error.type": error})["count"] >= 1


def test_a_key_in_what_was_said_is_masked(site: Site) -> None:
    key = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    site.llm.llm.will(Says(text=f"It is {key}."))
    done = site.llm.run("llm_executor", {"prompt": f"Is it {key}?", "model": "openai/gpt-masked"})
    assert done.task["status"] == "completed", done.task["error"]
    span = site.spans.named("chat gpt-masked")
    assert "Is it sk" in span["gen_ai.input.messages"]
    assert key not in json.dumps(site.spans.spans)


@pytest.mark.parametrize("server", ["web", "pipes"])
def test_a_server_of_mcp_continues_the_trace(site: Site, server: str) -> None:
    done = site.llm.run("mcp_executor", {"server": server, "tool": "trace"}, name=f"ask {server}")
    assert done.task["status"] == "completed", done.task["error"]
    span = site.spans.named("execute_tool trace", **{"apflow.task.id": done.task["id"]})
    assert set(done.task["result"]["result"].split(" ")) == {f"00-{span['trace']}-{span['id']}-01"}
    assert span["kind"] == CLIENT


def test_an_agent_elsewhere_continues_the_trace(site: Site) -> None:
    site.agent.speaks("1.0")
    site.agent.script = {"SendStreamingMessage": [Stream([{"task": task()}, artifact("Done."), status("COMPLETED")])]}
    inputs = {"agent_url": site.agent.url, "message": "Go."}
    done = site.llm.run("a2a_executor", inputs, name="ask an agent")
    assert done.task["status"] == "completed", done.task["error"]
    span = site.spans.named("invoke_agent fake")
    assert site.agent.asked[-1].headers["traceparent"] == f"00-{span['trace']}-{span['id']}-01"
    assert (
        span.items()
        >= {
            "kind": CLIENT,
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "fake",
            "gen_ai.provider.name": "a2a",
            "server.address": "127.0.0.1",
            "server.port": site.agent.port,
        }.items()
    )


def test_a_workflow_has_its_agents_below_it_and_rests_in_one_span(site: Site) -> None:
    site.llm.llm.will(Says(text="One."), Says(text="Two."))
    done = site.llm.run("workflow:spending", {})
    assert done.task["status"] == "completed", done.task["error"]
    span = site.spans.named("invoke_workflow spending")
    assert span["gen_ai.workflow.name"] == "spending"
    steps = site.below(span, at_least=2)
    assert {step["name"] for step in steps} == {"task llm_executor"}
    assert (
        span["began"] <= min(step["began"] for step in steps) <= max(step["ended"] for step in steps) <= span["ended"]
    )
    for step in steps:
        assert [each["name"] for each in site.below(step)] == ["chat gpt-4o-mini"]


def test_an_agent_whose_worker_dies_has_one_span_and_a_run_without_a_request_one_trace(site: Site) -> None:
    site.llm.llm.will(Says(tool_calls=(("safe_wait", {"number": 7}),)), Says(text="Done."))
    server = site.llm.server
    task_id = site.llm.start("llm_executor", {"prompt": "Go.", "tools": ["safe_wait"]}, name="survivor")
    until(lambda: len(site.calls) == 1, seconds=60, what="the call")
    server.kill(holder_of(server, task_id))
    until(lambda: len(site.calls) == 2, seconds=60, what="the call again")
    site.gate.touch()
    assert site.llm.end_of(task_id).task["status"] == "completed"
    run = site.spans.named("run", **{"apflow.root_task.id": task_id})
    agent = site.spans.named("invoke_agent survivor")
    # The worker may have died before it had sent the first call of the model.
    below = site.below(agent, at_least=2)
    assert (len(site.spans.of("invoke_agent survivor")), len(site.spans.of("execute_tool safe_wait"))) == (1, 1)
    assert {each["trace"] for each in (*below, agent)} == {run["trace"]}
    assert agent["began"] <= min(each["began"] for each in below)
    assert run["began"] <= agent["began"] <= max(each["ended"] for each in below) <= agent["ended"] <= run["ended"]


@pytest.mark.crews
def test_a_crew_is_a_workflow_with_its_agents(site: Site) -> None:
    site.llm.llm.will(Says(text="Rivers are long."), Says(text="A poem."))
    agents = {name: {"role": name, "llm": "openai/gpt-4"} for name in ("reader", "writer")}
    tasks = {name: {"description": "Go.", "agent": name} for name in agents}
    done = site.llm.run("crewai_executor", {}, name="poets", params={"works": {"agents": agents, "tasks": tasks}})
    assert done.task["status"] == "completed", done.task["error"]
    crew = site.spans.named("invoke_workflow poets")
    for name in agents:
        agent = site.spans.named(f"invoke_agent {name}", parent=crew["id"])
        (chat,) = site.below(agent)
        assert (chat["name"], chat["ended"]) == ("chat gpt-4", agent["ended"])
        assert agent["gen_ai.usage.output_tokens"] == chat["gen_ai.usage.output_tokens"]


def test_a_score_is_an_event_of_evaluation_below_the_run(site: Site) -> None:
    done = site.llm.run("echo_executor", {"text": "x"})
    (run,) = site.llm.server.rpc("runs.list", {"task_id": done.task["id"]})["runs"]
    for score in (True, 4.5, "polite"):
        given = {"run_id": run["id"], "name": f"a-{score}", "score": score, "note": "because"}
        site.llm.server.rpc("feedback.set", given)
    of_run = site.spans.named("run", **{"apflow.run.id": run["id"]})
    events = [each["events"]["gen_ai.evaluation.result"] for each in site.below(of_run, at_least=4) if each["events"]]
    assert {name for event in events for name in event} <= REGISTRY
    values = {
        event["gen_ai.evaluation.name"]: (
            event.get("gen_ai.evaluation.score.value"),
            event.get("gen_ai.evaluation.score.label"),
            event["gen_ai.evaluation.explanation"],
        )
        for event in events
    }
    assert values == {
        "a-True": (1.0, "true", "because"),
        "a-4.5": (4.5, None, "because"),
        "a-polite": (None, "polite", "because"),
    }


def test_every_name_is_in_the_published_registry(site: Site) -> None:
    """It runs last, so that all spans of this file are there."""
    of_conventions = {
        name
        for each in (*site.spans.spans, *site.spans.points)
        for name in each
        if name.startswith(("gen_ai.", "mcp.", "openai.", "error.", "server."))
    }
    assert of_conventions
    assert of_conventions - REGISTRY == set()
    operations = {each["gen_ai.operation.name"] for each in site.spans.spans if "gen_ai.operation.name" in each}
    assert operations <= {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    assert set(PROVIDERS.values()) <= {each.value for each in gen_ai_attributes.GenAiProviderNameValues}
    assert set(HISTOGRAMS) <= {
        value for name, value in vars(gen_ai_metrics).items() if name.startswith("GEN_AI_CLIENT")
    }
    assert schemas.Schemas.V1_41_0.value == SCHEMA
    assert site.spans.schemas == {SCHEMA}
    is_wrong = [
        (name, each[name])
        for each in site.spans.spans
        for name, kind in TYPES.items()
        if name in each and type(each[name]) is not kind
    ]
    assert is_wrong == []


TYPES: Final = (
    dict.fromkeys(("gen_ai.request.temperature", "gen_ai.request.top_p", "gen_ai.response.time_to_first_chunk"), float)
    | dict.fromkeys(("gen_ai.request.stop_sequences", "gen_ai.response.finish_reasons"), tuple)
    | dict.fromkeys(("gen_ai.usage.input_tokens", "gen_ai.request.max_tokens", "server.port"), int)
)
