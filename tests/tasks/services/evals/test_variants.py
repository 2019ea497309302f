"""Variants: the same flow with other inputs of its tasks, or a workflow with other arguments, compared and named."""

import pytest
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.models import Question, Run, Task
from tasks.rules.exceptions import ExecutorNotFound, FlowNotFound, InvalidParams
from tasks.services import flows, trees
from tasks.services.evals import datasets
from tasks.services.waits.questions import answer
from tests.servers import EXECUTORS
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.services.evals.test_experiments import ROUNDS, means, result, save_flow, save_rows, started, worked
from tests.workers import Json, WorkerThread

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
ASK: Json = {"id": "ask", "name": "llm_executor", "inputs": {"prompt": "Hello {{run.inputs.who}}", "model": "demo/a"}}
SAY: Json = {"id": "say", "name": "echo_executor", "inputs": {"text": "Hello {{run.inputs.who}}"}, "parent_id": "ask"}
LENGTH: Json = {"name": "length", "with": {"expression": "length(result.content)"}}


def save_model_flow() -> None:
    flows.save_flow(caller=LOCAL, name="greet", tasks=[ASK, SAY])
    save_rows("Ada", "Alan")


def children(experiment_id: str) -> list[list[Task]]:
    """The tasks of each run of the flow, the first variant first."""
    found = result(experiment_id)
    roots = [run.root_id for place in range(2) for case in found.cases for run in case.runs if run.variant == place]
    assert {*roots} == {*Run.objects.exclude(root_id=experiment_id).values_list("root_id", flat=True)}
    return [list(Task.objects.filter(root_id=root_id).order_by("position")) for root_id in roots]


@pytest.mark.both_engines
def test_a_model_is_compared_with_another(worker: WorkerThread) -> None:
    save_model_flow()
    other = {"name": "other", "model": "demo/b", "system": "Be brief, {{run.inputs.who}}.", "temperature": 0.5}
    experiment_id = started(LENGTH, variants=[{}, other], seed=7, cache="1h")
    found = worked(worker, experiment_id)
    assert [(each.name, each.version, each.completed) for each in found.variants] == [
        ("version 1", 1, 2),
        ("other", 1, 2),
    ]
    assert found.differences[0].text.startswith("Not enough cases to tell")
    inputs = [tasks[0].inputs for tasks in children(experiment_id)]
    assert [each["model"] for each in inputs] == ["demo/a"] * 2 + ["demo/b"] * 2
    assert [each.get("system") for each in inputs] == [None] * 2 + ["Be brief, {{run.inputs.who}}."] * 2
    assert [each["seed"] for each in inputs] == [7] * 4
    assert [tasks[0].params for tasks in children(experiment_id)] == [{"cache": "1h"}] * 4
    assert all(tasks[1].inputs["text"].startswith("Hello") for tasks in children(experiment_id))


def test_one_task_is_changed_by_its_name(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    (task,) = flows.get_version(caller=LOCAL, name="greet")[1].definition
    save_rows(*"abcdef")
    bye = {"task": task["id"], "inputs": {"text": "Bye {{run.inputs.who}}"}}
    found = worked(worker, started(variants=[{"name": "hello"}, bye]))
    assert means(found) == [1, 0]
    flows.save_flow(caller=LOCAL, name="greet", tasks=[task])
    unused = {"name": "unused", "task": task["id"], "inputs": {"text": "Bye"}}
    assert worked(worker, started(variants=[unused])).variants[0].completed == 6
    assert found.differences[0].text == (
        f"version 1, task {task['id']}, text Bye {{{{run.inputs.who}}}} is worse by 1.00 (1.00 to 1.00)."
    ).replace("version", "Version", 1)


def test_a_variant_of_what_is_not_there_is_refused_by_name(test_executors: None) -> None:
    save_model_flow()
    table: list[tuple[Json, str, str]] = [
        ({"variants": [{"task": "aks", "inputs": {"text": "x"}}]}, "variants[0].task", "did you mean 'ask'?"),
        ({"variants": [{}, {"inputs": {"modle": "x"}}]}, "variants[1].inputs.modle", "did you mean 'model'?"),
        ({"variants": [{"task": "say", "temperature": 1}]}, "variants[0].temperature", "no input of this task 'say'"),
        ({"variants": [{"temperature": 9.0}]}, "variants[0]", "tasks[0].inputs"),
        ({"variants": [{}, {"temperature": 1}, {}]}, "variants[2].name", "is the name of an earlier one"),
        ({"cache": "1 hour"}, "cache", "must be a duration"),
        ({"budget": {"euros": 5}}, "budget.euros", "is not known"),
    ]
    for given, place, reason in table:
        with pytest.raises(InvalidParams) as refused:
            started(LENGTH, **given)
        (problem, *_) = refused.value.problems
        assert problem[0] == place and reason in problem[1], (given, refused.value.problems)
    save_flow("Hello {{run.inputs.who}}", executor="scripted_executor", then="ok")
    for given, place in (
        ({"variants": [{"model": "x"}]}, "variants[0]"),
        ({"seed": 1, "versions": [2]}, "seed"),
        ({"cache": "1h", "versions": [2]}, "cache"),
    ):
        with pytest.raises(InvalidParams) as refused:
            started(**given)
        assert refused.value.problems[0][0] == place
    assert not Task.objects.exists()


@pytest.fixture
def code(worker: WorkerThread, settings: Settings) -> WorkerThread:
    """A worker that has functions which score, and workflows."""
    settings.APFLOW_EXECUTOR_MODULES = (EXECUTORS, "tests.scoring_for_tests")
    forget_registry()
    return worker


@pytest.mark.both_engines
def test_a_workflow_is_compared_with_itself_with_other_arguments(code: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    save_rows(*"abcdef", "{{who}}")
    exact = {"name": "accuracy", "with": "exact"}
    variants = [{"name": "polite"}, {"name": "rude", "inputs": {"greeting": "{{Hey}}"}}]
    found = worked(code, started(exact, workflow="greeting_to", variants=variants))
    assert [(each.name, each.version, each.completed) for each in found.variants] == [
        ("polite", None, 7),
        ("rude", None, 7),
    ]
    assert (found.experiment.flow, means(found)) == ("workflow:greeting_to", [1, 0])
    assert found.differences[0].text == "rude is worse by 1.00 (1.00 to 1.00)."
    assert {Task.objects.get(id=case.runs[1].root_id).result for case in found.cases} >= {"{{Hey}} a"}
    table: list[tuple[Json, type[Exception], str]] = [
        ({"workflow": "greeting_too"}, ExecutorNotFound, "greeting_too"),
        ({"workflow": "greeting_to", "flow": "greet"}, InvalidParams, "flow: is not for a workflow"),
        (
            {"workflow": "greeting_to", "variants": [{"model": "x"}]},
            InvalidParams,
            r"variants\[0\].model: is not for a workflow",
        ),
        ({"workflow": "as_expected"}, InvalidParams, r"rows\[0\].inputs: do not fit the arguments of the workflow"),
    ]
    for given, error, words in table:
        with pytest.raises(error, match=words):
            started(exact, **given)


@pytest.mark.both_engines
def test_flows_functions_and_workflows_score_or_the_reason_is_given(code: WorkerThread) -> None:
    schema: Json = {"properties": {"result": {}, "expected": {}}, "required": ["result"]}
    for name, task in (
        (
            "grade",
            {
                "schemas": {"method": "transform_executor"},
                "inputs": {
                    "result": "{{run.inputs.result}}",
                    "expected": "{{run.inputs.expected}}",
                    "select": {"value": "result.text == expected", "reason": "result.text"},
                },
            },
        ),
        ("chat", {"schemas": {"method": "echo_executor"}, "inputs": {"text": "{{run.inputs.result.text}}"}}),
        (
            "fails",
            {
                "schemas": {"method": "transform_executor"},
                "inputs": {"given": "{{run.inputs.result}}", "select": "length(`7`)"},
            },
        ),
    ):
        flows.save_flow(caller=LOCAL, name=name, tasks=[{"name": name, **task}], inputs_schema=schema)
    save_flow("Hello {{run.inputs.who}}")
    save_rows("Ada", "{{Alan}}")
    kinds = [("flow", name) for name in ("grade", "chat", "fails")]
    kinds += [("function", name) for name in ("is_greeting", "talks", "raises")] + [("workflow", "as_expected")]
    found = worked(code, started(*({"name": name, "with": {kind: name}} for kind, name in kinds)))
    assert found.run is not None and found.run.status == "completed"
    (variant,) = found.variants
    assert (variant.completed, variant.failed) == (2, 0)
    scores = {case.row["inputs"]["who"]: case.runs[0].scores for case in found.cases}
    assert (scores["{{Alan}}"]["grade"].value, scores["{{Alan}}"]["grade"].reason) == (True, "Hello {{Alan}}")
    assert (scores["Ada"]["is_greeting"].value, scores["Ada"]["is_greeting"].reason) == (
        False,
        "It is {'text': 'Hello Ada'}.",
    )
    assert scores["Ada"]["as_expected"].value is False
    for name, reason in (
        ("chat", "The flow returned an object, which is no number"),
        ("talks", "The function returned a text, which is no number"),
        ("fails", "The tree "),
        ("raises", "raises() raised ValueError: out of order"),
    ):
        score = scores["Ada"][name]
        assert score.value is None and str(score.reason).startswith(reason), (name, score)
        assert (variant.scores[name].scored, variant.scores[name].not_scored) == (0, 2)


def test_an_evaluator_that_is_not_there_or_takes_no_result_is_refused(code: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    save_rows("Ada")
    for given, error, words in (
        ({"flow": "grade"}, FlowNotFound, "'grade' not found"),
        ({"flow": {"name": "greet", "version": 9}}, FlowNotFound, "no version 9"),
        ({"flow": "greet"}, InvalidParams, r"evaluators\[0\].with.flow: 'greet' does not take `result`"),
        ({"function": "is_greetin"}, InvalidParams, "did you mean 'is_greeting'"),
        ({"function": "without_result"}, InvalidParams, "does not take `result`"),
        ({"workflow": "greeting_to"}, InvalidParams, "does not take `result`"),
        ({"function": {"name": "talks", "by": 1}}, InvalidParams, "cannot be used"),
    ):
        with pytest.raises(error, match=words):
            started({"name": "score", "with": given})
    assert not Task.objects.exists()


def save_spending_flow(rows: int) -> None:
    spends = {"model": "openai/gpt", "total_tokens": 15, "cost_usd": 0.25}
    save_flow("{{run.inputs.who}}", executor="scripted_executor", spends=spends)
    datasets.save_dataset(caller=LOCAL, name="people", rows=[{"inputs": {"who": f"{n}"}} for n in range(rows)])


@pytest.mark.both_engines
def test_an_experiment_out_of_budget_keeps_its_scores_and_only_the_rest_runs_again(worker: WorkerThread) -> None:
    save_spending_flow(5)
    scored = {"name": "any", "with": {"expression": "`1`"}}
    experiment_id = started(scored, flow="greet", budget={"cost_usd": 0.75}, at_once=1)
    found = worked(worker, experiment_id)
    assert found.run is not None and found.run.status == "failed"
    (variant,) = found.variants
    assert (variant.completed, variant.failed, variant.cost_usd) == (2, 3, 0.75)
    (reason,) = {
        str(case.runs[0].scores["any"].reason) for case in found.cases if case.runs[0].scores["any"].value is None
    }
    assert reason.startswith("The budget of this run is used up: spent 0.75 of 0.75 USD.")
    trees.execute_task(caller=LOCAL, task_id=experiment_id)
    found = worked(worker, experiment_id)
    assert found.run is not None and found.run.status == "completed"
    assert (found.variants[0].completed, found.variants[0].cost_usd) == (5, 1.25)
    assert Run.objects.exclude(root_id=experiment_id).count() == 5
    trees.execute_task(caller=LOCAL, task_id=experiment_id)
    assert worked(worker, experiment_id).variants[0].completed == 5
    assert Run.objects.exclude(root_id=experiment_id).count() == 5


@pytest.mark.both_engines
def test_its_owner_raises_the_budget_and_it_continues(worker: WorkerThread) -> None:
    save_spending_flow(4)
    scored = {"name": "any", "with": {"expression": "`1`"}}
    experiment_id = started(scored, flow="greet", budget={"tokens": 30, "on_exceeded": "ask"}, at_once=1)
    for _ in range(ROUNDS):
        worker.work()
    question = Question.objects.for_people().unanswered().get()
    assert question.text.startswith("Spent 30 of 30 tokens.")
    assert result(experiment_id).variants[0].scores["any"].scored == 1
    answer(caller=LOCAL, task_id=question.task_id, answer=1000)
    found = worked(worker, experiment_id)
    assert (found.variants[0].completed, found.variants[0].total_tokens) == (4, 60)
