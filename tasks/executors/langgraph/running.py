"""Runs a graph from its start or its last checkpoint to its end, or to a question. Imported only where it runs."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import orjson
from django.conf import settings
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableConfig, ensure_config
from langgraph.errors import GraphRecursionError, is_invalid_resume
from langgraph.types import Command, Interrupt, StateSnapshot
from langsmith import tracing_context
from pydantic import ValidationError

from aipartnerupflow.executors import Context, ExecutorError, Json, Parked, Reply, Stopped
from aipartnerupflow.executors.current import Current, enter_task
from aipartnerupflow.models import MARK
from llmkeys.redact import mask
from tasks.executors.langgraph.graphs import Graph, as_json, graph_at
from tasks.executors.langgraph.saver import StoredSaver, needs_history
from tasks.executors.llm.loading import model_table
from tasks.executors.states import STATES
from tasks.rules.forms import fault_of_form


class ModelCalls(BaseCallbackHandler):
    """Reports the usage of each call to `spent`. Calls by `run_clients` are recorded already."""

    run_inline = True

    def __init__(self, spent: Callable[[Json], None]) -> None:
        self._spent = spent
        self._begun: dict[UUID, Mapping[str, Any]] = {}

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, metadata: Json | None = None, **_: Any
    ) -> None:
        self._begun[run_id] = metadata or {}

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        begun = self._begun.pop(run_id, {})
        generation = response.generations[0][0] if response.generations and response.generations[0] else None
        message = generation.message if isinstance(generation, ChatGeneration) else None
        if not isinstance(message, AIMessage) or message.response_metadata.get("system_fingerprint") == MARK:
            return
        self._spent(_usage(message, begun))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._begun.pop(run_id, None)


def _usage(message: AIMessage, begun: Mapping[str, Any]) -> Json:
    used: Mapping[str, Any] = message.usage_metadata or {}
    model = "/".join(filter(None, (begun.get("ls_provider"), begun.get("ls_model_name"))))
    prompt, completion = used.get("input_tokens", 0), used.get("output_tokens", 0)
    cached = (used.get("input_token_details") or {}).get("cache_read") or 0
    return {
        "model": model,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": used.get("total_tokens", 0),
        "cached_tokens": cached,
        "reasoning_tokens": (used.get("output_token_details") or {}).get("reasoning") or 0,
        "cost_usd": cost_usd(model, prompt=prompt, completion=completion, cached=cached) if used else None,
        "agent": begun.get("langgraph_node"),
        "step": begun.get("langgraph_step"),
    }


def cost_usd(model: str, *, prompt: int, completion: int, cached: int) -> float | None:
    """Return the cost of so many tokens; None for a model whose price is unknown."""
    prices = model_table()
    price = prices.get(model) or prices.get(model.partition("/")[2]) or {}
    one, other = price.get("input_cost_per_token"), price.get("output_cost_per_token")
    if not isinstance(one, float) or not isinstance(other, float):
        return None
    of_cached = float(price.get("cache_read_input_token_cost", one))
    return round((prompt - cached) * one + cached * of_cached + completion * other, 10)


QUESTION_CHARACTERS: Final = 10_000
CONTINUE: Final = "continue"


def question_in(state: StateSnapshot, reply: Reply | None, *, is_stopped: bool) -> Parked | None:
    """Return the next question of the interrupted graph; None if all are answered, or if it is not interrupted.

    `is_stopped`: whether it is at a breakpoint, if it has neither ended nor an interrupt.

    The memo of a question has the answers so far, by the ids of the interrupts.
    """
    answers = _answers(reply)
    for interrupt in state.interrupts:
        if interrupt.id not in answers:
            return _question(interrupt, answers)
    if is_stopped and state.next and not state.interrupts and _breakpoint(state) not in answers:
        text = f"The graph stops at a breakpoint before {', '.join(map(repr, state.next))}. Continue?"
        return Parked(text, options=[CONTINUE], memo={"answers": answers, "interrupt": _breakpoint(state)})
    return None


def continuation(state: StateSnapshot, reply: Reply | None) -> Command[Any] | None:
    """Return what the graph continues with: the answers to its interrupts, or None where it was at work."""
    answers = _answers(reply)
    pending = {each.id: answers[each.id] for each in state.interrupts if each.id in answers}
    return Command(resume=pending) if pending else None


def may_be_stopped(graph: Graph, state: StateSnapshot) -> bool:
    """Return whether the graph may be at a breakpoint. After a crash, nothing else says it."""
    before = graph.interrupt_before_nodes
    return bool(graph.interrupt_after_nodes) or before == "*" or any(node in before for node in state.next)


def _answers(reply: Reply | None) -> Json:
    if reply is None:
        return {}
    answers: Json = reply.memo["answers"] | {reply.memo["interrupt"]: reply.answer}
    return answers


def _breakpoint(state: StateSnapshot) -> str:
    """Return the checkpoint at which the graph stops: the same breakpoint later is another question."""
    return str(state.config["configurable"]["checkpoint_id"])


def _question(interrupt: Interrupt, answers: Json) -> Parked:
    value = as_json(interrupt.value)
    memo = {"answers": answers, "interrupt": interrupt.id}
    asked: Json = value if isinstance(value, dict) else {}
    text = asked.get("question", value)
    options: Any = asked.get("options")
    schema = interrupt.response_schema
    if not isinstance(text, str):
        text = orjson.dumps(text, option=orjson.OPT_INDENT_2).decode()
    if isinstance(schema, dict) and fault_of_form(schema) is None:
        return Parked(text[:QUESTION_CHARACTERS], schema=schema, memo=memo)
    is_list = isinstance(options, Sequence) and not isinstance(options, str)
    is_choice = is_list and bool(options) and all(isinstance(option, str) and option for option in options)
    return Parked(text[:QUESTION_CHARACTERS], options=options if is_choice else None, memo=memo)


LINE_CHARACTERS: Final = 1_000
ERROR_CHARACTERS: Final = 500
INTERRUPT: Final = "__interrupt__"
NODE: Final = re.compile("During task with name '([^']*)'")


async def run(path: str, inputs: Json, context: Context, *, recursion_limit: int) -> Any:
    """Return the output of the graph. Raises ExecutorError, Parked, and Stopped with the state so far."""
    graph = await graph_at(path)
    if "context" in inputs and graph.context_schema is None:
        raise ExecutorError("inputs.context: the graph has no context_schema. Leave it out.", permanent=True)
    task = enter_task(context, caller=_node)
    context = task.context
    saver = StoredSaver(STATES.get(), keeps_history=needs_history(graph))
    await saver.load()
    config: RunnableConfig = {
        "configurable": {"thread_id": context.task_id},
        "recursion_limit": recursion_limit,
        "callbacks": [ModelCalls(context.spent)],
    }
    work = GraphRun(graph.copy({"checkpointer": saver}), inputs, context, config)
    with tracing_context(enabled=None if settings.APFLOW_LANGGRAPH.langsmith else False):
        try:
            return as_json(await work.to_its_end(is_begun=not saver.is_empty))
        except GraphRecursionError:
            raise ExecutorError(
                f"The graph did not end in {recursion_limit} steps. Raise inputs.recursion_limit, or give the graph an end.",
                permanent=True,
            ) from None
        except asyncio.CancelledError:
            raise Stopped(result=work.so_far()) from None
        except (ExecutorError, Parked):
            raise
        except Exception as error:  # the operator's code may raise anything
            raise _failure(error, task) from error


def _node() -> tuple[str | None, int | None]:
    """Return the node that calls a model, and its step."""
    metadata = ensure_config().get("metadata", {})
    return metadata.get("langgraph_node"), metadata.get("langgraph_step")


class GraphRun:
    """One attempt at the graph, whose checkpointer is set."""

    def __init__(self, graph: Graph, inputs: Json, context: Context, config: RunnableConfig) -> None:
        self._graph = graph
        self._inputs = inputs
        self._context = context
        self._config = config
        self._ended: set[str] = set()
        self._output: Any = None

    async def to_its_end(self, *, is_begun: bool) -> Any:
        """Return its output. Raises Parked, and what its nodes raise."""
        begin = self._inputs["input"]
        if is_begun:
            state = await self._graph.aget_state(self._config)
            is_stopped = may_be_stopped(self._graph, state)
            if (question := question_in(state, self._context.reply, is_stopped=is_stopped)) is not None:
                raise question
            if not state.next:  # a worker died between its last checkpoint and the end of the task
                values: Any = state.values
                channels: Any = self._graph.output_channels
                if isinstance(channels, str) or not isinstance(values, dict):
                    return values
                return {name: values[name] for name in channels if name in values}
            begin = continuation(state, self._context.reply)
        try:
            await self._stream(begin)
        except ValidationError as error:
            state = await self._graph.aget_state(self._config)
            question = question_in(state, None, is_stopped=False) if is_invalid_resume(error) else None
            if question is None:
                raise
            question.question = f"The last answer does not fit: {error.errors()[0]['msg']}. {question.question}"
            raise question from None
        state = await self._graph.aget_state(self._config)
        if (question := question_in(state, None, is_stopped=True)) is not None:
            raise question
        return self._output

    def so_far(self) -> Any:
        """Return the output of the last step as JSON; None without one."""
        try:
            return as_json(self._output)
        except ExecutorError:
            return None

    async def _stream(self, begin: Any) -> None:
        parts: AsyncIterator[Any] = self._graph.astream(
            begin,
            self._config,
            context=self._inputs.get("context"),
            stream_mode=["updates", "values", "custom"],
            subgraphs=True,
            durability="sync",
        )
        async for within, mode, part in parts:
            match mode:
                case "values" if not within:
                    self._output = part
                case "updates":
                    around = [each.partition(":")[0] for each in within]
                    for node in part:
                        if node == INTERRUPT:
                            continue
                        ended = f"{'/'.join([*around, node])} completed"
                        self._context.log(ended)
                        if not within:
                            self._ended.add(node)
                            done = len(self._ended) / max(1, len(self._graph.nodes))
                            self._context.report(min(0.99, done), ended)
                case "custom":
                    self._context.log(str(part)[:LINE_CHARACTERS])


def _failure(error: Exception, task: Current) -> ExecutorError:
    """Return what was raised, and in which node, which LangGraph notes; of a model call that failed, why it did."""
    where = next((found[1] for note in getattr(error, "__notes__", ()) if (found := NODE.search(note))), None)
    place = f" (in the node '{where}' of the graph)" if where else ""
    if call := task.failure_in(error):
        return ExecutorError(f"{call}{place}", permanent=call.permanent, retry_after_seconds=call.retry_after_seconds)
    cause = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    text = f"{type(error).__name__}: {error}"
    if cause is not error:
        text += f" Its cause is {type(cause).__name__}: {cause}"
    shown = text if len(text) <= ERROR_CHARACTERS else f"{text[:ERROR_CHARACTERS]}…"
    return ExecutorError(f"The graph failed: {mask(shown)}{place}")
