"""Agents of frameworks in workflows: their model requests and tool calls are steps, against a provider on loopback."""

from collections.abc import AsyncIterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from agents import Agent as OpenAIAgent
from agents import ModelSettings, Runner, UserError, WebSearchTool, set_trace_processors
from pydantic_ai import Agent, FunctionToolset, RunContext
from pydantic_ai import UserError as PydanticUserError
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import DynamicToolset

from aipartnerupflow.executors.current import enter_task
from aipartnerupflow.executors.testing import context
from aipartnerupflow.workflows import workflow
from aipartnerupflow.workflows.openai_agents import durable, run_config
from aipartnerupflow.workflows.pydantic_ai import Durable, RunModel
from aipartnerupflow.workflows.testing import Played, play
from tests import agent_workflows
from tests.agent_workflows import RAN, Office, Reading, Trip
from tests.documents import text
from tests.llm_formats import Says
from tests.llm_server import LlmServer, llm_server

Json = dict[str, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with llm_server() as llm:
        yield llm


@pytest.fixture
def llm(server: LlmServer) -> LlmServer:
    server.forget()
    RAN.clear()
    return server


def work_with(llm: LlmServer) -> None:
    """Let `run_clients` and `RunModel` call the provider from here on, as they do in a task."""

    async def call(
        messages: Any,
        *,
        model: Any = None,
        tools: Any = (),
        heard: Any = None,
        agent: Any = None,
        step: Any = None,
        **options: Any,
    ) -> Json:
        async with httpx.AsyncClient() as client:
            body = {"model": model, "messages": messages, "tools": list(tools), **options}
            answer = (await client.post(f"{llm.openai_base}/chat/completions", json=body)).raise_for_status().json()
        (choice,) = answer["choices"]
        message = choice["message"]
        return {
            **{"content": message["content"], "model": model, "finish_reason": choice["finish_reason"]},
            **{"usage": answer["usage"], "tool_calls": message["tool_calls"] or [], "provider_id": answer["id"]},
        }

    enter_task(context(llm=call))


async def played_with_crashes(llm: LlmServer, make: Any, *script: Says, answers: Json | None = None) -> Played[Any]:
    """Play the workflow, then with a crash after each commit, and once after all: nothing that has ended is done again."""
    work_with(llm)

    async def once(**options: Any) -> tuple[Played[Any], list[str], list[Any]]:
        RAN.clear()
        llm.forget()
        llm.will(*script)
        played = await play(make(), answers=answers, **options)
        assert not llm.script
        return played, sorted(RAN), [asked.body for asked in llm.asked]

    first, ran, asked = await once()
    for crash in [*range(1, first.commits + 1), range(1, first.commits + 1)]:
        again, ran_again, asked_again = await once(crash_at=crash)
        assert (again.result, ran_again, asked_again) == (first.result, ran, asked), crash
        assert again.performed == first.performed
    return first


TRIP = (
    Says(tool_calls=(("weather", {"city": "Bern"}), ("hotel", {"city": "bern"}))),
    Says(tool_calls=(("hotel", {"city": "Bern"}),)),
    Says(tool_calls=(("final_result", {"city": "Bern", "nights": "two"}),)),
    Says(tool_calls=(("final_result", {"city": "Bern", "nights": 2}),)),
)
"""Two tools side by side, one of which wants another try, and a wrong result."""


async def test_an_agent_with_tools_and_a_typed_result_repeats_nothing_after_a_crash(llm: LlmServer) -> None:
    first = await played_with_crashes(llm, lambda: agent_workflows.trip("Where to?"), *TRIP)
    assert first.result == Trip(city="Bern", nights=2)
    names = [call.partition("(")[0].split(" ")[-1] for call in first.calls]
    assert names == ["model", "weather", "hotel", "model", "hotel", "model", "model"]
    assert sorted(RAN) == ["hotel Bern", "hotel bern", "weather Bern"]
    bodies = [asked.body for asked in llm.asked]
    assert [message["role"] for message in bodies[1]["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert bodies[0]["tool_choice"] == "required"
    assert "Begin the city with a capital letter." in bodies[1]["messages"][-1]["content"]
    assert "120 CHF" in bodies[2]["messages"][-1]["content"]


async def test_runs_of_agents_side_by_side_and_plain_validators_are_replayed(llm: LlmServer) -> None:
    long = Says(text="It flows and flows and flows and flows and flows.")
    script = (Says(text="Rhine."), Says(text="Aare."), long, Says(text="Rhine!"))
    first = await played_with_crashes(llm, lambda: agent_workflows.poems(["Rhine", "Aare"]), *script)
    assert sorted(first.result) == ["Aare.", "Rhine!", "Rhine."]


async def test_steps_of_a_shuffled_order_are_replayed(llm: LlmServer) -> None:
    for shuffle in range(4):
        results = list[Any]()
        for crash in (0, 3, 5):
            RAN.clear()
            results.append((await play(agent_workflows.counted(3), shuffle=shuffle, crash_at=crash)).result)
            assert sorted(RAN) == ["count 1", "count 2", "count 3", "model 1", "model 3", "model 5"]
        assert results == [{"whole": "The sum is 6.", "error": None, "requests": 3}] * 3


async def test_a_model_request_that_fails_is_repeated_and_a_tool_that_fails_ends_the_run_of_its_agent(
    llm: LlmServer,
) -> None:
    script = (Says(status=503), Says(tool_calls=(("broken", {"number": 3}),)))
    first = await played_with_crashes(llm, agent_workflows.caught, *script)
    assert first.result == "broken() raised ValueError: no such number"
    assert RAN == ["broken 3"]


async def test_toolsets_that_depend_on_the_run_are_steps_and_words_reach_a_handler_once(llm: LlmServer) -> None:
    heard = list[str]()

    def toolset(context: RunContext[Office]) -> FunctionToolset[Office]:
        return FunctionToolset[Office]([agent_workflows.weather])

    async def listen(context: RunContext[Office], stream: AsyncIterable[Any]) -> None:
        heard.extend([event.event_kind async for event in stream])

    guide = Agent(
        TestModel(),
        name="guide",
        deps_type=Office,
        toolsets=[DynamicToolset(toolset, id="of the run")],
        capabilities=[Durable(event_stream_handler=listen)],
    )

    @workflow
    async def guided() -> str:
        return (await guide.run("Hello", deps=Office("CHF"))).output

    first = await play(guided())
    once = list(heard)
    heard.clear()
    again = await play(guided(), crash_at=range(1, first.commits + 1))
    assert (again.result, again.performed, heard) == (first.result, first.performed, once)
    assert RAN == ["weather a"] * 2
    names = [path.partition(":")[0] for path in first.performed]
    assert {"/dynamic_toolset__of the run_get_tools", "/model", "/weather", "/event_stream_handler"} == set(names)


async def test_a_person_approves_a_tool_call_of_pydantic_ai(llm: LlmServer) -> None:
    script = (Says(tool_calls=(("pay", {"number": 3}), ("pay", {"number": 4}))), Says(text="Paid 3."))
    answers = {'May pay run with {"number": 3}?': "yes", 'May pay run with {"number": 4}?': "no"}
    first = await played_with_crashes(llm, lambda: agent_workflows.paid("Pay 3 and 4."), *script, answers=answers)
    assert (first.result, RAN) == ("Paid 3.", ["count 3"])
    assert [message["content"] for message in llm.asked[1].body["messages"][-2:]] == ["3", "The tool call was denied."]


async def test_a_person_approves_a_tool_call_of_the_openai_agents_sdk(llm: LlmServer) -> None:
    script = (Says(tool_calls=(("transfer", {"amount": 3}), ("transfer", {"amount": 4}))), Says(text="Done."))
    answers = {'May transfer run with {"amount": 3}?': "yes", 'May transfer run with {"amount": 4}?': "no"}
    first = await played_with_crashes(llm, lambda: agent_workflows.transferred("3 and 4."), *script, answers=answers)
    assert (first.result, RAN) == ("Done.", ["transfer 3"])


async def test_without_a_workflow_an_agent_works_as_usual(llm: LlmServer) -> None:
    work_with(llm)
    llm.will(*TRIP)
    assert (await agent_workflows.trips.run("Where to?", deps=Office("EUR"))).output == Trip(city="Bern", nights=2)
    llm.will(Says(tool_calls=(("temperature", {"city": "Bern"}),)), Says(text="Warm."))
    result = await Runner.run(agent_workflows.durable_desk, "Is it warm?", run_config=run_config())
    assert result.final_output == "Warm."
    llm.will(*TRIP)
    assert await agent_workflows.trip("Where to?") == Trip(city="Bern", nights=2)


async def test_a_model_of_the_run_needs_a_task(llm: LlmServer) -> None:
    with pytest.raises(RuntimeError, match="No task is at work here"):
        await Agent(RunModel("gpt-4o-mini")).run("Hello")
    assert llm.asked == []


async def test_what_an_agent_cannot_do_in_a_workflow_is_named(llm: LlmServer) -> None:
    late = Agent(TestModel(), name="late", capabilities=[Durable()])

    @workflow
    async def with_more_tools() -> str:
        return (await late.run("Hello", toolsets=[FunctionToolset([agent_workflows.weather], id="more")])).output

    with pytest.raises(PydanticUserError, match=r"more|toolset"):
        await play(with_more_tools())
    with pytest.raises(PydanticUserError, match="'often' in its metadata"):
        toolset = FunctionToolset[None](id="tools")
        toolset.add_function(agent_workflows.weather, metadata={"aipartnerupflow": {"often": True}})
        wrong = Agent(TestModel(), name="wrong", toolsets=[toolset], capabilities=[Durable()])

        @workflow
        async def wrongly() -> str:
            return (await wrong.run("Hello")).output

        await play(wrongly())


# --- OpenAI Agents SDK ---


async def test_a_handoff_with_tools_repeats_nothing_after_a_crash(llm: LlmServer) -> None:
    script = (
        Says(tool_calls=(("temperature", {"city": "Bern"}), ("temperature", {"city": "Rome"}))),
        Says(tool_calls=(("transfer_to_billing", {}),), ids="b"),
        Says(tool_calls=(("refund", {"order": 7}),), ids="c"),
        Says(text="Done."),
    )
    first = await played_with_crashes(llm, lambda: agent_workflows.helped("Is it warm?"), *script)
    assert first.result == "billing: Done."
    assert sorted(RAN) == ["refund 7", "temperature Bern", "temperature Rome"]
    assert len(llm.asked) == 4
    assert llm.asked[2].body["messages"][0] == {"role": "system", "content": "Pay back."}


async def test_a_structured_answer_that_does_not_fit_is_asked_for_again(llm: LlmServer) -> None:
    script = (Says(text="warm"), Says(text='{"degrees": 21}'))
    first = await played_with_crashes(llm, lambda: agent_workflows.read("Is it warm?"), *script)
    assert first.result == Reading(degrees=21)
    assert llm.asked[0].body["response_format"]["type"] == "json_schema"


async def test_a_function_tool_that_fails_is_as_the_sdk_says(llm: LlmServer) -> None:
    tools = (("temperature", {"city": "Bern"}), ("fails", {"number": 1}))
    script = (Says(tool_calls=tools), Says(text="Sorry."))
    first = await played_with_crashes(llm, lambda: agent_workflows.caught_by_sdk("Is it warm?"), *script)
    assert (first.result, sorted(RAN)) == ("Sorry.", ["fails 1", "temperature Bern"])
    assert "no such number" in llm.asked[1].body["messages"][-1]["content"]
    breaks = Says(tool_calls=(("breaks", {"number": 2}), ("temperature", {"city": "Bern"})))
    first = await played_with_crashes(llm, lambda: agent_workflows.caught_by_sdk("Is it warm?"), breaks)
    assert "no such number" in first.result


async def test_what_the_sdk_cannot_do_in_a_workflow_is_named(llm: LlmServer) -> None:
    work_with(llm)
    set_trace_processors([])  # the SDK would send what it traces to OpenAI
    with pytest.raises(UserError, match=r"'web' has the tool 'web_search' \(WebSearchTool\)"):
        durable(OpenAIAgent(name="web", tools=[WebSearchTool()]))
    plain = durable(OpenAIAgent(name="plain", model="gpt-4o-mini", model_settings=ModelSettings()))

    @workflow
    async def traced() -> str:
        return str((await Runner.run(plain, "Hello", run_config=run_config(tracing_disabled=False))).final_output)

    @workflow
    async def streamed() -> str:
        result = Runner.run_streamed(plain, "Hello", run_config=run_config())
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    with pytest.raises(UserError, match=r"cannot trace.*run_config=run_config\(\)"):
        await play(traced())
    with pytest.raises(UserError, match="cannot stream"):
        await play(streamed())
    assert llm.asked == []


# --- the page ---


async def test_the_page_is_true(llm: LlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "docs/how-to/agent-frameworks.md"
    headings = ("Pydantic AI", "OpenAI Agents SDK", "Tools that must not run twice", "Ask a person first", "Test it")
    code = [text(page, heading, "python") for heading in headings]
    (tmp_path / "agents_of_the_page.py").write_text("\n\n".join([code[0], *code[2:]]))
    (tmp_path / "desk_of_the_page.py").write_text(code[1])
    monkeypatch.syspath_prepend(tmp_path)
    module, desk = import_module("agents_of_the_page"), import_module("desk_of_the_page")
    work_with(llm)
    llm.will(Says(tool_calls=(("weather", {"city": "Bern"}),)))
    llm.will(Says(tool_calls=(("final_result", {"city": "Bern", "nights": 2}),)))
    trip = (await play(module.plan("Where to?"))).result
    assert (trip.city, trip.nights) == ("Bern", 2)
    llm.will(Says(tool_calls=(("transfer_to_billing", {}),)))
    llm.will(Says(tool_calls=(("refund", {"order": 7}),), ids="b"), Says(text="Done."))
    assert (await play(desk.support("Pay back order 7."))).result == "Done."
    llm.will(Says(tool_calls=(("pay", {"amount": 3}),)), Says(text="Paid."))
    settled = await play(module.settle("A bill over 3."), answers={'pay {"amount": 3}?': "yes"})
    assert (settled.result, llm.asked[-1].body["messages"][-1]["content"]) == ("Paid.", "3 paid")
    assert module.lookup.metadata == {"aipartnerupflow": {"idempotent": True, "retries": 2}}
    await module.test_it_greets_after_a_crash()
