"""Judges of flows: a share of the runs that have completed is scored once, within the budget of the day, beside the runs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.callers import LOCAL
from apflow_site.db.connections import IS_SQLITE
from tasks.models import Flow, Judge, Notification, Run, Score, Webhook
from tasks.rules.exceptions import InvalidParams
from tasks.services import flows
from tasks.services.evals import judges
from tasks.services.messages.notifications import add_for_judge, set_notification
from tasks.services.messages.webhook_requests import request_of
from tasks.services.trees.editing import delete_task
from tests.tasks.services.evals.test_experiments import ROUNDS, save_flow, save_rows, started, worked
from tests.workers import Json, WorkerThread

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
GRADE: Json = {
    "name": "transform_executor",
    "inputs": {"text": "{{run.inputs.result}}", "select": "length(to_string(text))"},
}
LENGTH: Json = {"expression": "length(result.text)"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look also at what has ended just now: no other transaction is under way here."""
    monkeypatch.setattr(judges, "LATE", timedelta(seconds=-60))


def watch(evaluator: Json = LENGTH, *, sample: float = 100, **more: Any) -> Judge:
    return judges.set_judge(caller=LOCAL, flow="greet", name="length", evaluator=evaluator, sample=sample, **more)


def greeted(worker: WorkerThread, *names: str) -> list[str]:
    """Run the flow for each of the names, and return the ids of the runs."""
    ids = [flows.run_flow(caller=LOCAL, name="greet", inputs={"who": name}).run.id for name in names]
    worker.work()
    assert set(Run.objects.filter(id__in=ids).values_list("status", flat=True)) == {"completed"}
    return ids


def judged(worker: WorkerThread) -> Judge:
    """Sweep and work until the judge has nothing to do."""
    for _ in range(ROUNDS):
        if not judges.sweep(add_for_judge):
            return Judge.objects.get()
        worker.work()
    raise AssertionError("It judges without end.")


def scores() -> dict[str, Any]:
    return {each.run_id: each.value for each in Score.objects.filter(name="length", source="judge")}


def test_each_completed_run_is_judged_once_and_no_other(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    save_rows("x")
    greeted(worker, "before")
    watch()
    ids = greeted(worker, "Ada", "Alan", "{{run.inputs.who}}")
    worked(worker, started())  # the runs of experiments are not judged
    found = judged(worker)
    assert scores() == {ids[0]: 9, ids[1]: 10, ids[2]: 24}
    assert (found.judged, found.not_scored, found.over_budget, found.problem) == (3, 0, 0, "")
    assert found.mean == pytest.approx(43 / 3)
    count = Run.objects.count()
    assert judges.sweep(add_for_judge) == 0
    assert Run.objects.count() == count


def test_a_sample_is_always_the_same_and_part_of_a_larger_one(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    small, large = watch(sample=20), Judge(flow=Flow.objects.get(), name="length", sample=60)
    ids = [f"run-{number}" for number in range(1_000)]
    taken = [{each for each in ids if judges.is_sampled(judge, each)} for judge in (small, large)]
    assert taken[0] < taken[1]
    assert [round(len(each) / 100) for each in taken] == [2, 6]
    ran = greeted(worker, *"abcdefghij")
    found = judged(worker)
    assert scores().keys() == {each for each in ran if judges.is_sampled(small, each)}
    assert found.judged == len(scores())


def test_what_fails_is_not_scored_and_says_why(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    watch({"expression": "length(result.words)"})
    ids = greeted(worker, "Ada", "x" * judges.LARGEST)
    found = judged(worker)
    assert scores() == {} and found.mean is None
    assert (found.judged, found.not_scored) == (0, 2)
    assert found.problem.startswith("The expression cannot be evaluated")
    assert Run.objects.get(id=ids[0]).status == "completed"
    assert not Run.objects.filter(status="failed").exists()


def test_a_used_up_budget_leaves_runs_out_until_the_next_day(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    judge = watch(cost_usd_per_day=0.5)
    Judge.objects.update(spent_nanos=500_000_000)
    greeted(worker, "Ada", "Alan")
    found = judged(worker)
    assert (found.judged, found.over_budget, found.root_id, scores()) == (0, 2, "", {})
    assert judges.spent_today(found) == 0.5
    Judge.objects.update(day=judge.day - timedelta(days=1))
    greeted(worker, "Grace")
    found = judged(worker)
    assert (found.judged, found.over_budget, judges.spent_today(found)) == (1, 2, 0)


def test_the_owner_is_informed_once_until_the_scores_are_good_again(worker: WorkerThread) -> None:
    save_flow("{{run.inputs.who}}")
    for name, about, flow in (("all", "failures", None), ("one", "failures", "greet"), ("no", "questions", None)):
        set_notification(caller=LOCAL, name=name, about=[about], flow=flow, url=f"https://example.com/{name}")
    watch(below=3, runs=2)

    def alerts() -> int:
        judged(worker)
        return Webhook.objects.filter(kind="judge").count()

    greeted(worker, "x")
    assert alerts() == 0  # too few to tell
    greeted(worker, "xx")
    assert alerts() == 2
    greeted(worker, "x")
    assert alerts() == 2
    assert Judge.objects.get().alert["mean"] == 1.5
    greeted(worker, "xxxxx", "xxxxx")
    assert (alerts(), Judge.objects.get().alert) == (2, None)
    greeted(worker, "x", "x")
    assert alerts() == 4
    texts = set()
    for webhook in Webhook.objects.filter(kind="judge", config_id__startswith=Notification.objects.get(name="all").id):
        for kind in ("judge", "judge_email", "judge_slack"):
            webhook.kind = kind
            request = request_of(webhook, {})
            assert request is not None
            texts.add(b"The mean of the last 2 scores 'length' of the flow 'greet' is 1, below 3." in request.body)
    assert texts == {True}
    urls = {each.url for each in Notification.objects.exclude(name="no")}
    assert {each.url for each in Webhook.objects.filter(kind="judge")} == urls


def test_trees_below_judges_are_not_judged(worker: WorkerThread) -> None:
    """A judge of the flow that scores would else judge its own work without end."""
    flows.save_flow(caller=LOCAL, name="greet", tasks=[GRADE])
    watch({"flow": {"name": "greet"}}, cost_usd_per_day=1)
    done = flows.run_flow(caller=LOCAL, name="greet", inputs={"result": {"text": "ab"}}).run.id
    worker.work()
    assert Run.objects.get(id=done).status == "completed"
    found = judged(worker)
    assert ([*scores()], found.judged, found.not_scored) == ([done], 1, 0)


@pytest.mark.parametrize(
    ("evaluator", "more", "field", "reason"),
    [
        ("exact", {}, "evaluator", "compares the result with what a row of a data set expects"),
        ({"exact": {"path": "/text"}}, {}, "evaluator", "compares the result with what a row of a data set expects"),
        ({"person": {"question": "Nice?"}}, {}, "evaluator", "asks a person"),
        ({"pair_judge": {"rubric": "Nice?"}}, {}, "evaluator", "A judge is one of expression, schema, judge,"),
        ({"magic": {}}, {}, "evaluator", "must be"),
        ({"expression": "length("}, {}, "evaluator.expression", ""),
        ({"judge": {"rubric": "Nice?"}}, {}, "cost_usd_per_day", "is required: a judge may call models"),
        ({"function": "none"}, {}, "evaluator.function", "is no registered function"),
        ({"flow": {"name": "greet", "inputs": ["result", "expected"]}}, {}, "evaluator.flow.inputs", "names expected"),
    ],
)
def test_what_cannot_judge_is_refused_by_name(evaluator: Any, more: Json, field: str, reason: str) -> None:
    save_flow("Hello {{run.inputs.who}}")
    with pytest.raises(InvalidParams) as refused:
        watch(evaluator, **more)
    ((place, why),) = refused.value.problems
    assert place == field and reason in why, refused.value.problems
    assert not Judge.objects.exists()


def test_judges_are_deleted_with_their_flow_and_scores_with_their_tree(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    watch()
    (run_id,) = greeted(worker, "Ada")
    judged(worker)
    assert scores() == {run_id: 9}
    trees_root = Run.objects.get(id=run_id).root_id
    delete_task(caller=LOCAL, task_id=trees_root, force=True)
    assert scores() == {}
    flows.delete_flow(caller=LOCAL, name="greet")
    assert not Judge.objects.exists()


def test_a_look_reads_no_history(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    now = datetime.now(UTC)
    history = [(Flow.objects.get().id, now - timedelta(days=1))]
    history += [(f"flow {number}", now + timedelta(seconds=30)) for number in range(20)]  # of others, later
    for place, (flow_id, at) in enumerate(history):
        more = {"flow_id": flow_id, "status": "completed", "user_id": "local", "created_at": at, "finished_at": at}
        ids = [f"{place}-{number}" for number in range(200)]
        Run.objects.bulk_create([Run(id=each, root_id=each, target_id=each, context_id=each, **more) for each in ids])
    watch()
    with CaptureQueriesContext(connection) as asked:
        judges.sweep(add_for_judge)
    (query,) = [each["sql"] for each in asked if "tasks_judge" in each["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # else a plan for an empty table
        cursor.execute(f"{'EXPLAIN QUERY PLAN' if IS_SQLITE else 'EXPLAIN'} {query}")
        assert "run_ended_of_flow" in str(cursor.fetchall())
