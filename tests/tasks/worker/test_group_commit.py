"""The journal: what is committed is durable, in order, fenced by the epoch, and a bad row fails alone."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import DatabaseError, connection

from accounts.callers import LOCAL
from tasks import events
from tasks.models import Assignee, Question, Run, Task, TaskEvent
from tasks.queue import leases
from tasks.queue.leases import Claim
from tasks.rules.exceptions import LeaseLost
from tasks.services import trees
from tasks.services.trees.persist import row_below
from tasks.worker import group_commit
from tasks.worker.changes import (
    AttemptFailed,
    Change,
    ChildrenNoted,
    EventAdded,
    QuestionAlarmed,
    QuestionAsked,
    QuestionAssigned,
    RunClosed,
    StepsAdded,
    TaskFinished,
    TaskProgressed,
    TaskStarted,
    rows_of,
)
from tasks.worker.group_commit import ANSWERS_PER_TURN, MOST_ROWS, MOST_ROWS_BESIDE_OTHERS, GroupCommit
from tasks.worker.run_recorder import Fence
from tests.workers import Json

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
Scenario = Callable[[GroupCommit], Awaitable[Any]]
NOW = "2026-01-01 00:00:00"
REFUSED_BY_ANY_DATABASE = None
"""As a status: the column takes no null."""


def claimed(size: int = 1, name: str = "t") -> Claim:
    """A claimed run of a tree of `t0`, `t1` …"""
    tasks: list[Json] = [{"id": f"{name}0", "name": "echo_executor"}]
    tasks += [{"id": f"{name}{number}", "name": "echo_executor", "parent_id": f"{name}0"} for number in range(1, size)]
    run = trees.execute_tree(caller=LOCAL, tasks=tasks).run
    (claim,) = leases.claim(owner="a/1/1", limit=1)
    assert claim.run_id == run.id
    return claim


def event_of(type_: str, task_id: str) -> Json:
    return {"type": type_, "task_id": task_id, "seq": 0}


def fence_of(claim: Claim) -> Fence:
    return Fence(run_id=claim.run_id, epoch=claim.epoch, token=claim.token, owner="")


def finish(claim: Claim, task_id: str, *, status: str | None = "completed") -> Change:
    event = event_of("task_completed", task_id)
    return TaskFinished(**fence_of(claim), event=event, task_id=task_id, status=status, result="{}", at=NOW)


def start(claim: Claim, task_id: str) -> Change:
    return TaskStarted(**fence_of(claim), event=event_of("task_start", task_id), task_id=task_id, attempt=1, at=NOW)


def log(claim: Claim, text: str) -> Change:
    return EventAdded(**fence_of(claim), event=event_of("log", text))


def close(claim: Claim) -> Change:
    return RunClosed(**fence_of(claim), event=event_of("final", "t0"), status="completed", at=NOW)


def with_journal(scenario: Scenario) -> Any:
    async def play() -> Any:
        return await scenario(GroupCommit(asyncio.get_running_loop()))

    return asyncio.run(play())


def all_together(*changes: Change) -> Scenario:
    """Commit them in one go, and return what became of each."""

    async def scenario(journal: GroupCommit) -> list[BaseException | None]:
        blocked = threading.Event()
        blocker = asyncio.ensure_future(journal.call(blocked.wait))  # so that they queue up behind it
        await asyncio.sleep(0)
        commits = [asyncio.ensure_future(journal.commit(change)) for change in changes]
        await asyncio.sleep(0)
        blocked.set()
        await blocker
        return await asyncio.gather(*commits, return_exceptions=True)

    return scenario


def statuses() -> dict[str, str]:
    return dict(Task.objects.values_list("id", "status"))


def log_of(claim: Claim) -> list[tuple[int, str, str]]:
    return [(event["seq"], event["type"], event["task_id"]) for event in events.read(run_id=claim.run_id)]


def test_status_result_and_event_are_written_together_in_the_order_of_the_steps() -> None:
    claim = claimed()
    assert with_journal(all_together(start(claim, "t0"), finish(claim, "t0"), close(claim))) == [None] * 3
    assert statuses() == {"t0": "completed"}
    assert log_of(claim) == [(1, "task_start", "t0"), (2, "task_completed", "t0"), (3, "final", "t0")]
    run = Run.objects.get()
    assert (run.status, run.last_seq, run.lease_owner) == ("completed", 3, None)


def test_what_is_put_is_written_before_what_is_committed_later() -> None:
    claim = claimed()

    async def scenario(journal: GroupCommit) -> None:
        for number in range(100):
            journal.put(log(claim, f"line {number}"))
        await journal.commit(finish(claim, "t0"))

    with_journal(scenario)
    lines = log_of(claim)
    assert [seq for seq, _, _ in lines] == list(range(1, 102))
    assert [text for _, _, text in lines] == [*(f"line {number}" for number in range(100)), "t0"]


def test_a_bad_row_fails_alone() -> None:
    claim, other = claimed(4), claimed(1, name="o")
    answers = with_journal(
        all_together(
            finish(claim, "t1"),
            finish(claim, "t2", status=REFUSED_BY_ANY_DATABASE),
            finish(claim, "t3"),
            finish(other, "o0"),
        )
    )
    assert isinstance(answers[1], DatabaseError)
    assert [answers[0], answers[2], answers[3]] == [None, None, None]
    assert statuses() == {"t0": "pending", "t1": "completed", "t2": "pending", "t3": "completed", "o0": "completed"}
    assert [(seq, task) for seq, _, task in log_of(claim)] == [(1, "t1"), (2, "t3")]


def test_a_value_that_is_no_json_fails_alone_and_the_journal_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    claim = claimed(3)
    odd = log(claim, "\udcff")
    assert [type(answer) for answer in with_journal(all_together(finish(claim, "t1"), odd, finish(claim, "t2")))] == [
        type(None),
        TypeError,
        type(None),
    ]
    assert [task for _, _, task in log_of(claim)] == ["t1", "t2"]
    assert "A change was refused" in caplog.text


def test_a_run_whose_last_outcome_is_refused_does_not_end() -> None:
    claim = claimed()

    async def scenario(journal: GroupCommit) -> None:
        await journal.commit_together([finish(claim, "t0", status=REFUSED_BY_ANY_DATABASE), close(claim)])

    with pytest.raises(DatabaseError):
        with_journal(scenario)
    assert statuses() == {"t0": "pending"}
    run = Run.objects.get()
    assert (run.finished_at, log_of(claim)) == (None, [])


@pytest.mark.parametrize(("users", "most_rows"), [(1, MOST_ROWS), (2, MOST_ROWS_BESIDE_OTHERS)])
def test_a_change_of_one_user_does_not_wait_for_thousands_of_another(users: int, most_rows: int) -> None:
    alice, bob = claimed(2), claimed(1, name="b")
    thousands = [replace(log(alice, f"line {number}"), owner="alice") for number in range(3_000)]

    async def scenario(journal: GroupCommit) -> int:
        journal.pace(2, users=users)
        blocked = threading.Event()
        blocker = asyncio.ensure_future(journal.call(blocked.wait))
        await asyncio.sleep(0)
        for each in thousands:
            journal.put(each)
        ending = asyncio.ensure_future(journal.commit(replace(finish(bob, "b0"), owner="bob")))
        looking = asyncio.ensure_future(journal.call(lambda: TaskEvent.objects.count(), user_id="bob"))
        await asyncio.sleep(0)
        blocked.set()
        await asyncio.gather(blocker, ending)
        written = await looking
        await journal.empty()
        return written

    assert with_journal(scenario) < 2 * most_rows
    texts = [event["task_id"] for event in events.read(run_id=alice.run_id, limit=5_000)]
    assert texts == [f"line {number}" for number in range(3_000)]


def test_no_turn_of_the_loop_ends_more_waits_than_it_may() -> None:
    """What follows the commit of thousands of changes takes a while; in their order, others have the loop meanwhile."""
    claim = claimed()

    async def scenario(journal: GroupCommit) -> list[list[int]]:
        ended, by_turn = list[int](), list[list[int]]()

        async def commit(number: int) -> None:
            await journal.commit(log(claim, f"line {number}"))
            ended.append(number)

        waits = [asyncio.create_task(commit(number)) for number in range(300)]
        while not all(each.done() for each in waits):
            await asyncio.sleep(0)
            by_turn.append(ended.copy())
            ended.clear()
        return by_turn

    by_turn = with_journal(scenario)
    assert max(map(len, by_turn)) <= ANSWERS_PER_TURN
    assert [number for turn in by_turn for number in turn] == list(range(300))


def test_a_quick_task_starts_and_ends_in_one_commit_which_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = claimed()
    written = list[int]()

    def write_and_count(changes: Sequence[Change]) -> list[BaseException | None]:
        written.append(len(changes))
        return write_together(changes)

    write_together = group_commit._write_together
    monkeypatch.setattr(group_commit, "_write_together", write_and_count)
    monkeypatch.setattr(group_commit, "UNHURRIED_SECONDS", 60)

    async def scenario(journal: GroupCommit) -> None:
        journal.put(start(claim, "t0"))
        await journal.commit_together([finish(claim, "t0"), close(claim)])

    with_journal(scenario)
    assert written == [3]
    assert log_of(claim) == [(1, "task_start", "t0"), (2, "task_completed", "t0"), (3, "final", "t0")]


def test_whoever_lost_the_lease_writes_nothing() -> None:
    claim = claimed(2)
    leases.release(owner="a/1/1")
    (successor,) = leases.claim(owner="b/1/1", limit=1)
    late, close_late, good = with_journal(all_together(finish(claim, "t1"), close(claim), finish(successor, "t0")))
    assert isinstance(late, LeaseLost)
    assert isinstance(close_late, LeaseLost)
    assert good is None
    assert statuses() == {"t0": "completed", "t1": "pending"}
    assert [task for _, _, task in log_of(claim)] == ["t0"]
    assert Run.objects.get().finished_at is None


def test_a_claim_that_the_database_lost_in_a_crash_is_refused_though_its_successor_has_the_same_epoch() -> None:
    claim = claimed(2)
    Run.objects.update(status="pending", lease_owner=None, lease_expires_at=None, claim_token=None, epoch=0)
    (successor,) = leases.claim(owner="a/1/1", limit=1)
    assert successor.epoch == claim.epoch
    late, good = with_journal(all_together(finish(claim, "t1"), finish(successor, "t0")))
    assert isinstance(late, LeaseLost)
    assert good is None
    assert statuses() == {"t0": "completed", "t1": "pending"}
    assert log_of(claim) == [(1, "task_completed", "t0")]


def test_a_finished_run_takes_no_more() -> None:
    claim = claimed(2)
    assert with_journal(all_together(close(claim))) == [None]
    (late,) = with_journal(all_together(finish(claim, "t1")))
    assert isinstance(late, LeaseLost)
    assert statuses()["t1"] == "pending"


def test_a_terminal_status_never_changes_and_is_told_once() -> None:
    """A commit whose answer was lost is tried again."""
    claim = claimed(2)
    for _ in range(2):
        assert with_journal(all_together(finish(claim, "t1"), log(claim, "and more"))) == [None, None]
    assert [task for _, _, task in log_of(claim)].count("t1") == 1
    assert with_journal(all_together(finish(claim, "t1", status="failed"))) == [None]
    assert statuses()["t1"] == "completed"


def test_a_reminder_is_told_once_and_an_assignee_listed_once() -> None:
    """A commit whose answer was lost is tried again."""
    claim = claimed()

    def assigned(name: str) -> list[QuestionAssigned]:
        return [QuestionAssigned(**fence_of(claim), question_id="q", name=name)]

    asked = QuestionAsked(
        **fence_of(claim),
        event=event_of("log", "asked"),
        task_id="t0",
        question_id="q",
        text="?",
        options=None,
        schema=None,
        assignees='["bob"]',
        alarms="[1,2]",
        alarm_at=NOW,
        memo="null",
        at=NOW,
        expires_at=None,
        assigned=assigned("bob"),
    )
    alarmed = QuestionAlarmed(
        **fence_of(claim),
        event=event_of("log", "escalated"),
        question_id="q",
        before="[1,2]",
        assignees='["bob","carol"]',
        alarms="[2]",
        alarm_at=NOW,
        assigned=assigned("carol"),
    )
    reminded = QuestionAlarmed(
        **fence_of(claim),
        event=event_of("log", "reminded"),
        question_id="q",
        before="[2]",
        assignees='["bob","carol"]',
        alarms=None,
        alarm_at=None,
    )
    for change in (asked, asked, alarmed, alarmed, reminded, reminded):
        assert with_journal(all_together(change)) == [None]
    assert [task for _, _, task in log_of(claim)] == ["asked", "escalated", "reminded"]
    assert Question.objects.get().alarms is None
    assert sorted(Assignee.objects.values_list("name", flat=True)) == ["bob", "carol"]


def test_two_writers_number_the_events_of_one_run_densely() -> None:
    claim = claimed()

    def write(who: int) -> None:
        async def scenario(journal: GroupCommit) -> None:
            for number in range(60):
                await journal.commit(log(claim, f"{who} {number}"))

        with_journal(scenario)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    lines = log_of(claim)
    assert [seq for seq, _, _ in lines] == list(range(1, 121))
    for who in ("0", "1"):
        assert [text for _, _, text in lines if text.startswith(who)] == [f"{who} {number}" for number in range(60)]


def test_commits_of_several_runs_by_two_writers_number_the_events_of_each_densely() -> None:
    claims = [claimed(name="a"), claimed(name="b")]

    def write(order: Sequence[Claim]) -> None:
        async def scenario(journal: GroupCommit) -> None:
            for number in range(30):
                await journal.commit_together([log(claim, str(number)) for claim in order])

        with_journal(scenario)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, [claims, claims[::-1]]))
    for claim in claims:
        assert [seq for seq, _, _ in log_of(claim)] == list(range(1, 61))


def test_other_work_takes_its_turn_and_its_errors_come_back() -> None:
    claim = claimed()

    def seen() -> int:
        return len(log_of(claim))

    def wrong() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM nowhere")

    async def scenario(journal: GroupCommit) -> int:
        journal.put(log(claim, "before"))
        with pytest.raises(DatabaseError):
            await journal.call(wrong)
        return await journal.call(seen)

    assert with_journal(scenario) == 1


def test_who_stops_waiting_takes_nothing_back() -> None:
    claim = claimed()

    async def scenario(journal: GroupCommit) -> None:
        commit = asyncio.ensure_future(journal.commit(finish(claim, "t0")))
        await asyncio.sleep(0)
        commit.cancel()
        await journal.call(lambda: None)

    with_journal(scenario)
    assert statuses() == {"t0": "completed"}


def test_a_step_that_ends_in_the_commit_that_adds_it_is_one_row_to_write() -> None:
    claim = claimed()
    fence, root = fence_of(claim), Task.objects.get(id="t0")
    now = datetime.now(UTC)
    what = {"name": "a", "executor_id": "echo_executor", "call": {"path": "1", "hash": "", "seen": [], "patches": []}}
    row, other = (row_below(root, now=now, id=f"t0/{number}", inputs={}, **what) for number in (1, 2))
    row.position, other.position = 1, 2
    added = StepsAdded(**fence, task_id="t0", rows=[row, other], first=ChildrenNoted(**fence, task_id="t0", at=NOW))
    starts = [TaskStarted(**fence, task_id=task_id, attempt=1, at=NOW) for task_id in ("t0/1", "t0/2")]
    progress = TaskProgressed(**fence, task_id="t0/2", progress=0.5, at=NOW)
    end = TaskFinished(
        **fence, task_id="t0/1", status="completed", at=NOW, result='{"x":1}', token_usage='{"total_tokens":3}'
    )
    changes = [added, *starts, progress, end]
    assert {type(change) for change in rows_of(changes)} == {StepsAdded, ChildrenNoted, TaskStarted, TaskProgressed}
    assert group_commit._write_together(changes) == [None] * 5
    ended, begun = Task.objects.filter(parent_id="t0").order_by("position")
    assert (ended.status, ended.result, ended.token_usage, ended.attempt) == (
        "completed",
        {"x": 1},
        {"total_tokens": 3},
        1,
    )
    assert ended.started_at == ended.completed_at == ended.updated_at == datetime.fromisoformat(f"{NOW}+00:00")
    assert (begun.status, begun.progress, begun.attempt) == ("in_progress", 0.5, 1)
    assert (Task.objects.get(id="t0").has_children, row.status) == (True, "pending")


def test_an_attempt_that_starts_and_fails_in_one_commit_keeps_its_error_until_the_next_one_starts() -> None:
    claim = claimed(2)
    starts = [
        TaskStarted(
            **fence_of(claim), event=event_of("task_start", task_id), task_id=task_id, attempt=1, at=NOW, effect="begun"
        )
        for task_id in ("t0", "t1")
    ]
    failures = [
        AttemptFailed(**fence_of(claim), event=event_of("log", task_id), task_id=task_id, error="no answer", at=NOW)
        for task_id in ("t0", "t1")
    ]
    again = TaskStarted(**fence_of(claim), event=event_of("task_start", "t1"), task_id="t1", attempt=2, at=NOW)
    assert group_commit._write_together([*starts, *failures, again]) == [None] * 5
    rows = list(Task.objects.order_by("id").values_list("error", "effect", "attempt"))
    assert rows == [("no answer", None, 1), (None, None, 2)]
