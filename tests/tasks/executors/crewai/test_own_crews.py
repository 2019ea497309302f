"""Crews and flows of the operator's code: by name, with the key of the run, its guard, usage and records."""

from threading import Barrier
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tasks.executors.crewai.executor import CrewAi
from tests.acceptance.test_faults import holder_of
from tests.llm_formats import Says
from tests.llm_server import fingerprint
from tests.llm_site import KEY, WITH_KEY, LlmSite
from tests.own_code import CREWS

pytestmark = pytest.mark.crews

CREW = "crewai_executor"
Json = dict[str, Any]
TOPIC: Json = {"topic": "rivers"}


def test_a_class_with_crew_base_runs_with_the_key_of_the_run(site: LlmSite) -> None:
    site.llm.will(
        Says(tool_calls=(("letters", {"text": "abcde"}),)), Says(text="Rivers are long."), Says(text="The report.")
    )
    done = site.run(CREW, TOPIC, params={"crew": "report"})
    assert done.task["status"] == "completed", done.task["error"]
    result = done.task["result"]
    assert result["result"] == "The report."
    assert result["tasks"] == [
        {"name": "research_task", "output": "Rivers are long."},
        {"name": "reporting_task", "output": "The report."},
    ]
    assert [(asked.key, asked.body["model"]) for asked in site.llm.asked] == [
        (KEY, "gpt-4o"),
        (KEY, "gpt-4o"),
        (KEY, "gpt-4"),
    ]
    assert "RIVERS Senior Researcher" in str(site.llm.asked[0].body["messages"])
    assert site.llm.asked[2].body["temperature"] == 0.25
    assert result["token_usage"] == done.task["token_usage"]
    assert done.steps == [(0.5, "research_task completed"), (1.0, "reporting_task completed")]
    Draft202012Validator(CrewAi.result_schema).validate(result)


def test_its_calls_are_recorded_with_agent_and_task(site: LlmSite) -> None:
    done = site.run(CREW, TOPIC, params={"crew": "report"})
    calls = site.server.rpc("runs.calls", {"run_id": done.events[0]["run_id"]})["calls"]
    assert [(call["agent"].strip(), call["crew_task"]) for call in calls] == [
        ("RIVERS Senior Researcher", "research_task"),
        ("RIVERS Reporter", "reporting_task"),
    ]


def test_a_crew_is_named_by_its_path_too_and_in_the_inputs(site: LlmSite) -> None:
    done = site.run(CREW, TOPIC | {"crew": CREWS["report"]})
    assert done.task["status"] == "completed", done.task["error"]


def test_a_pair_of_yaml_files_is_a_crew(site: LlmSite) -> None:
    site.llm.will(Says(text="Facts."), Says(text="The report."))
    done = site.run(CREW, TOPIC, params={"crew": "yaml"})
    assert done.task["status"] == "completed", done.task["error"]
    assert done.task["result"]["result"] == "The report."
    assert "rivers Senior Researcher" in str(site.llm.asked[0].body["messages"])
    assert [asked.body["model"] for asked in site.llm.asked] == ["gpt-4o", "gpt-4o-mini"]


def test_a_batch_runs_crews_by_name_beside_works_each_with_inputs_of_its_own(site: LlmSite) -> None:
    works = {
        "north": {"crew": "yaml", "inputs": {"topic": "{topic} in the north"}},
        "south": {"crew": "report"},
        "west": {"agents": {"a": {"role": "Reader of {topic}"}}},
    }
    done = site.run("batch_crewai_executor", TOPIC, params={"works": works})
    assert done.task["status"] == "completed", done.task["error"]
    assert {name: len(crew["tasks"]) for name, crew in done.task["result"].items()} == {
        "north": 2,
        "south": 2,
        "west": 1,
    }
    asked = str([each.body["messages"] for each in site.llm.asked])
    assert "rivers in the north Senior Researcher" in asked
    assert "RIVERS Senior Researcher" in asked
    assert "Reader of rivers" in asked
    assert done.steps[-1][0] == 1.0
    error = site.refusal_of("batch_crewai_executor", params={"works": {"north": {"crew": "yaml", "task": 1}}})
    assert "north.task is not known beside `crew`" in str(error)


def test_an_input_named_crew_still_fills_the_texts_of_works(site: LlmSite) -> None:
    works = {"agents": {"a": {"role": "One of {crew}"}}}
    done = site.run(CREW, {"crew": "sailors"}, params={"works": works})
    assert done.task["status"] == "completed", done.task["error"]
    assert "One of sailors" in str(site.llm.asked[0].body["messages"])


def test_a_flow_runs_with_its_inputs_and_returns_its_state(site: LlmSite) -> None:
    site.llm.will(Says(text="Rivers are long."), Says(text="A poem."))
    done = site.run(CREW, TOPIC, params={"crew": "poem"})
    assert done.task["status"] == "completed", done.task["error"]
    result = done.task["result"]
    assert result["result"] == {"poem": "A poem.", "lines": 1}
    assert result["state"] == {"topic": "rivers", "facts": "Rivers are long.", "poem": "A poem."}
    assert result["tasks"] == [{"name": "poem", "output": "A poem."}]
    assert [asked.key for asked in site.llm.asked] == [KEY, KEY]
    assert site.llm.asked[0].last_message == "Facts about rivers"
    Draft202012Validator(CrewAi.result_schema).validate(result)


@pytest.mark.parametrize("name", ["counting", "made"])
def test_a_crew_object_and_a_function_run_and_keep_nothing(site: LlmSite, name: str) -> None:
    for what in ("apples", "pears"):
        site.llm.forget()
        site.llm.will(Says(text='{"answer": 3}'))
        done = site.run(CREW, {"what": what}, params={"crew": name})
        assert done.task["status"] == "completed", done.task["error"]
        assert done.task["result"]["parsed"] == {"answer": 3}
        assert f"Count {what}." in str(site.llm.asked[0].body["messages"])
        assert [task["output"] for task in done.task["result"]["tasks"]] == ['{"answer":3}']
        assert len(site.llm.asked) == 1


def test_json_is_asked_of_the_model_of_the_run(site: LlmSite) -> None:
    site.llm.will(Says(text="Three."), Says(text='{"answer": 3}'))
    done = site.run(CREW, {"what": "apples"}, params={"crew": "as_json"})
    assert done.task["status"] == "completed", done.task["error"]
    assert done.task["result"]["parsed"] == {"answer": 3}
    assert [asked.key for asked in site.llm.asked] == [KEY, KEY]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("with_memory", "The crew 'with_memory': `memory` of the crew is refused: it calls a model of embeddings"),
        ("with_address", "base_url=…) is refused: calls use the key and the addresses of the server."),
        ("failing", "CrewAI failed: no crew today."),
        ("number", "The crew 'number' is invalid: tests.own_crews.more:number must be a class with @CrewBase"),
        ("kept", "The crew 'kept': `persistence` of the flow is refused: all users would share the states."),
        ("kept_step", "The crew 'kept_step': `persistence` of the flow is refused"),
        ("no_yaml", "The crew 'no_yaml' cannot be loaded from the package tests.own_crews: it has no agents.yaml."),
        ("lost", "The crew 'lost' cannot be loaded: No module named 'tests.own_crews.nowhere'."),
    ],
)
def test_what_cannot_run_says_why_and_calls_no_model(site: LlmSite, name: str, says: str) -> None:
    assert says in site.error_of(CREW, {"what": "x"}, params={"crew": name})
    assert site.llm.asked == []


@pytest.mark.parametrize(
    ("params", "inputs", "says"),
    [
        ({"crew": "os:system"}, {}, "params.crew names 'os:system', which the operator does not offer."),
        ({"crew": "reprot"}, {}, "Did you mean 'report'?"),
        ({"crew": 7}, {}, "params.crew must be a text"),
        ({}, {"crew": "tests.own_crews.more:hidden"}, "names 'tests.own_crews.more:hidden', which the operator"),
        ({"crew": "report", "works": {}}, {}, "Give either params.crew"),
    ],
)
def test_a_crew_that_is_not_offered_is_refused_when_it_is_sent(
    site: LlmSite, params: Json, inputs: Json, says: str
) -> None:
    assert says in str(site.refusal_of(CREW, params=params, inputs=inputs)["data"])


def test_crews_of_two_users_at_once_never_mix_up_their_keys(site: LlmSite) -> None:
    keys = {f"user-{number}": f"sk-own-{number}-{number:032x}" for number in range(2)}
    site.llm.together = Barrier(2)
    ids = {
        user: site.start(CREW, {"topic": user}, {"X-LLM-API-KEY": key}, params={"crew": "poem"}, user_id=user)
        for user, key in keys.items()
    }
    results = {user: site.end_of(task_id).task["result"] for user, task_id in ids.items()}
    assert {user: result["state"]["facts"] for user, result in results.items()} == {
        user: f"{fingerprint(key)} Facts about {user}" for user, key in keys.items()
    }


def test_a_cancel_ends_the_call_of_a_flow(site: LlmSite) -> None:
    site.llm.will(Says(text="one two three", stalls_after=1))
    task_id = site.start(CREW, TOPIC, params={"crew": "poem"})
    assert site.llm.stalled.wait(150)
    site.server.rpc("tasks.cancel", {"task_id": task_id})
    assert site.llm.hung_up.wait(60)
    assert site.end_of(task_id).task["status"] == "cancelled"


def test_a_timeout_ends_it(site: LlmSite) -> None:
    site.llm.will(Says(text="one two", stalls_after=1))
    error = site.error_of(CREW, TOPIC, params={"crew": "report", "timeout_seconds": 15})
    assert error == "Timed out after 15 s (params.timeout_seconds)."
    assert not site.llm.stalled.is_set() or site.llm.hung_up.wait(150)


def test_a_crew_whose_worker_dies_is_interrupted_and_can_be_executed_again(site: LlmSite) -> None:
    site.llm.will(Says(text="one two three", stalls_after=1))
    task_id = site.start(CREW, TOPIC, params={"crew": "report"})
    assert site.llm.stalled.wait(150)
    site.server.kill(holder_of(site.server, task_id))
    assert site.end_of(task_id).task["error"].startswith("Interrupted: the worker ")
    assert len(site.llm.asked) == 1
    site.server.rpc("tasks.execute", {"task_id": task_id}, **WITH_KEY)
    done = site.end_of(task_id)
    assert done.task["status"] == "completed", done.task["error"]
    assert [task["name"] for task in done.task["result"]["tasks"]] == ["research_task", "reporting_task"]


def test_no_files_are_left_that_users_share(site: LlmSite) -> None:
    site.run(CREW, TOPIC, params={"crew": "poem"})
    assert [path.name for path in site.home.rglob("*.db")] == []
