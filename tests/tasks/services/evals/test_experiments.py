"""Experiments as services: what they run, score and say, again after failures, and once if a worker dies."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from accounts.callers import LOCAL
from tasks.models import Experiment, Run, Task, TaskEvent
from tasks.rules.exceptions import InvalidParams
from tasks.services import flows, trees
from tasks.services.evals import datasets, experiments, results
from tasks.services.trees.editing import delete_task
from tests.sections import replace
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, WorkerThread

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
SCHEMA: Json = {"properties": {"who": {"type": "string"}, "then": {"default": "ok"}}, "required": ["who"]}
ACCURACY: Json = {"name": "accuracy", "with": {"exact": {"path": "/text"}}}
ROUNDS = 20


def save_flow(*texts: str, executor: str = "echo_executor", **inputs: Any) -> None:
    for text in texts:
        greet = {"name": "Greet", "schemas": {"method": executor}, "inputs": {"text": text, **inputs}}
        flows.save_flow(caller=LOCAL, name="greet", tasks=[greet], inputs_schema=SCHEMA)


def save_rows(*names: str, **inputs: Any) -> None:
    rows = [{"inputs": {"who": name, **inputs}, "expected": f"Hello {name}"} for name in names]
    datasets.save_dataset(caller=LOCAL, name="people", rows=rows, flow="greet")


def started(*evaluators: Json, **given: Any) -> str:
    evaluators = evaluators or (ACCURACY,)
    given = {"dataset": "people"} | given
    return experiments.run_experiment(caller=LOCAL, evaluators=evaluators, **given).run.root_id


def result(experiment_id: str, **page: Any) -> results.Result:
    return results.get_result(caller=LOCAL, experiment_id=experiment_id, **page)


def worked(worker: WorkerThread, experiment_id: str) -> results.Result:
    """Work until the run is over: the end of an inner tree wakes it."""
    for _ in range(ROUNDS):
        worker.work()
        if (found := result(experiment_id)).run is not None and found.run.finished_at is not None:
            return found
    raise AssertionError("The experiment does not end.")


def means(found: results.Result, name: str = "accuracy") -> list[float | None]:
    estimates = [each.scores[name].estimate for each in found.variants]
    return [None if each is None else each.mean for each in estimates]


@pytest.mark.both_engines
def test_two_versions_are_compared_case_by_case(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}", "Bye {{run.inputs.who}}")
    save_rows(*"abcdefghij")
    found = worked(worker, started())
    assert found.run is not None and found.run.status == "completed"
    counts = [(each.version, each.completed, each.failed, each.unfinished) for each in found.variants]
    assert counts == [(1, 10, 0, 0), (2, 10, 0, 0)]
    assert means(found) == [1, 0]
    assert [each.text for each in found.differences] == ["Version 2 is worse by 1.00 (1.00 to 1.00)."]
    assert [case.disagreement for case in found.cases] == [1] * 10
    for case in found.cases:
        for run in case.runs:
            assert run.root_id is not None
            assert Task.objects.get(id=run.root_id).result["text"].endswith(case.row["inputs"]["who"])
            assert Run.objects.get(root_id=run.root_id).flow_version == run.version


@pytest.mark.both_engines
def test_cases_that_differ_most_come_first_page_by_page(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}", "Hello c")
    save_rows(*"abcd")
    experiment_id = started()
    worked(worker, experiment_id)
    seen, cursor = [], None
    for _ in range(2):
        page = result(experiment_id, limit=2, cursor=cursor)
        seen += [(case.row["inputs"]["who"], case.disagreement) for case in page.cases]
        cursor = page.next_cursor
    assert cursor is None
    assert seen == [("a", 1), ("b", 1), ("d", 1), ("c", 0)]


@pytest.mark.both_engines
def test_each_further_version_is_compared_with_the_first(worker: WorkerThread) -> None:
    save_flow("Bye {{run.inputs.who}}", "Hello {{run.inputs.who}}", "Hello f")
    save_rows(*"abcdef")
    kind: Json = {"name": "kind", "with": {"expression": "starts_with(result.text, 'Hello') && 'polite' || 'rude'"}}
    experiment_id = started(ACCURACY, kind, versions=[1, 2, 3])
    found = worked(worker, experiment_id)
    assert means(found) == [0, 1, pytest.approx(1 / 6)]
    assert [(each.variant, each.text) for each in found.differences] == [
        ("version 2", "Version 2 is better by 1.00 (1.00 to 1.00)."),
        ("version 3", "Not enough cases to tell: version 3 is better by 0.17 (0.00 to 0.50) in 6 cases."),
    ]
    assert [case.disagreement for case in found.cases] == [1] * 6
    other_way = worked(worker, started(versions=[2, 3, 1]))
    worse = result(other_way.experiment.id, order="worse").cases
    assert [case.row["inputs"]["who"] for case in worse] == [*"abcdef"]
    assert [len(case.runs) for case in worse] == [3] * 6
    with pytest.raises(InvalidParams, match="compares two versions of the flow, and there are 3"):
        started({"name": "pair", "with": {"pair_judge": {"rubric": "x"}}}, versions=[1, 2, 3])


def test_each_evaluator_scores_or_says_why_not(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    save_rows("Ada", "{{run.inputs.then}}")
    found = worked(
        worker,
        started(
            {"name": "length", "with": {"expression": "length(result.text)"}},
            {"name": "kind", "with": {"expression": "starts_with(result.text, 'Hello') && 'polite' || 'rude'"}},
            {"name": "prose", "with": {"expression": "result.text"}},
            {"name": "fails", "with": {"expression": "length(inputs.nothing)"}},
            {"name": "shape", "with": {"schema": {"type": "object", "required": ["text"]}}},
            repeats=2,
        ),
    )
    (variant,) = found.variants
    assert (variant.completed, found.differences) == (4, [])
    assert means(found, "length") == [(len("Hello Ada") + len("Hello {{run.inputs.then}}")) / 2]
    assert variant.scores["kind"].categories == {"polite": 4}
    for name, reason in (("prose", "The expression returned a text,"), ("fails", "The expression cannot be evaluated")):
        score = variant.scores[name]
        assert (score.estimate, score.scored, score.not_scored) == (None, 0, 4)
        assert str(found.cases[0].runs[0].scores[name].reason).startswith(reason)
    assert means(found, "shape") == [1]


@pytest.mark.both_engines
def test_a_run_that_fails_is_not_scored_and_only_it_runs_again(worker: WorkerThread, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    effects.touch()
    save_flow("x", executor="scripted_executor", then="{{run.inputs.who}}", effects=str(effects))
    datasets.save_dataset(
        caller=LOCAL,
        name="people",
        rows=[{"inputs": {"who": how}, "expected": 1} for how in ("ok", "fail")],
        flow="greet",
    )
    experiment_id = started({"name": "any", "with": "exact"})
    found = worked(worker, experiment_id)
    assert found.run is not None and found.run.status == "failed"
    (variant,) = found.variants
    assert (variant.completed, variant.failed, variant.scores["any"].scored, variant.scores["any"].not_scored) == (
        1,
        1,
        1,
        1,
    )
    scores = {case.row["inputs"]["who"]: case.runs[0].scores["any"] for case in found.cases}
    assert (scores["ok"].value, scores["fail"].value) == (False, None)
    assert "ended as failed" in str(scores["fail"].reason)
    before = Run.objects.count()
    trees.execute_task(caller=LOCAL, task_id=experiment_id)
    again = worked(worker, experiment_id)
    assert again.run is not None and again.run.number == 2
    assert Run.objects.count() == before + 2  # that of the tree, and one of the flow
    assert again.cases[1].runs[0].root_id != found.cases[1].runs[0].root_id
    assert again.cases[0].runs[0].root_id == found.cases[0].runs[0].root_id


@pytest.mark.parametrize(("at_once", "items", "needs"), [(1, 1, ["answer0"]), (2, 1, []), (5, 2, [])])
def test_the_versions_of_a_row_run_together_if_there_is_room(at_once: int, items: int, needs: list[str]) -> None:
    save_flow("Hello {{run.inputs.who}}", "Bye {{run.inputs.who}}")
    save_rows("Ada", "Alan")
    tasks = {task.label: task for task in Task.objects.filter(root_id=started(at_once=at_once))}
    assert tasks["experiment"].params["for_each"]["max_parallel"] == items
    assert [each["as"] for each in tasks["answer1"].dependencies] == needs


@pytest.mark.both_engines
def test_it_goes_with_its_tree(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    save_rows("Ada")
    experiment_id = started()
    worked(worker, experiment_id)
    delete_task(caller=LOCAL, task_id=experiment_id, force=True)
    assert not Experiment.objects.exists()


def test_what_is_too_much_is_refused_and_nothing_is_stored(settings: LazySettings) -> None:
    save_flow("Hello {{run.inputs.who}}")
    save_rows(*"abc")
    for limits, field in (({"spawned_tasks": 5}, "spawned_tasks"), ({"body_bytes": 500}, "body_bytes")):
        before = settings.APFLOW
        settings.APFLOW = replace(before, limits=replace(before.limits, **limits))
        with pytest.raises(InvalidParams, match=field):
            started()
        settings.APFLOW = before
    flows.save_flow(caller=LOCAL, name="greet", tasks=[{"name": "echo_executor"}], inputs_schema={"properties": {}})
    with pytest.raises(InvalidParams, match=r"rows\[0\]\.inputs\.who: .*version 2"):
        started()
    assert not (Task.objects.exists() or Experiment.objects.exists())


@at_any_moment(17, both_engines=range(1, 18, 4))
def test_a_crash_at_any_moment_scores_each_case_once(stage: Stage, items: int, after: bool) -> None:
    save_flow("Hello {{run.inputs.who}}", "Bye {{run.inputs.who}}")
    save_rows("Ada")
    experiment_id = started()
    stage.die_and_take_over(Fuse(items=items, after=after))
    found = result(experiment_id)
    assert found.run is not None and found.run.status == "completed"
    assert means(found) == [1, 0]
    scores = Task.objects.filter(root_id=experiment_id, executor_id="evaluate_executor", spawned_by=experiment_id)
    for task_id in scores.values_list("id", flat=True):
        assert TaskEvent.objects.filter(task_id=task_id, type="task_completed").count() == 1
    assert Run.objects.exclude(root_id=experiment_id).count() == 2
