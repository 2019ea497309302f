"""Trees as clients send them, and what becomes a `TreeSpec` of them."""

from typing import Any

from tasks.rules.specs import TreeSpec, parse_tree

EXECUTORS = ("echo_executor", "rest_executor", "system_info_executor", "aggregate_results_executor")
DISABLED = {"crewai_executor": "pip install 'crewai<2,>=1.15'"}
Json = dict[str, Any]


def parse(tasks: object, **options: Any) -> TreeSpec:
    return parse_tree(tasks, executors=EXECUTORS, disabled=DISABLED, **options)


def task(task_id: str, *needs: object, parent: str | None = "root", **fields: object) -> Json:
    """A task that runs `echo_executor`."""
    return {"id": task_id, "name": "echo_executor", "parent_id": parent, "dependencies": [*needs], **fields}


def group(task_id: str, *needs: object, parent: str | None = "root") -> Json:
    return task(task_id, *needs, parent=parent, name=f"group {task_id}")


ROOT = group("root", parent=None)
