"""An inbox: every event of every run once and in order, however slow its follower is, and nothing kept for it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from tasks.events import subscription as inbox_module
from tasks.events.subscription import Room, Subscription
from tasks.models import TaskEvent

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
NOW = datetime(2026, 1, 2, tzinfo=UTC)
Json = dict[str, Any]


def event(seq: int, *, run_id: str = "r", type_: str = "log") -> Json:
    return {"run_id": run_id, "seq": seq, "type": type_, "root_task_id": run_id}


def events(*numbers: int, run_id: str = "r") -> list[Json]:
    return [event(number, run_id=run_id) for number in numbers]


async def write(*rows: Json) -> None:
    await sync_to_async(TaskEvent.objects.bulk_create)(
        TaskEvent(run_id=row["run_id"], seq=row["seq"], type=row["type"], task_id="t", payload=row, created_at=NOW)
        for row in rows
    )


async def taken(inbox: Subscription, count: int) -> list[tuple[str, int]]:
    """The next so many events, by run and number."""
    found: list[Json] = []
    while len(found) < count:
        found += await inbox.next()
    return [(one["run_id"], one["seq"]) for one in found]


async def test_what_is_put_is_taken_together_and_in_order() -> None:
    inbox = Subscription()
    inbox.put("r", events(4, 5))
    inbox.put("s", events(1, run_id="s"))
    assert await taken(inbox, 3) == [("r", 4), ("r", 5), ("s", 1)]


async def test_a_number_comes_once() -> None:
    inbox = Subscription()
    inbox.put("r", events(4, 5))
    inbox.put("r", events(4, 5, 6))
    assert await taken(inbox, 3) == [("r", 4), ("r", 5), ("r", 6)]


async def test_a_gap_is_filled_from_the_rows() -> None:
    await write(*events(1, 2, 3, 4))
    inbox = Subscription()
    inbox.put("r", events(1))
    inbox.put("r", events(4))
    assert await taken(inbox, 4) == [("r", 1), ("r", 2), ("r", 3), ("r", 4)]


async def test_a_follower_goes_back_as_far_as_it_wants() -> None:
    await write(*events(*range(1, 6)))
    inbox = Subscription()
    inbox.put("r", events(4, 5))
    assert await taken(inbox, 2) == [("r", 4), ("r", 5)]
    inbox.rewind("r", after=2)
    inbox.put("r", events(6))  # the hub has read it already; the rows are read later
    await write(*events(6))
    assert await taken(inbox, 4) == [("r", number) for number in range(3, 7)]
    inbox.rewind("r")
    await write(*events(7))
    inbox.put("r", events(7, 8))
    await write(*events(8))
    assert await taken(inbox, 2) == [("r", 7), ("r", 8)]


async def test_a_long_run_is_read_in_pages_while_it_goes_on() -> None:
    await write(*events(*range(1, 1_201)))
    inbox = Subscription()
    inbox.rewind("r", after=0)
    first = await inbox.next()
    inbox.put("r", events(1_201))
    await write(*events(1_201))
    rest = await taken(inbox, 1_201 - len(first))
    assert [one["seq"] for one in first] + [seq for _, seq in rest] == list(range(1, 1_202))


async def test_what_a_slow_follower_misses_is_not_kept_and_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MAX_WAITING", 10)
    inbox = Subscription()
    for first in range(1, 1_000, 10):
        rows = [row for run_id in "rs" for row in events(*range(first, first + 10), run_id=run_id)]
        await write(*rows)
        for run_id in "rs":
            inbox.put(run_id, [row for row in rows if row["run_id"] == run_id])
    assert len(inbox._waiting) <= 20
    found = await taken(inbox, 2_000)
    for run_id in "rs":
        assert [seq for each, seq in found if each == run_id] == list(range(1, 1_001))


async def test_what_is_large_does_not_wait_for_a_slow_follower(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs bytes of the buffer, of which one event may take more: the rest is read from the rows."""
    monkeypatch.setattr(inbox_module, "MAX_WAITING_BYTES", 100)
    rows = events(*range(1, 7))
    await write(*rows)
    inbox = Subscription()
    inbox.put("r", rows[:1], size=1_000)
    inbox.put("r", rows[1:2], size=50)
    assert len(inbox._waiting) == 1
    assert await taken(inbox, 6) == [("r", number) for number in range(1, 7)]
    inbox.put("r", [], size=0)
    assert inbox._waiting_bytes == 0


async def test_the_buffers_of_a_process_share_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "PROCESS_BYTES", 100)
    await write(*events(1), *events(1, run_id="s"))
    room = Room()
    slow, quick, last = (Subscription(room) for _ in range(3))
    slow.put("r", events(1), size=80)
    quick.put("s", events(1, run_id="s"), size=80)
    assert (len(slow._waiting), len(quick._waiting)) == (1, 0)
    assert await taken(quick, 1) == [("s", 1)]  # from the rows
    slow.close()
    last.put("r", events(1), size=80)
    assert len(last._waiting) == 1


async def test_a_follower_that_misses_too_many_runs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MAX_WAITING", 0)
    monkeypatch.setattr(inbox_module, "MAX_MISSED", 2)
    inbox = Subscription()
    for run_id in "abc":
        inbox.put(run_id, events(1, run_id=run_id))
    assert await inbox.next() == []
    assert inbox.is_over


async def test_what_is_not_wanted_does_not_wait() -> None:
    await write(*events(1, 2, run_id="s"))
    inbox = Subscription()
    inbox.wants = lambda one: one["root_task_id"] == "s"
    inbox.put("r", events(1))
    inbox.put("s", events(2, run_id="s"))
    inbox.rewind("s", after=0)
    assert await taken(inbox, 2) == [("s", 1), ("s", 2)]


async def test_only_so_many_runs_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MAX_KNOWN", 2)
    inbox = Subscription()
    for run_id in "abac":
        inbox.put(run_id, [event(1, run_id=run_id)])
    await taken(inbox, 3)
    assert list(inbox._expected) == ["b", "c"]
