"""Runs a graph of the operator's that is written with LangGraph."""

from difflib import get_close_matches
from typing import Any, ClassVar, Final

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json
from tasks.executors.llm.loading import load
from tasks.rules.places import has_places
from tasks.rules.pools import LOOP, PROCESS, THREAD


def path_of(graph: str) -> str:
    """Return `package.module:graph` of a graph by its name, or by just that path.

    Raises ExecutorError, permanent, for one that the operator does not list.
    """
    graphs = settings.APFLOW_LANGGRAPH.graphs or {}
    if graph in graphs:
        return graphs[graph]
    if graph in graphs.values():
        return graph
    close = get_close_matches(graph[:100], sorted(graphs))
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ExecutorError(
        f"inputs.graph: there is no graph '{graph[:100]}'.{hint} The operator lists graphs in executors.langgraph.graphs.",
        permanent=True,
    )


MOST_STEPS: Final = 10_000
STEPS: Final = 100


class LangGraph(Executor):
    """Runs the graph node by node. Its checkpoints are stored, and its interrupts are questions of the task."""

    id = "langgraph_executor"
    name = "LangGraph graph"
    description = (
        "Runs a LangGraph graph that the operator offers. Each node's end is a log line, an interrupt is a question, and after a crash "
        "the graph continues at its last checkpoint."
    )
    tags = ("ai", "llm", "agents")
    extra = "langgraph"
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "graph": {
                "type": "string",
                "minLength": 1,
                "description": "The name of a graph, or its path `package.module:graph`, as the operator lists it",
            },
            "input": {"description": "The graph's input: for a StateGraph, an object with fields of its state"},
            "context": {"type": "object", "description": "The runtime context of a graph that has a context_schema"},
            "recursion_limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MOST_STEPS,
                "default": STEPS,
                "description": "The number of steps that the graph may take",
            },
        },
        "required": ["graph", "input"],
    }
    result_schema: ClassVar[Json] = {
        "description": "The output of the graph as JSON: for a StateGraph, its final state. Messages are objects with `type` and `content`"
    }
    secret_inputs = frozenset()
    example: ClassVar[Json] = {"graph": "support", "input": {"messages": [{"role": "user", "content": "Hello"}]}}
    example_result: ClassVar[Json] = {
        "messages": [
            {"type": "human", "content": "Hello", "id": "1"},
            {"type": "ai", "content": "Hello! How can I help you?", "id": "2"},
        ]
    }
    pool = "process"

    def pool_for(self, inputs: Json) -> str:
        """Graphs may block, so without places for processes they run on threads."""
        return PROCESS if settings.APFLOW.pools.process.size else THREAD

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        if params.get("pool") == LOOP:
            raise ExecutorError(
                "params.pool: a graph may block, so it cannot run on the loop. Choose 'process' or 'thread'.",
                permanent=True,
            )
        graph = inputs.get("graph")
        if isinstance(graph, str) and not has_places(graph):
            path_of(graph)

    async def execute(self, inputs: Json, context: Context) -> Any:
        run = await load("tasks.executors.langgraph.running.run")
        return await run(
            path_of(inputs["graph"]), inputs, context, recursion_limit=inputs.get("recursion_limit", STEPS)
        )
