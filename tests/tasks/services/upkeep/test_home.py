"""The first page below its interfaces: since when, and what is held up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.callers import LOCAL, Caller, Role
from tasks.models import Firing, LastVisit, Run, Schedule, TaskEvent, WorkerProcess
from tasks.queue.leases import SUSPENDED
from tasks.rules.exceptions import InvalidParams
from tasks.services.upkeep import home
from tasks.status import Status

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ADA = Caller(user_id="ada", role=Role.OPERATOR)
BOB = Caller(user_id="bob", role=Role.OPERATOR)
Json = dict[str, Any]
MINUTE = timedelta(minutes=1)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


def stored(run_id: str, *, user: str = "ada", **columns: Any) -> Run:
    ids = {"root_id": f"{run_id} root", "target_id": f"{run_id} root", "context_id": run_id, "user_id": user}
    return Run.objects.create(id=run_id, **ids, **columns)


def held(run_id: str, now: datetime, *, quiet: timedelta, **columns: Any) -> None:
    """A run that a worker has, of which the last event was so long ago."""
    lease: Json = {"lease_owner": "a worker", "lease_expires_at": now + 60 * MINUTE}
    times: Json = {"created_at": now - 300 * MINUTE, "started_at": now - 300 * MINUTE}
    stored(run_id, status=Status.IN_PROGRESS, last_seq=1, **lease, **times, **columns)
    TaskEvent.objects.create(
        run_id=run_id, seq=1, type="log", task_id=f"{run_id} root", payload={}, created_at=now - quiet
    )


def schedule(name: str, now: datetime, **columns: Any) -> Schedule:
    times = {"created_at": now, "updated_at": now}
    return Schedule.objects.create(**{"user_id": "ada", "name": name, "every_seconds": 60, **times, **columns})


def found(caller: Caller = ADA, since: str = "") -> home.Home:
    return home.home(caller=caller, since=since)


def troubles(caller: Caller = ADA, since: str = "") -> set[tuple[str, str]]:
    return {(each.kind, each.name or each.root_id or "") for each in found(caller, since).troubles}


def test_a_visit_lasts_until_everything_is_marked_as_seen(now: datetime) -> None:
    first = found()
    assert not first.is_last_visit and now - first.since < home.FIRST + MINUTE
    home.mark_seen(caller=ADA, until=now - 3 * MINUTE)
    assert (found().since, found().is_last_visit, found(BOB).is_last_visit) == (now - 3 * MINUTE, True, False)
    home.mark_seen(caller=ADA, until=now + timedelta(days=400))
    assert found().since <= datetime.now(UTC)
    LastVisit.objects.update(at=now - timedelta(days=400))
    last = found()
    assert last.until - last.since == home.LONGEST


@pytest.mark.parametrize(
    "since", ["2h", "yesterday", "0001-01-01T00:00+14:00", "9999-12-31T23:59", "2000-01-01", "visit "]
)
def test_another_time_is_refused_with_the_choices(since: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        found(since=since)
    assert [name for name, _ in refused.value.problems] == ["since"]


def test_a_time_is_in_utc_unless_it_has_a_zone(now: datetime) -> None:
    at = (now - timedelta(hours=5)).replace(microsecond=0)
    zone = at.astimezone(datetime.fromisoformat("2026-01-01T00:00+05:30").tzinfo)
    assert found(since=at.replace(tzinfo=None).isoformat()).since == found(since=zone.isoformat()).since == at
    assert abs(found(since="24h").since - (now - timedelta(days=1))) < MINUTE


def test_a_run_is_stuck_when_nothing_happens_for_much_longer_than_usual(now: datetime) -> None:
    for number in range(3):
        begin = now - timedelta(days=1, minutes=number)
        times: Json = {"created_at": begin, "started_at": begin, "finished_at": begin + 30 * MINUTE}
        stored(f"slow {number}", status=Status.COMPLETED, flow_id="slow", **times)
        stored(f"quick {number}", status=Status.COMPLETED, flow_id="quick", **times | {"finished_at": begin + MINUTE})
    held("of quick", now, quiet=11 * MINUTE, flow_id="quick")
    held("of slow", now, quiet=140 * MINUTE, flow_id="slow")
    held("heard", now, quiet=9 * MINUTE, flow_id="quick")
    held("of none", now, quiet=59 * MINUTE)
    held("long quiet", now, quiet=61 * MINUTE)
    held("of bob", now, quiet=61 * MINUTE, user="bob")
    assert troubles() == {("stuck", "of quick root"), ("stuck", "long quiet root")}
    assert troubles(LOCAL) == troubles() | troubles(BOB) and len(troubles(BOB)) == 1


def test_a_run_that_waits_for_code_which_no_worker_has_is_stuck(now: datetime) -> None:
    for user in ("ada", "bob"):
        why = {"since": now.isoformat(), "tasks": {f"{user} w": {"need": "workflow:research@1a2b"}}}
        needs: Json = {"needs": "workflow:research@1a2b", "needed_for": why, "lease_owner": SUSPENDED}
        stored(f"of {user}", created_at=now, user=user, **needs)
    (trouble,) = found().troubles
    assert (trouble.kind, trouble.at) == ("stuck", now)
    assert trouble.reason == "waits for version 1a2b of workflow:research, which no worker has"
    beats = {"cluster_id": "c", "host": "h", "pid": 1, "places": 10, "started_at": now}
    WorkerProcess.objects.create(id="w", beat_at=now, workflows={"workflow:research": "1a2b"}, **beats)
    assert troubles(LOCAL) == set()


def test_schedules_that_are_late_missed_times_or_are_paused_are_named(now: datetime) -> None:
    schedule("late", now, next_run_at=now - 2 * MINUTE)
    schedule("in time", now, next_run_at=now - MINUTE / 2)
    schedule("coming", now, next_run_at=now + 5 * MINUTE)
    schedule("failed too often", now, is_paused=True, pause_reason="3 runs in a row failed.")
    schedule("paused by hand", now, is_paused=True)
    missed = schedule("missed", now)
    reasons = ["Missed: no server was running.", "An earlier run has not ended; overlap is skip.", "Missed before"]
    for hours, reason in zip((1, 2, 48), reasons, strict=True):
        at = now - timedelta(hours=hours)
        Firing.objects.create(schedule=missed, scheduled_for=at, outcome="skipped", reason=reason)
    assert troubles() == {("late", "late"), ("paused", "failed too often"), ("missed", "missed")}
    (of_times,) = (each for each in found().troubles if each.kind == "missed")
    assert (of_times.count, of_times.reason, of_times.at) == (1, reasons[0], now - timedelta(hours=1))
    assert [each.count for each in found(since="7d").troubles if each.kind == "missed"] == [2]
    assert [each.name for each in found().coming] == ["coming"]
    assert troubles(BOB) == set() and list(found(BOB).coming) == []


def test_workers_and_the_queue_are_counted(now: datetime) -> None:
    beats = {"cluster_id": "c", "host": "h", "pid": 1, "places": 10, "started_at": now}
    WorkerProcess.objects.create(id="alive", beat_at=now, **beats)
    WorkerProcess.objects.create(id="gone", beat_at=now - timedelta(hours=1), **beats)
    held("running", now, quiet=MINUTE)
    stored("queued", created_at=now - 5 * MINUTE)
    stored("of bob", created_at=now, user="bob")
    pulse = found().pulse
    assert (pulse.workers, pulse.places, pulse.running, pulse.queued) == (1, 10, 1, 1)
    assert pulse.queued_since == now - 5 * MINUTE
    assert found(LOCAL).pulse.queued == 2


def test_numbers_are_compared_with_the_same_hours_of_the_week_before(now: datetime) -> None:
    def ended(name: str, at: datetime, **columns: Any) -> None:
        stored(name, status=Status.COMPLETED, created_at=at, started_at=at, finished_at=at, **columns)

    ended("now", now - MINUTE, total_tokens=30, cost_nanos=3 * 10**9)
    ended("then", now - timedelta(days=7, minutes=1), total_tokens=20, cost_nanos=10**9)
    ended("between", now - timedelta(days=3), total_tokens=1_000)
    ended("after", now - timedelta(days=7) + 5 * MINUTE, total_tokens=1_000)
    totals, before = found(since="1h").totals, found(since="1h").week_before
    assert (totals.runs, totals.completed, totals.total_tokens, totals.cost_usd) == (1, 1, 30, 3.0)
    assert (before.runs, before.total_tokens, before.cost_usd) == (1, 20, 1.0)
