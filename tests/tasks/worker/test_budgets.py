"""A run with `params.budget` starts nothing more when it is used up, wherever its tasks run, also after a crash."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from pytest_django import Settings

from accounts.callers import LOCAL, Caller, Role
from tasks.models import DayCount, Question, Run, RunBudget, Task
from tasks.queue import suspension
from tasks.queue.leases import Claim
from tasks.rules.exceptions import InvalidParams, RoleTooLow, TaskNotFound
from tasks.services import trees
from tasks.services.spending.usage import usage
from tasks.services.trees import editing
from tasks.services.trees.copies import copy_tree
from tasks.services.waits import questions
from tasks.worker.run_budget import RunBudget as Kept
from tests.sections import replace
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, Ran, WorkerThread, result_of, run_tree, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
USED = {"model": "openai/gpt", "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost_usd": 0.25}


def chain(count: int, budget: Json, **fields: Any) -> list[Json]:
    """A group and so many tasks below it, one after the other."""
    return [
        {"id": "root", "name": "Root", "params": {"budget": budget}},
        *(
            step(f"t{number}", parent_id="root", dependencies=[f"t{number - 1}"] if number else [], **fields)
            for number in range(count)
        ),
    ]


def completed(ran: Ran) -> list[str]:
    return [name for name, status in ran.statuses().items() if status == "completed" and name != "root"]


@pytest.mark.both_engines
def test_no_task_starts_once_the_tokens_are_used_up(worker: WorkerThread) -> None:
    ran = run_tree(worker, chain(4, {"tokens": 30}, inputs={"spends": USED}))
    assert completed(ran) == ["t0", "t1"]
    assert ran.run.status == "failed"
    assert ran.tasks["t2"].error == (
        "The budget of this run is used up: spent 30 of 30 tokens. "
        "Execute it again, with the whole budget, or a copy of the tree (tasks.copy) with a higher params.budget.tokens "
        "of its root (tasks.update)."
    )
    assert ran.tasks["t3"].error == "Not run: required dependency 't2' failed"
    assert "t2" not in ran.order()


@pytest.mark.parametrize(
    ("budget", "runs"), [({"cost_usd": 0.5}, 2), ({"tasks": 3}, 3), ({"cost_usd": 0.3, "tokens": 900}, 2)]
)
def test_the_other_measures_limit_too(worker: WorkerThread, budget: Json, runs: int) -> None:
    assert len(completed(run_tree(worker, chain(5, budget, inputs={"spends": USED})))) == runs


@pytest.mark.both_engines
def test_a_run_that_fits_its_budget_completes(worker: WorkerThread) -> None:
    ran = run_tree(worker, chain(2, {"tokens": 31, "cost_usd": 1, "tasks": 3, "seconds": 600}, inputs={"spends": USED}))
    assert ran.run.status == "completed"
    state = RunBudget.objects.get(run_id=ran.run.id).state
    assert (state["tokens"], state["cost_nanos"], state["tasks"]) == (30, 500_000_000, 2)
    assert 0 < state["seconds"] < 600


@pytest.mark.both_engines
def test_attempts_count_their_tokens_but_are_one_task(worker: WorkerThread) -> None:
    retry = {
        "params": {"retry": {"max_attempts": 9, "backoff_seconds": 0}},
        "inputs": {"spends": USED, "fails_until_attempt": 9},
    }
    ran = run_tree(worker, chain(1, {"tokens": 45}, **retry))
    assert (ran.tasks["t0"].status, ran.tasks["t0"].attempt) == ("failed", 3)
    assert RunBudget.objects.get(run_id=ran.run.id).state["tasks"] == 1


def test_the_last_task_that_may_start_may_also_retry_and_call_models(worker: WorkerThread) -> None:
    retry = {"retry": {"max_attempts": 3, "backoff_seconds": 0}}
    ran = run_tree(worker, chain(2, {"tasks": 2}, inputs={"fails_until_attempt": 3}, params=retry))
    assert completed(ran) == ["t0", "t1"]
    model = {"id": "m", "schemas": {"method": "llm_executor"}, "inputs": {"model": "demo/x", "prompt": "Hello"}}
    called = run_tree(worker, [model | {"name": "M", "params": {"budget": {"tasks": 1}}}])
    assert called.run.status == "completed", called.tasks["m"].error
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tasks_spending")


@pytest.mark.both_engines
def test_parts_of_a_map_and_rounds_count_as_tasks(worker: WorkerThread) -> None:
    tree = [
        {
            "id": "map",
            "name": "Map",
            "params": {"budget": {"tasks": 3}, "for_each": {"items": [1, 2, 3, 4, 5], "max_parallel": 1}},
        },
        step("part", parent_id="map"),
    ]
    ran = run_tree(worker, tree)
    assert sorted(task.status for task in _spawned(ran)) == ["completed"] * 3 + ["failed"] * 2
    until = {"path": "/never", "op": "exists"}
    loop = step("loop", params={"budget": {"tasks": 2}, "repeat": {"until": until, "max": 9}})
    assert [task.status for task in _spawned(run_tree(worker, [loop]))] == ["completed", "completed", "failed"]


def _spawned(ran: Ran) -> list[Task]:
    return list(Task.objects.filter(root_id=ran.run.root_id, spawned_by__isnull=False).order_by("position"))


@pytest.mark.parametrize("pool", ["loop", pytest.param("thread", marks=pytest.mark.both_engines), "process"])
def test_a_call_of_a_model_that_no_longer_fits_is_not_made(
    worker: WorkerThread, settings: Settings, monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    """The model is asked once; its tree is refused, because it has two tasks, and the second call would be too much."""
    monkeypatch.setenv("AIPARTNERUPFLOW_LIMITS_TASKS_PER_TREE", "1")
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, tasks_per_tree=1))
    writer = {
        "id": "write",
        "name": "generate_executor",
        "params": {"pool": pool, "model": "demo/x", "budget": {"tokens": 1}},
        "inputs": {"requirement": "Anything"},
    }
    with worker.new_processes():
        task = run_tree(worker, [writer]).tasks["write"]
    assert task.status == "failed"
    assert str(task.error).startswith("The budget of this run is used up")
    assert usage(caller=LOCAL, model="demo/x").total["calls"] == 1
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tasks_spending")


@pytest.mark.parametrize(
    ("limits", "spent"),
    [
        pytest.param({"tokens_per_user_day": 20}, "30 of 20 tokens", marks=pytest.mark.both_engines),
        ({"usd_per_user_day": 1}, "1.00 of 1.00 USD"),
        pytest.param({"tasks_per_user_day": 2}, "2 of 2 tasks", marks=pytest.mark.both_engines),
    ],
)
def test_what_a_user_may_spend_on_a_day_limits_all_runs(
    worker: WorkerThread, settings: Settings, limits: Json, spent: str
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tasks_spending")
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, **limits))
    runs = [
        run_tree(worker, [step(name, inputs={"spends": USED | {"cost_usd": 0.5}})]).tasks[name]
        for name in ("a", "b", "c")
    ]
    assert [task.status for task in runs] == ["completed", "completed", "failed"]
    assert str(runs[2].error).startswith(f"The limit of user 'local' for a day is used up: spent {spent} today.")
    chained = run_tree(worker, chain(1, {"tokens": 10_000}))
    assert chained.tasks["t0"].status == "failed"
    (limit,) = usage(caller=LOCAL).today
    assert limit.text == spent
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, **dict.fromkeys(limits, 0)))
    assert usage(caller=LOCAL).today == []
    assert run_tree(worker, [step("d")]).run.status == "completed"
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tasks_spending")


@pytest.fixture
def limited(settings: Settings) -> Callable[..., None]:
    """Set limits of each user and day, which then ask."""

    def limit(**limits: Any) -> None:
        settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, **limits))

    limit(user_day_exceeded="ask")
    return limit


def someone() -> Caller:
    """A user who has used nothing today: the worker of the tests keeps its counts from test to test."""
    return Caller(user_id=f"ada-{uuid4().hex}", role=Role.OPERATOR)


def waiting(worker: WorkerThread, name: str, *, caller: Caller) -> Run:
    run = trees.execute_tree(caller=caller, tasks=[step(name)]).run
    worker.work()
    return run


@pytest.mark.both_engines
def test_the_seconds_of_all_processes_count(worker: WorkerThread, limited: Callable[..., None]) -> None:
    limited(seconds_per_user_day=600, user_day_exceeded="fail")
    ada = someone()
    assert result_of(waiting(worker, "a", caller=ada)).run.status == "completed"
    DayCount.objects.create(user_id=ada.user_id, day=datetime.now(UTC).date(), process="another", tasks=1, seconds=600)
    error = str(result_of(waiting(worker, "b", caller=ada)).tasks["b"].error)
    assert "of 600.0 seconds today" in error
    assert "limits.seconds_per_user_day" in error
    assert result_of(waiting(worker, "c", caller=someone())).run.status == "completed"


@pytest.mark.both_engines
def test_a_task_that_begins_again_after_a_crash_counts_once(stage: Stage, limited: Callable[..., None]) -> None:
    limited(tasks_per_user_day=50)
    ada = someone()
    script = {"schemas": {"method": "script_executor"}, "inputs": {"script": "ok"}}
    run = trees.execute_tree(caller=ada, tasks=[{"id": "a", "name": "a", **script}]).run
    stage.die_and_take_over(Fuse(items=2, after=True))
    assert result_of(run).run.status == "completed"
    assert sum(DayCount.objects.values_list("tasks", flat=True)) == 1


@pytest.mark.both_engines
def test_administrators_are_asked_to_raise_the_limit_of_a_day(
    worker: WorkerThread, limited: Callable[..., None]
) -> None:
    """One answer is the answer to all runs of the user, and neither the owner nor others may give it."""
    limited(tasks_per_user_day=1)
    ada = someone()
    assert result_of(waiting(worker, "a", caller=ada)).run.status == "completed"
    runs = [waiting(worker, name, caller=ada) for name in ("b", "c")]
    assert [result_of(run).run.status for run in runs] == ["in_progress", "in_progress"]
    question = Question.objects.for_people().unanswered().get(task_id="b")
    assert question.text.startswith(
        f"User '{ada.user_id}' has spent 1 of 1 tasks today. Raise the limit of today to how much?"
    )
    with pytest.raises(RoleTooLow):
        questions.answer(caller=ada, task_id="b", answer=100)
    with pytest.raises(TaskNotFound):
        questions.answer(caller=Caller(user_id="bob", role=Role.OPERATOR), task_id="b", answer=100)
    with pytest.raises(InvalidParams, match="above 1"):
        questions.answer(caller=LOCAL, task_id="b", answer=1)
    questions.answer(caller=LOCAL, task_id="b", answer=3)
    worker.work()
    assert [result_of(run).run.status for run in runs] == ["completed", "completed"]
    (limit,) = usage(caller=ada).today
    assert limit.text == "3 of 3 tasks"
    more = [waiting(worker, name, caller=ada) for name in ("d", "e")]
    questions.answer(caller=LOCAL, task_id="e", answer="stop")
    worker.work()
    ends = [result_of(run) for run in more]
    assert [end.run.status for end in ends] == ["failed", "failed"]
    assert "An administrator chose not to raise the limit" in str(ends[0].tasks["d"].error)


@pytest.mark.both_engines
def test_what_waits_for_administrators_goes_on_with_the_next_day(
    worker: WorkerThread, limited: Callable[..., None]
) -> None:
    limited(tasks_per_user_day=1)
    ada = someone()
    waiting(worker, "a", caller=ada)
    run = waiting(worker, "b", caller=ada)
    question = Question.objects.for_people().unanswered().get(task_id="b")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    assert question.expires_at is not None
    assert abs(question.expires_at - midnight) < timedelta(minutes=2)
    DayCount.objects.update(day=midnight.date() - timedelta(days=2))  # as if it were another day
    limited(tasks_per_user_day=5)
    Question.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    until_done(worker, run)


def until_done(worker: WorkerThread, run: Run) -> None:
    suspension.resume([run.id])
    worker.work()
    assert result_of(run).run.status == "completed"


@pytest.mark.both_engines
def test_each_run_has_the_whole_budget(worker: WorkerThread) -> None:
    tree = chain(2, {"tokens": 15}, inputs={"spends": USED})
    ran = run_tree(worker, tree)
    assert completed(ran) == ["t0"]
    trees.execute_task(caller=LOCAL, task_id="root")
    worker.work()
    states = [budget.state["tokens"] for budget in RunBudget.objects.all()]
    assert states == [15, 15]


def test_copies_keep_the_budget_and_only_their_root_has_it(worker: WorkerThread) -> None:
    run_tree(worker, chain(2, {"tasks": 1}))
    whole = copy_tree(caller=LOCAL, task_id="root")
    assert [(task.params or {}).get("budget") for task in whole.tasks] == [{"tasks": 1}, None, None]
    part = copy_tree(caller=LOCAL, task_id="t1")
    assert part.root.params == {"budget": {"tasks": 1}}
    assert copy_tree(caller=LOCAL, task_id="root", reset_fields=["params"]).root.params is None


def test_a_run_continues_its_count_of_seconds() -> None:
    claim = Claim("run", "root", "root", 2, budget='{"seconds": 600.5, "tokens": 1}')
    assert "spent 600.5 of 600.0 seconds" in str(Kept(claim, {"budget": {"seconds": 600}}).refusal())
    assert Kept(claim, {"budget": {"seconds": 6000}}).refusal() is None


@pytest.mark.both_engines
def test_the_count_is_deleted_with_its_tree(worker: WorkerThread) -> None:
    run_tree(worker, chain(1, {"tasks": 5}))
    editing.delete_task(caller=LOCAL, task_id="root", force=True)
    assert not RunBudget.objects.exists()


@at_any_moment(9, both_engines=(3, 6))
def test_a_killed_worker_neither_loses_a_count_nor_counts_twice(stage: Stage, items: int, after: bool) -> None:
    """Everything that was reported and committed counts, and a task counts once, however often it has begun."""
    script = {"schemas": {"method": "script_executor"}, "inputs": {"script": "ok", "spends": [USED]}}
    run = trees.execute_tree(caller=LOCAL, tasks=chain(3, {"tasks": 3, "tokens": 10_000}, **script)).run
    stage.die_and_take_over(Fuse(items=items, after=after))
    ended = result_of(run)
    assert ended.run.status == "completed", {name: task.error for name, task in ended.tasks.items()}
    state = RunBudget.objects.get(run_id=run.id).state
    executed = sum(len(life.executed) for life in stage._lives)
    assert state["tasks"] == 3
    assert (executed - 1) * 15 <= state["tokens"] <= executed * 15
