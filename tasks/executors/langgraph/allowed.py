"""The graphs that tasks may run: those that the operator lists, and no others."""

from difflib import get_close_matches

from django.conf import settings

from aipartnerupflow.executors import ExecutorError


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
