"""Questions with a form: refused when they are none, answered by an object that fits, which is the result."""

from typing import Any

import pytest

from accounts.callers import LOCAL
from tasks.models import Question, Run
from tasks.rules.exceptions import InvalidParams
from tasks.services import trees
from tasks.services.waits.questions import answer, open_questions
from tests.workers import Json, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
FORM: Json = {
    "type": "object",
    "properties": {
        "amount": {"type": "number", "minimum": 0},
        "plan": {"enum": ["small", "large"], "default": "small"},
    },
    "required": ["amount"],
}


def ask(**inputs: Any) -> Json:
    inputs = {"question": "How much?", "schema": FORM} | inputs
    return {"id": "ask", "name": "approval_executor", "parent_id": "root", "inputs": inputs}


def parked(worker: WorkerThread, *tasks: Json) -> Run:
    run = trees.execute_tree(caller=LOCAL, tasks=[{"id": "root", "name": "Root"}, *tasks]).run
    worker.work()
    return run


def given(worker: WorkerThread, value: Any) -> None:
    answer(caller=LOCAL, task_id="ask", answer=value)
    worker.work()


def test_the_object_is_the_result_for_conditions_and_places(worker: WorkerThread) -> None:
    when = {"task": "ask", "path": "/amount", "op": "gt", "value": 100}
    expensive = {"id": "expensive", "name": "echo_executor", "parent_id": "root", "dependencies": ["ask"]}
    run = parked(
        worker,
        ask(),
        expensive | {"params": {"when": when}},
        expensive | {"id": "cheap", "params": {"when": {"not": when}}, "inputs": {"pay": "{{ask.amount}}"}},
    )
    (question,) = open_questions(LOCAL)
    assert question.schema == FORM
    (asked,) = [event["result"] for event in result_of(run).events if event["type"] == "log"]
    assert asked["schema"] == FORM
    given(worker, {"amount": 42})
    ran = result_of(run)
    assert ran.run.status == "completed"
    assert ran.tasks["ask"].result == {"amount": 42, "plan": "small"}
    assert (ran.statuses()["expensive"], ran.tasks["cheap"].result["pay"]) == ("skipped", 42)
    question.refresh_from_db()
    assert question.answer == {"amount": 42, "plan": "small"}


def test_an_answer_that_does_not_fit_names_the_fields_and_the_question_stays(worker: WorkerThread) -> None:
    parked(worker, ask())
    with pytest.raises(InvalidParams) as refused:
        answer(caller=LOCAL, task_id="ask", answer={"amount": -1, "plan": "huge"})
    assert [field for field, _ in refused.value.problems] == ["answer.amount", "answer.plan"]
    wrong: Any
    for wrong in ("42", [42], "no JSON", {}):
        with pytest.raises(InvalidParams):
            answer(caller=LOCAL, task_id="ask", answer=wrong)
    assert len(open_questions(LOCAL)) == 1


def test_a_text_with_the_json_of_the_form_is_as_good(worker: WorkerThread) -> None:
    run = parked(worker, ask())
    given(worker, '{"amount": 7, "plan": "large"}')
    assert result_of(run).tasks["ask"].result == {"amount": 7, "plan": "large"}


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"schema": {"type": "object", "properties": {"a": {"type": "array"}}}}, "is not flat at properties.a.type"),
        ({"schema": {"type": "string"}}, "is not a flat JSON Schema. Write {"),
        ({"options": ["yes", "no"]}, "inputs.schema and inputs.options exclude each other"),
    ],
)
def test_what_is_no_form_is_refused_before_anything_is_stored(inputs: Json, says: str) -> None:
    with pytest.raises(InvalidParams, match=says):
        trees.execute_tree(caller=LOCAL, tasks=[{"id": "root", "name": "Root"}, ask(**inputs)])
    assert Run.objects.count() == 0


def test_places_fill_the_text_the_options_and_the_form(worker: WorkerThread) -> None:
    names = {
        "id": "names",
        "name": "echo_executor",
        "parent_id": "root",
        "inputs": {"list": ["Ada", "Bo"], "of": "1 tea"},
    }
    form = {"properties": {"who": {"enum": "{{names.list}}", "title": "For {{names.of}}"}}}
    choice = {"question": "{{names.of}}, {{names.list.0}}?", "options": "{{names.list}}"}
    other = {
        "id": "other",
        "name": "approval_executor",
        "parent_id": "root",
        "dependencies": ["names"],
        "inputs": choice,
    }
    third = other | {"id": "third", "inputs": {"question": "Who?", "options": ["{{names.list.1}}", "none"]}}
    ask_one = ask(schema=form, question="Who gets {{names.of}}?") | {"dependencies": ["names"]}
    run = parked(worker, names, ask_one, other, third)
    asked = {question.task_id: question for question in open_questions(LOCAL)}
    assert asked["ask"].text == "Who gets 1 tea?"
    assert asked["ask"].schema == {"properties": {"who": {"enum": ["Ada", "Bo"], "title": "For 1 tea"}}}
    assert (asked["other"].text, asked["other"].options) == ("1 tea, Ada?", ["Ada", "Bo"])
    assert asked["third"].options == ["Bo", "none"]
    answer(caller=LOCAL, task_id="other", answer="Bo")
    answer(caller=LOCAL, task_id="third", answer="none")
    given(worker, {"who": "Ada"})
    ran = result_of(run)
    assert (ran.run.status, ran.tasks["ask"].result) == ("completed", {"who": "Ada"})


def test_a_form_that_results_have_spoiled_fails_the_task(worker: WorkerThread) -> None:
    names = {"id": "names", "name": "echo_executor", "parent_id": "root", "inputs": {"kind": "array"}}
    form = {"properties": {"who": {"type": "{{names.kind}}"}}}
    run = parked(worker, names, ask(schema=form) | {"dependencies": ["names"]})
    error = result_of(run).tasks["ask"].error
    assert error is not None
    assert error.startswith("The question was not asked, because its schema is not flat at properties.who.type")
    assert Question.objects.count() == 0
