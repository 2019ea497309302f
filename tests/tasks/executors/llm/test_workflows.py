"""Workflows as code with agents: a real server, real workers, a provider and a publisher on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import research
from tests.acceptance.test_faults import holder_of
from tests.llm_formats import Says
from tests.llm_server import fingerprint
from tests.llm_site import KEY, LlmSite
from tests.receiver import Receiver, receiving
from tests.servers import until

Json = dict[str, Any]
OF_BOB = "sk-bob-0123456789abcdef"
PATIENCE_SECONDS = 60
VALUE = "the-secret-of-the-publisher"
PLAN = Says(text=json.dumps({"questions": [f"question {number}" for number in range(6)]}))


def verdict(score: int, *missing: str) -> Says:
    return Says(text=json.dumps({"score": score, "missing": missing}))


@pytest.fixture
def publisher(publisher_port: int) -> Iterator[Receiver]:
    with receiving(publisher_port) as receiver:
        yield receiver


def test_the_workflow_of_the_tutorial_is_short() -> None:
    code = [line for line in Path(research.__file__).read_text().splitlines()[1:] if line.strip()]
    assert len(code) <= 45


def test_the_workflow_of_the_tutorial_publishes_a_report(site: LlmSite, publisher: Receiver) -> None:
    """A worker that dies while the judge speaks makes no other call again."""
    site.server.rpc("secrets.set", {"name": "publisher", "value": VALUE}, path="/system")
    broken_off = Says(text="It breaks off here.", stalls_after=1)
    site.llm.will(PLAN, *[Says()] * 6, verdict(2, "more"), Says(), broken_off, verdict(4), Says(text="The report."))
    url = f"http://localhost:{publisher.port}/reports"
    task_id = site.start("workflow:research", {"topic": "rivers", "publish_to": url})
    assert site.llm.stalled.wait(PATIENCE_SECONDS)
    site.server.kill(holder_of(site.server, task_id))

    def tree() -> list[Json]:
        return site.server.rpc("tasks.tree", {"task_id": task_id})["children"]  # type: ignore[no-any-return]

    def waiting() -> str:
        return next((task["id"] for task in tree() if task["name"].startswith("ask")), "")

    asking = until(waiting, seconds=60, what="the question")
    assert site.wait_for_question(asking)["options"] == ["yes", "no"]
    assert (len(site.llm.asked), {asked.key for asked in site.llm.asked}) == (12, {KEY})
    wanted = site.llm.asked[0].body["response_format"]["json_schema"]["schema"]
    assert (wanted["type"], wanted["properties"]["questions"]["items"]) == ("object", {"type": "string"})
    site.server.rpc("tasks.answer", {"task_id": asking, "answer": "yes"})
    site.server.rpc("events.send", {"event": "payment", "payload": {"order": "rivers"}, "id": "evt_1"})
    done = site.end_of(task_id)
    assert (done.task["status"], done.task["error"]) == ("completed", None)
    assert done.task["result"] == {"status": 200, "notes": 7}
    [posted] = publisher.received
    assert json.loads(posted.body) == {"topic": "rivers", "report": "The report.", "payment": "evt_1"}
    assert (posted.headers["authorization"], "idempotency-key" in posted.headers) == (f"Bearer {VALUE}", True)
    names = [task["name"] for task in tree()]
    assert names[:2] == ["planner", "researcher"]
    assert names[7:] == ["judge", "researcher", "judge", "writer", *names[11:]]
    assert VALUE not in json.dumps([tree(), done.events])
    [(calls, tokens)] = site.server.query(
        "SELECT count(*), sum(total_tokens) FROM tasks_modelcall WHERE root_id = %s", task_id
    )
    assert (calls, tokens) == (11, 11 * 14)


def test_each_run_calls_the_models_of_its_workflow_with_its_own_key(site: LlmSite) -> None:
    """Two runs at the same time: the provider says whose key it got."""
    keys = (KEY, OF_BOB)
    tasks = [site.start("workflow:whose", {}, headers={"X-LLM-API-KEY": f"openai:{key}"}) for key in keys]
    results = [site.end_of(task).task["result"] for task in tasks]
    assert results == [[f"{fingerprint(key)} Who am I?"] * 2 for key in keys]


def test_an_agent_calls_tools_and_its_answer_may_be_a_list(site: LlmSite) -> None:
    site.llm.will(Says(tool_calls=(("weather", {"city": "Bern"}),)), Says(text=json.dumps({"answer": ["warm", "dry"]})))
    done = site.run("workflow:forecast", {"city": "Bern"})
    assert (done.task["error"], done.task["result"]) == (None, ["warm", "dry"])
    [child] = site.server.rpc("tasks.tree", {"task_id": done.task["id"]})["children"]
    assert (child["name"], [each["name"] for each in child["children"]]) == ("forecaster", ["weather"])


def test_an_answer_that_is_not_what_was_asked_for_fails_at_the_await(site: LlmSite) -> None:
    site.llm.will(Says(text="No idea."), Says(text="No idea."))
    error = site.error_of("workflow:forecast", {"city": "Bern"})
    assert error.startswith("forecast() raised StepFailed: The answer of ")
    assert "is not what response_format asks for: it is not JSON" in error


def test_a_flow_is_a_call_of_a_workflow(site: LlmSite) -> None:
    echo = {"name": "echo_executor", "inputs": {"heard": "{{run.inputs.text}}"}}
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    site.server.rpc("flows.save", {"name": "parrot", "tasks": echo, "inputs_schema": schema})
    done = site.run("workflow:parroted", {"text": "{{{{secret.x}} {{{{text}}"})
    assert (done.task["error"], done.task["result"]) == (None, {"heard": "{{secret.x}} {{text}}"})
    error = site.error_of("workflow:parroted", {"text": "x", "flow": "flow:parot"})
    assert "Flow 'parot' not found. Did you mean 'parrot'?" in error
    site.server.rpc("flows.delete", {"name": "parrot"})  # other tests list the flows


def test_a_request_of_a_workflow_is_tried_again_and_its_error_is_raised_at_the_await(
    site: LlmSite, publisher: Receiver
) -> None:
    publisher.answer(503, 200, 404)
    done = site.run("workflow:posted", {"url": f"http://localhost:{publisher.port}/x"})
    status, error = done.task["result"]
    assert (status, error.startswith(f"GET http://localhost:{publisher.port}/x answered 404 Not Found.")) == (200, True)
    assert [(each.method, each.path) for each in publisher.received] == [("POST", "/x?page=2")] * 2 + [("GET", "/x")]
    assert publisher.received[0].headers["authorization"] == "Bearer of-the-author"
    stored = site.server.query("SELECT inputs FROM tasks_task WHERE root_id = %s", done.task["id"])
    assert "of-the-author" not in str(stored)
    assert "sealed:" in str(stored)


def test_the_budget_of_a_run_counts_the_agents_of_its_workflow(site: LlmSite) -> None:
    error = site.error_of("workflow:spending", {}, params={"budget": {"tokens": 14}})
    assert (error.startswith("spending() raised StepFailed: "), "budget" in error, len(site.llm.asked)) == (
        True,
        True,
        1,
    )
