"""The search of many trees: a piece at a time or by an index, always the same matches in the same order."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks.dashboard import listing
from tasks.dashboard.filters import Filters
from tasks.dashboard.listing import list_trees
from tasks.models import Run, Task
from tasks.status import Status
from tests.tasks.trees import ADMIN, ALICE, BOB, finish, start, step, store

pytestmark = [pytest.mark.django_db, pytest.mark.both_engines_nightly]
DAY = datetime(2026, 1, 1, tzinfo=UTC)
TREES = 12


@pytest.fixture(autouse=True)
def trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve trees of alice's, tree00 the oldest, and one of bob's; three in one query, and two on a page."""
    for number in range(TREES):
        name = "Daily report" if number % 3 else f"Number {number}"
        store(step(f"tree{number:02}", parent=None, name=name))
    store(step("tree of bob", parent=None, name="Number of bob"), caller=BOB)
    for number, task in enumerate(Task.objects.order_by("id")):
        Task.objects.filter(id=task.id).update(created_at=DAY + timedelta(minutes=number // 2))
    finish(start("tree01"))
    Run.objects.filter(root_id="tree01").update(status=Status.FAILED)
    start("tree02")
    Run.objects.filter(root_id="tree02").update(status=Status.IN_PROGRESS)
    Task.objects.filter(id__in=["tree00", "tree05", "tree of bob"]).update(executor_id="rest_executor")
    monkeypatch.setattr(listing, "PIECE", 3)
    monkeypatch.setattr(listing, "SECONDS", 0)
    monkeypatch.setattr(listing, "PAGE", 2)


def pages(**filters: str) -> list[list[str]]:
    """The ids on each page, until there is no next one."""
    found, cursor = list[list[str]](), ""
    while not found or cursor:
        page = list_trees(caller=ALICE, filters=Filters(**filters, cursor=cursor))
        found.append([row.root.id for row in page.rows])
        cursor = page.next_cursor or ""
        assert bool(page.searched_until) <= bool(cursor)
    return found


#: Which trees they find, and with which of LIMITS they are tried on both engines on every push.
FILTERS = [
    ({"text": "report"}, [1, 2, 4, 5, 7, 8, 10, 11], "none"),
    ({"text": "number"}, [0, 3, 6, 9], "index"),
    ({"text": "NUMBER 3"}, [3], "no names"),
    ({"text": "tree0"}, [*range(10)], "no names"),
    ({"text": "tree00"}, [0], "index"),
    ({"text": "bob"}, [], "none"),
    ({"status": "failed"}, [1], "index"),
    ({"status": "in_progress"}, [2], "none"),
    ({"status": "pending"}, [0, *range(3, 12)], "index"),
    ({"status": "failed", "text": "report"}, [1], "index"),
    ({"status": "completed"}, [], "none"),
    ({"executor": "echo_executor"}, [], "no names"),
    ({"executor": "sleep_executor", "status": "pending"}, [], "index"),
    ({"executor": "rest_executor"}, [0, 5], "index"),
    ({"executor": "rest_executor", "text": "report"}, [5], "none"),
]
LIMITS: dict[str, dict[str, int]] = {
    "index": {},
    "no names": {"FEW": 0},
    "none": {"MOST_NAMES": 1, "MOST_RUNS": 0, "MOST_TASKS": 0},
}
SEARCHES = [
    pytest.param(
        filters,
        numbers,
        limits,
        order,
        id=f"{'-'.join(filters.values())}-{name}-{order}",
        marks=[pytest.mark.both_engines] if (name, order) == (on_both_engines, "-created_at") else [],
    )
    for filters, numbers, on_both_engines in FILTERS
    for name, limits in LIMITS.items()
    for order in ("-created_at", "created_at")
]


@pytest.mark.parametrize(("filters", "numbers", "limits", "order"), SEARCHES)
def test_the_pages_have_each_match_once_and_in_order(
    filters: dict[str, str], numbers: list[int], limits: dict[str, int], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(listing, name, value)
    found = [task_id for page in pages(**filters, order=order) for task_id in page]
    ids = [f"tree{number:02}" for number in numbers]
    assert found == (ids if order == "created_at" else ids[::-1])


@pytest.mark.both_engines
@pytest.mark.parametrize(
    "filters", [{"text": "tree00"}, {"text": "Number 0"}, {"text": "ber 0"}, {"status": "in_progress"}]
)
def test_a_rare_match_far_down_is_on_the_first_page(filters: dict[str, str]) -> None:
    page = list_trees(caller=ALICE, filters=Filters(**filters))
    assert [row.root.id for row in page.rows] == ["tree02" if "status" in filters else "tree00"]
    assert page.next_cursor is None


@pytest.mark.both_engines
@pytest.mark.parametrize(("executor", "found"), [("llm_executor", []), ("rest_executor", ["tree05", "tree00"])])
def test_a_rare_executor_takes_no_search_through_all_trees(
    executor: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index has the trees with its tasks, so only the first piece is searched, however many there are."""
    monkeypatch.setattr(listing, "SECONDS", 3600)
    with CaptureQueriesContext(connection) as queries:
        page = list_trees(caller=ALICE, filters=Filters(executor=executor))
    assert ([row.root.id for row in page.rows], page.next_cursor) == (found, None)
    assert len([each for each in queries if '"created_at" >=' in each["sql"]]) == 1


@pytest.mark.both_engines
def test_a_page_that_ends_early_says_so() -> None:
    page = list_trees(caller=ADMIN, filters=Filters(status="failed"))
    assert page.rows == []
    assert page.next_cursor
    assert page.searched_until == DAY + timedelta(minutes=5)


@pytest.mark.both_engines
def test_the_search_goes_on_while_it_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SECONDS", 3600)
    page = list_trees(caller=ADMIN, filters=Filters(status="failed"))
    assert [row.root.id for row in page.rows] == ["tree01"]
    assert page.next_cursor is None
