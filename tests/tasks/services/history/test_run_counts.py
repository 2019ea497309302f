"""Runs that ended are added up by hour: the sums are exact, whether an hour is counted or not, and each user has their own."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from operator import attrgetter
from typing import Any

import pytest

from accounts.callers import LOCAL, Caller, Role
from tasks.ids import new_id
from tasks.models import Flow, Run, RunCount, Task
from tasks.rules.error_texts import key_of
from tasks.rules.tags import REPLAY
from tasks.services import flows, trees
from tasks.services.history import run_counts
from tasks.services.history.run_counts import (
    BY_STATUS,
    DAY,
    HOUR,
    Ended,
    ended_runs,
    failure_groups,
    failures_by_bar,
    hour_of,
    number_of,
)
from tasks.services.runs.run_inputs import with_inputs, with_tags
from tasks.services.upkeep import home
from tasks.status import Status
from tasks.worker.supervisor import Sweeps
from tests.workers import WorkerThread, group, result_of, run_tree, step

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ADA = Caller(user_id="ada", role=Role.OPERATOR)
BOB = Caller(user_id="bob", role=Role.OPERATOR)
CALLERS = [ADA, BOB, LOCAL]
IDS = count()
SLOW, GONE = "No connection within {} s", "No file /tmp/{}.csv"


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def numbers() -> Iterator[int]:
    return count(1)


def ended(user: str, at: datetime, *, error: str | None = None, flow: str | None = None, **columns: Any) -> Run:
    """A run that has ended then: with this error if it has failed."""
    root_id = new_id()
    failures = None if error is None else [{"task_id": root_id, "name": "a", "error": error}]
    status = Status.COMPLETED if error is None else Status.FAILED
    ids = {"root_id": root_id, "target_id": root_id, "context_id": root_id, "user_id": user, "flow_id": flow}
    times = {"created_at": at, "started_at": at, "finished_at": at}
    key = None if error is None else key_of(error)
    row = {"id": f"run-{next(IDS):08}", "status": status, "failures": failures, "error_key": key, **ids, **times}
    return Run.objects.create(**row | columns)


def a_night(now: datetime, numbers: Iterator[int]) -> None:
    """Runs of two users in each of five hours, at their edges too."""
    for hours in range(1, 6):
        hour = hour_of(now) - hours * HOUR
        ended("ada", hour, flow="f1", total_tokens=100, cost_nanos=7)
        ended("ada", hour + HOUR - timedelta(microseconds=1), error=SLOW.format(next(numbers)), flow="f1")
        ended("ada", hour + HOUR / 2, error=GONE.format(next(numbers)))
        ended("bob", hour + HOUR / 2, error=SLOW.format(next(numbers)), flow="f2", total_tokens=1)
        ended("bob", hour + HOUR / 3, status=Status.CANCELLED)
    ended("ada", now - timedelta(seconds=5), error=SLOW.format(99), flow="f1")
    ended("ada", now - timedelta(seconds=5), root_id="reserved", id="reserved")  # it has no tree


def sums(caller: Caller, since: datetime, until: datetime | None = None) -> list[Ended]:
    key = attrgetter("flow_id", "status", "error_key")
    return sorted(ended_runs(caller=caller, since=since, until=until), key=key)


def test_sums_are_the_same_whether_hours_are_counted_or_not(now: datetime, numbers: Iterator[int]) -> None:
    a_night(now, numbers)
    hour = hour_of(now)
    periods = [
        *((hour - hours * HOUR, None) for hours in (1, 3, 5)),
        *((hour - hours * HOUR - HOUR / 2, until) for hours in (1, 2) for until in (None, now - HOUR, hour)),
        (hour - 4 * HOUR, hour - 2 * HOUR),
        (hour - 4 * HOUR + HOUR / 4, hour - 4 * HOUR + HOUR * 3 / 4),
        (now - timedelta(minutes=1), None),
    ]
    before = [sums(caller, *period) for caller in CALLERS for period in periods]
    assert not run_counts.count_hours(give_up_at=float("inf"))
    counted = RunCount.objects.filter(hours=1).values_list("hour", flat=True)
    assert set(counted) >= {number_of(hour) - hours for hours in (2, 3, 4, 5)}
    assert [sums(caller, *period) for caller in CALLERS for period in periods] == before
    (completed,) = (each for each in sums(ADA, hour - 5 * HOUR) if each.status == Status.COMPLETED)
    assert (completed.runs, completed.total_tokens, completed.cost_nanos, completed.flow_id) == (5, 500, 35, "f1")
    assert sum(each.runs for each in sums(BOB, hour - 5 * HOUR)) == 10
    assert sum(each.runs for each in sums(LOCAL, hour - 5 * HOUR)) == 26


def test_whole_days_are_read_from_their_sums(now: datetime, numbers: Iterator[int]) -> None:
    for hours in (2, 20, 25, 26, 49, 50, 51, 100, 101, 140, 141, 142):
        hour = hour_of(now) - hours * HOUR
        ended("ada", hour + HOUR / 2, error=SLOW.format(next(numbers)), flow="f1", total_tokens=hours)
        ended("bob", hour, error=GONE.format(next(numbers)), cost_nanos=hours)
        ended("ada", hour, flow=f"f{hours % 2}")
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    times = [
        now - timedelta(days=7),
        midnight - timedelta(days=3),
        now - timedelta(hours=101),
        now - timedelta(hours=30),
    ]
    periods = [(since, until) for since in times for until in (None, midnight, now - timedelta(hours=26, minutes=10))]
    (key,) = {each.error_key for each in sums(ADA, times[0]) if each.error_key}
    chart: dict[str, Any] = {"keys": [key], "since": times[0], "width": 5}

    def read() -> list[Any]:
        found = [sums(caller, *period) for caller in CALLERS for period in periods]
        return [*found, *(failures_by_bar(caller=caller, **chart) for caller in CALLERS)]

    before = read()
    assert not run_counts.count_hours(give_up_at=float("inf"))
    assert read() == before
    Run.objects.all().delete()
    RunCount.objects.filter(hours=1, hour__lt=number_of(midnight)).delete()
    assert sum(each.runs for each in sums(LOCAL, midnight - timedelta(days=6))) == 36
    assert RunCount.objects.filter(hours=DAY, hour=number_of(now) // DAY * DAY).count() == 0


def test_sums_by_status_are_those_of_all_flows_and_errors(now: datetime, numbers: Iterator[int]) -> None:
    a_night(now, numbers)
    run_counts.count_hours(give_up_at=float("inf"))
    runs = Counter[str]()
    for each in sums(LOCAL, now - 5 * HOUR):
        runs[each.status] += each.runs
    by_status = ended_runs(caller=LOCAL, since=now - 5 * HOUR, by=BY_STATUS)
    assert {each.status: each.runs for each in by_status} == runs
    assert {(each.flow_id, each.error_key) for each in by_status} == {("", "")}


def test_replays_of_a_call_are_left_out(worker: WorkerThread, now: datetime) -> None:
    failing = [step("a", inputs={"then": "fail"})]
    for tags in ([], [REPLAY, f"{REPLAY}:a-call"]):
        with_tags(trees.execute_tree, tags, caller=ADA, tasks=failing)
    worker.work()
    (run, replay) = Run.objects.order_by("created_at")
    assert (run.status, replay.status) == (Status.FAILED, Status.FAILED)
    (found,) = groups(ADA, now)
    assert (found.runs, found.newest_id) == (1, run.id)
    assert sum(failures_by_bar(caller=ADA, keys=[found.key], since=now, width=1)[found.key].values()) == 1
    wanted: dict[str, Any] = {"key": found.key, "since": now, "until": datetime.now(UTC), "most": 10}
    assert run_counts.runs_to_retry(caller=ADA, **wanted) == [run]
    Run.objects.update(finished_at=now - 3 * HOUR)
    run_counts.count_hours(give_up_at=float("inf"))
    assert [each.runs for each in sums(ADA, now - 4 * HOUR)] == [1]


def test_an_hour_is_counted_once(now: datetime, numbers: Iterator[int]) -> None:
    a_night(now, numbers)
    assert run_counts.count_hours()  # one, and others are left
    counted = list(RunCount.objects.order_by("id").values())
    assert {row["hour"] for row in counted if row["hours"] == 1} == {number_of(now) - 5}
    run_counts._count(hour_of(now) - 5 * HOUR)  # as another process that was slower
    assert list(RunCount.objects.order_by("id").values()) == counted
    Run.objects.all().delete()
    assert sum(each.runs for each in sums(LOCAL, hour_of(now) - 5 * HOUR)) == 5


def test_a_sweep_counts_the_hours_and_gives_old_failures_their_keys(now: datetime) -> None:
    run = ended("ada", now - 3 * HOUR, error=SLOW.format(10), error_key=None)
    Sweeps().sweep()
    run.refresh_from_db()
    assert run.error_key == key_of(SLOW.format(10))
    assert set(RunCount.objects.values_list("error_key", "runs")) == {(run.error_key, 1)}


def test_failures_are_grouped_by_what_their_errors_have_in_common(now: datetime, numbers: Iterator[int]) -> None:
    f1 = Flow.objects.create(user_id="ada", name="fetch", created_at=now, updated_at=now)
    for minutes in (50, 40, 30):
        ended("ada", now - timedelta(minutes=minutes), error=SLOW.format(next(numbers)), flow=f1.id)
    ended("ada", now - timedelta(minutes=20), error=GONE.format(next(numbers)), flow="deleted")
    last = ended("ada", now - timedelta(minutes=10), error=GONE.format("b"))
    ended("bob", now - timedelta(minutes=5), error=GONE.format("c"))
    since = now - HOUR
    slow, gone = groups(ADA, since)
    assert (slow.pattern, slow.error, slow.runs) == ("No connection within N s", "No connection within 3 s", 3)
    assert [(share.name, share.user_id, share.runs) for share in slow.flows] == [("fetch", "ada", 3)]
    assert {(share.name, share.runs) for share in gone.flows} == {("", 1), (None, 1)}
    assert (gone.error, gone.newest_id, gone.runs) == ("No file /tmp/b.csv", last.id, 2)
    assert (gone.first_at, gone.last_at) == (now - timedelta(minutes=20), now - timedelta(minutes=10))
    assert [found.runs for found in groups(BOB, since)] == [1]
    assert [found.runs for found in groups(LOCAL, since)] == [3, 3]
    bars = failures_by_bar(caller=ADA, keys=[gone.key], since=since, width=1)[gone.key]
    assert bars == Counter(number_of(now - timedelta(minutes=each)) - number_of(since) for each in (20, 10))


def groups(caller: Caller, since: datetime) -> list[run_counts.FailureGroup]:
    found, number = failure_groups(caller=caller, ended=ended_runs(caller=caller, since=since), since=since, most=20)
    assert len(found) == number
    return found


def test_a_group_is_over_when_each_of_its_flows_completes_again(now: datetime) -> None:
    def state() -> str:
        (found,) = groups(ADA, now - HOUR)
        return found.state

    ended("ada", now - timedelta(minutes=50), flow="f1")
    ended("ada", now - timedelta(minutes=40), error="no", flow="f1")
    ended("ada", now - timedelta(minutes=40), error="no", flow="f2")
    assert state() == run_counts.FAILING
    ended("ada", now - timedelta(minutes=30), flow="f1")
    assert state() == run_counts.FAILING
    ended("ada", now - timedelta(minutes=20), flow="f2")
    assert state() == run_counts.OVER
    ended("ada", now - timedelta(minutes=10), error="no")
    assert state() == ""


def test_an_error_is_new_unless_it_occurred_in_the_month_before(now: datetime) -> None:
    ended("ada", now - timedelta(days=3), error=SLOW.format(1))
    ended("bob", now - timedelta(days=3), error=GONE.format("x"))
    for error in (SLOW.format(2), GONE.format("y")):
        ended("ada", now - timedelta(minutes=1), error=error)
    run_counts.count_hours(give_up_at=float("inf"))
    assert {found.pattern: found.is_new for found in groups(ADA, now - HOUR)} == {
        "No connection within N s": False,
        "No file PATH": True,
    }


def test_a_run_that_fails_has_the_key_of_its_cause(worker: WorkerThread) -> None:
    tasks = group("all", step("a", inputs={"then": "fail"}), step("b", dependencies=["a"]))
    ran = run_tree(worker, tasks)
    assert ran.run.status == Status.FAILED
    assert ran.run.error_key == key_of(ran.tasks["a"].error or "")
    assert run_tree(worker, [step("c")]).run.error_key is None


def test_a_group_is_retried_with_a_corrected_input(worker: WorkerThread, now: datetime) -> None:
    schema = {
        "type": "object",
        "properties": {"then": {"type": "string", "default": "fail"}, "topic": {"type": "string"}},
        "additionalProperties": False,
    }
    tasks = [step("a", inputs={"then": "{{run.inputs.then}}", "topic": "{{run.inputs.topic}}"})]
    flows.save_flow(caller=ADA, name="talk", tasks=tasks, inputs_schema=schema)
    for topic in ("aa", "aa", "bb"):
        flows.run_flow(caller=ADA, name="talk", inputs={"topic": topic})
    trees.execute_tree(caller=BOB, tasks=[step("a", inputs={"then": "fail"})])
    worker.work()
    (found,) = groups(ADA, now)
    wanted: dict[str, Any] = {"key": found.key, "since": now, "until": found.last_at, "most": 10}
    runs = run_counts.runs_to_retry(caller=ADA, **wanted)
    assert len(runs) == found.runs == 3
    assert {run.user_id for run in run_counts.runs_to_retry(caller=BOB, **wanted)} <= {"bob"}
    shared = home.shared_inputs(runs)
    assert list(shared.schema["properties"]) == ["then", "topic"]
    assert (dict(shared.values["then"]), dict(shared.values["topic"])) == ({"fail": 3}, {"aa": 2, "bb": 1})
    for run in runs:
        assert home.retry_run(caller=ADA, run=run, inputs={"then": "ok"}).started
    worker.work()
    again = Run.objects.filter(user_id="ada", number=2)
    assert [run.status for run in again] == [Status.COMPLETED] * 3
    assert run_counts.runs_to_retry(caller=ADA, **wanted) == []
    (over,) = groups(ADA, now)
    assert (over.state, over.runs) == (run_counts.OVER, 3)


def test_a_whole_tree_is_retried_where_a_completed_task_had_the_wrong_input(worker: WorkerThread) -> None:
    a = step("a", inputs={"topic": "{{run.inputs.topic}}"})
    b = step("b", dependencies=["a"], inputs={"then": "{{run.inputs.then}}"})
    given = {"topic": "aa", "then": "fail"}
    execution = with_inputs(trees.execute_tree, given, caller=ADA, tasks=group("all", a, b))
    worker.work()
    for is_whole, said in ((False, "aa"), (True, "bb")):
        Task.objects.filter(id=execution.ids["b"]).update(status=Status.FAILED)
        again = {"topic": "bb", "then": "ok"}
        run = home.retry_run(caller=ADA, run=execution.run, inputs=again, is_whole=is_whole).run
        worker.work()
        ran = result_of(run, ids=execution.ids)
        assert (ran.run.status, ran.tasks["a"].result["inputs"]["topic"]) == (Status.COMPLETED, said)


@pytest.mark.usefixtures("test_executors")
def test_only_inputs_that_all_flows_take_in_the_same_way_are_corrected_together(now: datetime) -> None:
    shared = {"type": "string", "enum": ["eu", "us"], "default": "eu"}
    for name, limit in (("one", {"type": "integer"}), ("two", {"type": "string"})):
        schema = {"type": "object", "properties": {"region": shared, "limit": limit, name: {}}}
        flows.save_flow(caller=ADA, name=name, tasks=[step("a")], inputs_schema=schema)
    ids = list(Flow.objects.order_by("name").values_list("id", flat=True))
    runs = [ended("ada", now, error="no", flow=flow_id, flow_version=1) for flow_id in ids]
    assert home.shared_inputs(runs).schema["properties"] == {"region": {"type": "string", "enum": ["eu", "us"]}}
    assert home.shared_inputs([*runs, ended("ada", now, error="no")]).schema == {}
    assert home.shared_inputs([]).schema == {}
