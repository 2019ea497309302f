"""Collects the results of a task's dependencies: the usual root of a tree."""

from typing import ClassVar

from aipartnerupflow.executors import Context, Executor, Json


class AggregateResults(Executor):
    """Returns one object with the result of each completed dependency."""

    id = "aggregate_results_executor"
    name = "Aggregate results"
    description = "Combines the results of its dependencies in one object, keyed by dependency id."
    tags = ("core",)
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "results": {"type": "object", "description": "The result of each dependency, by its id"},
            "summary": {"type": "string", "description": "The number of results, and their names"},
            "count": {"type": "integer", "description": "The number of results"},
        },
        "required": ["results", "summary", "count"],
    }
    param_names = frozenset()
    example_result: ClassVar[Json] = {
        "results": {"cpu": {"used_percent": 12.5}},
        "summary": "1 result: cpu.",
        "count": 1,
    }

    async def execute(self, inputs: Json, context: Context) -> Json:
        results = dict(context.dependency_results)
        return {"results": results, "summary": _summary(list(results)), "count": len(results)}


def _summary(ids: list[str]) -> str:
    """Return the number of results and the first ten ids: one line even for thousands."""
    if not ids:
        return "No results: the task has no completed dependencies."
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return f"{len(ids)} result{'s' if len(ids) > 1 else ''}: {', '.join(ids[:10])}{more}."
