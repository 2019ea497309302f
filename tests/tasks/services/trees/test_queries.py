import pytest

from tasks.models import Task
from tasks.rules.exceptions import TaskNotFound
from tasks.services.trees import execute_tree
from tasks.services.trees.queries import (
    children,
    count,
    get_tree,
    roots_of_contexts,
    running_count,
    running_list,
    running_status,
)
from tasks.status import Status
from tests.tasks.trees import ADMIN, ALICE, BOB, ROOT, ends, finish, group, start, step, store

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


def ids(tasks: list[Task]) -> list[str]:
    return [each.id for each in tasks]


def test_children_are_those_right_below_in_their_order() -> None:
    store(ROOT, step("b"), step("a"), step("c", parent="a"))
    assert ids(children(caller=ALICE, task_id="root")) == ["b", "a"]
    assert ids(children(caller=ALICE, task_id="c")) == []


@pytest.mark.parametrize("verb", [children, get_tree])
def test_another_ones_task_is_not_found(verb: object) -> None:
    store(ROOT)
    with pytest.raises(TaskNotFound):
        verb(caller=BOB, task_id="root")  # type: ignore[operator]


def test_counts_are_of_the_callers_own_tasks() -> None:
    store(ROOT, step("a"), step("b"))
    store(group("other", parent=None), caller=BOB)
    ends(Status.FAILED, "a")
    nothing = dict.fromkeys(["in_progress", "completed", "cancelled", "skipped"], 0)
    assert count(caller=ALICE) == {"pending": 2, "failed": 1, "total": 3, **nothing}
    assert count(caller=ALICE, root_only=True) == {"pending": 1, "failed": 0, "total": 1, **nothing}
    assert count(caller=ALICE, user_id="bob")["total"] == 0
    assert count(caller=ADMIN)["total"] == 4
    assert count(caller=ADMIN, user_id="bob")["total"] == 1


def test_what_runs_is_the_callers_own_the_newest_first() -> None:
    for name in ("one", "two", "three"):
        store(group(name, parent=None))
    store(group("bobs", parent=None), caller=BOB)
    runs = [start("one"), start("two"), start("bobs", caller=BOB)]
    assert ids(running_list(caller=ALICE)) == ["two", "one"]
    assert ids(running_list(caller=ALICE, limit=1)) == ["two"]
    assert ids(running_list(caller=ADMIN)) == ["bobs", "two", "one"]
    assert ids(running_list(caller=ADMIN, user_id="alice")) == ["two", "one"]
    assert (running_count(caller=ALICE), running_count(caller=ADMIN), running_count(caller=ADMIN, user_id="bob")) == (
        2,
        3,
        1,
    )
    finish(runs[1])
    assert ids(running_list(caller=ALICE)) == ["one"]
    assert running_count(caller=ALICE) == 1


def test_a_root_stands_for_its_tree_and_a_task_for_itself() -> None:
    store(ROOT, step("a"), step("b"), step("c"))
    run = start()
    ends(Status.COMPLETED, "a")
    Task.objects.filter(id="b").update(status=Status.IN_PROGRESS)
    found = {each.task_id: each for each in running_status(caller=ALICE, task_ids=["c", "root", "a", "gone", "b"])}
    assert list(found) == ["c", "root", "a", "gone", "b"]
    assert {name: each.is_running for name, each in found.items()} == {
        "c": False, "root": True, "a": False, "gone": False, "b": True,
    }  # fmt: skip
    assert (found["root"].status, found["root"].progress) == ("pending", 0.25)
    assert (found["a"].status, found["a"].progress, found["gone"].task) == ("completed", 1.0, None)
    finish(run)
    (root,) = running_status(caller=ALICE, task_ids=["root"])
    assert (root.status, root.is_running) == ("completed", False)
    assert running_status(caller=BOB, task_ids=["root"])[0].task is None


def test_a_context_means_the_roots_that_ran_in_it() -> None:
    for name in ("one", "two"):
        execute_tree(caller=ALICE, tasks=group(name, parent=None), context_id="talk")
    execute_tree(caller=BOB, tasks=group("bobs", parent=None), context_id="talk")
    store(group("three", parent=None))
    start("three")
    assert roots_of_contexts(caller=ALICE, context_ids=["talk", "three", "unknown"]) == [
        "one",
        "two",
        "three",
        "unknown",
    ]
