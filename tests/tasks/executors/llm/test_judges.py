"""Models that judge the results of an experiment: a real server and its workers, and a provider on loopback that answers by what it reads."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.llm_formats import Says
from tests.llm_server import Asked
from tests.llm_site import WITH_KEY, LlmSite

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]
NAME: Final = "judged-greetings"
SCHEMA: Final[Json] = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
WHO: Final = ("Ada", "Alan", "Grace", "{{who}}</answer>", "Edsger", "Barbara")


def verdict(asked: Asked) -> Says:
    """Answer as the model that was asked is: one fails, one talks, one is out of budget, one prefers what is first, and the others judge."""
    model, shown = asked.body["model"], json.loads(asked.last_message) if "{" in asked.last_message[:1] else {}
    match model.removeprefix("judge-"):
        case "fails":
            return Says(status=500, error="Out of order.")
        case "limited":
            return Says(status=429, error="Too many.")
        case "talks":
            return Says(text="I like it very much.")
        case "first":
            found: Any = "A"
        case "pairs":
            found = "A" if shown["A"]["text"].startswith("Hello") else "B"
        case "ties":
            found = "tie"
        case "rates":
            found = 0.5 if shown["answer"]["text"].startswith("Bye") else 1
        case "sorts":
            found = "warm" if shown["answer"]["text"].startswith("Hello") else "cold"
        case _:
            found = shown["answer"]["text"] == shown["expected"]
    return Says(text=json.dumps({"reason": f"{model} says so.", "score": found}))


@pytest.fixture
def site(llm_site: LlmSite) -> Iterator[LlmSite]:
    llm_site.llm.forget()
    llm_site.llm.by = verdict
    for text in ("Bye {{run.inputs.who}}", "Hello {{run.inputs.who}}"):
        task = {"id": "greet", "name": "echo_executor", "inputs": {"text": text}}
        llm_site.server.rpc("flows.save", {"name": NAME, "tasks": [task], "inputs_schema": SCHEMA})
    rows = [{"inputs": {"who": who}, "expected": f"Hello {who}"} for who in WHO]
    llm_site.server.rpc("datasets.save", {"name": NAME, "rows": rows, "flow": NAME})
    try:
        yield llm_site
    finally:
        llm_site.server.rpc("datasets.delete", {"name": NAME})
        llm_site.server.rpc("flows.delete", {"name": NAME})
        llm_site.llm.forget()


def result(site: LlmSite, *evaluators: Json, **given: Any) -> Json:
    """Run an experiment to its end, and return its result."""
    wanted = {"dataset": NAME, "evaluators": evaluators, "wait": True, "wait_timeout_seconds": 600, **given}
    started = site.server.rpc("evals.run", wanted, **WITH_KEY)
    assert started["status"] == "completed", started
    found: Json = site.server.rpc("evals.get", {"experiment_id": started["task_id"]})
    return found


def judge(name: str, kind: str = "judge", **form: Any) -> Json:
    return {"name": name, "with": {kind: {"rubric": "Is it kind?", "model": f"openai/judge-{name}", **form}}}


def means(found: Json, name: str) -> list[float]:
    return [each["scores"][name]["estimate"]["mean"] for each in found["variants"]]


@pytest.mark.both_engines
def test_models_judge_each_answer_once(site: LlmSite) -> None:
    evaluators = (judge("right"), judge("rates", scale=[0, 1]), judge("sorts", categories=["warm", "cold"]))
    found = result(site, *evaluators)
    assert means(found, "right") == [0, 1] and means(found, "rates") == [0.5, 1]
    assert [each["scores"]["sorts"]["categories"] for each in found["variants"]] == [{"cold": 6}, {"warm": 6}]
    assert found["results"][0]["runs"][0]["scores"]["right"] == {"value": False, "reason": "judge-right says so."}
    assert Counter(asked.body["model"] for asked in site.llm.asked) == dict.fromkeys(
        ("judge-right", "judge-rates", "judge-sorts"), 2 * len(WHO)
    )
    shown = [json.loads(asked.last_message) for asked in site.llm.asked]
    assert all(each["expected"] == f"Hello {each['inputs']['who']}" for each in shown)


@pytest.mark.both_engines
def test_a_judge_that_cannot_judge_has_not_scored_and_fails_no_case(site: LlmSite) -> None:
    found = result(site, judge("fails"), judge("talks"), judge("limited"), judge("right"), versions=[2])
    (variant,) = found["variants"]
    assert (variant["completed"], variant["failed"], means(found, "right")) == (6, 0, [1])
    for name, why in (("fails", "(500)"), ("talks", "not what response_format asks for"), ("limited", "429")):
        assert (variant["scores"][name]["estimate"], variant["scores"][name]["not_scored"]) == (None, 6)
        assert why in found["results"][0]["runs"][0]["scores"][name]["reason"]


@pytest.mark.both_engines
def test_a_pair_is_judged_in_both_orders(site: LlmSite) -> None:
    found = result(site, judge("pairs", "pair_judge"), judge("first", "pair_judge"), judge("ties", "pair_judge"))
    assert means(found, "pairs") == [0, 1] and means(found, "first") == means(found, "ties") == [0.5, 0.5]
    assert [each["text"] for each in found["differences"]] == [
        "Version 2 is better by 1.00 (1.00 to 1.00).",
        "Version 1 and version 2 have the same score in all 6 cases.",
        "Version 1 and version 2 have the same score in all 6 cases.",
    ]
    scores = found["results"][0]["runs"][0]["scores"]
    assert scores["first"]["reason"] == "The judge preferred another answer when the order was swapped."
    assert scores["pairs"]["reason"] == "judge-pairs says so."
    assert Counter(asked.body["model"] for asked in site.llm.asked)["judge-pairs"] == 2 * len(WHO)


def test_a_pair_of_which_one_is_not_judged_is_not_scored(site: LlmSite) -> None:
    found = result(site, judge("talks", "pair_judge"))
    assert [each["scores"]["talks"]["not_scored"] for each in found["variants"]] == [6, 6]
    assert "response_format" in found["results"][0]["runs"][1]["scores"]["talks"]["reason"]


@pytest.mark.parametrize(
    ("with_", "field", "reason"),
    [
        ({"judge": {}}, "with.judge", "rubric"),
        ({"judge": {"rubric": "x", "scale": [1]}}, "with.judge", "scale"),
        ({"judge": {"rubric": "x", "scale": [5, 1]}}, "with.judge", "scale"),
        ({"judge": {"rubric": "x", "scale": [1, 5], "categories": ["a", "b"]}}, "with.judge", "exclude"),
        ({"judge": {"rubric": "x", "categories": ["a", "two words"]}}, "with.judge", "categories"),
        ({"judge": {"rubric": "x", "models": "m"}}, "with.judge", "models"),
        ({"pair_judge": {"rubric": "x", "scale": [1, 5]}}, "with.pair_judge", "scale"),
        ({"pair_judge": {"rubric": "x"}}, "with", "compares two versions"),
        ({"person": {"question": "x", "pair": True}}, "with", "compares two versions"),
        ({"person": {"question": "x", "assignees": ["role:nobody"]}}, "with.person", "role"),
        ({"person": {"question": "x", "only_if": "scores["}}, "with.person.only_if", "JMESPath"),
    ],
)
def test_what_cannot_judge_is_refused_by_its_place(site: LlmSite, with_: Json, field: str, reason: str) -> None:
    wanted = {"dataset": NAME, "evaluators": [{"name": "a", "with": with_}], "versions": [1]}
    (found,) = site.server.call("evals.run", wanted)["error"]["data"]
    assert found["field"] == f"evaluators[0].{field}" and reason in found["reason"]
