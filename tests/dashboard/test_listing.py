"""The list of trees: filters, pages, and what a row says."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.dashboard import listing
from tasks.dashboard.filters import Filters, read_filters
from tasks.dashboard.listing import bar_of, list_trees, rows_of_trees
from tasks.models import Run, Task
from tasks.rules.exceptions import InvalidParams
from tasks.status import Status
from tests.tasks.trees import ADMIN, ALICE, BOB, ROOT, ends, finish, start, step, store

pytestmark = [pytest.mark.django_db, pytest.mark.both_engines_nightly]

DAY = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def trees() -> None:
    """Four trees of alice's, a to d, each a minute younger than the one before, and one of bob's."""
    store(step("a", parent=None, name="Report of the week"))
    store(step("b", parent=None, name="Nightly report"))
    store(ROOT | {"id": "c", "name": "Other"}, step("c1", parent="c"), step("c2", parent="c"))
    store(step("d", parent=None, name="Never ran"))
    store(step("e", parent=None, name="Report of bob"), caller=BOB)
    for minute, root_id in enumerate("abcde"):
        Task.objects.filter(id=root_id).update(created_at=DAY + timedelta(minutes=minute))
    ends(Status.FAILED, "a")
    finish(start("a"))
    Run.objects.filter(root_id="a").update(status=Status.FAILED)
    start("b")
    Run.objects.filter(root_id="b").update(status=Status.IN_PROGRESS)
    finish(start("c"))
    ends(Status.COMPLETED, "c", "c1")


def found(**filters: str) -> str:
    """The ids of alice's trees that pass, in their order."""
    return "".join(row.root.id for row in list_trees(caller=ALICE, filters=Filters(**filters)).rows)


@pytest.mark.both_engines
@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, "dcba"),
        ({"order": "created_at"}, "abcd"),
        ({"text": "REPORT"}, "ba"),
        ({"text": "c"}, "c"),
        ({"text": "%"}, ""),
        ({"status": "failed"}, "a"),
        ({"status": "in_progress"}, "b"),
        ({"status": "completed"}, "c"),
        ({"status": "pending"}, "d"),
        ({"executor": "echo_executor"}, "c"),
        ({"executor": "sleep_executor"}, ""),
        ({"owner": "bob"}, ""),
        ({"text": "report", "status": "failed"}, "a"),
    ],
)
def test_filters_narrow_the_list(filters: dict[str, str], ids: str, trees: None) -> None:
    assert found(**filters) == ids


def test_an_admin_sees_everybodys_trees(trees: None) -> None:
    rows = list_trees(caller=ADMIN, filters=Filters(text="report")).rows
    assert [row.root.id for row in rows] == ["e", "b", "a"]
    assert [row.root.id for row in list_trees(caller=ADMIN, filters=Filters(owner="bob")).rows] == ["e"]


@pytest.mark.both_engines
@pytest.mark.parametrize("order", ["created_at", "-created_at"])
def test_pages_follow_one_another_without_gap_or_repeat(
    order: str, trees: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 3)
    first = list_trees(caller=ALICE, filters=Filters(order=order))
    assert first.next_cursor is not None
    second = list_trees(caller=ALICE, filters=Filters(order=order, cursor=first.next_cursor))
    ids = "".join(row.root.id for row in first.rows + second.rows)
    assert ids == ("abcd" if order == "created_at" else "dcba")
    assert second.next_cursor is None


def test_a_row_tells_how_far_its_tree_is(trees: None) -> None:
    rows = {row.root.id: row for row in list_trees(caller=ALICE, filters=Filters()).rows}
    assert sum(rows["c"].counts.values()) == 3
    assert rows["c"].bar == [("completed", 0.0, 66.667), ("pending", 66.667, 33.333)]
    assert rows["d"].run is None
    assert rows["d"].seconds is None


def test_rows_are_asked_for_by_id_and_only_ones_own(trees: None) -> None:
    assert {row.root.id for row in rows_of_trees(caller=ALICE, root_ids=["a", "e", "c1", "none"])} == {"a"}


def test_the_list_takes_five_queries_however_long_it_is(trees: None, django_assert_num_queries: object) -> None:
    with django_assert_num_queries(5):  # type: ignore[operator]  # roots, ids of runs, runs, counts, questions
        list_trees(caller=ADMIN, filters=Filters())


def test_a_bar_shows_the_statuses_in_their_order_and_fills_the_whole() -> None:
    bar = bar_of({"pending": 1, "completed": 2, "failed": 1, "in_progress": 4}, 0.25)
    assert bar == [
        ("completed", 0.0, 25.0),
        ("failed", 25.0, 12.5),
        ("in_progress", 37.5, 12.5),
        ("in_progress rest", 50.0, 37.5),
        ("pending", 87.5, 12.5),
    ]


def test_the_url_says_only_what_is_narrowed() -> None:
    filters = read_filters({"q": " x ", "status": "failed", "order": "-created_at", "cursor": "c", "odd": "1"})
    assert filters.query() == "q=x&status=failed&cursor=c"
    assert filters.query(cursor="") == "q=x&status=failed"
    assert read_filters({}).query() == ""


@pytest.mark.parametrize("query", [{"status": "odd"}, {"order": "name"}])
def test_filters_that_cannot_be_are_refused_by_name(query: dict[str, str]) -> None:
    with pytest.raises(InvalidParams) as refused:
        read_filters(query)
    assert refused.value.problems[0][0] == next(iter(query))
