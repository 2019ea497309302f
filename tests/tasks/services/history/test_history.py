"""The history of runs below the interfaces: trees of past runs when the log is cut or the tree has grown, and long histories."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from accounts.callers import LOCAL, Caller, Role
from tasks.models import Run, Task, TaskEvent
from tasks.rules.exceptions import InvalidParams
from tasks.services import history, trees
from tasks.services.history import run_search
from tasks.services.history.past_trees import past_tree
from tasks.services.runs.run_inputs import tags_of, with_inputs, with_tags
from tasks.services.trees.further_runs import latest_of
from tests.workers import Json, Ran, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
RunTree = Callable[[list[Json]], Ran]
ECHO: Json = {"schemas": {"method": "echo_executor"}}
TREE: list[Json] = [
    {"id": "all", "name": "All"},
    {"id": "a", "name": "A", "parent_id": "all", "inputs": {"of": "{{run.inputs.day}}"}, **ECHO},
    {"id": "b", "name": "B", "parent_id": "all", "inputs": {"of": "{{run.inputs.night}}"}, **ECHO},
]


@pytest.fixture
def runs(worker: WorkerThread) -> list[Run]:
    """Two runs of a tree: in the first one `b` fails."""

    def ran(verb: Any, inputs: Json, **arguments: Any) -> Ran:
        execution = with_inputs(verb, inputs, caller=LOCAL, **arguments)
        worker.work()
        return result_of(execution.run)

    first = ran(trees.execute_tree, {"day": 1}, tasks=TREE)
    second = ran(trees.execute_task, {"night": 2}, task_id=first.run.root_id)
    return [first.run, second.run]


def states(run: Run) -> dict[str, tuple[str, Any]]:
    """Status and stored result of each task below the root, as they were."""
    past = past_tree(caller=LOCAL, run_id=run.id)
    return {task.name: (task.status, vars(task)["result_text"]) for task in past.tasks if task.parent_id}


def test_a_past_tree_is_what_the_tree_was(runs: list[Run]) -> None:
    first, second = runs
    assert states(first) == {"A": ("completed", '{"of":1}'), "B": ("failed", None)}
    assert states(second) == {"A": ("completed", '{"of":1}'), "B": ("completed", '{"of":2}')}
    kept, again = (task for task in past_tree(caller=LOCAL, run_id=first.id).tasks if task.parent_id)
    assert kept.started_at and again.started_at and again.completed_at
    assert first.finished_at is not None and again.started_at <= again.completed_at <= first.finished_at


def test_what_deleted_events_said_is_not_made_up(runs: list[Run]) -> None:
    first, _ = runs
    TaskEvent.objects.filter(run_id=first.id).delete()
    assert states(first) == {"A": ("completed", '{"of":1}'), "B": ("pending", None)}
    (warning,) = past_tree(caller=LOCAL, run_id=first.id).warnings
    assert "events.keep_days" in warning and "1 of its tasks" in warning


def test_tasks_that_a_later_run_added_are_left_out(worker: WorkerThread) -> None:
    each = {
        "id": "each",
        "name": "Each",
        "parent_id": "all",
        "params": {"for_each": {"items": {"task": "run", "path": "/inputs/n"}}},
    }
    part = {"id": "part", "name": "Part", "parent_id": "each", "inputs": {"n": "{{item}}"}, **ECHO}
    first = trees.execute_tree(caller=LOCAL, tasks=[TREE[0], each, part])
    worker.work()
    with_inputs(trees.execute_task, {"n": [1, 2]}, caller=LOCAL, task_id="all")
    worker.work()
    latest = latest_of("all")
    assert latest is not None
    before, after = (len(past_tree(caller=LOCAL, run_id=run_id).tasks) for run_id in (first.run.id, latest.id))
    assert (before, after) == (3, 5)


def test_the_newest_of_all_statuses_come_first_page_by_page(runs: list[Run]) -> None:
    trees.execute_tree(caller=LOCAL, tasks=TREE)  # queued
    listed, cursor = history.list_runs(caller=LOCAL, wanted=history.RunFilter(), limit=2)
    rest, end = history.list_runs(caller=LOCAL, wanted=history.RunFilter(), limit=2, cursor=cursor or "")
    assert [facts.run.status for facts in [*listed, *rest]] == ["pending", "completed", "failed"]
    assert end is None
    stranger = Caller(user_id="stranger", role=Role.OPERATOR)
    assert history.list_runs(caller=stranger, wanted=history.RunFilter()) == ([], None)
    found, _ = history.roots_by_run(caller=LOCAL, wanted=history.RootFilter(run_statuses=["failed"]))
    assert found == []  # it has run again since


def found(**wanted: Any) -> list[str]:
    """The ids of the runs that are listed."""
    listed, _ = history.list_runs(caller=LOCAL, wanted=history.RunFilter(**wanted))
    return [facts.run.id for facts in listed]


def test_runs_are_found_by_tag_by_name_and_by_what_failed(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = runs
    other = with_tags(trees.execute_tree, ["nightly"], caller=LOCAL, tasks=[{"name": "Other", **ECHO}]).run
    assert found(tag="nightly") == [other.id] and found(tag="night") == []
    assert found(text="oTHer") == [other.id] and found(text=first.id) == [first.id]
    assert found(text="no 'night'") == [first.id] or found(text="night") == [first.id]
    assert found(text="has no") and second.id not in found(text="has no")
    assert found(text="error") == []  # a key of the stored event
    assert found(tag="nightly", statuses=["failed"]) == []
    (facts,) = history.list_runs(caller=LOCAL, wanted=history.RunFilter(statuses=["failed"]))[0]
    assert facts.error and "night" in facts.error
    times = history.times_of(caller=LOCAL, wanted=history.RunFilter(tag="nightly"))
    assert {status: len(each) for status, each in times.moments.items() if each} == {"pending": 1}
    (newest,), cursor, times = history.search_runs(caller=LOCAL, wanted=history.RunFilter(text="All"), limit=1)
    rest = history.list_runs(caller=LOCAL, wanted=history.RunFilter(text="All"), cursor=cursor or "")
    assert [facts.run.id for facts in (newest, *rest[0])] == found(text="All")
    assert ({status: len(each) for status, each in times.moments.items()}, times.cut) == (
        Counter(run.status for run in (first, second)),
        [],
    )
    stranger = Caller(user_id="stranger", role=Role.OPERATOR)
    for wanted in (history.RunFilter(tag="nightly"), history.RunFilter(text="Other")):
        assert history.list_runs(caller=stranger, wanted=wanted) == ([], None)
    assert not any(history.times_of(caller=stranger, wanted=history.RunFilter(tag="nightly")).moments.values())
    assert history.search_runs(caller=stranger, wanted=history.RunFilter(text="Other"), limit=9)[:2] == ([], None)
    monkeypatch.setattr(run_search, "PIECE", 1)
    monkeypatch.setattr(run_search, "SECONDS", -1)
    assert history.search_runs(caller=LOCAL, wanted=history.RunFilter(text="Other"), limit=9)[2].cut == ["pending"]
    ids, cursor = list[str](), ""
    for _ in range(4):  # a search that ends early continues
        listed, following = history.list_runs(caller=LOCAL, wanted=history.RunFilter(text="All"), cursor=cursor)
        ids, cursor = ids + [facts.run.id for facts in listed], following or ""
    assert (ids, cursor) == ([second.id, first.id], "")


def test_a_run_names_only_the_tasks_that_failed_it_and_the_cause_first(run: RunTree) -> None:
    fails: Json = {"schemas": {"method": "transform_executor"}, "inputs": {"select": "abs('no number')"}}
    may_fail = {"parent_id": "end", "params": {"allow_failure": True}} | fails
    spared: list[Json] = [{"id": f"s{number}", "name": f"Spared {number}", **may_fail} for number in range(12)]
    after_all = [{"id": task["id"], "required": False} for task in spared]
    ran = run([
        {"id": "end", "name": "End", "dependencies": ["after"], **ECHO},
        {"id": "bad", "name": "Bad", "parent_id": "end", "dependencies": after_all, **fails},
        {"id": "after", "name": "After", "parent_id": "end", "dependencies": ["bad"], **ECHO},
        *spared,
    ])  # fmt: skip
    (facts,) = history.list_runs(caller=LOCAL, wanted=history.RunFilter())[0]
    detail = history.get_run(caller=LOCAL, run_id=ran.run.id)
    assert [failure.name for failure in detail.failures] == ["Bad", "After", "End"]
    assert facts.error == ran.tasks["bad"].error
    assert Task.objects.filter(status="failed").count() == 15
    ran = run([
        {"id": "e", "name": "End", "dependencies": ["needs"], **ECHO},
        {"id": "needs", "name": "Needs", "parent_id": "e", "dependencies": ["spared"], **ECHO},
        {"id": "spared", "name": "Spared", **may_fail, "parent_id": "e"},
    ])  # fmt: skip
    failures = history.get_run(caller=LOCAL, run_id=ran.run.id).failures
    assert [failure.name for failure in failures] == ["Spared", "Needs", "End"]
    spares = run([{"id": "x", "name": "X"}, {"name": "Spared", **may_fail, "parent_id": "x"}])
    assert (spares.run.status, history.get_run(caller=LOCAL, run_id=spares.run.id).failures) == ("completed", [])


def test_a_further_run_has_the_tags_of_the_one_before_unless_it_is_given_others(worker: WorkerThread) -> None:
    def tags(run: Run) -> list[str]:
        return tags_of([run.id]).get(run.id, [])

    first = with_tags(trees.execute_tree, ["b", "a", "b"], caller=LOCAL, tasks=TREE)
    again = with_tags(trees.execute_task, ["c"], caller=LOCAL, task_id="all")
    assert (tags(first.run), again.started, len(again.warnings)) == (["a", "b"], False, 1)
    worker.work()
    assert tags(trees.execute_task(caller=LOCAL, task_id="all").run) == ["a", "b"]
    worker.work()
    assert tags(with_tags(trees.execute_task, [], caller=LOCAL, task_id="all").run) == []
    for wrong in (["a b"], [""], ["x"] * 11):
        with pytest.raises(InvalidParams):
            with_tags(trees.execute_tree, wrong, caller=LOCAL, tasks=TREE)
