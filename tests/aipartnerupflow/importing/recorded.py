"""The databases that the real packages wrote, and what their tasks must be here."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from aipartnerupflow.cli.importing import downloaded
from aipartnerupflow.importing.importer import Report, import_source
from aipartnerupflow.importing.sources import Source, open_source
from tasks.models import Task
from tests.aipartnerupflow.importing.predecessors import DATABASES, PREDECESSORS, Json
from tests.aipartnerupflow.importing.replay import answering
from tests.servers import new_database

NAMES: Final = [each.name for each in PREDECESSORS]
KINDS: Final = ["duckdb", "url"] + (["postgresql"] if os.environ.get("TEST_ENGINE") == "postgres" else [])
"""Only the tests on PostgreSQL have a server for a database of the predecessor."""
TABLE: Final = "apflow_tasks"
OF_LINKS: Final = ("inputs", "params", "schemas", "result", "error")
SAME: Final = ("id", "parent_id", "name", "priority", "result", "progress", "has_children")
TIMES: Final = ("created_at", "started_at", "updated_at")


def tasks_of(name: str, kind: str = "duckdb") -> list[Json]:
    """The tasks as the predecessor's server showed them."""
    suffix = ".sql.json" if kind == "postgresql" else ".json"
    found: list[Json] = json.loads((DATABASES / f"{name}{suffix}").read_text())
    return found


@contextmanager
def recorded(name: str, kind: str = "duckdb") -> Iterator[Source]:
    """Open a database of the predecessor, or a running server with the same tasks."""
    if kind == "url":
        with answering(tasks_of(name)) as (url, _), downloaded(url, None) as source:
            yield source
    elif kind == "postgresql":
        with new_database(is_bare=True) as url:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute((DATABASES / f"{name}.sql").read_bytes())
            with open_source(url.replace("postgresql://", "postgresql+asyncpg://"), table=TABLE) as source:
                yield source
    else:
        with open_source(str(DATABASES / f"{name}.duckdb"), table=TABLE) as source:
            yield source


def imported(source: Source, *, dry_run: bool = False, user: str = "local") -> Report:
    advanced: list[int] = []
    report = import_source(source, default_user=user, dry_run=dry_run, advance=advanced.append)
    assert sum(advanced) == source.count()
    return report


def assert_same(old: list[Json], *, default_user: str = "local") -> None:
    """Check that exactly these tasks are here, with all that the predecessor knew of them."""
    expected = {task["id"]: _expected(task, {each["id"]: each for each in old}, default_user) for task in old}
    assert {task.id: _found(task) for task in Task.objects.all()} == expected


def _expected(task: Json, old: dict[str, Json], default_user: str) -> Json:
    if task.get("origin_type") == "link":
        task = task | {name: old[task["original_task_id"]][name] for name in OF_LINKS}
    was_running = task["status"] == "in_progress"
    return {
        **{name: task[name] for name in SAME},
        **{name: _moment(task[name]) for name in TIMES},
        "completed_at": _moment(task["updated_at" if was_running else "completed_at"]),
        "user_id": task["user_id"] or default_user,
        "status": "failed" if was_running else task["status"],
        "inputs": task["inputs"] or {},
        "params": task["params"],
        "schemas": task["schemas"],
        "dependencies": sorted(map(_dependency, task["dependencies"] or [])),
        "original_task_id": task["original_task_id"],
        "has_copy": task.get("has_copy", False) or task.get("has_references", False),
        "has_error": was_running or bool(task["error"]),
    }


def _found(task: Task) -> Json:
    return {
        **{name: getattr(task, name) for name in (*SAME, *TIMES, "completed_at", "user_id", "status", "inputs")},
        **{name: getattr(task, name) for name in ("params", "schemas", "original_task_id", "has_copy")},
        "dependencies": sorted((item["id"], item["required"]) for item in task.dependencies),
        "has_error": task.error is not None,
    }


def _dependency(given: Any) -> tuple[str, bool]:
    return (given["id"], given.get("required", True)) if isinstance(given, dict) else (given, True)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
