"""Agents of the OpenAI Agents SDK in workflows: each model response and each call of a function tool is a step.

    agent = durable(Agent(name="support", model="gpt-4o-mini", tools=[weather], handoffs=[billing]))

    @workflow
    async def answer(question: str) -> str:
        return (await Runner.run(agent, question, run_config=run_config())).final_output

Outside of a workflow the agent works as it is.
"""

from collections.abc import AsyncIterator, Sequence
from copy import copy
from typing import Any, Final, TypeVar

import orjson
from agents import (
    Agent,
    FunctionTool,
    Handoff,
    Model,
    ModelProvider,
    ModelResponse,
    ModelSettings,
    ModelTracing,
    OpenAIChatCompletionsModel,
    RunConfig,
    RunContextWrapper,
    Tool,
    UserError,
)
from agents.agent_output import AgentOutputSchemaBase
from agents.items import TResponseInputItem, TResponseStreamEvent
from agents.models.default_models import get_default_model
from agents.tool import ToolOutputFileContent, ToolOutputImage, ToolOutputText
from agents.tool_context import ToolContext
from openai import AsyncOpenAI
from openai.types.responses.response_prompt_param import ResponsePromptParam
from pydantic import TypeAdapter

from aipartnerupflow.executors import Json
from aipartnerupflow.models import run_clients
from aipartnerupflow.workflows.drive import current
from aipartnerupflow.workflows.functions import local_step
from aipartnerupflow.workflows.values import encoded

Context = TypeVar("Context")
RESPONSE: Final = TypeAdapter(ModelResponse)
FRAMEWORK: Final = "openai_agents"


def run_config(**options: Any) -> RunConfig:
    """Return the configuration of `Runner.run` in a workflow: models are called with the LLM key of the run, and nothing is traced.

    `options` are further fields of `RunConfig`.
    """
    given: Json = {"model_provider": RunModels(), "tracing_disabled": True} | options
    return RunConfig(**given)


def durable(agent: Agent[Context], *, idempotent: Sequence[str] = ()) -> Agent[Context]:
    """Return the agent, and those that it may hand over to, with each function tool and each model that is an object as steps.

    `idempotent` names the tools whose repetition does no harm. Call it when the agents are complete. Raises UserError for what cannot be a step: hosted tools, and MCP servers.
    """
    converted: Agent[Context] = _converted(agent, {}, frozenset(idempotent))
    return converted


class RunModels(ModelProvider):
    """Chat models that are called with the LLM key of the run: its budgets apply, and its calls are recorded.

    A name with a provider, such as `anthropic/claude-sonnet-4-5`, is a model of that provider.
    """

    def __init__(self) -> None:
        clients = run_clients()
        self._client = AsyncOpenAI(api_key=clients["api_key"], http_client=clients["http_async_client"])

    def get_model(self, model_name: str | None) -> Model:
        name = model_name or get_default_model()
        return DurableModel(OpenAIChatCompletionsModel(model=name, openai_client=self._client), name)


class DurableModel(Model):
    """A model whose responses are steps within a workflow."""

    def __init__(self, model: Model, name: str) -> None:
        self.model, self.name = model, name

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
        tracing: ModelTracing,
        *,
        previous_response_id: str | None,
        conversation_id: str | None,
        prompt: ResponsePromptParam | None,
    ) -> ModelResponse:
        async def work() -> Any:
            response = await self.model.get_response(
                system_instructions,
                input,
                model_settings,
                tools,
                output_schema,
                handoffs,
                tracing,
                previous_response_id=previous_response_id,
                conversation_id=conversation_id,
                prompt=prompt,
            )
            return RESPONSE.dump_python(response, mode="json")

        if (drive := current()) is None:
            return RESPONSE.validate_python(await work())
        if not tracing.is_disabled():
            raise UserError("A workflow cannot trace: a replay would do it again. Pass run_config=run_config().")
        _refuse_hosted(tools, "The agent")
        inputs: Json = {"model": self.name, "input": _asked(input)}
        key = str(drive.number("model"))
        stored = await local_step(f"{FRAMEWORK}:model", work, inputs=inputs, key=key, name=self.name, idempotent=True)
        return RESPONSE.validate_python(stored)

    def stream_response(self, *args: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        if current() is not None:
            raise UserError(
                "A workflow cannot stream: Runner.run_streamed works only outside of one. Use Runner.run; on a server the words of "
                "models are events of the run."
            )
        return self.model.stream_response(*args, **options)


def _asked(given: str | list[TResponseInputItem]) -> list[Json]:
    """Return what is new since the last answer of the model, without ids."""
    items: list[Any] = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    new: list[Json] = []
    for item in reversed(items):
        if item.get("role") == "assistant" or item.get("type") in ("function_call", "message", "reasoning"):
            break
        new.append({name: value for name, value in item.items() if name in ("role", "content", "call_id", "output")})
    return new[::-1]


def _refuse_hosted(tools: Sequence[Tool], owner: str) -> None:
    for tool in tools:
        if not isinstance(tool, FunctionTool):
            raise UserError(
                f"{owner} has the tool '{tool.name}' ({type(tool).__name__}), which is not a function: it cannot be a step. Use a function tool."
            )


def _converted(agent: Any, done: dict[int, Any], idempotent: frozenset[str]) -> Any:
    if id(agent) in done:
        return done[id(agent)]
    owner = f"The agent '{agent.name}'"
    if agent.mcp_servers:
        raise UserError(
            f"{owner} has mcp_servers, which a workflow cannot use: it has no connections. Call them in a function tool."
        )
    _refuse_hosted(agent.tools, owner)
    new = done[id(agent)] = copy(agent)
    new.tools = [_tool(tool, is_idempotent=tool.name in idempotent) for tool in agent.tools]
    if isinstance(agent.model, Model) and not isinstance(agent.model, DurableModel):
        new.model = DurableModel(agent.model, str(getattr(agent.model, "model", agent.name)))
    new.handoffs = [_handoff(each, done, idempotent) for each in agent.handoffs]
    return new


def _handoff(given: Any, done: dict[int, Any], idempotent: frozenset[str]) -> Any:
    if not isinstance(given, Handoff):
        return _converted(given, done, idempotent)
    new = copy(given)

    async def invoke(context: RunContextWrapper[Any], arguments: str) -> Any:
        return _converted(await given.on_invoke_handoff(context, arguments), done, idempotent)

    new.on_invoke_handoff = invoke
    return new


def _tool(tool: FunctionTool, *, is_idempotent: bool) -> FunctionTool:
    new = copy(tool)

    async def invoke(context: ToolContext[Any], arguments: str) -> Any:
        if (drive := current()) is None:
            return await tool.on_invoke_tool(context, arguments)

        async def work() -> Any:
            here = copy(context)  # what a step adds to the usage would not be there in a replay
            here.usage = copy(context.usage)
            return _output(await tool.on_invoke_tool(here, arguments))

        again = drive.number(f"{tool.name} {context.tool_call_id}")
        key = context.tool_call_id + (f"-{again}" if again > 1 else "")
        inputs = {"arguments": _parsed(arguments), "tool_call_id": context.tool_call_id}
        return await local_step(f"{FRAMEWORK}:{tool.name}", work, inputs=inputs, key=key, idempotent=is_idempotent)

    new.on_invoke_tool = invoke
    return new


def _parsed(arguments: str) -> Any:
    try:
        return orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:  # of a model
        return arguments


def _output(value: Any) -> Any:
    """Return what the SDK would make of the output of a tool, as JSON: a value that is none becomes its text."""
    if isinstance(value, list):
        return [_output(each) for each in value]
    if isinstance(value, ToolOutputText | ToolOutputImage | ToolOutputFileContent):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, str | int | float | dict) or value is None:
        return encoded(value)
    return str(value)
