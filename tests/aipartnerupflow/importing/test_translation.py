"""Rows of the predecessor's tables, one value at a time. Those of `row` are what the real packages store."""

from datetime import UTC, datetime
from typing import Any

import pytest

from aipartnerupflow.importing.importer import CannotStore, translate
from tasks.services.trees.imports import State
from tests.servers import Json


def row(**values: Any) -> dict[str, str | None]:
    given = {
        "id": "one",
        "parent_id": None,
        "user_id": None,
        "name": "One",
        "status": "pending",
        "priority": "1",
        "dependencies": "null",
        "inputs": "{}",
        "params": "null",
        "result": "null",
        "error": None,
        "schemas": '{"method": "echo_executor"}',
        "progress": "0.00",
        "created_at": "2026-01-02 03:04:05.6789+00",
        "started_at": None,
        "updated_at": "2026-01-02 03:04:05.6789+00",
        "completed_at": None,
        "has_children": "false",
        "original_task_id": None,
    }
    return given | values


def task(**values: Any) -> Json:
    return translate([row(**values)])[0].tasks[0]


def state(**values: Any) -> State:
    return translate([row(**values)])[0].states["one"]


def test_what_is_null_is_left_to_our_defaults() -> None:
    assert task() == {
        "id": "one",
        "name": "One",
        "priority": 1,
        "inputs": {},
        "schemas": {"method": "echo_executor"},
    }


@pytest.mark.parametrize(
    ("stored", "dependencies"),
    [
        ('["a", "b"]', [{"id": "a"}, {"id": "b"}]),
        ('[{"id": "a", "required": false, "type": "result"}]', [{"id": "a", "required": False}]),
        ('[{"name": "a"}, {"id": "a", "name": "x"}]', [{"id": "a"}]),
        ('[{"id": "a", "required": false}, "a"]', [{"id": "a"}]),
        ('["a", {"id": "a", "required": false}]', [{"id": "a"}]),
        ("[]", []),
    ],
)
def test_each_dependency_is_named_once(stored: str, dependencies: list[Json]) -> None:
    assert task(dependencies=stored)["dependencies"] == dependencies


@pytest.mark.parametrize(
    ("stored", "moment"),
    [
        ("2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.600+02:00", datetime(2026, 1, 2, 1, 4, 5, 600_000, tzinfo=UTC)),
        ("2026-01-02 03:04:05.6789+00", datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)),
    ],
)
def test_times_without_a_zone_are_in_utc(stored: str, moment: datetime) -> None:
    assert state(created_at=stored).created_at == moment


def test_a_task_in_progress_is_imported_as_failed() -> None:
    interrupted = state(status="in_progress", updated_at="2026-02-03 00:00:00")
    assert (interrupted.status, interrupted.completed_at) == ("failed", datetime(2026, 2, 3, tzinfo=UTC))
    assert str(interrupted.error).startswith("Interrupted:")


@pytest.mark.parametrize(
    ("status", "stored", "error"),
    [
        ("failed", "It\0broke", "It\ufffdbroke"),
        ("failed", "", "The task failed before it was imported. The server that ran it stored no reason."),
        ("completed", "", None),
        ("cancelled", "Enough", "Enough"),
    ],
)
def test_a_failed_task_has_an_error(status: str, stored: str, error: str | None) -> None:
    assert state(status=status, error=stored).error == error


@pytest.mark.parametrize(
    ("stored", "progress"), [("0.25", 0.25), ("1.50", 1.0), ("-1", 0.0), ("NaN", 0.0), (None, 0.0)]
)
def test_progress_is_between_0_and_1(stored: str | None, progress: float) -> None:
    assert state(progress=stored).progress == progress


@pytest.mark.parametrize(
    ("column", "stored", "reason"),
    [
        ("status", "paused", "its status 'paused' does not exist here"),
        ("result", '{"x": NaN}', "result cannot be stored. The body is not JSON"),
        ("result", '"\\u0000"', "NUL"),
        ("inputs", '{"x": 123456789012345678901}', "does not fit into 64 bits"),
        ("inputs", '{"x": "\\ud800"}', "inputs cannot be stored"),
        ("params", "[" * 65 + "]" * 65, "nested deeper than 64 levels"),
        ("name", "a\0b", "name contains the character NUL"),
        ("created_at", "yesterday", "created_at is not a time: 'yesterday'"),
    ],
)
def test_a_value_that_cannot_be_stored_is_named(column: str, stored: str, reason: str) -> None:
    with pytest.raises(CannotStore, match="Task 'one': ") as refused:
        translate([row(**{column: stored})])
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("values", "text", "fields"),
    [
        ({"priority": "9"}, "Priorities are 0 to 3 here.", {"priority": "9"}),
        (
            {"origin_type": "link", "original_task_id": "gone", "linked_id": None},
            "It is linked to task 'gone', which does not exist: it has no inputs and no result.",
            {},
        ),
        ({"status": "in_progress"}, "It was in progress, and is imported as failed.", {}),
        (
            {"project_id": "p1", "labels": "[]", "run_count": "7", "max_runs": None},
            "This server does not have these fields of a task.",
            {"project_id": "p1"},
        ),
    ],
)
def test_what_changes_is_noted(values: dict[str, Any], text: str, fields: dict[str, str]) -> None:
    _, (note,) = translate([row(**values)])
    assert (note.task_id, note.text, note.fields) == ("one", text, fields)


def test_priorities_beyond_ours_become_the_nearest() -> None:
    assert [task(priority=given)["priority"] for given in ("-1", "2", "9", None)] == [0, 2, 3, 2]
