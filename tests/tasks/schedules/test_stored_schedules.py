"""Schedules are stored, changed, listed and deleted; by whom, and how many."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tasks.models import Firing, Run, RunInputs, Schedule
from tasks.rules.exceptions import FlowNotFound, InvalidParams, LimitReached, ScheduleNotFound, TaskNotFound
from tasks.services import flows, schedules, trees
from tests.sections import replace
from tests.tasks.schedules.conftest import NOON, TREE, Clock, make, sweep
from tests.tasks.trees import ADMIN, ALICE, BOB

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]


@pytest.mark.both_engines
def test_a_change_of_times_counts_from_now_and_other_changes_leave_them(clock_at_noon: Clock) -> None:
    schedule = make(cron="0 5 * * *", timezone="Europe/Berlin")
    clock_at_noon.passes(seconds=30)
    change = partial(schedules.update_schedule, schedule_id=schedule.id, caller=ALICE)
    assert change(fields={"name": "b"}).next_run_at == schedule.next_run_at
    moved = change(fields={"cron": "0 6 * * *"})
    assert moved.next_run_at == NOON.replace(day=27, hour=5)
    every = change(fields={"every_seconds": 60})
    assert (every.cron, every.next_run_at) == (None, NOON + timedelta(seconds=90))
    with pytest.raises(InvalidParams, match="timezone"):
        change(fields={"timezone": "Europe/Berln"})


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"cron": "@never"}, "cron"),
        ({"at": "2026-11-26T11:00"}, "at"),
        ({"task_id": "x", "tasks": TREE}, "tasks"),
        ({"tasks": [{"name": "a", "dependencies": ["b"]}]}, "b"),
    ],
)
def test_what_is_refused_is_not_stored(fields: dict[str, Any], problem: str, clock_at_noon: Clock) -> None:
    with pytest.raises(Exception, match=problem):
        schedules.create_schedule(
            caller=ALICE, fields={"tasks": TREE, "cron": "@daily"} | fields | ({"cron": None} if "at" in fields else {})
        )
    assert not Schedule.objects.exists()


@pytest.mark.both_engines
def test_others_find_no_schedule_of_mine(clock_at_noon: Clock) -> None:
    schedule = make()
    for verb in (
        schedules.get_schedule,
        schedules.delete_schedule,
        schedules.pause_schedule,
        schedules.trigger_schedule,
    ):
        with pytest.raises(ScheduleNotFound):
            verb(caller=BOB, schedule_id=schedule.id)
    assert schedules.list_schedules(caller=BOB) == ([], None)
    assert len(schedules.list_schedules(caller=ADMIN)[0]) == 1
    with pytest.raises(TaskNotFound):
        make(caller=BOB, task_id=trees.create_tree(caller=ALICE, tasks=TREE).root.id)


def test_a_schedule_of_an_administrator_runs_as_the_owner_of_its_tree(clock_at_noon: Clock) -> None:
    schedule = make(caller=ADMIN, task_id=trees.create_tree(caller=ALICE, tasks=TREE).root.id)
    clock_at_noon.to("12:05")
    sweep()
    assert Run.objects.get().user_id == schedule.user_id == ALICE.user_id


@pytest.mark.both_engines
def test_an_administrator_schedules_for_another_user(clock_at_noon: Clock) -> None:
    flows.save_flow(caller=ALICE, name="report", tasks=TREE)
    own = {"cron": "*/5 * * * *"}
    for fields in ({"flow": "report"}, {"tasks": TREE}):
        with pytest.raises(InvalidParams, match="only administrators"):
            schedules.create_schedule(caller=BOB, user_id="alice", fields=own | fields)
        schedule = schedules.create_schedule(caller=ADMIN, user_id="alice", fields=own | fields)
        changed = schedules.update_schedule(caller=ADMIN, schedule_id=schedule.id, fields=fields | {"inputs": {}})
        assert (schedule.user_id, changed.user_id) == ("alice", "alice")
    clock_at_noon.to("12:05")
    sweep()
    assert {run.user_id for run in Run.objects.all()} == {"alice"}
    stored = trees.create_tree(caller=BOB, tasks=TREE).root
    with pytest.raises(InvalidParams, match="of another user than the schedule"):
        schedules.create_schedule(caller=ADMIN, user_id="alice", fields=own | {"task_id": stored.id})
    with pytest.raises(FlowNotFound):
        schedules.create_schedule(caller=ADMIN, user_id="bob", fields=own | {"flow": "report"})


def test_a_user_has_so_many_schedules(clock_at_noon: Clock, settings: Any) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, schedules=1))
    make()
    make(caller=BOB)
    with pytest.raises(LimitReached, match=r"limits\.schedules"):
        make()


@pytest.mark.both_engines
def test_a_page_of_schedules_and_the_next(clock_at_noon: Clock) -> None:
    """All are of the same moment, so their ids decide, which are random within a millisecond."""
    made = [make(name=f"s{number}") for number in range(5)]
    first, cursor = schedules.list_schedules(caller=ALICE, limit=3)
    rest, end = schedules.list_schedules(caller=ALICE, limit=3, cursor=cursor or "")
    assert [each.schedule.id for each in (*first, *rest)] == sorted((each.id for each in made), reverse=True)
    assert end is None


@pytest.mark.both_engines
def test_a_deleted_schedule_leaves_its_runs(clock_at_noon: Clock) -> None:
    schedule = make()
    clock_at_noon.to("12:05")
    sweep()
    schedules.delete_schedule(caller=ALICE, schedule_id=schedule.id)
    assert (Firing.objects.count(), Run.objects.count()) == (0, 1)


@pytest.mark.both_engines
def test_a_preview_stores_nothing(clock_at_noon: Clock) -> None:
    _timing, slots = schedules.preview(caller=ALICE, fields={"cron": "0 6 * * *", "timezone": "Europe/Berlin"}, count=2)
    assert slots == [NOON.replace(day=27, hour=5), NOON.replace(day=28, hour=5)]
    schedule = make()
    _, slots = schedules.preview(caller=ALICE, schedule_id=schedule.id, fields={}, count=1)
    assert slots == [schedule.next_run_at]
    assert Schedule.objects.count() == 1


@pytest.mark.both_engines
def test_a_flow_runs_in_its_newest_version_or_in_the_one_that_is_named(clock_at_noon: Clock) -> None:
    schema = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}
    flows.save_flow(caller=ALICE, name="report", tasks=TREE, inputs_schema=schema)
    with pytest.raises(InvalidParams, match="topic"):
        make(flow="report")
    newest = make(flow="report", inputs={"topic": "frogs"})
    first = make(flow="report", inputs={"topic": "frogs"}, flow_version=1)
    flows.save_flow(caller=ALICE, name="report", tasks=[{**TREE[0], "name": "b"}], inputs_schema=schema)
    clock_at_noon.to("12:05")
    sweep()
    versions = [
        Run.objects.get(id=Firing.objects.get(schedule=schedule).run_id).flow_version for schedule in (newest, first)
    ]
    assert (versions, newest.name) == ([2, 1], "report")
    assert {row.inputs["topic"] for row in RunInputs.objects.all()} == {"frogs"}
    with pytest.raises(FlowNotFound):
        make(caller=BOB, flow="report")
