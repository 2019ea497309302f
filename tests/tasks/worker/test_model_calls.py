"""Each model call of a task is a row: once, also when a commit is repeated, and never of a deleted run."""

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from accounts.callers import LOCAL
from tasks.events import pruning
from tasks.models import ModelCall, Run
from tasks.rules.token_usage import spending_of
from tasks.services import trees
from tasks.services.history.past_trees import past_tree
from tasks.services.trees import editing
from tasks.worker.changes import ModelCalled, UsageAdded
from tasks.worker.group_commit import write_now
from tests.sections import replace
from tests.workers import Json, Ran, WorkerThread, group, run_tree, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
USED = {"model": "openai/gpt", "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost_usd": 0.25}
COUNTS = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def model(name: str, prompt: str = "Name three rivers.", **fields: Any) -> Json:
    inputs = {"prompt": prompt, "model": "demo/demo"} | fields.pop("inputs", {})
    return {"id": name, "name": name, "schemas": {"method": "llm_executor"}, "inputs": inputs, **fields}


def calls_of(ran: Ran) -> list[ModelCall]:
    return list(ModelCall.objects.filter(run_id=ran.run.id).order_by("started_at", "id"))


def test_a_call_is_recorded_with_what_was_said(worker: WorkerThread) -> None:
    ran = run_tree(worker, [model("a")])
    (call,) = calls_of(ran)
    task = ran.tasks["a"]
    assert (call.task_id, call.root_id, call.user_id, call.executor_id) == (
        task.id,
        task.id,
        task.user_id,
        "llm_executor",
    )
    assert (call.model, call.status, call.attempt, call.finish_reason) == ("demo/demo", "completed", 1, "stop")
    assert (call.step, call.agent, call.crew_task, call.error) == (None, None, None, None)
    assert call.duration_ms is not None
    assert task.started_at is not None and task.completed_at is not None
    assert task.started_at <= call.started_at <= task.completed_at
    used = {name: getattr(call, name) for name in COUNTS} | {"cost_usd": call.cost_nanos}
    assert used == task.token_usage
    assert call.content["messages"] == [{"role": "user", "content": "Name three rivers."}]
    assert call.content["answer"] == task.result["content"]
    assert call.feedback is None


def test_a_call_is_recorded_with_its_options(worker: WorkerThread) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    ran = run_tree(worker, [model("a", inputs={"temperature": 0.5, "tools": [tool], "tool_choice": "none"})])
    (call,) = calls_of(ran)
    assert call.content["options"] == {"temperature": 0.5, "tools": [tool], "tool_choice": "none"}


@pytest.mark.parametrize("inputs", [{}, {"stream": False}])
def test_the_words_of_a_call_are_events_that_name_it(worker: WorkerThread, inputs: Json) -> None:
    ran = run_tree(worker, [model("a", inputs=inputs)])
    (call,) = calls_of(ran)
    words = [event for event in ran.events if event["type"] == "token"]
    said = "".join(event["message"] for event in words)
    assert said.strip() == ("" if inputs else call.content["answer"])
    by = {"kind": "answer", "call_id": call.id, "model": "demo/demo", "agent": "a", "crew_task": None, "step": None}
    assert all(event["result"] == by for event in words)
    assert call.duration_ms is not None
    assert call.first_token_ms is None if inputs else 0 <= (call.first_token_ms or -1) <= call.duration_ms


def test_a_call_of_another_pool_is_recorded_once(worker: WorkerThread) -> None:
    """Those of the pool `process` are tested with crews."""
    ran = run_tree(worker, [model("a", params={"pool": "thread"})])
    (call,) = calls_of(ran)
    assert ran.tasks["a"].status == "completed", ran.tasks["a"].error
    assert call.content["answer"] == ran.tasks["a"].result["content"]
    assert ran.run.model_calls == 1


def test_each_task_of_a_tree_has_its_own_calls(worker: WorkerThread) -> None:
    ran = run_tree(worker, group("root", model("a", "One"), model("b", "Two", dependencies=[{"id": "a"}])))
    asked = {call.task_id: call.content["messages"][0]["content"] for call in calls_of(ran)}
    assert asked == {ran.tasks["a"].id: "One", ran.tasks["b"].id: "Two"}


def test_a_report_of_an_executor_is_a_call_without_content(worker: WorkerThread) -> None:
    ran = run_tree(worker, [step("a", inputs={"spends": USED})])
    (call,) = calls_of(ran)
    assert (call.model, call.duration_ms, call.content, call.cost_nanos) == ("openai/gpt", None, None, 250_000_000)
    assert ran.run.token_usage == COUNTS | {"cost_usd": 0.25}


@pytest.mark.both_engines
def test_the_run_has_the_sums_of_its_calls_also_when_a_later_run_replaces_it(worker: WorkerThread) -> None:
    first = run_tree(
        worker, group("root", step("a", inputs={"spends": USED}), step("b", inputs={"spends": USED, "then": "fail"}))
    )
    again = trees.execute_task(caller=LOCAL, task_id=first.run.root_id)
    worker.work()
    runs = Run.objects.filter(root_id=first.run.root_id).order_by("number")
    both = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30, "cost_usd": 0.5}
    assert [run.token_usage for run in runs] == [both, COUNTS | {"cost_usd": 0.25}]
    assert again.run.id != first.run.id


def test_the_tree_of_a_replaced_run_has_what_its_tasks_used(worker: WorkerThread) -> None:
    failing = step("b", inputs={"spends": USED, "then": "fail"}, dependencies=[{"id": "a"}])
    first = run_tree(worker, group("root", step("a", inputs={"spends": COUNTS}), failing))
    trees.execute_task(caller=LOCAL, task_id=first.run.root_id)
    worker.work()
    past = {task.name: task.token_usage for task in past_tree(caller=LOCAL, run_id=first.run.id).tasks}
    assert past == {"root": None, "a": COUNTS | {"cost_usd": None}, "b": COUNTS | {"cost_usd": 0.25}}


def test_a_cost_that_is_unknown_is_null(worker: WorkerThread) -> None:
    ran = run_tree(worker, [step("a", inputs={"spends": COUNTS})])
    assert ran.run.token_usage == COUNTS | {"cost_usd": None}


def test_a_run_without_models_has_no_usage(worker: WorkerThread) -> None:
    assert run_tree(worker, [step("a")]).run.token_usage is None


def test_without_store_content_only_the_facts_are_stored(worker: WorkerThread, settings: LazySettings) -> None:
    settings.APFLOW_LLM = replace(settings.APFLOW_LLM, store_content=False)
    (call,) = calls_of(run_tree(worker, [model("a")]))
    assert call.content is None
    assert call.total_tokens


def test_keys_in_messages_are_masked(worker: WorkerThread) -> None:
    (call,) = calls_of(run_tree(worker, [model("a", "My key is sk-canary-1234567890.")]))
    assert call.content["messages"][0]["content"] == "My key is sk-…."
    assert "canary" not in str(call.content)


def test_a_refused_call_is_recorded_with_its_error(worker: WorkerThread) -> None:
    (call,) = calls_of(run_tree(worker, [model("a", inputs={"model": "nothing/at-all"})]))
    assert (call.status, call.total_tokens, call.cost_nanos) == ("failed", None, None)
    assert "nothing" in (call.error or "")


def test_a_large_conversation_is_masked_and_cut_off_the_loop(worker: WorkerThread) -> None:
    history = [{"role": "user", "content": f"{number} sk-canary-1234567890 " + "x" * 3_000} for number in range(200)]
    (call,) = calls_of(run_tree(worker, [model("a", inputs={"history": history})]))
    assert call.content["left_out_messages"] > 100
    assert call.content["messages"][-1]["content"] == "Name three rivers."
    assert "canary" not in str(call.content)


# --- repeated, late and deleted ---


def stored_run(run_id: str = "one", **fields: Any) -> Run:
    now = datetime.now(UTC)
    given = {"root_id": "root", "target_id": "root", "user_id": "ada", "context_id": "c", "created_at": now}
    return Run.objects.create(id=run_id, **given | fields)


def changes(run_id: str = "one") -> tuple[ModelCalled, UsageAdded]:
    values: Json = {
        "id": "call",
        "run_id": run_id,
        "root_id": "root",
        "task_id": "t",
        "user_id": "ada",
        "executor_id": "e",
    }
    values |= {"attempt": 1, "model": "m", "status": "completed", "started_at": "2026-11-26 10:00:00"}
    fence: Any = {"run_id": run_id, "epoch": 1, "token": None}
    used = UsageAdded(
        **fence, key=f"use of {run_id}", user_id="ada", day="2026-11-26", executor_id="e", spending=spending_of(USED)
    )
    return ModelCalled(**fence, call=values), used


@pytest.fixture(autouse=True)
def nothing_used() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tasks_spending")


@pytest.mark.both_engines
@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("together", [True, False])
def test_a_repeated_commit_records_and_counts_a_call_once(ended: bool, together: bool) -> None:
    """The writer heard nothing of a commit that was carried out, and writes it again."""
    stored_run(finished_at=datetime.now(UTC) if ended else None)
    for each in range(3):
        if together or not each:
            write_now(changes())
        else:
            for change in changes():
                write_now([change])
    assert ModelCall.objects.count() == 1
    assert Run.objects.get().token_usage == COUNTS | {"cost_usd": 0.25}


@pytest.mark.both_engines
def test_a_late_call_of_a_deleted_run_is_left_out_and_what_it_used_counts() -> None:
    stored_run("other")
    write_now([*changes("gone"), *changes("other")])
    assert list(ModelCall.objects.values_list("run_id", flat=True)) == ["other"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tasks_spending")
        assert cursor.fetchone() == (2,)


@pytest.mark.both_engines
def test_calls_are_deleted_with_their_tree(worker: WorkerThread) -> None:
    ran, other = run_tree(worker, [model("a")]), run_tree(worker, [model("b")])
    editing.delete_task(caller=LOCAL, task_id=ran.run.root_id, force=True)
    assert not calls_of(ran)
    assert calls_of(other)


@pytest.mark.both_engines
def test_calls_are_pruned_with_the_log_and_the_sums_stay(worker: WorkerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "CALLS", 1)
    old = run_tree(worker, group("root", step("a", inputs={"spends": USED}), step("b", inputs={"spends": USED})))
    new = run_tree(worker, [step("c", inputs={"spends": USED})])
    Run.objects.filter(id=old.run.id).update(finished_at=datetime.now(UTC) - timedelta(days=31))
    pruning.prune_events(give_up_at=inf)
    assert not calls_of(old)
    assert len(calls_of(new)) == 1
    old.run.refresh_from_db()
    assert old.run.token_usage is not None
    assert old.run.token_usage["cost_usd"] == 0.5
