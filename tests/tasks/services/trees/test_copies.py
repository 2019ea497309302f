from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.models import Run, Task
from tasks.rules.exceptions import InvalidParams, TaskNotFound
from tasks.services.trees import create_tree, execute_task
from tasks.services.trees.copies import Copy, copy_tree
from tasks.status import Status
from tests.tasks.trees import ALICE, BOB, ROOT, ends, group, start, step, store, stored_ids, task

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]

#: root(left, right) waits for both branches of `start`; `other` has nothing to do with them.
DIAMOND = [
    step("root", "left", "right", parent=None),
    step("start"),
    step("left", "start"),
    step("right", "start"),
    step("below", parent="left"),
    step("other"),
]
ALL = {"root", "start", "left", "right", "below", "other"}


def copied(task_id: str, **options: Any) -> Copy:
    return copy_tree(caller=ALICE, task_id=task_id, **options)


def originals(copy: Copy, *statuses: Status) -> set[str | None]:
    """Of which tasks there are stored copies with these statuses."""
    return set(
        Task.objects.filter(root_id=copy.root.id, status__in=statuses).values_list("original_task_id", flat=True)
    )


@pytest.mark.parametrize(
    ("task_id", "options", "taken"),
    [
        pytest.param("left", {}, "left below root", marks=pytest.mark.both_engines),
        ("start", {}, "start left right root"),
        ("other", {}, "other"),
        ("below", {}, "below"),
        pytest.param("left", {"children": True}, "start left below root", marks=pytest.mark.both_engines),
        ("other", {"children": True}, "other"),
        ("other", {"copy_mode": "custom", "custom_task_ids": ["left"]}, "start left"),
        ("other", {"copy_mode": "custom", "custom_task_ids": ["left", "other"]}, "start left other"),
        pytest.param(
            "other",
            {"copy_mode": "custom", "custom_task_ids": ["left"], "children": True},
            "start left below",
            marks=pytest.mark.both_engines,
        ),
    ],
)
def test_a_copy_takes_what_its_mode_says_all_pending(task_id: str, options: dict[str, Any], taken: str) -> None:
    store(*DIAMOND)
    ends(Status.COMPLETED, *ALL, result={"y": 1})
    copy = copied(task_id, **options)
    assert originals(copy, Status.PENDING) == set(taken.split())
    assert originals(copy, *set(Status) - {Status.PENDING}) == set()
    assert copy.ids.keys() == set(taken.split())


@pytest.mark.parametrize(
    ("task_id", "fresh"),
    [
        pytest.param("left", "left below root", marks=pytest.mark.both_engines),
        ("start", "start left right root"),
        ("other", "other"),
        pytest.param("root", " ".join(sorted(ALL)), marks=pytest.mark.both_engines),
    ],
)
def test_a_full_copy_keeps_what_is_not_affected(task_id: str, fresh: str) -> None:
    store(*DIAMOND)
    ends(Status.COMPLETED, *ALL, result={"y": 1})
    copy = copied(task_id, copy_mode="full")
    assert originals(copy, Status.PENDING) == set(fresh.split())
    kept = Task.objects.filter(root_id=copy.root.id, status=Status.COMPLETED)
    assert {each.original_task_id for each in kept} == ALL - set(fresh.split())
    assert all((each.result, each.progress, each.started_at is not None) == ({"y": 1}, 1.0, True) for each in kept)
    assert all(task(task_id).status == Status.COMPLETED for task_id in ALL)


def test_in_a_full_copy_a_group_waits_for_its_child_again_and_what_did_not_complete_is_pending() -> None:
    store(ROOT, group("g"), step("a", parent="g"), step("b", "g"), step("c"), step("d"))
    ends(Status.COMPLETED, "root", "g", "a", "b", "c")
    ends(Status.FAILED, "d")
    copy = copied("a", copy_mode="full")
    assert originals(copy, Status.PENDING) == {"a", "g", "b", "root", "d"}
    assert originals(copy, Status.COMPLETED) == {"c"}


@pytest.mark.both_engines
def test_a_copy_has_new_ids_and_says_where_it_comes_from() -> None:
    store(*DIAMOND)
    copy = copied("start")
    assert not set(copy.ids.values()) & ALL
    for original_id, new_id in copy.ids.items():
        row, original = task(new_id), task(original_id)
        assert (row.original_task_id, row.origin_type, row.root_id) == (original_id, "copy", copy.root.id)
        needs = [item | {"id": copy.ids[item["id"]], "as": item["id"]} for item in original.dependencies]
        assert row.dependencies == needs
        assert (row.name, row.executor_id, row.user_id) == (original.name, original.executor_id, "alice")
        assert row.has_children == Task.objects.filter(parent_id=new_id).exists()
    assert (task("start").has_copy, task("left").has_copy) == (True, False)
    assert not Run.objects.exists()


def test_what_a_dependency_that_stays_behind_made_stands_in_the_inputs() -> None:
    schema = {"input_schema": {"type": "object", "properties": {"y": {"type": "number"}}}}
    store(ROOT, step("done"), step("open"), step("a", "done", "open", inputs={"x": 0}, schemas=schema))
    ends(Status.COMPLETED, "done", result={"y": 1})
    copy = copied("a")
    assert (copy.root.inputs, copy.root.dependencies) == ({"x": 0, "y": 1, "done": {"y": 1}}, [])
    assert task("a").inputs == {"x": 0}


@pytest.mark.usefixtures("test_executors")
def test_the_places_of_results_in_texts_keep_their_names() -> None:
    """What stays behind is found in the inputs, under the id that it had."""
    scripted = {"schemas": {"method": "scripted_executor"}}
    texts: Any = {"inputs": {"x": "{{open.y}} {{done.y}}"}, "params": {"works": {"text": "{open}"}}, **scripted}
    store(ROOT, step("done"), step("open"), step("a", "done", "open", **texts))
    ends(Status.COMPLETED, "done", result={"y": "{{open}}"})
    alone = copied("a").root
    known = {"x": "{{open.y}} {{{{open}}", "done": {"y": "{{{{open}}"}}  # what a result says is no place
    assert (alone.inputs, alone.params) == (known, texts["params"])
    copy = copied("a", copy_mode="custom", custom_task_ids=["a"])
    assert (copy.root.inputs, copy.root.params) == (texts["inputs"], texts["params"])
    names = {item["as"]: item["id"] for item in copy.root.dependencies}
    assert names == {name: copy.ids[name] for name in ("done", "open")}


def test_a_task_without_its_parent_goes_to_the_nearest_ancestor() -> None:
    store(ROOT, group("g"), step("p", parent="g"), step("a", parent="p"), step("b"))
    copy = copied("root", copy_mode="custom", custom_task_ids=["root", "a"])
    parents = {each.original_task_id: each.parent_id for each in copy.tasks}
    assert parents["p"] == copy.ids["g"]  # a group needs its children
    copy = copied("p", copy_mode="custom", custom_task_ids=["a", "b"])
    assert {each.original_task_id: each.parent_id for each in copy.tasks} == {"a": None, "b": copy.ids["a"]}


def test_a_group_is_not_made_the_parent_of_what_waits_for_it() -> None:
    store(ROOT, group("g"), step("a", parent="g"), step("after", "g"))
    copy = copied("g")
    assert originals(copy, Status.PENDING) == {"g", "a", "after"}
    assert copy.root.original_task_id == "after"


@pytest.mark.both_engines
def test_a_dry_run_says_what_create_takes_and_stores_nothing() -> None:
    store(*DIAMOND)
    requests = copied("left", save=False).requests
    assert stored_ids() == ALL
    assert not task("left").has_copy
    created = create_tree(caller=ALICE, tasks=requests)
    assert created.ids == {each["id"]: each["id"] for each in requests}
    assert [each.name for each in created.tasks] == ["echo_executor"] * 3


@pytest.mark.parametrize(
    ("reset", "inputs", "priority", "kept"),
    [
        ([], {"x": 1}, 0, {"other"}),
        (["inputs"], {}, 0, {"other"}),
        pytest.param(["inputs", "priority"], {}, 2, {"other"}, marks=pytest.mark.both_engines),
        (["status"], {"x": 1}, 0, set()),
        (["progress", "result"], {"x": 1}, 0, set()),
    ],
)
def test_reset_fields_are_not_taken_over(reset: list[str], inputs: Any, priority: int, kept: set[str]) -> None:
    store(ROOT, step("a", inputs={"x": 1}, priority=0), step("other"))
    ends(Status.COMPLETED, "other")
    copy = copied("a", copy_mode="full", reset_fields=reset)
    row = task(copy.ids["a"])
    assert (row.inputs, row.priority) == (inputs, priority)
    assert originals(copy, Status.COMPLETED) == kept


def test_a_copy_without_its_schemas_finds_its_executor_by_its_name() -> None:
    store(step("root", parent=None, schemas={"method": "sleep_executor"}))
    assert copied("root").root.executor_id == "sleep_executor"
    assert copied("root", reset_fields=["schemas"]).root.executor_id == "echo_executor"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"copy_mode": "custom", "custom_task_ids": ["a", "elsewhere"]}, "custom_task_ids[1]"),
        ({"reset_fields": ["id"]}, "reset_fields"),
    ],
)
def test_a_copy_of_nonsense_is_refused(options: dict[str, Any], field: str) -> None:
    store(group("elsewhere", parent=None))
    store(ROOT, step("a"))
    with pytest.raises(InvalidParams) as caught:
        copied("a", **options)
    assert caught.value.problems[0][0] == field
    assert stored_ids() == {"elsewhere", "root", "a"}


def test_another_ones_task_cannot_be_copied() -> None:
    store(ROOT)
    with pytest.raises(TaskNotFound):
        copy_tree(caller=BOB, task_id="root")


def test_a_tree_that_runs_can_be_copied_and_the_copy_runs_beside_it() -> None:
    store(ROOT, step("a"))
    start()
    copy = copied("root")
    assert execute_task(caller=ALICE, task_id=copy.root.id).started


@pytest.mark.both_engines
def test_an_execution_of_a_copy_runs_the_copy_of_the_named_task() -> None:
    store(step("root", parent=None), step("a", "root"), step("below", parent="a"))
    ends(Status.COMPLETED, "root", "a")
    execution = execute_task(caller=ALICE, task_id="a", copy_execution=True)
    assert (execution.task.original_task_id, execution.original_task_id) == ("a", "a")
    rows = {each.original_task_id: each for each in Task.objects.filter(root_id=execution.task.root_id)}
    assert {name: row.status for name, row in rows.items()} == {"root": Status.COMPLETED, "a": Status.PENDING}
    assert execution.run.target_id == rows["root"].id


@pytest.mark.both_engines
def test_an_execution_of_a_copy_takes_what_a_group_on_which_it_depends_is_made_of() -> None:
    store(ROOT, group("g"), step("in g", parent="g"), step("a", "g"), step("below", parent="a"))
    execution = execute_task(caller=ALICE, task_id="a", copy_execution=True, copy_children=True)
    assert execution.ids.keys() == {"a", "below", "g", "in g"}
    assert task(execution.ids["in g"]).parent_id == execution.ids["g"]
    assert (execution.task.is_root, execution.run.root_id) == (True, execution.ids["a"])


@st.composite
def trees(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to 8 tasks below a root; each may need any earlier one, and groups may hold what does not wait for them."""
    names = [str(number) for number in range(draw(st.integers(1, 8)))]
    tasks = []
    for index, name in enumerate(names):
        parent = draw(st.sampled_from(["root", *names[index + 1 :]]))
        needs = draw(st.lists(st.sampled_from(names[:index]), unique=True, max_size=3)) if index else []
        task_of = group if draw(st.booleans()) else step
        tasks.append(task_of(name, *needs, parent=parent))
    return [draw(st.sampled_from([ROOT, step("root", parent=None)])), *tasks]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_copy_of_every_tree_is_a_valid_tree(data: st.DataObject) -> None:
    Task.objects.all().delete()
    tasks = data.draw(trees())
    store(*tasks)
    names = [each["id"] for each in tasks]
    mode = data.draw(st.sampled_from(["minimal", "full", "custom"]))
    some = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True)) if mode == "custom" else []
    copy = copied(
        data.draw(st.sampled_from(names)), copy_mode=mode, custom_task_ids=some, children=data.draw(st.booleans())
    )
    assert set(some) <= copy.ids.keys()
    assert len(copy.tasks) == len(copy.ids) == Task.objects.filter(root_id=copy.root.id).count()
    create_tree(caller=ALICE, tasks=copy.requests)
