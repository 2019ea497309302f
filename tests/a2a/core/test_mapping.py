from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from a2a.core.mapping import TreeFacts, a2a_task, a2a_update, facts_of, native_task, native_tree
from tasks.models import Run, Task
from tasks.status import Status

NOON = datetime(2026, 1, 2, 12, 0, 0, 500, tzinfo=UTC)

FIELDS_OF_THE_CONTRACT = {
    *("id", "parent_id", "user_id", "name", "status", "priority", "dependencies", "inputs", "schemas", "params"),
    *("result", "error", "progress", "created_at", "updated_at", "started_at", "completed_at", "has_children"),
    *("has_copy", "original_task_id", "origin_type", "root_task_id", "attempt", "token_usage"),
}


def a_task(task_id: str = "a", *, parent: str | None = None, root: str = "a", **fields: Any) -> Task:
    return Task(
        id=task_id,
        root_id=root,
        parent_id=parent,
        user_id="alice",
        name=f"task {task_id}",
        created_at=NOON,
        updated_at=NOON,
        **fields,
    )


def a_run(**fields: Any) -> Run:
    return Run(id="run-1", root_id="a", target_id="a", user_id="alice", context_id="talk", created_at=NOON, **fields)


def an_event(type_: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": type_,
        "seq": 4,
        "run_id": "run-1",
        "task_id": "b",
        "root_task_id": "a",
        "status": "completed",
        "progress": 1.0,
        "tree_progress": 0.5,
        "message": "",
        "result": None,
        "error": None,
        "timestamp": "2026-01-02T12:00:00.000500+00:00",
        "protocol": "jsonrpc",
    } | fields


def in_a2a(task: Task, *, run: Run | None = None, results_of: tuple[Task, ...] = ()) -> dict[str, Any]:
    facts = TreeFacts(task_count=2, progress=0.25)
    return a2a_task(task, run=run, facts=facts, results_of=results_of, metadata={"task": native_task(task)})


def test_a_native_task_has_the_fields_of_the_contract() -> None:
    assert native_task(a_task()).keys() == FIELDS_OF_THE_CONTRACT


def test_a_native_task_shows_what_is_stored() -> None:
    task = a_task("b", parent="a", status=Status.FAILED, inputs={"x": [1]}, error="Too hot.", attempt=2, progress=0.5)
    native = native_task(task)
    assert (native["id"], native["parent_id"], native["root_task_id"]) == ("b", "a", "a")
    assert (native["status"], native["inputs"], native["error"]) == ("failed", {"x": [1]}, "Too hot.")
    assert (native["attempt"], native["progress"], native["priority"], native["origin_type"]) == (2, 0.5, 2, "create")


@pytest.mark.parametrize("moment", [NOON, NOON.astimezone(timezone(timedelta(hours=5)))])
def test_native_times_are_iso_8601_in_utc_with_the_offset(moment: datetime) -> None:
    native = native_task(a_task(started_at=moment))
    assert native["started_at"] == "2026-01-02T12:00:00.000500+00:00"
    assert native["completed_at"] is None


def test_a_tree_nests_its_tasks_in_their_order() -> None:
    tree = native_tree(
        [
            a_task("c", parent="a"),
            a_task("a"),
            a_task("d", parent="b"),
            a_task("b", parent="a"),
        ]
    )
    assert tree["id"] == "a"
    assert [child["id"] for child in tree["children"]] == ["c", "b"]
    assert [child["id"] for child in tree["children"][1]["children"]] == ["d"]
    assert tree["children"][0]["children"] == []


def test_a_tree_may_be_ten_thousand_tasks_deep() -> None:
    node = native_tree(
        [a_task("0", root="0"), *(a_task(str(n), parent=str(n - 1), root="0") for n in range(1, 10_000))]
    )
    depth = 1
    while node["children"]:
        (node,) = node["children"]
        depth += 1
    assert depth == 10_000


def test_the_progress_of_a_tree_is_the_mean() -> None:
    assert facts_of([a_task(progress=1.0), a_task("b"), a_task("c"), a_task("d", progress=0.5)]) == TreeFacts(
        task_count=4, progress=0.375
    )


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (Status.PENDING, "submitted"),
        (Status.IN_PROGRESS, "working"),
        (Status.COMPLETED, "completed"),
        (Status.FAILED, "failed"),
        (Status.CANCELLED, "canceled"),
    ],
)
def test_a_task_that_never_ran_is_an_a2a_task_of_its_own(status: Status, state: str) -> None:
    shown = in_a2a(a_task(status=status))
    assert (shown["id"], shown["contextId"], shown["kind"]) == ("a", "a", "task")
    assert shown["status"]["state"] == state


def test_a_root_that_ran_stands_for_the_run() -> None:
    root = a_task(status=Status.COMPLETED, completed_at=NOON)
    run = a_run(status=Status.FAILED, last_seq=9, started_at=NOON, finished_at=NOON + timedelta(seconds=1))
    shown = in_a2a(root, run=run)
    assert (shown["id"], shown["contextId"]) == ("run-1", "talk")
    assert shown["status"] == {
        "state": "failed",
        "timestamp": "2026-01-02T12:00:01.000500Z",
        "message": {
            "kind": "message",
            "messageId": "run-1-9",
            "role": "agent",
            "parts": [
                {
                    "kind": "data",
                    "data": {
                        "protocol": "a2a",
                        "status": "failed",
                        "progress": 0.25,
                        "root_task_id": "a",
                        "task_count": 2,
                    },
                }
            ],
            "taskId": "run-1",
            "contextId": "talk",
        },
    }
    assert shown["history"] == []
    assert shown["metadata"] == {
        "protocol": "a2a",
        "root_task_id": "a",
        "user_id": "alice",
        "task": native_task(root),
    }


def test_another_task_has_a_state_of_its_own() -> None:
    child = a_task("b", parent="a", status=Status.COMPLETED, progress=1.0, completed_at=NOON)
    shown = in_a2a(child, run=a_run(status=Status.IN_PROGRESS))
    assert (shown["id"], shown["status"]["state"]) == ("run-1", "completed")
    assert shown["status"]["message"]["parts"][0]["data"]["progress"] == 1.0


@pytest.mark.parametrize(
    ("result", "part"),
    [
        ({"x": 1}, {"kind": "data", "data": {"x": 1}}),
        ("done", {"kind": "text", "text": "done"}),
        ([1, 2], {"kind": "data", "data": {"result": [1, 2]}}),
        (0, {"kind": "data", "data": {"result": 0}}),
        (False, {"kind": "data", "data": {"result": False}}),
    ],
)
def test_every_result_is_an_artifact(result: Any, part: dict[str, Any]) -> None:
    root, child = a_task(), a_task("b", parent="a", result=result)
    assert in_a2a(root, results_of=(root, child))["artifacts"] == [
        {"artifactId": "b", "name": "task b", "parts": [part]}
    ]


def test_a_completed_task_is_an_update_of_its_artifact() -> None:
    event = an_event("task_completed", result={"x": 1})
    assert a2a_update(event, context_id="talk") == {
        "kind": "artifact-update",
        "taskId": "run-1",
        "contextId": "talk",
        "artifact": {"artifactId": "b", "parts": [{"kind": "data", "data": {"x": 1}}]},
        "append": False,
        "lastChunk": True,
        "metadata": {"protocol": "a2a", "root_task_id": "a", "event": event | {"protocol": "a2a"}},
    }


@pytest.mark.parametrize(
    ("event", "state", "is_final"),
    [
        (an_event("task_start", status="in_progress"), "working", False),
        (an_event("progress", status="in_progress"), "working", False),
        (an_event("task_completed"), "working", False),
        # One task has failed; the tree goes on.
        (an_event("task_failed", status="failed", error="x"), "working", False),
        (an_event("log", status="in_progress", message="x"), "working", False),
        (an_event("final", status="failed", error="x"), "failed", True),
        (an_event("final", status="cancelled"), "canceled", True),
        (an_event("stream_end", status="completed", result=1), "completed", True),
    ],
)
def test_any_other_event_is_an_update_of_the_status_of_the_run(event: Any, state: str, is_final: bool) -> None:
    update = a2a_update(event, context_id="talk")
    assert (update["kind"], update["taskId"], update["contextId"]) == ("status-update", "run-1", "talk")
    assert (update["status"]["state"], update["final"]) == (state, is_final)
    assert update["status"]["timestamp"] == "2026-01-02T12:00:00.000500Z"
    assert update["status"]["message"]["messageId"] == "run-1-4"
    assert update["status"]["message"]["parts"][0]["data"]["progress"] == 0.5
    assert update["metadata"]["event"] == event | {"protocol": "a2a"}
