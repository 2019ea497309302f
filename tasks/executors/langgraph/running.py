"""Runs a graph from its start or its last checkpoint to its end, or to a question. Imported only where it runs."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, Final

from django.conf import settings
from langchain_core.runnables import RunnableConfig, ensure_config
from langgraph.errors import GraphRecursionError, is_invalid_resume
from langsmith import tracing_context
from pydantic import ValidationError

from aipartnerupflow.executors import Context, ExecutorError, Json, Parked, Stopped
from aipartnerupflow.executors.current import Current, enter_task
from llmkeys.redact import mask
from tasks.executors.langgraph.graphs import Graph, graph_at
from tasks.executors.langgraph.model_calls import ModelCalls
from tasks.executors.langgraph.questions import continuation, may_be_stopped, question_in
from tasks.executors.langgraph.results import as_json
from tasks.executors.langgraph.saver import StoredSaver, needs_history
from tasks.executors.states import STATES

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
                return self._output_in(state.values)
            begin = continuation(state, self._context.reply)
        try:
            await self._stream(begin)
        except ValidationError as error:
            raise await self._asked_again(error) from None
        state = await self._graph.aget_state(self._config)
        if (question := question_in(state, None, is_stopped=True)) is not None:
            raise question
        return self._output

    async def _asked_again(self, error: ValidationError) -> Exception:
        """Return the question whose answer does not fit; the error itself if it has another cause."""
        state = await self._graph.aget_state(self._config)
        question = question_in(state, None, is_stopped=False) if is_invalid_resume(error) else None
        if question is None:
            return error
        question.question = f"The last answer does not fit: {error.errors()[0]['msg']}. {question.question}"
        return question

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
                    self._updated(within, part)
                case "custom":
                    self._context.log(str(part)[:LINE_CHARACTERS])

    def _updated(self, within: tuple[str, ...], part: Json) -> None:
        """Report the nodes that have ended."""
        around = [each.partition(":")[0] for each in within]
        for node in part:
            if node == INTERRUPT:
                continue
            name = "/".join([*around, node])
            self._context.log(f"{name} completed")
            if not within:
                self._ended.add(node)
                self._context.report(min(0.99, len(self._ended) / max(1, len(self._graph.nodes))), f"{name} completed")

    def _output_in(self, values: Any) -> Any:
        channels = self._graph.output_channels
        if isinstance(channels, str) or not isinstance(values, dict):
            return values
        return {name: values[name] for name in channels if name in values}


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
