"""People score the results of an experiment: while they do not, the other rows run, and what they say is of the version that they meant."""

from typing import Any, Final

import pytest

from accounts.callers import LOCAL
from tasks.models import Question, Task
from tasks.rules.exhibits import exhibits_of
from tasks.services.evals import datasets, results
from tasks.services.runs.cancels import ask
from tasks.services.waits import questions
from tasks.status import Status
from tests.tasks.services.evals.test_experiments import ROUNDS, result, save_flow, save_rows, started, worked
from tests.workers import Json, WorkerThread

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
BRACES: Final = "{{who}}" * 2_000


def person(name: str, **form: Any) -> Json:
    return {"name": name, "with": {"person": {"question": "Which is nicer?", **form}}}


def asked(worker: WorkerThread, experiment_id: str, count: int) -> list[Question]:
    """Work until each row is compared, and so many questions are open."""
    for _ in range(ROUNDS):
        worker.work()
        found = list(Question.objects.waiting().filter(run__root_id=experiment_id).order_by("asked_at", "id"))
        compared = Task.objects.filter(root_id=experiment_id, executor_id="compare_executor").exclude(spawned_by=None)
        if len(found) == count and not compared.exclude(status=Status.COMPLETED).exists():
            return found
    raise AssertionError("It does not ask.")


def answers_in(question: Question) -> list[str]:
    return [content for title, content in exhibits_of(question.text)[1] if title.startswith("Answer")]


def say(question: Question, answer: Any, comment: str | None = None) -> None:
    questions.answer(caller=LOCAL, task_id=question.task_id, answer=answer, comment=comment)


def values(found: results.Result, name: str) -> list[list[Any]]:
    cases = sorted(found.cases, key=lambda case: case.number)
    return [[run.scores[name].value for run in case.runs] for case in cases]


@pytest.mark.both_engines
def test_questions_hold_up_no_row_and_are_scored_by_version(worker: WorkerThread) -> None:
    save_flow("Bye {{run.inputs.who}}", "Hello {{run.inputs.who}}")
    save_rows("Ada", "Alan", BRACES)
    experiment_id = started(person("nicer", pair=True), at_once=1)
    open_questions = asked(worker, experiment_id, 3)
    assert result(experiment_id).questions == 3
    assert values(result(experiment_id), "nicer") == [[None, None]] * 3
    assert all(len(answers_in(each)) == 2 and len(each.text) <= 10_000 for each in open_questions)
    for question, comment in zip(open_questions, ("It greets.", None, None), strict=True):
        say(question, "A" if "Hello" in answers_in(question)[0] else "B", comment)
    found = worked(worker, experiment_id)
    assert found.run is not None and found.run.status == "completed"
    assert values(found, "nicer") == [[0, 1]] * 3
    reasons = [run.scores["nicer"].reason for case in found.cases for run in case.runs]
    assert sorted(reasons, key=str) == ["It greets.", "It greets.", None, None, None, None]
    assert found.questions == 0


def test_each_form_of_a_question_is_a_score(worker: WorkerThread) -> None:
    save_flow("Bye", "Hello")
    save_rows("Ada")
    forms = (person("kind"), person("stars", scale=[1, 5]), person("tone", categories=["warm", "cold"]))
    experiment_id = started(*forms, person("nicer", pair=True))
    by_name = {Task.objects.get(id=each.task_id).label: each for each in asked(worker, experiment_id, 4)}
    for name, (of_hello, of_bye) in {"kind": ("yes", "no"), "stars": (4.5, 1), "tone": ("warm", "cold")}.items():
        first = "Hello" in answers_in(by_name[name])[0]
        given = (of_hello, of_bye) if first else (of_bye, of_hello)
        say(by_name[name], dict(zip(("Answer A", "Answer B"), given, strict=True)), f"My {name}.")
    say(by_name["nicer"], "tie")
    found = worked(worker, experiment_id)
    assert [values(found, name) for name in ("kind", "stars", "tone", "nicer")] == [
        [[False, True]],
        [[1, 4.5]],
        [["cold", "warm"]],
        [[0.5, 0.5]],
    ]
    reasons = [each.reason for each in found.cases[0].runs[1].scores.values()]
    assert reasons == ["My kind.", "My stars.", "My tone.", None]


def test_one_version_is_scored_with_one_click(worker: WorkerThread) -> None:
    save_flow("Hello")
    datasets.save_dataset(caller=LOCAL, name="people", rows=[{"inputs": {"who": "Ada"}}], flow="greet")
    experiment_id = started(person("kind"), person("tone", categories=["warm", "cold"]))
    open_questions = asked(worker, experiment_id, 2)
    options = {Task.objects.get(id=each.task_id).label: each.options for each in open_questions}
    assert options == {"kind": ["yes", "no"], "tone": ["warm", "cold"]}
    for question in open_questions:
        assert [title for title, _ in exhibits_of(question.text)[1]] == ["Inputs", "Answer"]
        say(question, (question.options or [])[1])
    found = worked(worker, experiment_id)
    assert (values(found, "kind"), values(found, "tone")) == ([[False]], [["cold"]])


def test_only_doubtful_cases_go_to_a_person(worker: WorkerThread) -> None:
    save_flow("Hello", "Hello {{run.inputs.who}}")
    save_rows("Ada", "Alan")
    exact = {"name": "right", "with": {"expression": "result.text == expected && inputs.who == 'Ada'"}}
    experiment_id = started(
        exact,
        person("some", only_if="scores.right[0] != scores.right[1]"),
        person("none", only_if="scores.right[?@ == `7`]"),
        person("broken", only_if="length(`7`)"),
    )
    (question,) = asked(worker, experiment_id, 1)
    assert "Hello Ada" in question.text
    scores = {case.row["inputs"]["who"]: case.runs[0].scores for case in result(experiment_id).cases}
    assert scores["Ada"]["some"].reason == "A person has not answered yet."
    assert scores["Alan"]["some"].reason == scores["Ada"]["none"].reason == "No person was asked: only_if is not true."
    assert str(scores["Ada"]["broken"].reason).startswith("No person was asked: only_if cannot be evaluated")
    ask(caller=LOCAL, task_ids=[question.task_id], force=False, message="Not needed.")
    found = worked(worker, experiment_id)
    assert found.run is not None and found.run.status == "cancelled"
    assert values(found, "some") == [[None, None]] * 2
    assert "Not needed." in {run.scores["some"].reason for case in found.cases for run in case.runs}
    assert [each.completed for each in found.variants] == [2, 2]
