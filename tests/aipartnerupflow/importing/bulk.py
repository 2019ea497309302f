"""Writes many tasks with a predecessor's own models. Run by the Python of its environment: PACKAGE URL TREES TASKS."""

import datetime
import importlib
import sys
from typing import Any


def main(package: str, url: str, trees: int, tasks: int) -> None:
    factory: Any = importlib.import_module(f"{package}.core.storage.factory")
    models: Any = importlib.import_module(f"{package}.core.storage.sqlalchemy.models")
    session = factory.create_session(connection_string=url, async_mode=False)
    now = datetime.datetime.now(datetime.UTC)
    has_trees = hasattr(models.TaskModel, "task_tree_id")
    for tree in range(trees):
        for number in range(tasks):
            root_id, task_id = f"tree-{tree}", f"tree-{tree}-{number}" if number else f"tree-{tree}"
            failed = number == tasks - 1 and tree % 10 == 0
            session.add(
                models.TaskModel(
                    id=task_id,
                    parent_id=None if not number else f"tree-{tree}-{number // 10}" if number >= 10 else root_id,
                    user_id=f"user-{tree % 7}",
                    name=f"Step {number}",
                    status="failed" if failed else "completed",
                    priority=number % 4,
                    dependencies=[{"id": f"tree-{tree}-{number - 1}", "required": True}] if number > 1 else [],
                    inputs={"number": number, "text": "ä" * 100},
                    params={},
                    schemas={"method": "rest_executor"},
                    result=None if failed else {"number": number, "list": list(range(20))},
                    error="It broke" if failed else None,
                    progress=0 if failed else 1,
                    started_at=now,
                    completed_at=now,
                    has_children=0 < 10 * number < tasks or not number,
                    **({"task_tree_id": root_id} if has_trees else {}),
                )
            )
        session.commit()
    session.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
