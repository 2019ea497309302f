"""Maps: `params.for_each` runs a template once for each item of a list, and loses none and doubles none of them."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.models import CancelRequest, Run, Task
from tasks.rules.exceptions import (
    CannotDelete,
    CircularDependency,
    InvalidDependency,
    InvalidParams,
    InvalidTree,
    StatusConflict,
)
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.trees.copies import copy_tree
from tasks.services.trees.editing import delete_task
from tests.acceptance.effects import Effects
from tests.sections import replace
from tests.servers import until
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, Ran, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
RunTree = Callable[[list[Json]], Ran]
ECHO: Json = {"schemas": {"method": "echo_executor"}}


def mapped(items: Any, *template: Json, **for_each: Any) -> list[Json]:
    """A list, a map over it, and what follows the map."""
    parts = template or ({"id": "part", "inputs": {"value": "{{item}}", "number": "{{item_index}}"}},)
    return [
        {"id": "end", "name": "End", "dependencies": ["each"], **ECHO},
        {"id": "list", "name": "List", "parent_id": "end", "inputs": {"items": items}, **ECHO},
        {
            "id": "each",
            "name": "Each",
            "parent_id": "end",
            "dependencies": ["list"],
            "params": {"for_each": {"items": {"task": "list", "path": "/items"}, **for_each}},
        },
        *({"name": part["id"].title(), "parent_id": "each", **ECHO} | part for part in parts),
    ]


def tree_of(ran: Ran) -> dict[str, Task]:
    return {task.id: task for task in Task.objects.tree(ran.run.root_id)}


@pytest.mark.both_engines
def test_the_result_is_the_list_of_the_results_in_the_order_of_the_items(run: RunTree) -> None:
    ran = run(mapped(["a", {"b": [1]}, "{{list.items}}"]))
    assert ran.run.status == "completed"
    values = [{"value": value, "number": number} for number, value in enumerate(["a", {"b": [1]}, "{{list.items}}"])]
    assert ran.tasks["each"].result == values
    assert ran.tasks["end"].result == {"each": values}
    tree = tree_of(ran)
    assert [task_id for task_id in tree if tree[task_id].spawned_by] == ["part[0]", "part[1]", "part[2]"]
    assert tree["part[1]"].inputs == {"value": {"b": [1]}, "number": 1}
    assert (tree["part[1]"].name, tree["part[1]"].parent_id, tree["part[1]"].spawned_by) == ("Part [1]", "each", "each")
    (spawned,) = [event for event in ran.events if event["type"] == "task_spawned"]
    assert spawned["result"] == {"count": 3, "task_ids": ["part[0]", "part[1]", "part[2]"]}
    assert ran.tasks["part"].status == "skipped"
    assert ran.tasks["part"].error == "Template: 'each' runs copies of it"
    assert ran.events[-1]["tree_progress"] == 1.0


def test_a_template_of_several_tasks_runs_as_a_whole_for_each_item(run: RunTree) -> None:
    first = {"id": "fetch", "inputs": {"url": "u/{{item.id}}"}}
    then = {"id": "sum", "dependencies": ["fetch", "list"], "inputs": {"of": "{{fetch.url}}", "all": "{{list.items}}"}}
    ran = run(mapped([{"id": 1}, {"id": 2}], first, then))
    results = ran.tasks["each"].result
    assert [result["fetch"] for result in results] == [{"url": "u/1"}, {"url": "u/2"}]
    assert [result["sum"]["of"] for result in results] == ["u/1", "u/2"]
    assert results[1]["sum"]["fetch"] == {"url": "u/2"}
    assert results[1]["sum"]["all"] == [{"id": 1}, {"id": 2}]


def test_no_items_are_an_empty_list_and_a_list_may_be_given(run: RunTree) -> None:
    assert run(mapped([])).tasks["each"].result == []
    tree = mapped([])
    tree[2]["params"]["for_each"] = {"items": [1, 2], "as": "n"}
    tree[3]["inputs"] = {"n": "{{n}}", "item": "{{item}}"}
    assert run(tree).tasks["each"].result == [{"n": 1, "item": "{{item}}"}, {"n": 2, "item": "{{item}}"}]


@pytest.mark.both_engines
def test_a_map_inside_a_map_takes_its_items_from_the_outer_item(run: RunTree) -> None:
    inner = {
        "id": "rows",
        "schemas": None,
        "params": {"for_each": {"items": {"task": "item", "path": "/rows"}, "as": "row"}},
    }
    leaf = {"id": "leaf", "parent_id": "rows", "inputs": {"row": "{{row}}", "of": "{{item.name}}"}}
    ran = run(mapped([{"name": "x", "rows": [1, 2]}, {"name": "y", "rows": []}], inner, leaf))
    assert ran.tasks["each"].result == [[{"row": 1, "of": "x"}, {"row": 2, "of": "x"}], []]
    assert {"leaf[0][0]", "leaf[0][1]"} < set(tree_of(ran))


@pytest.mark.both_engines
def test_one_item_that_fails_fails_the_map_when_all_are_over(run: RunTree) -> None:
    part = {"id": "part", "schemas": {"method": "scripted_executor"}, "inputs": {"then": "{{item}}"}}
    ran = run(mapped(["ok", "fail", "ok"], part))
    assert ran.run.status == "failed"
    assert ran.tasks["each"].error is not None
    assert ran.tasks["each"].error.startswith(
        "1 of 3 tasks below this one did not complete, the first being 'part[1]': "
    )
    assert ran.tasks["end"].error == "Not run: required dependency 'each' failed"
    assert [task.status for task in tree_of(ran).values() if task.spawned_by] == ["completed", "failed", "completed"]


def test_a_map_may_collect_failures(run: RunTree) -> None:
    part = {"id": "part", "schemas": {"method": "scripted_executor"}, "inputs": {"then": "{{item}}"}}
    ran = run(mapped(["ok", "fail"], part, on_failure="collect"))
    assert ran.run.status == "completed"
    assert ran.tasks["each"].result[1].keys() == {"error"}


def test_at_most_so_many_items_are_under_way(run: RunTree) -> None:
    part = {"id": "part", "schemas": {"method": "scripted_executor"}, "inputs": {"seconds": 0.01}}
    ran = run(mapped(list(range(9)), part, {"id": "then", "dependencies": ["part"]}, max_parallel=2))
    assert ran.run.status == "completed"
    under_way, most = set[str](), 0
    for event in ran.events:
        item = event["task_id"].partition("[")[2]
        if item and event["type"] == "task_start" and event["task_id"].startswith("part"):
            under_way.add(item)
        elif item and event["type"] == "task_completed" and event["task_id"].startswith("then"):
            under_way.discard(item)
        most = max(most, len(under_way))
    assert most == 2


@pytest.mark.both_engines
def test_no_item_begins_before_the_end_of_an_earlier_one_is_committed(worker: WorkerThread, tmp_path: Path) -> None:
    """A worker that dies then leaves no more to repeat than it had in hand."""
    effects = Effects(tmp_path / "effects")
    part = effects.gated(effects.step("part"))
    run = trees.execute_tree(caller=LOCAL, tasks=mapped(list(range(9)), part, max_parallel=2)).run
    working = threading.Thread(target=worker.work)
    working.start()
    until(lambda: len(effects.lines()) == 2, seconds=60, what="two items at work")
    with worker.nothing_is_committed():
        effects.open_gate()
        until(lambda: effects.counts("end").total() >= 2, seconds=60, what="their ends")
        worker.turn(1000)
        assert (effects.counts("start").total(), effects.counts("end").total()) == (2, 2)
    working.join()
    assert result_of(run).run.status == "completed"
    assert effects.counts("end").total() == 9


@pytest.mark.parametrize(
    ("items", "for_each", "error"),
    [
        ({"no": "list"}, {}, "The items of this map are no list: what is at '/items' in the result of 'list'."),
        ([1, 2, 3], {"max_items": 2}, "The list has 3 items, more than the 2 of params.for_each.max_items."),
        ([1], {"as": "n"}, "[0], task 'part': Cannot fill the inputs: inputs.value: '{{n.x}}' has no value"),
    ],
)
def test_what_cannot_be_mapped_fails_the_map(run: RunTree, items: Any, for_each: Json, error: str) -> None:
    ran = run(mapped(items, {"id": "part", "inputs": {"value": f"{{{{{for_each.get('as', 'item')}.x}}}}"}}, **for_each))
    assert (ran.tasks["each"].error or "").startswith(error)
    assert ran.tasks["part"].status == "skipped"
    assert not [task for task in tree_of(ran).values() if task.spawned_by]


def test_a_map_over_inputs_that_the_run_does_not_have_says_so(run: RunTree) -> None:
    tree = mapped([1])
    tree[2]["params"]["for_each"]["items"] = {"task": "run", "path": "/inputs/urls"}
    assert run(tree).tasks["each"].error == (
        "The items of this map are no list: what is at '/urls' in the inputs of the run. Give the run this list with "
        "run_inputs, or correct params.for_each.items."
    )


def test_a_tree_may_grow_by_so_many_tasks_only(run: RunTree, settings: Settings) -> None:
    limits = replace(settings.APFLOW.limits, spawned_tasks=3)
    settings.APFLOW = replace(settings.APFLOW, limits=limits)
    ran = run(mapped([1, 2], {"id": "a"}, {"id": "b"}))
    assert ran.tasks["each"].error == (
        "2 items with 2 tasks each are more than the 3 tasks that may still be added to this tree (limits.spawned_tasks)."
    )


def two_maps(*items: list[int]) -> list[Json]:
    """Maps beside each other, which grow at the same time."""
    maps = [
        {"id": f"map {number}", "name": "Map", "parent_id": "root", "params": {"for_each": {"items": given}}}
        for number, given in enumerate(items)
    ]
    parts = [
        {"id": f"part {number}", "name": "Part", "parent_id": each["id"], **ECHO} for number, each in enumerate(maps)
    ]
    return [{"id": "root", "name": "Root"}, *maps, *parts]


@pytest.mark.both_engines
def test_maps_that_grow_at_once_add_their_tasks_one_after_the_other(run: RunTree) -> None:
    ran = run(two_maps([1, 2], [1, 2, 3]))
    assert ran.run.status == "completed"
    assert [task.position for task in tree_of(ran).values()] == list(range(10))


def test_maps_that_grow_at_once_add_no_more_tasks_than_the_limit(run: RunTree, settings: Settings) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, spawned_tasks=4))
    ran = run(two_maps([1, 2], [1, 2, 3]))
    assert sorted(ran.tasks[name].status for name in ("map 0", "map 1")) == ["completed", "failed"]
    assert sum(1 for task in tree_of(ran).values() if task.spawned_by) <= 4


@pytest.mark.both_engines
def test_ids_that_other_trees_have_are_left_to_them(run: RunTree) -> None:
    other = trees.create_tree(caller=LOCAL, tasks={"id": "part[1]", "name": "Other"}).root
    ran = run(mapped([1, 2]))
    assert [result["value"] for result in ran.tasks["each"].result] == [1, 2]
    spawned = [task.id for task in tree_of(ran).values() if task.spawned_by]
    assert spawned[0] == "part[0]"
    assert len(spawned[1]) == 32
    other.refresh_from_db()
    assert (other.name, other.status) == ("Other", "pending")


def test_a_condition_may_ask_about_the_item(run: RunTree) -> None:
    part = {"id": "part", "inputs": {"v": "{{item}}"}, "params": {"when": {"task": "item", "op": "gt", "value": 1}}}
    ran = run(mapped([1, 2], part))
    assert ran.tasks["each"].result == [None, {"v": 2}]


def test_expressions_and_templates_know_the_item(run: RunTree) -> None:
    part = {"id": "part", "schemas": {"method": "transform_executor"}, "inputs": {"select": "item.name"}}
    ran = run(mapped([{"name": "{{x}}"}], part))
    assert ran.tasks["each"].result == ["{{x}}"]


@pytest.mark.both_engines
def test_a_failed_map_is_executed_again_for_the_items_that_failed(run: RunTree, worker: WorkerThread) -> None:
    part = {"id": "part", "schemas": {"method": "scripted_executor"}, "inputs": {"then": "{{item}}"}}
    ran = run(mapped(["ok", "fail"], part))
    Task.objects.filter(id="part[1]").update(inputs={"then": "ok"})
    again = trees.execute_task(caller=LOCAL, task_id="end")
    worker.work()
    ended = result_of(again.run)
    assert ended.statuses() | {"part": "skipped"} == dict.fromkeys(ended.tasks, "completed") | {"part": "skipped"}
    assert ended.order() == ["part[1]", "end"] or ended.order() == ["part[1]", "each", "end"]
    assert len(ended.tasks["each"].result) == len(ran.tasks["each"].params["for_each"]) + 1


def test_a_copy_has_the_template_and_not_the_items(run: RunTree, worker: WorkerThread) -> None:
    run(mapped([1, 2]))
    copy = copy_tree(caller=LOCAL, task_id="end")
    assert [task.name for task in copy.tasks] == ["End", "List", "Each", "Part"]
    executed = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    assert result_of(executed.run).tasks[copy.ids["each"]].result == [{"value": n, "number": n - 1} for n in (1, 2)]


@pytest.mark.both_engines
def test_a_copy_that_keeps_a_map_keeps_its_items(run: RunTree, worker: WorkerThread) -> None:
    after = {"id": "after", "name": "After", "parent_id": "end", "dependencies": ["each"], **ECHO}
    run([*mapped([1, 2]), after])
    copy = copy_tree(caller=LOCAL, task_id="after", copy_mode="full")
    statuses = {task.name: task.status for task in copy.tasks}
    done = dict.fromkeys(("List", "Each", "Part [0]", "Part [1]", "End"), "completed")
    assert statuses == done | {"Part": "skipped", "After": "pending"}
    spawned = [task.spawned_by for task in copy.tasks if task.name.startswith("Part [")]
    assert spawned == [copy.ids["each"]] * 2
    executed = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    ended = result_of(executed.run)
    assert len(ended.tasks[copy.ids["after"]].result["each"]) == 2
    assert ended.order() == [copy.ids["after"]]


@pytest.mark.both_engines
def test_a_copy_without_the_list_has_the_items(run: RunTree, worker: WorkerThread) -> None:
    run(mapped([1, 2]))
    copy = copy_tree(caller=LOCAL, task_id="each")
    assert {task.name for task in copy.tasks} == {"Each", "Part", "End"}
    executed = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    assert len(result_of(executed.run).tasks[copy.ids["each"]].result) == 2


def test_a_part_of_a_template_is_not_executed_by_itself(run: RunTree) -> None:
    run(mapped([1]))
    for copies in (False, True):
        with pytest.raises(StatusConflict, match="Task 'part' is part of the template of 'each'"):
            trees.execute_task(caller=LOCAL, task_id="part", copy_execution=copies)


@pytest.mark.both_engines
def test_a_cancellation_reaches_the_items(stage: Stage) -> None:
    part = {"id": "part", "schemas": {"method": "script_executor"}, "inputs": {"script": "hang"}}
    run = trees.execute_tree(caller=LOCAL, tasks=mapped([1, 2, 3], part, max_parallel=2)).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: Task.objects.filter(id__in=["part[0]", "part[1]"]).count() < 2)
    stage.until_nothing(lambda: Task.objects.filter(id__in=["part[0]", "part[1]"]).exclude(status="in_progress"))
    life.cancel(run.id, "each")
    stage.until_nothing(lambda: Run.objects.filter(finished_at=None))
    statuses = result_of(run).statuses()
    assert {statuses[task_id] for task_id in ("each", "part[0]", "part[1]", "part[2]")} == {"cancelled"}
    assert (statuses["part"], statuses["end"]) == ("skipped", "failed")


@at_any_moment(11, both_engines=(3, 6, 9))
def test_a_crash_at_any_moment_makes_no_item_twice(stage: Stage, items: int, after: bool) -> None:
    part = {"id": "part", "schemas": {"method": "script_executor"}, "inputs": {"script": "ok", "n": "{{item}}"}}
    run = trees.execute_tree(caller=LOCAL, tasks=mapped([1, 2, 3], part, max_parallel=2)).run
    stage.die_and_take_over(Fuse(items=items, after=after))
    ended = result_of(run)
    assert ended.run.status == "completed"
    assert [result["got"]["n"] for result in ended.tasks["each"].result] == [1, 2, 3]
    assert sorted(task_id for task_id in ended.tasks if ended.tasks[task_id].spawned_by) == [
        "part[0]",
        "part[1]",
        "part[2]",
    ]
    types = [event["type"] for event in ended.events]
    assert (types.count("task_spawned"), types.count("final")) == (1, 1)
    completed = [event["task_id"] for event in ended.events if event["type"] == "task_completed"]
    assert len(completed) == len(set(completed)) == 6


def test_what_no_map_can_be_is_refused(worker: WorkerThread) -> None:
    def refused(change: Callable[[list[Json]], object]) -> str:
        tree = mapped([1])
        change(tree)
        with pytest.raises((InvalidTree, InvalidDependency)) as caught:
            trees.create_tree(caller=LOCAL, tasks=tree)
        return str(caught.value)

    assert "is for a task without an executor" in refused(lambda tree: tree[2].update(ECHO))
    assert "needs a template" in refused(lambda tree: tree.pop())
    assert "which is no dependency of the task" in refused(lambda tree: tree[2].update(dependencies=[]))
    assert "Depend on 'each'" in refused(lambda tree: tree[0].update(dependencies=["each", "part"]))
    assert "is the name of a dependency, and of a value of its map" in refused(
        lambda tree: tree[3].update(dependencies=[{"id": "list", "as": "item"}])
    )


def test_a_map_that_runs_alone_runs_what_its_template_needs(worker: WorkerThread) -> None:
    tree = mapped(["a", "b"], {"id": "part", "inputs": {"value": "{{other.x}}"}, "dependencies": ["other"]})
    tree.append({"id": "other", "name": "Other", "parent_id": "end", "inputs": {"x": 1}, **ECHO})
    trees.create_tree(caller=LOCAL, tasks=tree)
    execution = trees.execute_task(caller=LOCAL, task_id="each")
    worker.work()
    ran = result_of(execution.run)
    assert (ran.run.status, ran.tasks["other"].status, ran.tasks["end"].status) == ("completed", "completed", "pending")
    assert [part["value"] for part in ran.tasks["each"].result] == [1, 1]


def test_a_template_that_waits_for_its_map_is_a_cycle() -> None:
    below = {"id": "below", "parent_id": "part", "dependencies": ["each"]}
    with pytest.raises(CircularDependency, match="each"):
        trees.create_tree(caller=LOCAL, tasks=mapped([1], {"id": "part"}, below))


@pytest.mark.parametrize("part", [pytest.param("part", marks=pytest.mark.both_engines), "part[0]"])
def test_no_part_of_a_map_is_deleted_without_it(run: RunTree, part: str) -> None:
    run(mapped([1, 2]))
    with pytest.raises(CannotDelete, match="it is a part of 'each'"):
        delete_task(caller=LOCAL, task_id=part, force=True)
    delete_task(caller=LOCAL, task_id="end", force=True)
    assert not Task.objects.exists()


def test_a_copy_of_a_map_puts_nothing_into_its_template(run: RunTree, worker: WorkerThread) -> None:
    tree = mapped([1, 2])
    run([tree[0] | {"dependencies": []}, *tree[1:]])
    copy = copy_tree(caller=LOCAL, task_id="each", children=True)
    assert copy.root.id == copy.ids["list"]
    execution = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    assert len(result_of(execution.run).tasks[copy.ids["each"]].result) == 2


def test_two_maps_have_no_root_of_their_own() -> None:
    after: Json = {"id": "after", "name": "After", "parent_id": "end", "dependencies": ["each"]}
    after |= {"params": {"for_each": {"items": [1]}}}
    tree = mapped([1])
    part = {"id": "b", "name": "B", "parent_id": "after", **ECHO}
    trees.create_tree(caller=LOCAL, tasks=[tree[0] | {"dependencies": []}, *tree[1:], after, part])
    with pytest.raises(InvalidParams, match="leaves no task that all others can be below"):
        copy_tree(caller=LOCAL, task_id="each")


@pytest.mark.both_engines
def test_a_run_that_is_cancelled_before_it_begins_sets_the_template_aside() -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=mapped([1])).run
    cancels.ask(caller=LOCAL, task_ids=["end"], force=False, message="Never mind")
    ended = result_of(run)
    assert ended.statuses() == dict.fromkeys(("end", "list", "each"), "cancelled") | {"part": "skipped"}
    assert [event["type"] for event in ended.events if event["task_id"] == "part"] == ["task_skipped"]


def test_what_is_done_with_does_not_decide_how_a_run_ends(worker: WorkerThread) -> None:
    """The worker that takes the run over after a crash would not have it in the run."""
    tree: list[Json] = [
        {"id": "root", "name": "Root"},
        {"id": "t", "name": "T", "parent_id": "root", **ECHO},
        {"id": "d", "name": "D", "parent_id": "t", "dependencies": [{"id": "f", "required": False}], **ECHO},
        {
            "id": "f",
            "name": "F",
            "parent_id": "root",
            "schemas": {"method": "scripted_executor"},
            "inputs": {"then": "fail"},
        },
    ]
    trees.create_tree(caller=LOCAL, tasks=tree)
    execution = trees.execute_task(caller=LOCAL, task_id="t")
    worker.work()
    ran = result_of(execution.run)
    assert (ran.tasks["f"].status, ran.tasks["d"].status, ran.run.status) == ("failed", "completed", "completed")


@pytest.mark.both_engines
def test_what_only_the_template_of_a_completed_map_needed_is_not_in_the_run() -> None:
    """It is cancelled at once, and leaves the run alone."""
    group: Json = {"id": "group", "name": "Group", "parent_id": "top"}
    tree = mapped(["a"], {"id": "part", "dependencies": ["other"]})
    parents = {"end": "top", "list": "group", "each": "group", "part": "each"}
    tree = [task | {"parent_id": parents[task["id"]]} for task in tree]
    other = {"id": "other", "name": "Other", "parent_id": "top", **ECHO}
    trees.create_tree(caller=LOCAL, tasks=[{"id": "top", "name": "Top"}, group, *tree, other])
    Task.objects.filter(id__in=["list", "each"]).update(status="completed", result=[])
    Task.objects.filter(id="part").update(status="skipped")
    run = trees.execute_task(caller=LOCAL, task_id="group").run
    cancels.ask(caller=LOCAL, task_ids=["other"], force=False, message="Never mind")
    assert Task.objects.get(id="other").status == "cancelled"
    assert not CancelRequest.objects.filter(run_id=run.id).exists()


@pytest.mark.parametrize(("name", "is_known"), [("Part", True), ("Other", False), ("A part", False)])
def test_a_task_of_a_template_without_an_id_is_known_by_its_name(run: RunTree, name: str, is_known: bool) -> None:
    """If nothing else has it. A condition about a round could not name the task otherwise."""
    until: Json = {"path": f"/{name}/n", "op": "eq", "value": 2}
    loop: Json = {"id": "loop", "name": "Loop", "parent_id": "top", "params": {"repeat": {"until": until, "max": 3}}}
    part = {"name": name, "parent_id": "loop", "inputs": {"n": "{{round}}"}, **ECHO}
    other = {"id": "other", "name": "B", "parent_id": "loop", **ECHO}
    ran = run([{"id": "top", "name": "Top"}, loop, part, other, {"name": "Other", "parent_id": "top", **ECHO}])
    assert ran.tasks["loop"].status == ("completed" if is_known else "failed")
    if is_known:
        assert ran.tasks["loop"].result == {name: {"n": 2}, "other": {}}
