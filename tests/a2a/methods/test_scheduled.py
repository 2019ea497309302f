"""Tasks that run again at times, as clients of apflow 0.18 set, list and trigger them."""

from typing import Any

import pytest
from icalendar import Calendar

from tests.a2a.conftest import Rpc
from tests.servers import Json, Server, until

pytestmark = pytest.mark.both_engines_nightly

ECHO: Json = {"name": "echo_executor", "inputs": {"text": "hi"}}
DAILY: Json = {"schedule_type": "daily", "schedule_expression": "09:00"}
FIELDS = (
    "schedule_type",
    "schedule_expression",
    "schedule_enabled",
    "schedule_start_at",
    "schedule_end_at",
    "next_run_at",
    "last_run_at",
    "max_runs",
    "run_count",
)
EMPTY: Json = dict.fromkeys(FIELDS) | {"schedule_enabled": False, "run_count": 0}
"""What its web application sends with every new task."""
CLEARED: Json = {"schedule_type": "", "schedule_expression": "", "schedule_enabled": False}


def refusal_of(server: Server, method: str, params: Any) -> Json:
    """The first thing that is wrong with the request."""
    found: Json = server.call(method, params)["error"]["data"][0]
    return found


def of(task: Json) -> tuple[Any, Any, Any]:
    return task.get("schedule_type"), task.get("schedule_expression"), task.get("schedule_enabled")


@pytest.mark.both_engines
def test_the_same_task_runs_again_at_its_times(open_server: Server, rpc: Rpc) -> None:
    every = {"schedule_type": "interval", "schedule_expression": "1", "schedule_enabled": True, "max_runs": 2}
    made = rpc("tasks.create", [ECHO | every])
    task_id = made["id"]
    assert of(made) == ("interval", "1", True)
    until(lambda: rpc("tasks.get", {"task_id": task_id})["run_count"] == 2, seconds=60, what="two runs")

    def runs() -> list[Json]:
        found: list[Json] = rpc("runs.list", {"task_id": task_id})["runs"]
        return found

    until(lambda: [run["status"] for run in runs()] == ["completed"] * 2, seconds=60, what="their ends")
    task = rpc("tasks.get", {"task_id": task_id})
    assert (of(task), task["next_run_at"]) == (("interval", "1", False), None)
    assert task["completed_at"] >= runs()[0]["created_at"] > runs()[1]["finished_at"], "the same task ran again"
    assert {run["task_id"] for run in runs()} == {task_id}


def test_every_answer_has_the_fields_and_only_of_tasks_with_a_schedule(rpc: Rpc) -> None:
    child = ECHO | EMPTY | {"id": "kid", "parent_id": "top"}
    made = rpc("tasks.create", {"tasks": [ECHO | EMPTY | DAILY | {"id": "top"}, child], "id_conflict": "rename"})
    plain = rpc("tasks.create", [ECHO | EMPTY])
    assert not plain.keys() & {*FIELDS}
    named = {"task_id": made["id"]}
    listed = next(each for each in rpc("tasks.list", {"limit": 1000}) if each["id"] == made["id"])
    node = rpc("tasks.tree", named)
    for task in (made, listed, node, node["task"], rpc("tasks.get", named), rpc("tasks.detail", named)):
        assert of(task) == ("daily", "09:00", False)
        assert (task["run_count"], task["next_run_at"], task["max_runs"]) == (0, None, None)
    assert not node["children"][0].keys() & {*FIELDS}


def test_updates_change_and_clear_it_whatever_the_status_is(rpc: Rpc) -> None:
    task_id = rpc("tasks.create", {"tasks": [ECHO], "execute": True})["id"]
    named = {"task_id": task_id}
    until(lambda: rpc("tasks.get", named)["status"] == "completed", seconds=60, what="the end")
    weekly = {"schedule_type": "weekly", "schedule_expression": "1,7 8:30", "schedule_enabled": True}
    assert of(rpc("tasks.update", named | weekly)) == ("weekly", "1,7 08:30", True)
    ends = {"schedule_end_at": "2999-01-01T00:00:00Z", "max_runs": 5}
    changed = rpc("tasks.update", named | ends)
    assert (of(changed), changed["schedule_end_at"], changed["max_runs"]) == (
        ("weekly", "1,7 08:30", True),
        "2999-01-01T00:00:00+00:00",
        5,
    )
    assert of(rpc("tasks.update", named | {"schedule_enabled": False})) == ("weekly", "1,7 08:30", False)
    assert rpc("tasks.update", named | {"schedule_end_at": None, "max_runs": None})["max_runs"] is None
    assert of(rpc("tasks.update", named | CLEARED)) == (None, None, None)
    assert rpc("tasks.update", named | CLEARED)["id"] == task_id, "nothing to clear is no fault"


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"schedule_type": "daily"}, "schedule_expression", "is required"),
        ({"schedule_expression": "09:00"}, "schedule_type", "is required"),
        ({"schedule_enabled": True}, "schedule_type", "is required"),
        ({"max_runs": 3}, "schedule_type", "is required"),
        (DAILY | {"schedule_expression": "25:00"}, "schedule_expression", "a time of day, such as '09:00'"),
        ({"schedule_type": "cron", "schedule_expression": "0 6 * *"}, "schedule_expression", "must have 5 fields"),
        ({"schedule_type": "once", "schedule_expression": "2001-01-01"}, "schedule_expression", "is in the past"),
        ({"schedule_type": "once", "schedule_expression": "soon"}, "schedule_expression", "is not a time"),
        (DAILY | {"schedule_end_at": "2001-01-01"}, "schedule_end_at", "before the first run"),
        (DAILY | {"max_runs": 0}, "max_runs", "from 1"),
    ],
)
def test_half_a_schedule_and_wrong_values_are_refused_and_nothing_is_stored(
    open_server: Server, rpc: Rpc, fields: Json, field: str, reason: str
) -> None:
    before = rpc("tasks.count", {})["total"]
    problem = refusal_of(open_server, "tasks.create", [ECHO | fields])
    assert problem["field"] == f"tasks[0].{field}"
    assert reason in problem["reason"]
    assert rpc("tasks.count", {})["total"] == before


def test_only_roots_have_a_schedule(open_server: Server, rpc: Rpc) -> None:
    tree = [ECHO | {"id": "a"}, ECHO | DAILY | {"id": "b", "parent_id": "a"}]
    assert refusal_of(open_server, "tasks.create", {"tasks": tree})["field"] == "tasks[1].schedule_type"
    tree[1] = ECHO | {"id": "b", "parent_id": "a"}
    ids = rpc("tasks.create", {"tasks": tree})["ids"]
    assert "only the root" in refusal_of(open_server, "tasks.update", {"task_id": ids["b"]} | DAILY)["reason"]
    at_execution = refusal_of(open_server, "tasks.execute", {"tasks": [ECHO | DAILY]})
    assert "tasks.create, tasks.update or schedules.create" in at_execution["reason"]


@pytest.mark.both_engines
def test_they_are_listed_due_initialised_and_completed(rpc: Rpc) -> None:
    on = rpc("tasks.create", [ECHO | DAILY | {"schedule_enabled": True}])["id"]
    off = rpc("tasks.create", [ECHO | DAILY])["id"]

    def listed(**given: Any) -> list[str]:
        return [task["id"] for task in rpc("tasks.scheduled.list", {"schedule_type": "daily", "limit": 1000} | given)]

    assert (on in listed(), off in listed()) == (True, False)
    assert {on, off} <= {*listed(enabled_only=False, status="pending")}
    assert on not in listed(status="completed")
    assert on not in [task["id"] for task in rpc("tasks.scheduled.due", {})]
    due = rpc("tasks.scheduled.due", {"before": "2998-01-01T00:00:00Z", "limit": 1000})
    assert on in [task["id"] for task in due]
    assert off not in [task["id"] for task in due]
    later = rpc("tasks.scheduled.init", {"task_id": on, "from_time": "2998-06-01T10:00:00Z"})
    assert later["next_run_at"] == "2998-06-02T09:00:00+00:00"
    noted = rpc("tasks.scheduled.complete", {"task_id": on, "success": False, "error": "The disk is full."})
    assert (noted["run_count"], noted["next_run_at"] < later["next_run_at"]) == (1, True)
    schedules = rpc("schedules.list", {"limit": 1000})["schedules"]
    (own,) = [each for each in schedules if each["task_id"] == on]
    assert (own["schedule_type"], own["last_status"]) == ("daily", "failed")
    (row,) = rpc("schedules.runs", {"schedule_id": own["id"]})["runs"]
    assert (row["cause"], row["status"], row["reason"]) == ("reported", "failed", "The disk is full.")


def test_the_schedule_goes_with_its_task_and_the_fields_with_the_schedule(open_server: Server, rpc: Rpc) -> None:
    def made() -> tuple[str, str]:
        task_id = rpc("tasks.create", [ECHO | DAILY])["id"]
        found = [
            each["id"] for each in rpc("schedules.list", {"limit": 1000})["schedules"] if each["task_id"] == task_id
        ]
        return task_id, found[0]

    task_id, schedule_id = made()
    rpc("tasks.delete", {"task_id": task_id})
    assert open_server.call("schedules.get", {"schedule_id": schedule_id})["error"]["code"] == -32001
    task_id, schedule_id = made()
    rpc("schedules.delete", {"schedule_id": schedule_id})
    assert "schedule_type" not in rpc("tasks.get", {"task_id": task_id})
    assert "has no schedule" in refusal_of(open_server, "tasks.scheduled.init", {"task_id": task_id})["reason"]


def test_a_calendar_has_an_event_for_each_task(rpc: Rpc) -> None:
    name = "Report; weekly, é" + "x" * 80
    tree = {"name": name, "schedule_enabled": True, "schedule_type": "weekly", "schedule_expression": "1,7 09:00"}
    task_id = rpc("tasks.create", [tree])["id"]
    cron = {"schedule_enabled": True, "schedule_type": "cron", "schedule_expression": "0 9 1-3 * *"}
    other = rpc("tasks.create", [ECHO | cron])["id"]
    found = rpc("tasks.scheduled.export-ical", {"base_url": "https://flow.example.com/", "calendar_name": "Mine"})
    calendar: Any = Calendar.from_ical(found["ical_content"])
    events = {str(event["url"]).removeprefix("https://flow.example.com/tasks/"): event for event in calendar.events}
    assert found["task_count"] == len(calendar.events)
    assert str(events[task_id]["summary"]) == name
    assert events[task_id]["rrule"].to_ical() == b"FREQ=WEEKLY;BYDAY=MO,SU"
    assert f"{events[task_id].start:%H:%M}" == "09:00"
    assert "rrule" not in events[other]
    assert len(events[other]["rdate"].dts) == 50


def test_a_trigger_runs_the_task_now(rpc: Rpc) -> None:
    task_id = rpc("tasks.create", [ECHO | DAILY])["id"]
    assert rpc("tasks.webhook.trigger", {"task_id": task_id, "async_execution": False}) == {
        "success": True,
        "status": "completed",
        "task_id": task_id,
        "result": {"text": "hi"},
        "error": None,
    }
    assert rpc("tasks.get", {"task_id": task_id})["run_count"] == 1
    slow = rpc("tasks.create", [{"name": "sleep_executor", "inputs": {"seconds": 60}}])["id"]
    started = rpc("tasks.webhook.trigger", {"task_id": slow})
    assert (started["success"], started["status"]) == (True, "triggered")
    again = rpc("tasks.webhook.trigger", {"task_id": slow})
    assert again == {"success": False, "task_id": slow, "error": "The task was running already."}
    rpc("tasks.cancel", {"task_id": slow, "force": True})


def test_a_run_at_its_time_repeats_what_tasks_have_added(rpc: Rpc) -> None:
    spawner = {
        "name": "transform_executor",
        "inputs": {"select": '`[{"name": "echo_executor", "inputs": {"n": 1}}]`'},
        "params": {"spawn": {}},
    }
    task_id = rpc("tasks.create", [spawner | DAILY])["id"]
    for number in (1, 2):
        done = rpc("tasks.webhook.trigger", {"task_id": task_id, "async_execution": False})
        assert (done["status"], done["result"]) == ("completed", {"0": {"n": 1}}), number
    assert len(rpc("tasks.tree", {"task_id": task_id})["children"]) == 1
