"""Agents of Pydantic AI in workflows: each model request and each tool call is a step, so that none is repeated after a crash.

    agent = Agent(RunModel("gpt-4o-mini"), name="support", tools=[weather], capabilities=[Durable()])

    @workflow
    async def answer(question: str) -> str:
        return (await agent.run(question)).output

Outside of a workflow, an agent with `Durable` works as one without.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, TypeVar, cast

from pydantic_ai.agent import Agent, EventStreamHandler
from pydantic_ai.capabilities.abstract import WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    BoundDurableOperation,
    DurabilityEngineSpec,
    DurableOperation,
    DurableOperationBackend,
    DynamicToolsetCallToolParams,
    JournalOperationNamer,
    ModelRequestId,
    ModelRequestParams,
    ToolsetCallToolParams,
    conversation_id_from_run_id,
    durable_unit_scope,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    BinaryContent,
    FinishReason,
    ImageUrl,
    ModelMessage,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.run import AgentRunResult
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import AgentDepsT, RunContext
from pydantic_ai.toolsets import ToolsetTool
from pydantic_ai.usage import RequestUsage
from pydantic_core import to_jsonable_python

from aipartnerupflow.executors import ExecutorError, Json, Stopped
from aipartnerupflow.executors.current import current as current_task
from aipartnerupflow.workflows.calls import uuid
from aipartnerupflow.workflows.drive import current
from aipartnerupflow.workflows.functions import local_step
from aipartnerupflow.workflows.loop import Inline

Params = TypeVar("Params")
Wire = TypeVar("Wire")
Result = TypeVar("Result")
METADATA: Final = "aipartnerupflow"
INLINE: Final = Inline()
OPTIONS: Final = frozenset({"idempotent", "retries", "timeout"})
SHORT: Final = 8
"""The characters of a run's id that are in the ids of its steps."""


def _not_stored(error: Exception) -> ExecutorError:
    return ExecutorError(f"A result that an agent got cannot be stored: {error}", permanent=True)


class Durable(BaseDurabilityCapability[AgentDepsT]):
    """A capability of an agent: within a workflow its model requests and tool calls are steps.

    `retries` and `timeout`, in seconds, are those of model requests. A tool has its own in its metadata:
    `Tool(charge, metadata={"aipartnerupflow": {"retries": 2, "timeout": 60, "idempotent": True}})`; with False instead of these, it runs
    as part of the code of the workflow, again in each replay. `models` are further models by name, for `agent.run(model=…)`.
    """

    engine_spec: ClassVar[DurabilityEngineSpec] = DurabilityEngineSpec(
        engine_name="aipartnerupflow",
        durable_unit_noun="step",
        durable_container_noun="workflow",
        codec=JSON_CODEC,
        serialization_failure=_not_stored,
        toolset_lifecycles={"function": "enter-always", "mcp": "enter-outside-durable", "dynamic": "enter-never"},
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        tool_config_key=METADATA,
    )

    def __init__(
        self,
        *,
        name: str | None = None,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        retries: int | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        given = {"retries": retries, "timeout": timeout, "idempotent": True}
        self._options: Json = {name: value for name, value in given.items() if value is not None}

    @property
    def in_durable_context(self) -> bool:
        return current() is not None

    def get_durable_operation_backend(self) -> DurableOperationBackend[Any]:
        return _Backend(self.name, self._options)

    def get_default_run_id(self) -> str | None:
        return str(uuid()) if self.in_durable_context else None

    def get_default_conversation_id(self, run_id: str) -> str | None:
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    def get_run_clock(self) -> Callable[[], datetime] | None:
        drive = current()
        return None if drive is None else lambda: drive.now

    async def wrap_run(self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        if not self.in_durable_context:
            return await handler()
        # Plain functions that are no tools, such as output validators, are code of the workflow.
        with Agent.using_thread_executor(INLINE):
            return await super().wrap_run(ctx, handler=handler)


class _Backend(DurableOperationBackend[Any]):
    """Makes a step of each operation of one agent. `options` are those of all but tools."""

    def __init__(self, agent: str, options: Json) -> None:
        self.agent, self.options = agent, options

    def bind(self, operation: DurableOperation[Params, Wire, Result]) -> BoundDurableOperation[Params, Wire, Result]:
        return _Operation(self, operation)

    def config_for_tool(
        self, operation: DurableOperation[Params, Wire, Result], *, tool: object | None, tool_name: str
    ) -> Json | Literal[False]:
        found = ((tool.tool_def.metadata or {}) if isinstance(tool, ToolsetTool) else {}).get(METADATA, {})
        if found is False:
            return False
        if not isinstance(found, dict) or (unknown := sorted(found.keys() - OPTIONS)):
            what = f"'{unknown[0]}'" if isinstance(found, dict) else repr(found)
            raise UserError(
                f"The tool '{tool_name}' has {what} in its metadata '{METADATA}'. Known are {', '.join(sorted(OPTIONS))}; False makes no step of it."
            )
        return found

    def registrations(self) -> Sequence[Callable[..., object]]:
        return ()


class _Operation(BoundDurableOperation[Params, Wire, Result]):
    def __init__(self, backend: _Backend, operation: DurableOperation[Params, Wire, Result]) -> None:
        self.backend, self._operation = backend, operation

    @property
    def operation(self) -> DurableOperation[Params, Wire, Result]:
        return self._operation

    async def __call__(self, params: Params, *, config: object | None = None) -> Result:
        operation, agent, drive = self._operation, self.backend.agent, current()
        of_params: Any = params
        context_name = "ctx" if hasattr(params, "ctx") else "run_context"
        context: RunContext[Any] | None = getattr(params, context_name, None)
        if context is not None:  # what a step adds to the usage would not be there in a replay
            of_params = replace(of_params, **{context_name: replace(context, usage=copy(context.usage))})

        async def work() -> object:
            with durable_unit_scope():
                return operation.result_codec.dump(await operation.handler(of_params))

        if drive is None:
            return operation.result_codec.load(await work())
        run = str(context.run_id if context is not None else "")[:SHORT]
        inputs: Json = {"agent": agent}
        options = config if isinstance(config, dict) else self.backend.options
        if isinstance(params, ModelRequestParams) and isinstance(operation.operation_id, ModelRequestId):
            name, key = "model", f"{run}-{drive.number(f'model {run}')}"
            options = options | {"name": f"{agent}: {operation.operation_id.model_name}"}
            inputs |= {"messages": list(_asked(params.messages))}
        elif isinstance(params, ToolsetCallToolParams | DynamicToolsetCallToolParams):
            operation_name = JournalOperationNamer(agent).operation_name(operation.operation_id)
            name = params.name if operation_name.endswith(".call_tool") else f"{params.name} check"
            call_id = str(context.tool_call_id if context is not None else "")
            again = drive.number(f"{name} {run} {call_id}")
            key = f"{run}-{call_id}" + (f"-{again}" if again > 1 else "")
            inputs |= {"arguments": _shown(params.tool_args), "tool_call_id": call_id}
        else:
            name = JournalOperationNamer(agent).operation_name(operation.operation_id).removeprefix(f"{agent}__")
            key = f"{run}-{drive.number(f'{name} {run}')}"
        payload = await local_step(f"pydantic_ai:{name.replace('.', '_')}", work, inputs=inputs, key=key, **options)
        return operation.result_codec.load(payload)


def _asked(messages: Sequence[ModelMessage]) -> Iterator[Json]:
    """Yield what is new in the last message, without times: what the model has answered before is in other steps."""
    for part in messages[-1].parts if messages else ():
        if (content := getattr(part, "content", None)) is not None:
            tool = getattr(part, "tool_name", None)
            yield {"kind": part.part_kind, "content": _shown(content)} | ({} if tool is None else {"tool": tool})


def _shown(value: Any) -> Any:
    """Return the value as JSON: of a file, its identifier."""
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    if (identifier := getattr(value, "identifier", None)) is not None:
        return {"file": identifier}
    return to_jsonable_python(value, fallback=lambda other: type(other).__qualname__)


class RunModel(Model[Any]):
    """A model that is called with the LLM key of the run: its budgets apply, its calls are recorded, and its words are events.

    The name is `provider/name`; without a provider it is one of OpenAI. It works only while a task is at work, as in a step.
    """

    unsupported_settings = frozenset({"extra_body", "extra_headers", "max_retries"})

    def __init__(
        self, name: str, *, settings: ModelSettings | None = None, profile: ModelProfile | None = None
    ) -> None:
        super().__init__(settings=settings, profile=profile or ModelProfile(supports_json_schema_output=True))
        self._name = name

    @property
    def model_name(self) -> str:
        return self._name

    @property
    def system(self) -> str:
        return self._name.partition("/")[0] if "/" in self._name else "openai"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        settings, parameters = self.prepare_request(model_settings, model_request_parameters)
        task, options = current_task(), _options(settings or {}, parameters)
        instructions = "\n\n".join(part.content for part in parameters.instruction_parts or ())
        said = [{"role": "system", "content": instructions}] if instructions else []
        try:
            answer = await task.run(
                task.context.llm(
                    [*said, *(each for message in messages for each in _chat(message))],
                    model=self._name if "/" in self._name else f"openai/{self._name}",
                    tools=[_tool(tool) for tool in parameters.declared_tool_defs.values()],
                    **options,
                )
            )
        except Stopped:
            raise asyncio.CancelledError from None
        parts: list[ModelResponsePart] = [TextPart(answer["content"])] if answer["content"] else []
        for call in answer["tool_calls"]:
            function, ids = call["function"], {"tool_call_id": call["id"]} if call.get("id") else {}
            parts.append(ToolCallPart(function["name"], function["arguments"], **ids))
        usage, reason = answer["usage"], answer["finish_reason"]
        return ModelResponse(
            parts=parts,
            model_name=answer["model"],
            usage=RequestUsage(
                input_tokens=usage.get("prompt_tokens") or 0,
                output_tokens=usage.get("completion_tokens") or 0,
                cache_read_tokens=usage.get("cached_tokens") or 0,
            ),
            provider_response_id=answer["provider_id"],
            finish_reason=cast(FinishReason, {"tool_calls": "tool_call"}.get(reason, reason)),
        )


def _options(settings: ModelSettings, parameters: ModelRequestParameters) -> Json:
    given: Json = {"stop": settings.get("stop_sequences"), **settings}
    names = (
        *("max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty"),
        *("logit_bias", "service_tier", "tool_choice", "timeout"),
        *(("parallel_tool_calls",) if parameters.declared_tool_defs else ()),
    )
    options = {name: given[name] for name in names if given.get(name) is not None}
    if parameters.declared_tool_defs and not parameters.allow_text_output:
        options.setdefault("tool_choice", "required")
    if parameters.output_mode == "native" and (wanted := parameters.output_object) is not None:
        schema: Json = {"name": wanted.name or "answer", "schema": wanted.json_schema}
        more: Json = {"description": wanted.description, "strict": wanted.strict}
        schema |= {name: value for name, value in more.items() if value is not None}
        options["response_format"] = {"type": "json_schema", "json_schema": schema}
    return options


def _tool(tool: Any) -> Json:
    function = {"name": tool.name, "description": tool.description or "", "parameters": tool.parameters_json_schema}
    return {"type": "function", "function": function | ({} if tool.strict is None else {"strict": tool.strict})}


def _chat(message: ModelMessage) -> Iterator[Json]:
    """Yield the message in OpenAI's format of chats. Raises UserError for a part that it has no form for."""
    if isinstance(message, ModelResponse):
        calls = [
            {
                "id": part.tool_call_id,
                "type": "function",
                "function": {"name": part.tool_name, "arguments": part.args_as_json_str()},
            }
            for part in message.parts
            if isinstance(part, ToolCallPart)
        ]
        text = "\n\n".join(part.content for part in message.parts if isinstance(part, TextPart))
        if text or calls:
            yield {"role": "assistant", "content": text or None} | ({"tool_calls": calls} if calls else {})
        return
    files: list[UserContent] = []
    for part in message.parts:
        match part:
            case SystemPromptPart():
                yield {"role": "system", "content": part.content}
            case UserPromptPart(content=str()):
                yield {"role": "user", "content": part.content}
            case UserPromptPart():
                yield {"role": "user", "content": [_content(item) for item in part.content]}
            case ToolReturnPart():
                text, more = part.model_response_str_and_user_content()
                files += more
                yield {"role": "tool", "tool_call_id": part.tool_call_id, "content": text}
            case _:
                raise UserError(f"RunModel sends no {part.part_kind}. Use a model of pydantic_ai.models.")
    if files:
        yield {"role": "user", "content": [_content(item) for item in files]}


def _content(item: UserContent) -> Json:
    match item:
        case str():
            return {"type": "text", "text": item}
        case TextContent():
            return {"type": "text", "text": item.content}
        case ImageUrl():
            return {"type": "image_url", "image_url": {"url": item.url}}
        case BinaryContent() if item.is_image:
            return {"type": "image_url", "image_url": {"url": item.data_uri}}
    raise UserError(
        f"RunModel sends texts and images, and no {type(item).__name__}. Use a model of pydantic_ai.models."
    )
