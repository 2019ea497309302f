"""Loops: `params.repeat` runs a task, or a template, round after round until its result is good."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from accounts.callers import LOCAL
from tasks.models import Question, Task
from tasks.queue import suspension
from tasks.rules.exceptions import InvalidDependency, InvalidParams, InvalidTree, TasksError
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.trees.copies import copy_tree
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome, Results
from tasks.worker.spawning.spawner import Spawner
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, Ran, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
RunTree = Callable[[list[Json]], Ran]
ECHO: Json = {"schemas": {"method": "echo_executor"}}
AT_THREE: Json = {"path": "/n", "op": "ge", "value": 3}


def loop(*template: Json, executor: str = "echo_executor", inputs: Json | None = None, **repeat: Any) -> list[Json]:
    """A task that repeats, and one that follows it."""
    own = {} if template else {"schemas": {"method": executor}}
    return [
        {"id": "end", "name": "End", "dependencies": ["t"], **ECHO},
        {"id": "start", "name": "Start", "parent_id": "end", "inputs": {"word": "go"}, **ECHO},
        {
            "id": "t",
            "name": "Try",
            "parent_id": "end",
            "dependencies": ["start"],
            "params": {"repeat": {"until": AT_THREE, **repeat}},
            "inputs": inputs
            or ({} if template else {"n": "{{round}}", "word": "{{start.word}}", "before": "{{last}}"}),
            **own,
        },
        *({"name": part["id"].title(), "parent_id": "t", **ECHO} | part for part in template),
    ]


def rounds_of(task_id: str = "t") -> list[Task]:
    return list(Task.objects.filter(spawned_by=task_id).order_by("position"))


@pytest.mark.both_engines
def test_a_task_runs_until_its_result_is_good(run: RunTree) -> None:
    ran = run(loop(first="nothing"))
    assert ran.run.status == "completed"
    assert [task.id for task in rounds_of()] == ["t#1", "t#2", "t#3"]
    results = [task.result for task in rounds_of()]
    assert [result["before"] for result in results] == ["nothing", results[0], results[1]]
    assert ran.tasks["t"].result == results[2]
    assert ran.tasks["t"].result["word"] == "go"
    assert ran.tasks["end"].result == {"t": results[2]}
    assert (rounds_of()[1].name, rounds_of()[1].parent_id, rounds_of()[1].params) == ("Try #2", "t", None)


@pytest.mark.both_engines
def test_a_group_runs_its_template_round_after_round(run: RunTree) -> None:
    draft = {"id": "draft", "inputs": {"n": "{{round}}", "last": "{{last.review.note}}"}}
    review = {"id": "review", "dependencies": ["draft"], "inputs": {"n": "{{draft.n}}", "note": "better: {{draft.n}}"}}
    until = {"any": [{"path": "/review/n", "op": "ge", "value": 2}, {"not": {"path": "", "op": "exists"}}]}
    ran = run(loop(draft, review, until=until, first={"review": {"note": "begin"}}))
    assert [task.id for task in rounds_of()] == ["draft#1", "review#1", "draft#2", "review#2"]
    assert [task.result["last"] for task in rounds_of() if task.name.startswith("Draft")] == ["begin", "better: 1"]
    assert ran.tasks["t"].result["review"]["note"] == "better: 2"
    assert {ran.tasks[name].status for name in ("draft", "review")} == {"skipped"}


def test_too_many_rounds_fail_the_task_or_end_it(run: RunTree) -> None:
    error = "After 2 rounds this is still false: /n of the result is at least the value (params.repeat)."
    assert run(loop(max=2)).tasks["t"].error == error
    ended = run(loop(max=2, on_max="complete"))
    assert next(task for task in ended.tasks.values() if task.name == "Try").result["n"] == 2


def test_a_round_that_fails_fails_the_task_and_is_tried_again_with_it(run: RunTree, worker: WorkerThread) -> None:
    ran = run(loop(executor="scripted_executor", inputs={"then": "fail", "n": 3}))
    assert (ran.tasks["t"].error or "").startswith(
        "1 of 1 tasks below this one did not complete, the first being 't#1': "
    )
    Task.objects.filter(id="t#1").update(inputs={"then": "ok"})
    Task.objects.filter(id="t").update(params={"repeat": {"until": {"op": "exists"}}})
    again = trees.execute_task(caller=LOCAL, task_id="end")
    worker.work()
    assert result_of(again.run).run.status == "completed"
    assert [task.id for task in rounds_of()] == ["t#1"]


@pytest.mark.both_engines
def test_time_may_pass_between_rounds_without_a_worker(run: RunTree, worker: WorkerThread) -> None:
    assert run(loop(delay_seconds=0.01)).run.status == "completed"
    assert len(rounds_of()) == 3
    assert [(wait.kind, wait.memo, wait.closed_at is None) for wait in Question.objects.order_by("asked_at")] == [
        ("time", "1", False),
        ("time", "2", False),
    ]
    later = run(loop(delay_seconds=3600))
    assert (later.run.status, later.run.lease_owner) == ("in_progress", "parked")
    loop_id = next(task.id for task in later.tasks.values() if task.name == "Try")
    assert len(rounds_of(loop_id)) == 1
    Question.objects.filter(closed_at=None).update(expires_at=Now() - timedelta(seconds=1))
    suspension.resume_due()
    worker.work()
    assert len(rounds_of(loop_id)) == 2


def test_a_loop_that_waits_is_cancelled(run: RunTree, worker: WorkerThread) -> None:
    ran = run(loop(delay_seconds=3600))
    cancels.ask(caller=LOCAL, task_ids=["t"], force=False, message="Never mind")
    worker.work()
    ended = result_of(ran.run)
    assert (ended.run.status, ended.tasks["t"].status, ended.tasks["t#1"].status) == (
        "failed",
        "cancelled",
        "completed",
    )


def test_a_copy_begins_with_the_first_round(run: RunTree, worker: WorkerThread) -> None:
    run(loop())
    copy = copy_tree(caller=LOCAL, task_id="end")
    assert [task.name for task in copy.tasks] == ["End", "Start", "Try"]
    executed = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    ended = result_of(executed.run)
    assert ended.tasks[copy.ids["t"]].result["n"] == 3
    assert len(rounds_of(copy.ids["t"])) == 3


@at_any_moment(13)
def test_a_crash_at_any_moment_repeats_no_round(stage: Stage, items: int, after: bool) -> None:
    tree = loop(executor="script_executor", inputs={"script": "ok", "n": "{{round}}"})
    tree[2]["params"]["repeat"]["until"] = AT_THREE | {"path": "/got/n"}
    run = trees.execute_tree(caller=LOCAL, tasks=tree).run
    stage.die_and_take_over(Fuse(items=items, after=after))
    ended = result_of(run)
    assert ended.run.status == "completed"
    assert [(task.id, task.result["got"]["n"]) for task in rounds_of()] == [("t#1", 1), ("t#2", 2), ("t#3", 3)]
    types = [event["type"] for event in ended.events]
    assert (types.count("task_spawned"), types.count("task_completed")) == (3, 6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"params": {"repeat": {"until": AT_THREE | {"task": "t"}}}}, InvalidParams, "until.task"),
        ({"params": {"repeat": {"until": {"path": "/n"}}}}, InvalidParams, "until.op: must be one of"),
        ({"params": {"repeat": {"until": AT_THREE, "max": 0}}}, InvalidParams, "from 1 to 10,000"),
        ({"params": {"repeat": {"until": AT_THREE}, "for_each": {"items": []}}}, InvalidTree, "on the same task"),
        ({"params": {"repeat": {"until": AT_THREE}, "spawn": {}}}, InvalidTree, "params.repeat and params.spawn"),
        ({"schemas": None}, InvalidTree, "params.repeat needs a template"),
        (
            {"dependencies": [{"id": "start", "as": "last"}], "inputs": {}},
            InvalidDependency,
            "'last' is the name of a dependency",
        ),
    ],
)
def test_what_is_no_loop_is_refused(worker: WorkerThread, change: Json, error: type[TasksError], message: str) -> None:
    tree = loop()
    tree[2].update(change)
    with pytest.raises(error, match=message) as caught:
        trees.create_tree(caller=LOCAL, tasks=tree)
    assert caught.value.message


def test_a_round_costs_the_same_however_many_there_are_before_it(run: RunTree, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    look = Spawner._result_or_error

    def counted(spawner: Spawner, task: LoadedTask) -> Any:
        looked_at.append(task.id)
        return look(spawner, task)

    monkeypatch.setattr(Spawner, "_result_or_error", counted)
    until: Json = {"path": "/n", "op": "ge", "value": 40}
    ran = run(
        [
            {
                "id": "t",
                "name": "T",
                "inputs": {"n": "{{round}}"},
                "params": {"repeat": {"until": until, "max": 40}},
                **ECHO,
            }
        ]
    )
    assert ran.run.status == "completed"
    assert looked_at == [f"t#{number}" for number in range(1, 41)]


def test_only_the_result_of_the_latest_round_is_kept(run: RunTree, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    settle = Results.settle

    def counted(results: Results, task: LoadedTask, outcome: Outcome) -> None:
        settle(results, task, outcome)
        kept.append(len(results))

    monkeypatch.setattr(Results, "settle", counted)
    assert run(loop(inputs={"n": "{{round}}"}, until={"path": "/n", "op": "ge", "value": 9})).run.status == "completed"
    assert max(kept) == 2  # those of the start and of the latest round


def test_a_template_is_known_by_the_ids_that_were_sent(run: RunTree, worker: WorkerThread) -> None:
    """The ids of the second tree are in use, a copy has others, and a loop inside a map runs with marks."""
    parts = [{"id": "draft", "inputs": {"n": "{{round}}"}}, {"id": "review", "inputs": {"of": "{{last.draft.n}}"}}]
    tree = loop(*parts, until={"path": "/draft/n", "op": "ge", "value": 2}, first={"draft": {"n": 0}})
    tree[0]["inputs"] = {"found": "{{t.draft.n}}"}
    first, second = run(tree), run(tree)
    assert first.tasks["end"].result["found"] == second.tasks["end"].result["found"] == 2
    copy = copy_tree(caller=LOCAL, task_id=second.run.root_id, children=True)
    executed = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    assert result_of(executed.run).tasks[copy.root.id].result["found"] == 2


def test_a_loop_inside_a_map_is_known_by_them_too(run: RunTree) -> None:
    each = {"id": "each", "name": "Each", "params": {"for_each": {"items": [1, 2]}}}
    until = {"path": "/b/n", "op": "ge", "value": 2}
    inner = {"id": "t", "name": "T", "parent_id": "each", "params": {"repeat": {"until": until}}}
    parts = [{"id": name, "name": name, "parent_id": "t", "inputs": {"n": "{{round}}"}, **ECHO} for name in ("a", "b")]
    results = run([each, inner, *parts]).tasks["each"].result
    assert [{name: part["n"] for name, part in result.items()} for result in results] == [{"a": 2, "b": 2}] * 2
