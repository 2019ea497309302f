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
        count, names = len(results), ", ".join([*results][:10])
        more = f" and {count - 10} more" if count > 10 else ""  # one line even for thousands
        summary = f"{count} result{'s' if count > 1 else ''}: {names}{more}."
        if not results:
            summary = "No results: the task has no completed dependencies."
        return {"results": results, "summary": summary, "count": count}
