"""A tree as its page shows it: the order of its lines, the stretches of its timeline, its graph."""

from datetime import timedelta
from typing import Any

import pytest

from tasks.dashboard.lines import lines_of
from tasks.dashboard.listing import rows_of_trees
from tasks.dashboard.picture import Bar, Picture, events_of, picture_of
from tasks.models import Run, Task, TaskEvent
from tasks.rules.exceptions import TaskNotFound
from tasks.status import Status
from tests.tasks.trees import ALICE, BOB, ROOT, start, step, store

pytestmark = [pytest.mark.django_db, pytest.mark.both_engines_nightly]

Json = dict[str, Any]


@pytest.fixture
def run() -> Run:
    """A run of a chain: root is a group of a and b, and b needs a."""
    store(ROOT, step("b", "a"), step("a"))
    return start()


def at(run: Run, task_id: str, began_ms: int | None, ended_ms: int | None = None, **fields: Any) -> None:
    """Let the task have started and ended so long after the run was asked for."""
    moments = {"started_at": began_ms, "completed_at": ended_ms}
    times = {
        name: run.created_at + timedelta(milliseconds=value) for name, value in moments.items() if value is not None
    }
    status = Status.IN_PROGRESS if ended_ms is None else Status.COMPLETED
    Task.objects.filter(id=task_id).update(**{"status": status, "attempt": 1} | times | fields)


def closed(run: Run, after_ms: int) -> None:
    finished_at = run.created_at + timedelta(milliseconds=after_ms)
    Run.objects.filter(id=run.id).update(status=Status.COMPLETED, finished_at=finished_at)


def picture() -> Picture:
    return picture_of(caller=ALICE, task_id="root")


def bars(shown: Picture, task_id: str) -> list[Bar]:
    return next(line.bars for line in shown.lines if line.task.id == task_id)


def bar(kind: str, start: int, width: int, *, is_open: bool = False) -> Bar:
    return Bar(kind=kind, start=start, width=width, is_open=is_open)


def test_each_task_waits_from_when_it_could_start_and_then_runs(run: Run) -> None:
    at(run, "a", 10, 110)
    at(run, "b", 130, 430)
    at(run, "root", 440, 441)
    closed(run, 450)
    shown = picture()
    assert bars(shown, "a") == [bar("wait", 0, 10), bar("last", 10, 100)]
    assert bars(shown, "b") == [bar("wait", 110, 20), bar("last", 130, 300)]
    assert bars(shown, "root") == [bar("wait", 430, 10), bar("last", 440, 1)]
    assert (shown.span_ms, shown.axis) == (450, [0, 112, 225, 338, 450])


def test_the_page_says_how_long_a_run_took_as_the_list_does(run: Run) -> None:
    assert (picture().seconds, picture().started_ms) == (None, None)
    started_at = run.created_at + timedelta(seconds=20)
    Run.objects.filter(id=run.id).update(started_at=started_at)
    closed(run, 25_000)
    (row,) = rows_of_trees(caller=ALICE, root_ids=["root"])
    assert picture().seconds == row.seconds == 5.0
    assert picture().started_ms == round(started_at.timestamp() * 1000)


def test_what_runs_or_could_is_open_and_what_cannot_start_yet_has_no_bar(run: Run) -> None:
    at(run, "a", 10)
    shown = picture()
    assert [(each.kind, each.is_open) for each in bars(shown, "a")] == [("wait", False), ("last", True)]
    assert bars(shown, "b") == []
    at(run, "a", 10, 110)
    assert [(each.kind, each.is_open) for each in bars(picture(), "b")] == [("wait", True)]


def test_each_attempt_and_each_pause_has_its_stretch(run: Run) -> None:
    for seq, (kind, after_ms) in enumerate([("task_start", 10), ("task_retry", 60), ("task_start", 160)], start=1):
        moment = run.created_at + timedelta(milliseconds=after_ms)
        TaskEvent.objects.create(run_id=run.id, seq=seq, type=kind, task_id="a", payload={}, created_at=moment)
    at(run, "a", 160, 200, attempt=2)
    closed(run, 300)
    assert bars(picture(), "a") == [
        bar("wait", 0, 10),
        bar("attempt", 10, 50),
        bar("pause", 60, 100),
        bar("last", 160, 40),
    ]


def test_a_result_of_an_earlier_run_is_kept_and_has_no_bar(run: Run) -> None:
    at(run, "a", -500, -400)
    line = next(line for line in picture().lines if line.task.id == "a")
    assert (line.is_kept, line.bars) == (True, [])


def test_a_task_that_never_started_has_no_bar(run: Run) -> None:
    at(run, "a", 10, 20, status=Status.FAILED)
    at(run, "b", None, 20, status=Status.FAILED, cause_id="a")
    shown = picture()
    assert bars(shown, "b") == []
    assert [task.id for task in shown.causes] == ["a"]


def test_children_stand_below_their_parent_in_the_order_of_the_request() -> None:
    store(ROOT, step("x", parent="y"), step("y"), step("z"), step("w", parent="y"))
    assert [(line.task.id, line.depth) for line in picture().lines] == [
        ("root", 0),
        ("y", 1),
        ("x", 2),
        ("w", 2),
        ("z", 1),
    ]


def test_a_long_timeline_shows_the_part_with_the_selected_task(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.dashboard.picture.MAX_LINES", 2)
    parts = [picture_of(caller=ALICE, task_id=task_id) for task_id in ("root", "b", "a")]
    assert [[line.task.id for line in part.lines] for part in parts] == [["root", "b"], ["root", "b"], ["a"]]
    around = [(part.first, part.left_out, part.earlier and part.earlier.id, part.later and part.later.id) for part in parts]  # fmt: skip
    assert around == [(0, 1, None, "a"), (0, 1, None, "a"), (2, 2, "b", None)]
    assert "Tasks 3 to 3" in lines_of(parts[2], selected_id="a")


def test_the_graph_names_tasks_by_their_place(run: Run) -> None:
    graph = picture().graph
    assert [(task["id"], task["parent"], task.get("needs", [])) for task in graph["tasks"]] == [
        ("root", None, []),
        ("b", 0, [2]),
        ("a", 0, []),
    ]
    assert graph["is_running"]


def test_a_tree_that_never_ran_has_a_picture_too() -> None:
    store(ROOT, step("a"))
    shown = picture()
    assert (shown.run, shown.status, events_of(shown), shown.graph["is_running"]) == (None, "pending", [], False)


def test_the_tokens_of_all_tasks_are_added_up(run: Run) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost_usd": None}
    Task.objects.filter(id="a").update(token_usage=usage)
    Task.objects.filter(id="b").update(token_usage=usage | {"cost_usd": 0.5})
    assert picture().token_usage == {
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "total_tokens": 30,
        "cost_usd": 0.5,
    }


def test_anothers_tree_has_no_picture(run: Run) -> None:
    with pytest.raises(TaskNotFound):
        picture_of(caller=BOB, task_id="root")


def test_lines_escape_what_others_wrote() -> None:
    evil = "<b>\"'&"
    store(step(f"i{evil}", parent=None, name=evil))
    html = lines_of(picture_of(caller=ALICE, task_id=f"i{evil}"), selected_id=f"i{evil}")
    assert "&lt;b&gt;&quot;&#x27;&amp;</a>" in html
    assert "<b>" not in html
    assert 'aria-current="true"' in html


def test_the_number_of_queries_does_not_grow_with_the_tree(run: Run, django_assert_max_num_queries: Any) -> None:
    store(ROOT | {"id": "big"}, *(step(f"s{number}", parent="big") for number in range(300)))
    with django_assert_max_num_queries(7):
        picture_of(caller=ALICE, task_id="s7")
