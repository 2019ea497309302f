"""A tree as its page shows it: the order of its lines, the stretches of its timeline, its graph."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.dashboard.lines import lines_of
from tasks.dashboard.listing import rows_of_trees
from tasks.dashboard.picture import NEAR, Bar, Picture, Wanted, events_of, picture_of
from tasks.models import Run, Task, TaskEvent
from tasks.rules.exceptions import TaskNotFound
from tasks.status import Status
from tests.tasks.trees import ALICE, BOB, ROOT, group, start, step, store

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
    assert [(line.task.id, line.needs) for line in shown.lines] == [("root", ""), ("b", "echo_executor"), ("a", "")]
    assert '<span class="because">needs echo_executor</span>' in lines_of(shown, selected_id="a")
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


@pytest.fixture
def small_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees are large from two tasks on, and have two lines at a time."""
    for name, value in {"WHOLE": 1, "LINES": 2, "BEFORE": 1}.items():
        monkeypatch.setattr(f"tasks.dashboard.picture.{name}", value)


@pytest.mark.usefixtures("small_lines")
def test_a_large_tree_has_the_lines_around_the_selected_task(run: Run) -> None:
    parts = [picture_of(caller=ALICE, task_id=task_id) for task_id in ("root", "b", "a")]
    assert [[line.task.id for line in part.lines] for part in parts] == [["root", "b"], ["root", "b"], ["b", "a"]]
    around = [(part.first, part.left_out, part.earlier and part.earlier.id, part.later and part.later.id) for part in parts]  # fmt: skip
    assert around == [(0, 1, None, "a"), (0, 1, None, "a"), (1, 1, "root", None)]
    html = lines_of(parts[2], selected_id="a")
    assert "Tasks 2 to 3 of 3" in html and 'aria-rowcount="4"' in html
    assert re.findall(r'data-n="(\d)" aria-rowindex="(\d)"', html) == [("1", "3"), ("2", "4")]


@pytest.mark.usefixtures("small_lines")
def test_a_large_tree_has_the_lines_that_are_wanted(run: Run) -> None:
    at(run, "a", 10, 110)

    def shown(**wanted: Any) -> tuple[int, list[str], int]:
        part = picture_of(caller=ALICE, task_id="b", wanted=Wanted(**wanted))
        return part.first, [line.task.id for line in part.lines], part.graph["range"]["place"]

    assert shown(start=1) == (1, ["b", "a"], 1)
    assert shown(start=999) == (1, ["b", "a"], 1)
    assert shown(status="completed") == (0, ["a"], -1)
    assert shown(text="b") == (0, ["b"], 0)
    assert shown(text="nothing like it") == (0, [], -1)


@pytest.mark.usefixtures("small_lines")
def test_the_graph_of_a_large_tree_has_what_is_near_the_selected_task() -> None:
    names = [f"s{number}" for number in range(30)]
    store(ROOT, step("end", *names), *[step(name) for name in names], step("apart"))
    graphs = {task_id: picture_of(caller=ALICE, task_id=task_id).graph for task_id in ("end", "s3", "root")}
    drawn = {task_id: [each["id"] for each in graph["tasks"][: graph["drawn"]]] for task_id, graph in graphs.items()}
    assert drawn == {
        "end": ["root", "end", *names[:NEAR]],
        "s3": ["root", "end", "s3"],
        "root": ["root", "end", *names[: NEAR - 1]],
    }
    assert graphs["s3"]["tasks"][1]["needs"] == [2]
    assert (graphs["s3"]["counts"], graphs["s3"]["range"]["total"]) == ({"pending": 33}, 33)


@pytest.mark.usefixtures("small_lines")
def test_boxes_of_a_large_tree_have_their_sums() -> None:
    each = group("each", "list") | {"params": {"for_each": {"items": {"task": "list"}}}}
    store(ROOT, step("list"), each, step("item", parent="each"))
    now = datetime.now(UTC)
    common = {
        "root_id": "root",
        "parent_id": "each",
        "spawned_by": "each",
        "user_id": "alice",
        "executor_id": "echo_executor",
    }
    Task.objects.bulk_create(
        Task(id=f"i{n}", position=9 + n, name=f"i{n}", created_at=now, updated_at=now, **common) for n in range(20)
    )
    Task.objects.filter(id="i0").update(status=Status.COMPLETED)
    shown = picture_of(caller=ALICE, task_id="each").graph
    (box,) = [task["box"] for task in shown["tasks"] if "box" in task]
    counts = {"completed": 1, "pending": 19}
    assert box["sum"] == {"text": "1 of 20 items", "failed": 0, "counts": counts, "count": 20}


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
    with django_assert_max_num_queries(8):
        picture_of(caller=ALICE, task_id="s7")
