"""Models that judge runs of a flow: a real server, its workers and its sweeps, and a provider on loopback."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.llm_formats import Says
from tests.llm_server import Asked
from tests.llm_site import KEY, LlmSite
from tests.servers import until

pytestmark = pytest.mark.both_engines

Json = dict[str, Any]
FLOW: Final = "watched-greetings"
JUDGE: Final[Json] = {"judge": {"rubric": "Is it kind?", "model": "openai/gpt-4o-mini"}}


def verdict(asked: Asked) -> Says:
    """Judge by the words; the provider of one who is called Mallory is out of order."""
    text = json.loads(asked.last_message)["answer"]["text"]
    if "Mallory" in text:
        return Says(status=500, error="Out of order.")
    return Says(text=json.dumps({"reason": "It greets.", "score": text.startswith("Hello")}))


@pytest.fixture
def site(llm_site: LlmSite) -> Iterator[LlmSite]:
    llm_site.llm.forget()
    llm_site.llm.by = verdict
    task = {"id": "greet", "name": "echo_executor", "inputs": {"text": "{{run.inputs.text}}"}}
    llm_site.server.rpc("flows.save", {"name": FLOW, "tasks": [task]})
    llm_site.server.rpc("config.llm_key.set", {"provider": "openai", "api_key": KEY}, path="/system")
    try:
        yield llm_site
    finally:
        llm_site.server.rpc("flows.delete", {"name": FLOW})
        llm_site.server.rpc("config.llm_key.delete", {"provider": "openai"}, path="/system")
        llm_site.llm.forget()


def ran(site: LlmSite, *texts: str) -> list[str]:
    """Run the flow for each text to its end. Returns the ids of the runs."""
    wait = {"wait": True, "wait_timeout_seconds": 600}
    done = [site.server.rpc("flows.run", {"name": FLOW, "inputs": {"text": text}, **wait}) for text in texts]
    assert {each["status"] for each in done} == {"completed"}
    listed = [site.server.rpc("runs.list", {"task_id": each["task_id"]})["runs"] for each in done]
    return [run["id"] for (run,) in listed]


def watch(site: LlmSite, **given: Any) -> None:
    site.server.rpc("judges.set", {"flow": FLOW, "name": "kind", "evaluator": JUDGE, "sample": 100, **given})


def seen(site: LlmSite, runs: int) -> Json:
    """Wait until so many runs have been judged, not scored or left out, and return the judge."""

    def judge() -> Json:
        (found,) = site.server.rpc("judges.list", {"flow": FLOW})["judges"]
        return found if found["judged"] + found["not_scored"] + found["over_budget"] == runs else {}

    return until(judge, seconds=300, what=f"{runs} runs that the judge has seen")


def test_runs_are_judged_beside_their_users_and_a_judge_that_fails_scores_nothing(site: LlmSite) -> None:
    watch(site, cost_usd_per_day=5, below=0.9, runs=3)
    ids = ran(site, "Hello Ada", "Bye Alan", "Hello Grace", "Hello Mallory")
    found = seen(site, 4)
    assert (found["judged"], found["not_scored"], found["mean"]) == (3, 1, pytest.approx(2 / 3))
    assert "(500)" in found["problem"]
    assert found["alert"]["mean"] == pytest.approx(2 / 3)
    assert 0 < found["spent_today_usd"] < 5
    scores = [site.server.rpc("runs.get", {"run_id": each})["scores"] for each in ids]
    assert [[(each["name"], each["value"], each["source"]) for each in of_run] for of_run in scores] == [
        [("kind", True, "judge")],
        [("kind", False, "judge")],
        [("kind", True, "judge")],
        [],
    ]
    assert scores[0][0]["reason"] == "It greets."


def test_a_used_up_budget_stops_the_judge_and_no_run(site: LlmSite) -> None:
    watch(site, cost_usd_per_day=0.000_000_001)
    ran(site, *(f"Hello {number}" for number in range(6)))
    found = seen(site, 6)
    assert 1 <= found["judged"] <= 2, found  # those that were judged at the same time
    assert found["spent_today_usd"] > found["cost_usd_per_day"]
    ran(site, "Hello Edsger", "Hello Barbara")
    after = seen(site, 8)
    assert (after["judged"], after["over_budget"]) == (found["judged"], found["over_budget"] + 2)
    assert after["spent_today_usd"] == found["spent_today_usd"]
