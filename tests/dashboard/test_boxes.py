"""Maps, loops and spawners as a tree's page has them: their parts, how far these are, and where each task is drawn."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.dashboard.boxes import (
    MOST_OPEN,
    MOST_SHOWN,
    PARTS_SHOWN,
    Box,
    Boxes,
    Family,
    Folds,
    boxes_of,
    family_of,
    settings_of_boxes,
)
from tasks.dashboard.lines import lines_of
from tasks.dashboard.picture import Picture, picture_of
from tasks.models import Task
from tasks.status import Status
from tests.tasks.trees import ALICE, ROOT, group, start, step, store

pytestmark = [pytest.mark.django_db, pytest.mark.both_engines_nightly]

MAP = group("each", "list") | {"params": {"for_each": {"items": {"task": "list"}}}}
LOOP = group("work") | {"params": {"repeat": {"until": {"path": "/n", "op": "eq", "value": 1}, "max": 5}}}


def grown(
    spawner_id: str, *marks: str, ids: tuple[str, ...] = ("person",), parent: str | None = None, **fields: Any
) -> None:
    """Add a copy of the tasks for each mark, as a worker does."""
    now = datetime.now(UTC)
    position = Task.objects.count()
    Task.objects.bulk_create(
        Task(
            id=f"{task_id}{mark}",
            root_id="root",
            parent_id=parent or spawner_id,
            position=position + number,
            user_id="alice",
            name=f"{task_id} {mark}",
            spawned_by=spawner_id,
            created_at=now,
            updated_at=now,
            **{"executor_id": "echo_executor"} | fields,
        )
        for number, (mark, task_id) in enumerate((mark, task_id) for mark in marks for task_id in ids)
    )


def map_over(count: int) -> None:
    store(ROOT, step("list"), MAP, step("person", parent="each"))
    grown("each", *(f"[{number}]" for number in range(count)))


def boxes(**folds: Any) -> Boxes:
    return boxes_of(list(Task.objects.tree("root")), settings_of_boxes("root"), Folds(**folds))


def box(task_id: str, **folds: Any) -> Box:
    return boxes(**folds).by_id[task_id]


def ends(status: Status, *task_ids: str) -> None:
    Task.objects.filter(id__in=task_ids).update(status=status)


def picture(**folds: Any) -> Picture:
    return picture_of(caller=ALICE, task_id="root", folds=Folds(**folds))


def test_a_map_counts_its_items() -> None:
    map_over(4)
    ends(Status.COMPLETED, "person[0]", "person[1]")
    ends(Status.FAILED, "person[2]")
    assert (box("each").kind, box("each").summary, box("each").failed_count) == ("map", "3 of 4 items", 1)


def test_an_item_of_several_tasks_is_one() -> None:
    store(ROOT, step("list"), MAP, step("a", parent="each"), step("b", "a", parent="each"))
    grown("each", "[0]", "[1]", "[2]", "[3]", ids=("a", "b"))
    ends(Status.COMPLETED, "a[0]", "b[0]", "a[1]")
    ends(Status.FAILED, "a[2]", "b[2]")
    assert box("each").statuses == ["completed", "in_progress", "failed", "pending"]
    assert box("each").summary == "2 of 4 items"


def test_a_loop_says_in_which_round_it_is_and_how_many_there_were() -> None:
    store(ROOT, LOOP, step("draft", parent="work"))
    grown("work", "#1", "#2", ids=("draft",))
    assert box("work").summary == "round 2 of 5"
    ends(Status.COMPLETED, "work")
    assert box("work").summary == "2 rounds"


def test_a_task_that_repeats_itself_is_a_loop_without_a_template() -> None:
    store(ROOT, step("poll", params={"repeat": {"until": {"op": "exists"}}}))
    grown("poll", "#1", ids=("poll",))
    assert (box("poll").summary, box("poll").template) == ("round 1 of 20", [])


def test_a_spawner_counts_all_its_tasks() -> None:
    store(ROOT, step("plan"))
    grown("plan", "", ids=("plan/both",))
    grown("plan", "", ids=("plan/a", "plan/b"), parent="plan/both")
    ends(Status.COMPLETED, "plan/a")
    assert (box("plan").kind, box("plan").summary, len(box("plan").parts)) == ("spawner", "1 of 3 tasks", 1)


def test_a_box_is_open_if_it_has_few_parts_or_is_to_be() -> None:
    map_over(MOST_OPEN)
    assert box("each").is_open
    assert not box("each", closed=frozenset({"each"})).is_open
    grown("each", "[x]")
    assert not box("each").is_open
    assert box("each", opened=frozenset({"each"})).is_open
    assert box("each", selected_id="person[3]").is_open


def test_templates_are_not_drawn_once_there_are_copies() -> None:
    store(ROOT, step("list"), MAP, step("person", parent="each"))
    assert boxes().place["person"] == "person"
    assert "template</span>" in lines_of(picture(), selected_id="root")
    grown("each", "[0]")
    assert (boxes().place["person"], boxes().place["person[0]"]) == (None, "person[0]")
    assert [line.task.id for line in picture().lines] == ["root", "list", "each", "person[0]"]


def test_a_closed_box_stands_for_boxes_inside() -> None:
    store(
        ROOT,
        step("list"),
        MAP,
        group("inner", parent="each") | {"params": {"for_each": {"items": []}}},
        step("leaf", parent="inner"),
    )
    grown("each", "[0]", ids=("inner",), executor_id=None, params={"for_each": {"items": []}})
    grown("each", "[0]", ids=("leaf",), parent="inner[0]")
    grown("inner[0]", "[0][0]", ids=("leaf",))
    closed = frozenset({"each"})
    assert boxes(closed=closed).place["leaf[0][0]"] == "each"
    assert boxes().place["leaf[0][0]"] == "leaf[0][0]"
    assert boxes().place["leaf[0]"] is None
    assert box("each").summary == "0 of 1 item"


def test_of_many_parts_the_failed_ones_and_the_selected_one_are_shown() -> None:
    count = MOST_SHOWN + 20
    map_over(count)
    ends(Status.FAILED, f"person[{count - 1}]")
    shown = box("each", selected_id=f"person[{count - 5}]")
    assert (len(shown.shown), shown.left_out) == (MOST_SHOWN, 20)
    assert {count - 1, count - 5, 0} <= shown.shown
    assert f"{MOST_SHOWN} of {count} are shown" in lines_of(picture(opened=frozenset({"each"})), selected_id="root")


def test_the_graph_has_the_edges_of_all_parts_at_a_closed_box() -> None:
    store(ROOT, step("list"), step("other"), MAP, step("person", parent="each"), step("report", "each"))
    grown("each", "[0]", "[1]", dependencies=[{"id": "other", "required": True}])
    tasks = picture(closed=frozenset({"each"})).graph["tasks"]
    number = {task["id"]: number for number, task in enumerate(tasks)}
    assert sorted(tasks[number["each"]]["needs"]) == sorted([number["list"], number["other"]])
    assert [tasks[number[each]]["at"] for each in ("person", "person[0]", "person[1]")] == [-1, *2 * [number["each"]]]


def test_the_parts_of_an_open_box_come_after_what_it_needs_and_rounds_one_after_the_other() -> None:
    store(ROOT, step("list"), MAP, step("person", parent="each"), LOOP, step("draft", parent="work"))
    grown("each", "[0]")
    grown("work", "#1", "#2", ids=("draft",))
    tasks = picture().graph["tasks"]
    after = {task["id"]: [tasks[other]["id"] for other in task["after"]] for task in tasks if task.get("after")}
    assert after == {"person[0]": ["list"], "draft#2": ["draft#1"]}


def test_an_added_task_waits_since_it_was_added() -> None:
    map_over(0)
    run = start()
    grown("each", "[0]")
    (bar,) = next(line.bars for line in picture().lines if line.task.id == "person[0]")
    added_ms = round((Task.objects.get(id="person[0]").created_at - run.created_at).total_seconds() * 1000)
    assert (bar.kind, bar.start) == ("wait", max(0, added_ms))


def test_the_number_of_queries_does_not_grow_with_the_parts(django_assert_max_num_queries: Any) -> None:
    map_over(300)
    with django_assert_max_num_queries(8):
        picture()


def family(task_id: str) -> Family:
    found = family_of(Task.objects.get(id=task_id))
    assert found is not None
    return found


def test_a_part_has_neighbours_of_the_same_template() -> None:
    store(ROOT, step("list"), MAP, step("a", parent="each"), step("b", "a", parent="each"))
    grown("each", "[0]", "[1]", "[2]", ids=("a", "b"))
    place = family("b[1]").place
    assert place is not None
    assert (place.number, place.box.task.id, place.word) == (2, "each", "Item")
    assert (place.previous and place.previous.id, place.next and place.next.id) == ("b[0]", "b[2]")
    first = family("a[0]").place
    assert first is not None
    assert first.previous is None


def test_the_parts_of_a_box_are_listed_with_failures_first_and_bounded() -> None:
    map_over(PARTS_SHOWN + 5)
    ends(Status.FAILED, "person[52]")
    found = family("each")
    assert (found.parts[0].id, len(found.parts), found.more_parts) == ("person[52]", PARTS_SHOWN, 5)


def test_a_template_names_its_map_and_other_tasks_have_no_family() -> None:
    store(ROOT, step("list"), MAP, step("person", parent="each"))
    template_of = family("person").template_of
    assert template_of is not None
    assert template_of.task.id == "each"
    store(ROOT | {"id": "plain"})
    assert family_of(Task.objects.get(id="plain")) is None
