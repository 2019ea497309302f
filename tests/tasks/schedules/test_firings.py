"""Schedules start runs at their times, each once; what is missed or overlaps is handled as the schedule says."""

from datetime import timedelta
from itertools import product
from typing import Any, Final

import pytest

from accounts import users
from accounts.models import AuditEntry
from tasks.models import Firing, Run, RunInputs, Schedule, Task
from tasks.rules.exceptions import InvalidParams
from tasks.services import schedules, trees
from tasks.services.schedules import firings
from tests.sections import replace
from tests.tasks.schedules.conftest import NOON, TREE, Clock, done, end_runs, make, reasons, sweep
from tests.tasks.services.trees.test_idempotency import together
from tests.tasks.trees import ALICE, BOB

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]


@pytest.mark.both_engines
def test_a_run_starts_at_its_time_for_its_owner(clock_at_noon: Clock) -> None:
    uses_inputs = [{**TREE[0], "inputs": {"text": "About {{run.inputs.topic}}"}}]
    with pytest.raises(InvalidParams, match="did you mean 'topic'"):
        make(tasks=uses_inputs, inputs={"topik": "frogs"})
    schedule = make(tasks=uses_inputs, inputs={"topic": "frogs"})
    assert (schedule.next_run_at, schedule.name) == (NOON + timedelta(minutes=5), "a")
    clock_at_noon.passes(minutes=4, seconds=59)
    assert sweep() == 0
    clock_at_noon.passes(seconds=1)
    assert sweep() == 1
    firing = Firing.objects.get(schedule=schedule)
    run = Run.objects.get(id=firing.run_id)
    assert (run.user_id, Task.objects.get(id=run.root_id).name) == (ALICE.user_id, "a")
    assert RunInputs.objects.get(run_id=run.id).inputs == {"topic": "frogs"}
    assert (firing.scheduled_for, firing.outcome, firing.cause) == (clock_at_noon.now, "started", "clock")
    schedule.refresh_from_db()
    assert (schedule.run_count, schedule.next_run_at) == (1, NOON + timedelta(minutes=10))
    assert sweep() == 0


@pytest.mark.both_engines
def test_each_run_gets_a_copy_of_a_stored_tree(clock_at_noon: Clock) -> None:
    stored = trees.create_tree(caller=ALICE, tasks=TREE).root
    schedule = make(task_id=stored.id, overlap="allow")
    for minute in (5, 10):
        clock_at_noon.to(f"12:{minute:02}")
        sweep()
    copies = Task.objects.filter(original_task_id=stored.id)
    assert {run.root_id for run in Run.objects.all()} == {copy.id for copy in copies}
    assert (len(copies), done(schedule)) == (2, [("12:05", "started"), ("12:10", "started")])


@pytest.mark.both_engines
def test_a_tree_that_is_refused_is_a_firing_that_failed(clock_at_noon: Clock) -> None:
    stored = trees.create_tree(caller=ALICE, tasks=TREE).root
    schedule = make(task_id=stored.id, pause_after_failures=2)
    Task.objects.all().delete()
    clock_at_noon.to("12:05")
    sweep()
    assert done(schedule) == [("12:05", "failed")]
    assert "not found" in str(reasons(schedule))
    clock_at_noon.to("12:10")
    sweep()
    schedule.refresh_from_db()
    assert (schedule.is_paused, schedule.next_run_at, schedule.run_count) == (True, None, 0)
    assert schedule.pause_reason == "2 runs in a row failed (pause_after_failures)."
    clock_at_noon.to("12:15")
    assert sweep() == 0


@pytest.mark.both_engines
def test_a_limit_that_is_reached_fails_the_firing_and_others_run(clock_at_noon: Clock, settings: Any) -> None:
    first, second = make(), make(caller=BOB)
    Schedule.objects.filter(id=first.id).update(tasks=[{"name": "a", "schemas": {"method": "gone_executor"}}])
    clock_at_noon.to("12:05")
    sweep()
    assert (done(first), done(second)) == ([("12:05", "failed")], [("12:05", "started")])
    assert "gone_executor" in str(reasons(first))


@pytest.mark.both_engines
def test_runs_that_fail_in_a_row_pause_the_schedule(clock_at_noon: Clock) -> None:
    schedule = make(pause_after_failures=2)
    for minute, status in ((5, "failed"), (10, "completed"), (15, "failed"), (20, "failed")):
        clock_at_noon.to(f"12:{minute:02}")
        sweep()
        end_runs(status)
    firings.note_ended()
    schedule.refresh_from_db()
    assert (schedule.is_paused, schedule.last_status, schedule.failures) == (True, "failed", 2)
    paused = AuditEntry.objects.get(action="schedule.paused", target=schedule.id)
    assert (paused.actor, paused.details["reason"]) == ("", schedule.pause_reason)
    clock_at_noon.to("12:26")
    resumed = schedules.resume_schedule(caller=ALICE, schedule_id=schedule.id)
    assert (resumed.failures, resumed.next_run_at) == (0, NOON + timedelta(minutes=30))


@pytest.mark.both_engines
def test_schedules_of_a_disabled_owner_pause_and_say_so(clock_at_noon: Clock) -> None:
    users.create_user("alice", password="open sesame 42")
    schedule, other = make(), make(caller=BOB)
    users.set_active("alice", is_active=False)
    clock_at_noon.to("12:05")
    sweep()
    schedule.refresh_from_db()
    assert (schedule.is_paused, schedule.pause_reason) == (True, "Its owner 'alice' is disabled.")
    assert (done(schedule), done(other)) == ([], [("12:05", "started")])


def test_a_schedule_ends_after_max_runs(clock_at_noon: Clock) -> None:
    schedule = make(max_runs=2, overlap="allow")
    for minute in (5, 10, 15):
        clock_at_noon.to(f"12:{minute:02}")
        sweep()
    schedule.refresh_from_db()
    assert (schedule.run_count, schedule.next_run_at, len(done(schedule))) == (2, None, 2)


def test_a_single_moment_runs_once(clock_at_noon: Clock) -> None:
    schedule = make(at="2026-11-26T13:01", timezone="Europe/Berlin")
    clock_at_noon.to("12:01")
    sweep()
    schedule.refresh_from_db()
    assert (done(schedule), schedule.next_run_at) == ([("12:01", "started")], None)


#: What happens between 12:00 and 12:20, when a server was there at 12:05 and again only at 12:20 and 12:25, and no run ends.
TABLE: Final = {
    ("skip", "none"): ("started", "skipped", None, "skipped", "skipped"),
    ("skip", "last"): ("started", "skipped", None, "skipped", "skipped"),
    ("skip", "all"): ("started", "skipped", "skipped", "skipped", "skipped"),
    ("queue", "none"): ("started", "skipped", None, "queued", "queued"),
    ("queue", "last"): ("started", "skipped", None, "queued", "queued"),
    ("queue", "all"): ("started", "queued", "queued", "queued", "queued"),
    ("cancel_previous", "none"): ("started", "skipped", None, "started", "started"),
    ("cancel_previous", "last"): ("started", "skipped", None, "started", "started"),
    ("cancel_previous", "all"): ("started", "started", "started", "started", "started"),
    ("allow", "none"): ("started", "skipped", None, "started", "started"),
    ("allow", "last"): ("started", "skipped", None, "started", "started"),
    ("allow", "all"): ("started", "started", "started", "started", "started"),
}


#: On every push: each way to overlap, and each to catch up. Which outcomes a pair has is decided before a statement.
ON_BOTH_ENGINES: Final = {("skip", "none"), ("queue", "all"), ("cancel_previous", "all"), ("allow", "last")}


def test_the_table_is_complete() -> None:
    assert {*TABLE} == {*product(["skip", "queue", "cancel_previous", "allow"], ["none", "last", "all"])}


@pytest.mark.parametrize(
    ("overlap", "catch_up"),
    [pytest.param(*key, marks=[pytest.mark.both_engines] if key in ON_BOTH_ENGINES else []) for key in TABLE],
)
def test_overlap_and_catch_up(overlap: str, catch_up: str, clock_at_noon: Clock) -> None:
    schedule = make(overlap=overlap, catch_up=catch_up)
    for at in ("12:05", "12:20", "12:25"):
        clock_at_noon.to(at)
        sweep()
    times = ("12:05", "12:10", "12:15", "12:20", "12:25")
    expected = [(at, outcome) for at, outcome in zip(times, TABLE[overlap, catch_up], strict=True) if outcome]
    assert done(schedule) == expected
    cancelled = Run.objects.filter(status="cancelled").count()
    assert cancelled == (
        len([1 for _, outcome in expected if outcome == "started"]) - 1 if overlap == "cancel_previous" else 0
    )


@pytest.mark.parametrize("catch_up", ["none", "last", pytest.param("all", marks=pytest.mark.both_engines)])
def test_what_is_missed_for_longer_than_the_window_is_skipped(catch_up: str, clock_at_noon: Clock) -> None:
    schedule = make(cron="0 * * * *", overlap="allow", catch_up=catch_up, catch_up_window_seconds=7200)
    clock_at_noon.to("15:30")
    sweep()
    expected = {
        "none": [("13:00", "skipped")],
        "last": [("13:00", "skipped"), ("15:00", "started")],
        "all": [("13:00", "skipped"), ("14:00", "started"), ("15:00", "started")],
    }
    assert done(schedule) == expected[catch_up]
    schedule.refresh_from_db()
    assert schedule.next_run_at == NOON.replace(hour=16)


def test_a_year_without_a_server_takes_one_row_and_a_moment(clock_at_noon: Clock) -> None:
    every_second = make(every_seconds=1, caller=BOB)
    every_minute = make(cron="* * * 12 *", catch_up="last", overlap="allow")
    clock_at_noon.passes(days=364)
    sweep()
    assert [len(done(schedule)) for schedule in (every_second, every_minute)] == [2, 1]


@pytest.mark.both_engines
def test_only_so_many_missed_runs_are_under_way_at_once(clock_at_noon: Clock, settings: Any) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, catch_up_runs=3))
    schedule = make(cron="* * * * *", overlap="allow", catch_up="all")
    clock_at_noon.to("12:10")
    sweep()
    assert done(schedule) == [("12:01", "started"), ("12:02", "started"), ("12:03", "started")]
    clock_at_noon.passes(seconds=6)
    end_runs()
    sweep()
    assert done(schedule)[3:] == [("12:04", "started"), ("12:05", "started"), ("12:06", "started")]


@pytest.mark.both_engines
def test_a_queued_run_starts_when_the_one_before_it_has_ended(clock_at_noon: Clock) -> None:
    schedule = make(overlap="queue")
    for at in ("12:05", "12:10", "12:15"):
        clock_at_noon.to(at)
        sweep()
    assert firings.start_queued() == 0
    end_runs()
    assert firings.start_queued() == 1
    assert done(schedule) == [("12:05", "started"), ("12:10", "started"), ("12:15", "queued")]
    schedules.pause_schedule(caller=ALICE, schedule_id=schedule.id)
    end_runs()
    assert firings.start_queued() == 0
    assert done(schedule)[-1] == ("12:15", "skipped")


@pytest.mark.both_engines
def test_users_take_turns(clock_at_noon: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firings, "BATCH", 4)
    monkeypatch.setattr(firings, "MOST_SECONDS", 60)
    many = [make(overlap="allow") for _ in range(10)]
    one = make(caller=BOB)
    clock_at_noon.to("12:05")
    assert firings.fire_due() == 4
    assert done(one) == [("12:05", "started")]
    sweep()
    assert all(done(each) == [("12:05", "started")] for each in many)


def test_large_trees_end_a_transaction_early(clock_at_noon: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = make(overlap="allow", catch_up="all")
    clock_at_noon.to("12:15")
    monkeypatch.setattr(firings.Sweep, "_is_long", property(lambda sweep: bool(sweep.new)))
    firings.fire_due()
    assert done(schedule) == [("12:05", "started")]
    sweep()
    assert done(schedule) == [("12:05", "started"), ("12:10", "started"), ("12:15", "started")]


def test_a_transaction_that_ends_early_counts_what_it_did_and_always_does_one(
    clock_at_noon: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [make() for _ in range(3)]
    clock_at_noon.to("12:05")
    monkeypatch.setattr(firings, "MOST_SECONDS", -1)
    assert [firings.fire_due() for _ in range(4)] == [1, 1, 1, 0]
    assert all(done(each) == [("12:05", "started")] for each in made)


@pytest.mark.both_engines
def test_a_schedule_whose_times_cannot_be_computed_stops_no_other(clock_at_noon: Clock) -> None:
    broken, other = make(), make(caller=BOB)
    Schedule.objects.filter(id=broken.id).update(timezone="Mars/Olympus")
    clock_at_noon.to("12:05")
    sweep()
    broken.refresh_from_db()
    assert (broken.is_paused, done(other)) == (True, [("12:05", "started")])


@pytest.mark.both_engines
def test_a_clock_that_was_set_ahead_and_back_runs_nothing_twice_and_goes_on(clock_at_noon: Clock) -> None:
    schedule = make(overlap="allow")
    clock_at_noon.to("12:05")
    sweep()
    clock_at_noon.passes(days=30)
    sweep()
    clock_at_noon.to("12:06")
    assert sweep() == 0
    assert firings.look_again() == 1
    for at in ("12:10", "12:15"):
        clock_at_noon.to(at)
        sweep()
    assert [at for at, outcome in done(schedule) if outcome == "started"].count("12:10") == 1
    assert Firing.objects.filter(schedule=schedule, scheduled_for=clock_at_noon.now, outcome="started").exists()
    assert firings.look_again() == 0


def test_a_time_that_comes_again_because_the_clock_was_set_back_is_not_run_again(clock_at_noon: Clock) -> None:
    schedule = make(overlap="allow")
    for at in ("12:05", "12:10"):
        clock_at_noon.to(at)
        sweep()
    clock_at_noon.to("12:01")
    assert firings.look_again() == 1
    for at in ("12:05", "12:10", "12:15"):
        clock_at_noon.to(at)
        sweep()
    assert done(schedule) == [("12:05", "started"), ("12:10", "started"), ("12:15", "started")]
    assert Run.objects.count() == 3


def test_a_clock_that_is_set_back_a_little_runs_nothing_twice(clock_at_noon: Clock) -> None:
    schedule = make(overlap="allow")
    clock_at_noon.to("12:05")
    sweep()
    clock_at_noon.to("12:04")
    sweep()
    clock_at_noon.to("12:05")
    sweep()
    assert done(schedule) == [("12:05", "started")]


@pytest.mark.both_engines
def test_only_the_newest_firings_are_kept(clock_at_noon: Clock, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = make(every_seconds=60, overlap="skip")
    Firing.objects.bulk_create(
        Firing(schedule=schedule, scheduled_for=NOON - timedelta(minutes=number), outcome="skipped")
        for number in range(1, 1100)
    )
    for _ in range(64):
        clock_at_noon.passes(minutes=1)
        sweep()
    assert 1000 <= Firing.objects.filter(schedule=schedule).count() < 1000 + 64


# --- by hand ---


@pytest.mark.both_engines
def test_a_trigger_runs_now_by_the_overlap_of_the_schedule(clock_at_noon: Clock) -> None:
    schedule = make(is_paused=True)
    first = schedules.trigger_schedule(caller=ALICE, schedule_id=schedule.id)
    second = schedules.trigger_schedule(caller=ALICE, schedule_id=schedule.id)
    third = schedules.trigger_schedule(caller=ALICE, schedule_id=schedule.id, overlap="allow")
    assert [each.outcome for each in (first, second, third)] == ["started", "skipped", "started"]
    assert len({each.scheduled_for for each in (first, second, third)}) == 3
    schedule.refresh_from_db()
    assert (schedule.is_paused, schedule.next_run_at, schedule.run_count) == (True, None, 2)


@pytest.mark.both_engines
def test_no_trigger_and_no_backfill_runs_more_than_max_runs(clock_at_noon: Clock) -> None:
    schedule = make(max_runs=3, overlap="allow")

    def trigger() -> Firing:
        return schedules.trigger_schedule(caller=ALICE, schedule_id=schedule.id)

    found = together(50, trigger)
    assert sorted(each.outcome for each in found) == ["skipped"] * 47 + ["started"] * 3
    assert {each.reason for each in found if each.outcome == "skipped"} == {firings.ALL_STARTED}
    clock_at_noon.to("12:20")
    since, until = "2026-11-26T12:05", "2026-11-26T12:15"
    late = schedules.backfill_schedule(caller=ALICE, schedule_id=schedule.id, since=since, until=until)
    assert {each.outcome for each in late} == {"skipped"}
    schedule.refresh_from_db()
    assert (schedule.run_count, schedule.next_run_at, Run.objects.count()) == (3, None, 3)
    schedules.update_schedule(caller=ALICE, schedule_id=schedule.id, fields={"max_runs": 4})
    assert trigger().outcome == "started"


@pytest.mark.both_engines
def test_a_backfill_runs_past_times_that_have_had_no_run(clock_at_noon: Clock) -> None:
    schedule = make()
    clock_at_noon.to("12:05")
    sweep()
    end_runs()
    clock_at_noon.to("12:20")
    sweep()
    made = schedules.backfill_schedule(
        caller=ALICE, schedule_id=schedule.id, since="2026-11-26T12:00", until="2026-11-26T12:20"
    )
    assert [(f"{each.scheduled_for:%H:%M}", each.outcome) for each in made] == [
        ("12:00", "queued"),
        ("12:10", "queued"),
        ("12:15", "queued"),
    ]
    end_runs()
    assert firings.start_queued() == 1
    assert done(schedule) == [
        ("12:00", "started"),
        ("12:05", "started"),
        ("12:10", "queued"),
        ("12:15", "queued"),
        ("12:20", "started"),
    ]
    again = schedules.backfill_schedule(
        caller=ALICE, schedule_id=schedule.id, since="2026-11-26T12:00", until="2026-11-26T12:20"
    )
    assert again == []


@pytest.mark.parametrize(
    ("since", "until", "problem"),
    [
        ("2026-11-26T11:00", "2026-11-26T12:30", "is not over yet"),
        ("2026-11-26T11:00", "2026-11-26T10:00", "must not be before since"),
        ("2026-11-20T11:00", "2026-11-26T10:00", "more than 100 times"),
    ],
)
def test_a_backfill_is_bounded(since: str, until: str, problem: str, clock_at_noon: Clock) -> None:
    schedule = make()
    with pytest.raises(InvalidParams, match=problem):
        schedules.backfill_schedule(caller=ALICE, schedule_id=schedule.id, since=since, until=until)
