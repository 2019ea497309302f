"""The OpenAI Agents SDK with the agent of the server as its model, on both wires, with all that it sends by itself."""

import asyncio
from typing import Any

import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.openai.conftest import openai
from tests.lazy_modules import LazyModule
from tests.llm_formats import Says
from tests.llm_server import LlmServer
from tests.servers import Server

agents = LazyModule("agents")
pytestmark = pytest.mark.both_engines_nightly


@pytest.mark.parametrize("wire", ["OpenAIResponsesModel", "OpenAIChatCompletionsModel"])
@pytest.mark.parametrize("streams", [False, True])
def test_its_loop_calls_a_function_and_gets_the_answer(
    openai_server: Server, model: LlmServer, wire: str, *, streams: bool
) -> None:
    def clock() -> str:
        """Return the time."""
        return "12:00"

    async def answer() -> Any:
        url, key = f"{openai_server.url}/v1", token_of("alice")
        async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
            made = getattr(agents, wire)("agent", client)
            agent = agents.Agent(name="A", instructions="Be short.", model=made, tools=[agents.function_tool(clock)])
            config = agents.RunConfig(tracing_disabled=True)
            if not streams:
                return (await agents.Runner.run(agent, "What time is it?", run_config=config)).final_output
            run = agents.Runner.run_streamed(agent, "What time is it?", run_config=config)
            async for _ in run.stream_events():
                pass
            return run.final_output

    model.will(Says(tool_calls=(("clock", {}),)), Says(text="It is noon."))
    assert asyncio.run(answer()) == "It is noon."
    assert [each["role"] for each in model.asked[-1].body["messages"]] == ["system", "user", "assistant", "tool"]
