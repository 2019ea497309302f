"""Trees that run trees: a task waits for a run of its own, which is started once and ends with it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models.functions import Now
from pytest_django import Settings

from accounts.callers import LOCAL, Caller
from tasks.models import Question, Run, Task
from tasks.queue import leases
from tasks.rules.exceptions import InvalidParams
from tasks.services import trees
from tasks.services.flows import save_flow
from tasks.services.runs import cancels, child_runs
from tasks.services.waits.questions import open_question
from tests.sections import replace
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, Ran, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
ROUNDS = 10
RunTree = Callable[[list[Json]], Ran]
ECHO: Json = {"schemas": {"method": "echo_executor"}}
GREET: Json = {"id": "greet", "name": "Greet", "inputs": {"text": "Hello {{run.inputs.who}}"}, **ECHO}


def outer(*tasks: Json, **inputs: Any) -> list[Json]:
    """A list of names, a task that runs a tree with one of them, and what follows."""
    given = inputs or {"tasks": tasks or [GREET], "inputs": {"who": "{{list.who}}"}}
    return [
        {"id": "end", "name": "End", "dependencies": ["inner"], **ECHO},
        {"id": "list", "name": "List", "parent_id": "end", "inputs": {"who": "world"}, **ECHO},
        {
            "id": "inner",
            "name": "Inner",
            "parent_id": "end",
            "dependencies": ["list"],
            "schemas": {"method": "run_tree_executor"},
            "inputs": given,
        },
    ]


def all_child_runs() -> list[Run]:
    return list(Run.objects.filter(wait_id__isnull=False).order_by("created_at"))


@pytest.mark.both_engines
def test_the_result_of_its_root_is_the_result(run: RunTree) -> None:
    ran = run(outer())
    assert ran.tasks["inner"].error is None
    assert ran.tasks["inner"].result == {"text": "Hello world"}
    assert ran.tasks["end"].result == {"inner": {"text": "Hello world"}}
    (child,) = all_child_runs()
    wait = Question.objects.get(id=child.wait_id)
    assert (child.status, child.user_id, wait.run_id, wait.task_id) == ("completed", "local", ran.run.id, "inner")
    assert (wait.kind, wait.tree, wait.closed_at is not None) == ("run", None, True)


def test_a_stored_tree_runs_as_a_copy(run: RunTree) -> None:
    stored = trees.create_tree(caller=LOCAL, tasks=[GREET]).root
    ran = run(outer(copy_of=stored.id, inputs={"who": "{{list.who}}"}))
    assert ran.tasks["inner"].result == {"text": "Hello world"}
    (child,) = all_child_runs()
    assert Task.objects.get(id=child.root_id).original_task_id == stored.id
    assert Task.objects.get(id=stored.id).status == "pending"


@pytest.mark.both_engines
def test_a_flow_runs_with_inputs_and_stays_on_the_version_that_was_named(run: RunTree) -> None:
    for text in ("Hello", "Goodbye"):
        greet = GREET | {"inputs": {"text": f"{text} {{{{run.inputs.who}}}}"}}
        save_flow(caller=LOCAL, name="greet", tasks=[greet], inputs_schema={"properties": {"who": {"type": "string"}}})
    results = [
        run(outer(flow="greet", inputs={"who": "{{list.who}}"}, **version)).tasks["inner"].result
        for version in ({}, {"version": 1})
    ]
    assert results == [{"text": "Goodbye world"}, {"text": "Hello world"}]
    assert [child.flow_version for child in all_child_runs()] == [2, 1]
    for inputs, error in (
        ({"flow": "none"}, "The tree was not started: Flow 'none' not found"),
        ({"flow": "greet", "version": 3}, "The tree was not started: Flow 'greet' has no version 3"),
        ({"flow": "greet", "inputs": {"whom": "x"}}, "'whom' is no input of this flow; did you mean 'who'?"),
    ):
        assert error in str(run(outer(**inputs)).tasks["inner"].error)


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        pytest.param(
            {"copy_of": "of another user"},
            "The tree was not started: Task 'of another user' not found",
            marks=pytest.mark.both_engines,
        ),
        ({"copy_of": "{{list.who}}", "tasks": [GREET]}, "Give one of inputs.tasks, a list of tasks, inputs.copy_of"),
        ({"copy_of": "{{list.who}}", "inputs": {"x": 1}}, "The tree was not started: Task 'world' not found"),
        ({"tasks": [GREET]}, "ended as failed: Cannot fill the inputs: inputs.text: '{{run.inputs.who}}' has no value"),
    ],
)
def test_what_cannot_run_fails_the_task(run: RunTree, inputs: Json, error: str) -> None:
    trees.create_tree(caller=Caller(user_id="bob"), tasks=[{"id": "of another user", "name": "Other"}])
    if "tasks" in inputs and "copy_of" in inputs:
        with pytest.raises(InvalidParams, match="Give one of"):
            run(outer(**inputs))
        return
    ran = run(outer(**inputs))
    assert error in str(ran.tasks["inner"].error)
    assert ran.tasks["end"].status == "failed"


@pytest.mark.both_engines
def test_trees_run_trees_to_a_depth(run: RunTree, settings: Settings) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, nested_runs=2))
    innermost = [{"id": "leaf", "name": "Leaf", **ECHO}]
    for _ in range(3):
        innermost = [
            {"id": "t", "name": "T", "schemas": {"method": "run_tree_executor"}, "inputs": {"tasks": innermost}}
        ]
    ran = run(innermost)
    assert len(all_child_runs()) == 2
    assert "is more than 2 trees below the first one (limits.nested_runs)" in str(ran.tasks["t"].error)


def test_a_retry_runs_it_once_more(run: RunTree) -> None:
    failing = {"name": "Fail", "schemas": {"method": "transform_executor"}, "inputs": {"select": "error('no')"}}
    tree = outer(tasks=[failing])
    tree[2]["params"] = {"retry": {"max_attempts": 2, "backoff_seconds": 0}}
    ran = run(tree)
    assert ran.tasks["inner"].status == "failed"
    assert [child.status for child in all_child_runs()] == ["failed", "failed"]


@pytest.mark.both_engines
def test_it_is_cancelled_with_its_task(stage: Stage) -> None:
    hang = {"id": "hang", "name": "Hang", "schemas": {"method": "script_executor"}, "inputs": {"script": "hang"}}
    run = trees.execute_tree(caller=LOCAL, tasks=outer(hang)).run
    life = stage.bear()
    stage.until_nothing(lambda: life.woken_for_open_runs() and not Task.objects.filter(id="hang", status="in_progress"))
    stage.until_nothing(lambda: Run.objects.filter(id=run.id).exclude(lease_owner=leases.SUSPENDED))
    cancels.ask(caller=LOCAL, task_ids=["inner"], force=False, message="Enough")
    stage.until_nothing(life.woken_for_open_runs)
    assert result_of(run).tasks["inner"].status == "cancelled"
    (child,) = all_child_runs()
    assert child.status == "cancelled"
    assert Task.objects.get(id="hang").error == "Cancelled with task 'inner', which ran this tree"


@pytest.mark.both_engines
def test_the_wait_ends_when_the_tree_is_cancelled_before_it_starts() -> None:
    """No worker has taken the tree: the request ends its run, and the wait for it."""
    run = trees.execute_tree(caller=LOCAL, tasks=outer()).run
    wait = Question.objects.create(
        run=run, task_id="inner", text="for a tree", kind="run", tree={"tasks": [GREET]}, asked_at=Now()
    )
    for _ in range(2):
        assert (started := child_runs.start(wait.id)) is not None
        assert started.reply is None
    (child,) = all_child_runs()
    cancels.ask(caller=LOCAL, task_ids=[child.root_id], force=False, message="Enough")
    assert (ended := open_question(wait.id)) is not None
    assert ended.reply is not None
    assert (ended.reply.answer["status"], ended.reply.answer["error"]) == ("cancelled", "Enough")


@at_any_moment(13, both_engines=range(1, 14))
def test_a_crash_at_any_moment_starts_no_tree_twice(stage: Stage, items: int, after: bool) -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=outer()).run
    stage.die_and_take_over(Fuse(items=items, after=after))
    ended = result_of(run)
    assert ended.tasks["inner"].result == {"text": "Hello world"}
    assert [child.status for child in all_child_runs()] == ["completed"]


@pytest.fixture
def run(worker: WorkerThread) -> RunTree:
    """Execute a tree to its end. The worker ends its work when nothing waits for it; the end of an inner tree wakes it."""

    def executed(tasks: list[Json]) -> Ran:
        execution = trees.execute_tree(caller=LOCAL, tasks=tasks)
        for _ in range(ROUNDS):
            worker.work()
            if result_of(execution.run).run.finished_at is not None:
                return result_of(execution.run, ids=execution.ids)
        raise AssertionError("The run does not end.")

    return executed
