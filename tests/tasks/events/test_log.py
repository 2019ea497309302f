"""The log of all runs: read on from a place, without losing what is committed out of order."""

from datetime import UTC, datetime

import pytest

from tasks.events.log import NEWS_BYTES, PAGE_BYTES, LogReader, read_page
from tasks.models import Run, TaskEvent

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def run() -> Run:
    return Run.objects.create(id="r", root_id="t", target_id="t", user_id="alice", context_id="t", created_at=NOW)


NOW = datetime(2026, 1, 2, tzinfo=UTC)


def write(*numbers: int) -> None:
    """The events that have these ids, as if they were committed now."""
    TaskEvent.objects.bulk_create(
        TaskEvent(id=number, run_id="r", seq=number, type="log", task_id="t", payload={"seq": number}, created_at=NOW)
        for number in numbers
    )


def news(log: LogReader, *, limit: int = 100) -> list[int]:
    return [row.id for row in log.news(limit=limit)]


def test_a_reader_gets_what_is_committed_after_it_was_made_and_gets_it_once() -> None:
    write(1, 2, 3)
    log = LogReader()
    assert news(log) == []
    write(4, 5)
    assert news(log) == [4, 5]
    assert news(log) == []


def test_every_row_says_whose_run_it_is() -> None:
    log = LogReader()
    write(1)
    assert [(row.run_id, row.owner, row.payload) for row in log.news(limit=1)] == [("r", "alice", '{"seq":1}')]


def test_what_is_committed_late_is_found() -> None:
    write(1)
    log = LogReader()
    write(4, 7)
    assert news(log) == [4, 7]
    write(6)
    assert news(log) == [6]
    write(2, 3, 5, 8)
    assert news(log) == [2, 3, 5, 8]
    assert news(log) == []


def test_what_is_being_committed_while_a_reader_is_made_is_found() -> None:
    write(1, 2, 5)
    log = LogReader()
    write(4, 6)
    assert news(log) == [4, 6]
    write(3)
    assert news(log) == [3]


def test_a_number_that_was_rolled_back_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.events.log.HOLE_SECONDS", 0.0)
    log = LogReader()
    write(3)
    assert news(log) == [3]
    write(2)
    assert news(log) == []


def test_a_long_log_is_read_in_pages() -> None:
    log = LogReader()
    write(*range(1, 8))
    assert [news(log, limit=3) for _ in range(3)] == [[1, 2, 3], [4, 5, 6], [7]]


def test_a_page_that_ends_before_the_newest_loses_nothing_behind_it() -> None:
    log = LogReader()
    write(2, 4, 6)
    assert news(log) == [2, 4, 6]
    write(1, 3, 5, 7, 8)
    assert [news(log, limit=2) for _ in range(3)] == [[1, 3], [5, 7], [8]]


def test_a_page_of_a_run_ends_early_when_its_events_are_large() -> None:
    write_large(100, size=PAGE_BYTES // 30)
    page, are_all = read_page(run_id="r")
    assert ([event["seq"] for event in page], are_all) == ([*range(1, 31)], False)
    page, are_all = read_page(run_id="r", after=80)
    assert ([event["seq"] for event in page], are_all) == ([*range(81, 101)], True)
    assert read_page(run_id="r", after=100) == ([], True)


def test_a_page_has_at_least_one_event() -> None:
    write_large(3, size=2 * PAGE_BYTES)
    assert [[event["seq"] for event in read_page(run_id="r", after=after)[0]] for after in range(4)] == [
        [1],
        [2],
        [3],
        [],
    ]


def write_large(count: int, *, size: int) -> None:
    text = "é" * (size // 2)
    TaskEvent.objects.bulk_create(
        TaskEvent(run_id="r", seq=seq, type="log", task_id="t", payload={"seq": seq, "text": text}, created_at=NOW)
        for seq in range(1, count + 1)
    )


def test_news_are_limited_by_their_size_too() -> None:
    log = LogReader()
    write_large(7, size=NEWS_BYTES // 2)
    pages: list[list[str]] = []
    while not pages or log.has_more:
        pages.append([row.payload[:8] for row in log.news(limit=100)])
    assert [len(page) for page in pages] == [2, 2, 2, 1]
    assert len({first for page in pages for first in page}) == 7


def test_a_page_of_a_run_has_many_small_events() -> None:
    write(*range(1, 601))
    page, are_all = read_page(run_id="r")
    assert (len(page), are_all) == (500, False)
    page, are_all = read_page(run_id="r", after=500)
    assert (len(page), are_all) == (100, True)
