"""Runs a graph from its start or its last checkpoint to its end, or to a question. Imported only where it runs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from django.conf import settings
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langsmith import tracing_context

from aipartnerupflow.executors import Context, ExecutorError, Json, Parked, Stopped
from llmkeys.redact import mask
from tasks.executors.langgraph.graphs import Graph, graph_at
from tasks.executors.langgraph.questions import continuation, may_be_stopped, question_in
from tasks.executors.langgraph.results import as_json
from tasks.executors.langgraph.saver import StoredSaver, needs_history
from tasks.executors.states import STATES

LINE_CHARACTERS: Final = 1_000
ERROR_CHARACTERS: Final = 500
INTERRUPT: Final = "__interrupt__"


async def run(path: str, inputs: Json, context: Context, *, recursion_limit: int) -> Any:
    """Return the output of the graph. Raises ExecutorError, Parked, and Stopped with the state so far."""
    graph = await graph_at(path)
    if "context" in inputs and graph.context_schema is None:
        raise ExecutorError("inputs.context: the graph has no context_schema. Leave it out.", permanent=True)
    saver = StoredSaver(STATES.get(), keeps_history=needs_history(graph))
    await saver.load()
    config: RunnableConfig = {"configurable": {"thread_id": context.task_id}, "recursion_limit": recursion_limit}
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
            raise ExecutorError(f"The graph failed: {_said(error)}") from error


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
        await self._stream(begin)
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


def _said(error: Exception) -> str:
    """What was raised, and in which node: LangGraph notes it."""
    text = f"{type(error).__name__}: {error}"
    shown = text if len(text) <= ERROR_CHARACTERS else f"{text[:ERROR_CHARACTERS]}…"
    where = next(
        (note.partition(" and id")[0] for note in getattr(error, "__notes__", ()) if "task with name" in note), ""
    )
    return mask(f"{shown} ({where})" if where else shown)
