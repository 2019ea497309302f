from dataclasses import replace
from typing import Any

import pytest

from aipartnerupflow.executors import Context
from tasks.executors.aggregate import AggregateResults


@pytest.mark.parametrize(
    ("dependency_results", "summary"),
    [
        ({}, "No results: the task has no completed dependencies."),
        ({"a": {"n": 1}}, "1 result: a."),
        ({"b": None, "a": [1]}, "2 results: b, a."),
        ({f"t{i}": i for i in range(12)}, "12 results: t0, t1, t2, t3, t4, t5, t6, t7, t8, t9 and 2 more."),
    ],
)
async def test_the_results_of_the_dependencies_are_gathered(
    dependency_results: dict[str, Any], summary: str, context: Context
) -> None:
    context = replace(context, dependency_results=dependency_results)
    result = await AggregateResults().execute({"own": "input"}, context)
    assert result == {"results": dependency_results, "summary": summary, "count": len(dependency_results)}
