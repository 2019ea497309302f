"""Crews: the guide's sample, full works, tools, usage, cancelling, and many at once; all over a real server and real HTTP."""

from pathlib import Path
from threading import Barrier
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from tasks.executors.crewai.executor import BatchCrewAi, CrewAi
from tasks.rules.interrupts import INTERRUPTED
from tests.acceptance.test_faults import holder_of
from tests.llm_formats import Says
from tests.llm_server import fingerprint
from tests.llm_site import KEY, LlmSite
from tests.servers import until

pytestmark = pytest.mark.crews

CREW = "crewai_executor"
BATCH = "batch_crewai_executor"
CREWS = 15
Json = dict[str, Any]
GUIDE: Json = {
    "id": "task1",
    "name": "CrewAI Task",
    "schemas": {"method": "crewai_executor"},
    "params": {"works": {"agents": {"researcher": {"role": "Research Analyst", "llm": "openai/gpt-4"}}}},
}
WORKS: Json = {
    "agents": {"reader": {"role": "Reader of {topic}"}, "writer": {"role": "Writer", "llm": "openai/gpt-4"}},
    "tasks": {
        "look": {"description": "Look up {topic}.", "agent": "reader", "expected_output": "Facts"},
        "write": {"description": "Write on {topic}.", "agent": "writer", "context": ["look"]},
    },
}
RIVERS: Json = {"topic": "rivers"}


def with_tools(*tools: str) -> Json:
    return {"agents": {"a": {"role": "Counter", "tools": list(tools), "llm": "openai/gpt-4"}}}


@pytest.mark.both_engines_nightly
@pytest.mark.parametrize("header", [KEY, f"openai:{KEY}"])
def test_the_sample_of_the_guide_runs_with_the_key_of_its_header(site: LlmSite, header: str) -> None:
    created = site.server.rpc("tasks.create", {"tasks": [GUIDE]}, **{"X-LLM-API-KEY": header})
    site.server.rpc("tasks.execute", {"task_id": created["id"]})
    done = site.end_of(created["id"])
    assert done.task["status"] == "completed", done.task["error"]
    assert done.task["result"]["result"].startswith(fingerprint(KEY))
    assert [asked.key for asked in site.llm.asked] == [KEY]
    assert "You are Research Analyst." in site.llm.asked[0].body["messages"][0]["content"]
    assert "CrewAI Task" in site.llm.asked[0].last_message


@pytest.mark.parametrize(("executor", "batch"), [(CREW, False), (BATCH, True)])
def test_files_that_are_texts_are_read_and_others_are_refused(executor: str, batch: bool, site: LlmSite) -> None:
    sent: Json = {}
    for name, kind in (
        ("rivers.md", "text/markdown"),
        ("rivers.json", "application/json"),
        ("rivers.pdf", "application/pdf"),
    ):
        sent[kind] = site.server.http.post(
            "/files", params={"name": name, "media_type": kind}, content=f"The Rhine of {{x}} in {name}".encode()
        ).json()
    works: Json = {
        "agents": {"reader": {"role": "Reader", "llm": "openai/gpt-4"}},
        "tasks": {"look": {"description": "Sum up {topic}.", "agent": "reader"}},
    }
    params = {"works": {"one": works} if batch else works}
    site.llm.will(Says(text="Long."), Says(text="Long."))
    topic = {"documents": [sent["text/markdown"], sent["application/json"]]}
    done = site.run(executor, {"topic": topic}, params=params)
    assert done.task["status"] == "completed", done.task["error"]
    for name in ("rivers.md", "rivers.json"):
        assert f"The Rhine of {{x}} in {name}" in site.llm.asked[-1].last_message
    error = site.error_of(executor, {"topic": {"doc": sent["application/pdf"]}}, {}, params=params)
    assert error.startswith(
        "inputs.topic.doc: 'rivers.pdf' is application/pdf, and a crew reads only files that are texts."
    )


def test_the_sample_without_a_key_says_what_to_do(site: LlmSite) -> None:
    error = site.error_of(CREW, {}, {}, params=GUIDE["params"])
    assert "No API key for the provider 'openai'" in error


def test_a_crew_does_its_tasks_in_order_and_counts_what_it_used(site: LlmSite) -> None:
    site.llm.will(Says(text="Rivers are long."), Says(text="A poem."))
    done = site.run(CREW, RIVERS, params={"works": WORKS})
    used = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}
    result = done.task["result"]
    assert result["result"] == "A poem."
    assert result["tasks"] == [{"name": "look", "output": "Rivers are long."}, {"name": "write", "output": "A poem."}]
    assert result["token_usage"] == done.task["token_usage"]
    assert {name: result["token_usage"][name] for name in used} == used
    assert result["token_usage"]["cost_usd"] > 0
    assert done.steps == [(0.5, "look completed"), (1.0, "write completed")]
    assert "".join(done.words) == "Rivers are long.A poem."
    spoke = [event["result"] for event in done.events if event["type"] == "token"]
    assert dict.fromkeys((each["agent"], each["crew_task"]) for each in spoke) == {
        ("reader", "look"): None,
        ("writer", "write"): None,
    }
    Draft202012Validator(CrewAi.result_schema).validate(result)


def test_works_in_the_inputs_run_with_a_key_for_their_models(site: LlmSite) -> None:
    site.llm.will(Says(text="Rivers are long."), Says(text="A poem."))
    done = site.run(CREW, RIVERS | {"works": WORKS})
    assert done.task["result"]["result"] == "A poem."
    assert "Look up rivers." in str(site.llm.asked[0].body["messages"])


def test_inputs_fill_what_the_agents_are_told_and_context_what_they_see(site: LlmSite) -> None:
    site.llm.will(Says(text="Facts {about} {topic}."))
    site.run(CREW, {"topic": "ri{v}ers"}, params={"works": WORKS})
    first, second = (str(asked.body["messages"]) for asked in site.llm.asked)
    assert "Reader of ri{v}ers" in first and "Look up ri{v}ers." in first and "Facts" in first
    assert "Write on ri{v}ers." in second and "Facts {about} {topic}." in second
    assert [asked.body["model"] for asked in site.llm.asked] == ["gpt-4o-mini", "gpt-4"]


def test_a_tool_of_the_operators_list_is_called_and_its_result_is_read(site: LlmSite) -> None:
    site.llm.will(Says(tool_calls=(("length", {"text": "abcde"}),)), Says(text="It has five."))
    done = site.run(CREW, {}, params={"works": with_tools("length")})
    assert done.task["result"]["result"] == "It has five."
    assert [tool["function"]["name"] for tool in site.llm.asked[0].body["tools"]] == ["length"]
    assert "calls length" in done.logs
    assert (site.llm.asked[1].body["messages"][-1]["role"], site.llm.asked[1].last_message) == ("tool", "5")


def test_with_a_cache_a_crew_works_again_and_its_models_are_not_asked_again(site: LlmSite) -> None:
    site.llm.will(Says(tool_calls=(("length", {"text": "cached"}),)), Says(text="It has six."))
    first, again = (site.run(CREW, {}, params={"works": with_tools("length"), "cache": "1h"}) for _ in range(2))
    assert [len(site.llm.asked), first.task["result"]["result"], again.task["result"]["result"]] == [
        2,
        *["It has six."] * 2,
    ]
    assert "calls length" in again.logs  # its tools are called each time
    assert (first.task["token_usage"]["total_tokens"], again.task["token_usage"]) == (28, None)


def test_a_crew_runs_in_a_process_of_the_pool(site: LlmSite) -> None:
    site.llm.will(Says(tool_calls=(("process", {}),)), Says(text="There."))
    site.run(CREW, {}, params={"works": with_tools("process")})
    assert int(site.llm.asked[1].last_message) in [process.pid for process in site.server.pool()]


def test_a_manager_delegates_in_a_hierarchical_crew(site: LlmSite) -> None:
    asks = {"task": "Count.", "context": "Five letters.", "coworker": "Counter"}
    site.llm.will(
        Says(tool_calls=(("delegate_work_to_coworker", asks),)), Says(text="Five."), Says(text="My counter says five.")
    )
    works = {
        "process": "hierarchical",
        "manager_llm": "openai/gpt-4",
        "agents": {"counter": {"role": "Counter"}},
        "tasks": {"count": {"description": "Have it counted."}},
    }
    done = site.run(CREW, {}, params={"works": works})
    assert done.task["status"] == "completed", done.task["error"]
    assert done.task["result"]["result"] == "My counter says five."
    assert [asked.body["model"] for asked in site.llm.asked] == ["gpt-4", "gpt-4o-mini", "gpt-4"]
    calls = site.server.rpc("runs.calls", {"run_id": done.events[0]["run_id"]})["calls"]
    assert [call["agent"] for call in calls] == ["Crew Manager", "counter", "Crew Manager"]


NUMBER: Json = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}


def one_task(agent: Json | None = None, **fields: Any) -> Json:
    task = {"description": "Count.", "agent": "counter", **fields}
    return {"agents": {"counter": {"role": "Counter", **(agent or {})}}, "tasks": {"count": task}}


@pytest.mark.parametrize("field", ["output_json", "output_pydantic"])
def test_an_output_fits_its_schema_or_is_asked_for_again(site: LlmSite, field: str) -> None:
    site.llm.will(Says(text="It is seven."), Says(text='{"answer": "seven"}'), Says(text='{"answer": 7}'))
    done = site.run(CREW, {}, params={"works": one_task(**{field: NUMBER})})
    assert done.task["status"] == "completed", done.task["error"]
    assert done.task["result"]["parsed"] == {"answer": 7}
    assert site.llm.asked[0].body["response_format"]["json_schema"]["schema"]["required"] == ["answer"]


def test_an_output_that_never_fits_fails_the_task(site: LlmSite) -> None:
    site.llm.will(*[Says(text="It is seven.") for _ in range(9)])
    error = site.error_of(CREW, {}, params={"works": one_task(output_json=NUMBER)})
    assert "CrewAI failed: Failed to convert text into a Pydantic model" in error


def test_a_guardrail_sends_an_output_back(site: LlmSite) -> None:
    fault, right = '{"valid": false, "feedback": "Too long."}', '{"valid": true}'
    site.llm.will(Says(text="A long report."), Says(text=fault), Says(text="Short."), Says(text=right))
    done = site.run(CREW, {}, params={"works": one_task(guardrail="At most one word.")})
    assert done.task["result"]["result"] == "Short."
    assert "At most one word." in str(site.llm.asked[1].body["messages"])
    assert "Too long." in str(site.llm.asked[2].body["messages"])
    calls = site.server.rpc("runs.calls", {"run_id": done.events[0]["run_id"]})["calls"]
    assert [call["agent"] for call in calls] == ["counter", "Guardrail Agent", "counter", "Guardrail Agent"]


def test_a_guardrail_that_is_never_met_fails_the_task(site: LlmSite) -> None:
    fault = '{"valid": false, "feedback": "Too long."}'
    site.llm.will(Says(text="A long report."), Says(text=fault), Says(text="Another."), Says(text=fault))
    works = one_task(guardrail="At most one word.", guardrail_max_retries=1)
    assert "Too long." in site.error_of(CREW, {}, params={"works": works})


def test_parameters_of_the_model_are_those_of_the_agent(site: LlmSite) -> None:
    agent = {"temperature": 0.1, "max_tokens": 70, "max_rpm": 100}
    site.run(CREW, {}, params={"works": one_task(agent) | {"max_rpm": 100}})
    body = site.llm.asked[0].body
    assert (body["temperature"], body["max_tokens"]) == (0.1, 70)


def test_tasks_run_beside_each_other(site: LlmSite) -> None:
    site.llm.together = Barrier(2, action=lambda: setattr(site.llm, "together", None))
    agents = {name: {"role": name} for name in ("a", "b", "c")}
    tasks = {name: {"description": name, "agent": name, "async_execution": True} for name in ("a", "b")}
    works = {"agents": agents, "tasks": tasks | {"c": {"description": "c", "agent": "c"}}}
    done = site.run(CREW, {}, params={"works": works})
    assert done.task["status"] == "completed", done.task["error"]
    assert sorted(task["name"] for task in done.task["result"]["tasks"]) == ["a", "b", "c"]


def test_a_plan_is_made_before_the_tasks(site: LlmSite) -> None:
    plan = {"list_of_plans_per_task": [{"task_number": 1, "task": "Count.", "plan": "Use your fingers."}]}
    site.llm.will(Says(text=orjson.dumps(plan).decode()), Says(text="Five."))
    works = one_task() | {"planning": True, "planning_llm": "openai/gpt-4"}
    done = site.run(CREW, {}, params={"works": works})
    assert done.task["status"] == "completed", done.task["error"]
    assert [asked.body["model"] for asked in site.llm.asked] == ["gpt-4", "gpt-4o-mini"]
    assert "Use your fingers." in str(site.llm.asked[1].body["messages"])


def test_an_agent_reasons_before_its_task(site: LlmSite) -> None:
    done = site.run(CREW, {}, params={"works": one_task({"reasoning": True, "max_reasoning_attempts": 1})})
    assert done.task["status"] == "completed", done.task["error"]
    assert len(site.llm.asked) > 1
    assert {asked.key for asked in site.llm.asked} == {KEY}


def test_an_agent_that_may_delegates_to_another(site: LlmSite) -> None:
    asks = {"task": "Count.", "context": "Five letters.", "coworker": "Counter"}
    site.llm.will(
        Says(tool_calls=(("delegate_work_to_coworker", asks),)), Says(text="Five."), Says(text="My counter says five.")
    )
    agents = {"boss": {"role": "Boss", "allow_delegation": True}, "counter": {"role": "Counter"}}
    tasks = {"count": {"description": "Have it counted.", "agent": "boss"}}
    works = {"agents": agents, "tasks": tasks}
    done = site.run(CREW, {}, params={"works": works, "model": "openai/gpt-4"})
    assert done.task["result"]["result"] == "My counter says five."
    assert "You are Counter." in site.llm.asked[1].body["messages"][0]["content"]
    assert site.llm.asked[2].last_message == "Five."


@pytest.mark.parametrize(
    ("works", "says"),
    [
        (with_tools("lost"), "The tool 'lost' is invalid"),
        (with_tools("wrong"), "The tool 'wrong' is invalid: os.getcwd is not a BaseTool"),
        ({"agents": {"a": {"role": "x", "llm": "nobody/knows"}}}, "Name it before a slash"),
        (
            {"agents": {"a": {"role": "x"}, "b": {"role": "y", "llm": "mistral/x"}}},
            "No API key for the provider 'mistral'",
        ),
        ({"agents": {"a": {"role": "{nobody}"}}}, "no value for 'nobody'"),
    ],
)
def test_what_is_wrong_is_refused_before_anybody_is_asked(site: LlmSite, works: Any, says: str) -> None:
    assert says in site.error_of(CREW, {}, params={"works": works})
    assert site.llm.asked == []


@pytest.mark.both_engines_nightly
@pytest.mark.parametrize(
    ("executor_id", "works", "says"),
    [
        (CREW, None, "params.works must be an object"),
        (CREW, with_tools("shell"), "params.works.agents.a.tools names 'shell', but there is no such tool"),
        (CREW, with_tools("tests.crew_tools.length"), "there is no such tool of executors.crewai.tools"),
        (CREW, {**WORKS, "tasks": {"t": {"description": "x", "agent": "raeder"}}}, "Did you mean 'reader'?"),
        (BATCH, None, "params.works must be an object with a crew for each name"),
        (BATCH, {}, "params.works must be an object with a crew for each name"),
        (BATCH, {"north": {"agents": {}}}, "params.works.north.agents needs at least one agent"),
        (BATCH, {"north": {"crew": "x"}}, "params.works.north.crew names 'x', which the operator does not offer"),
        (BATCH, {"north": with_tools("y")}, "params.works.north.agents.a.tools names 'y'"),
    ],
)
def test_works_that_can_never_do_are_refused_when_they_are_sent(
    site: LlmSite, executor_id: str, works: Any, says: str
) -> None:
    error = site.refusal_of(executor_id, id="never", params={"works": works})
    assert error["code"] == -32602
    assert error["data"][0]["field"] == "tasks[0].params"
    assert says in error["data"][0]["reason"]
    assert site.server.call("tasks.get", {"task_id": "never"})["error"]["code"] == -32001


def test_patience_is_shown_where_a_provider_wants_it(site: LlmSite) -> None:
    site.llm.will(Says(text="Facts."), Says(status=429, headers={"Retry-After": "1"}), Says(text="A poem."))
    done = site.run(CREW, RIVERS, params={"works": WORKS})
    assert done.task["result"]["result"] == "A poem."
    assert any("Retrying in 1 s." in line for line in done.logs)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Says(status=400, error="Odd."), "openai refused the request to openai/gpt-4 (400): Odd."),
        (Says(status=401, error=KEY), "openai refused the API key (401)"),
        (Says(status=429, headers={"Retry-After": "3600"}), "or the key's quota is used up (429)"),
        (Says(text="", refusal="I will not."), "openai/gpt-4 refused to answer: I will not."),
    ],
)
def test_an_error_of_the_provider_is_the_tasks(site: LlmSite, answer: Says, says: str) -> None:
    site.llm.will(answer)
    error = site.error_of(CREW, {}, params=GUIDE["params"])
    assert says in error
    assert KEY not in error
    assert len(site.llm.asked) == 1


def test_an_empty_answer_is_asked_for_again(site: LlmSite) -> None:
    site.llm.will(Says(text=""))
    done = site.run(CREW, {}, params=GUIDE["params"])
    assert done.task["status"] == "completed"
    assert any("returned an empty answer" in line and "Retrying" in line for line in done.logs)
    assert len(site.llm.asked) == 2


@pytest.mark.parametrize("force", [False, True])
def test_a_cancel_ends_what_is_asked_and_keeps_what_is_done(site: LlmSite, force: bool) -> None:
    site.llm.will(Says(text="Facts."), Says(text="one two three", stalls_after=1))
    task_id = site.start(CREW, RIVERS, params={"works": WORKS})
    site.wait_for_words(task_id, "one")
    site.server.rpc("tasks.cancel", {"task_id": task_id, "force": force})
    assert site.llm.hung_up.wait(150)
    done = site.end_of(task_id)
    assert done.task["status"] == "cancelled"
    assert done.task["result"]["result"] is None
    assert done.task["result"]["tasks"] == [{"name": "look", "output": "Facts."}]
    assert done.task["token_usage"]["prompt_tokens"] > 10


def test_a_cancel_does_not_wait_for_a_tool_that_cannot_be_interrupted(site: LlmSite, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    site.llm.will(Says(tool_calls=(("wait", {"gate": str(gate)}),)))
    task_id = site.start(CREW, {}, params={"works": with_tools("wait")})
    try:
        until(lambda: site.llm.asked, seconds=60, what="the question that the tool answers")
        site.server.rpc("tasks.cancel", {"task_id": task_id})
        assert site.end_of(task_id).task["status"] == "cancelled"
    finally:
        gate.touch()


def test_a_timeout_ends_the_crew(site: LlmSite) -> None:
    site.llm.will(Says(text="one two", stalls_after=1))
    error = site.error_of(CREW, {}, params={**GUIDE["params"], "timeout_seconds": 20})
    assert error == "Timed out after 20 s (params.timeout_seconds)."
    assert not site.llm.stalled.is_set() or site.llm.hung_up.wait(150)


@pytest.mark.both_engines_nightly
def test_many_crews_at_once_are_never_mixed_up(site: LlmSite) -> None:
    keys = {f"user-{number}": f"sk-crew-{number}-{number:032x}" for number in range(CREWS)}
    site.llm.together = Barrier(CREWS)
    ids = {
        user: site.start(CREW, {"me": user}, {"X-LLM-API-KEY": key}, params=GUIDE["params"], user_id=user)
        for user, key in keys.items()
    }
    results = {user: site.end_of(task_id).task["result"]["result"] for user, task_id in ids.items()}
    assert {user: text.split()[0] for user, text in results.items()} == {
        user: fingerprint(key) for user, key in keys.items()
    }
    assert all(user in results[user] for user in keys)


# --- several crews for one task ---


def batch(**llms: str) -> Json:
    return {"works": {name: {"agents": {"a": {"role": f"Agent {name}", "llm": llm}}} for name, llm in llms.items()}}


def test_a_batch_gathers_what_its_crews_made_and_adds_up_what_they_used(site: LlmSite) -> None:
    done = site.run(BATCH, RIVERS, params=batch(north="openai/gpt-4", south="demo/demo"))
    assert done.task["status"] == "completed", done.task["error"]
    result = done.task["result"]
    assert result["north"]["result"].startswith(fingerprint(KEY))
    assert "demo model" in result["south"]["result"]
    assert done.task["token_usage"]["prompt_tokens"] == sum(
        crew["token_usage"]["prompt_tokens"] for crew in result.values()
    )
    assert sorted(progress for progress, _ in done.steps) == [0.5, 1.0]
    Draft202012Validator(BatchCrewAi.result_schema).validate(result)


def test_a_batch_is_all_or_nothing(site: LlmSite) -> None:
    site.llm.will(Says(status=400, error="Odd."))
    error = site.error_of(BATCH, {}, params=batch(north="openai/gpt-4", south="demo/demo"))
    assert error.startswith("The crew 'north' failed, so the others were stopped: openai refused the request")


def test_a_cancelled_batch_keeps_what_each_crew_has_done(site: LlmSite) -> None:
    site.llm.will(Says(text="one two", stalls_after=1))
    task_id = site.start(BATCH, {}, params=batch(north="openai/gpt-4", south="openai/gpt-4"))
    assert site.llm.stalled.wait(150)
    with site.server.events(task_id) as events:
        next(event for event in events if event["type"] == "progress")  # the other crew is done
    site.server.rpc("tasks.cancel", {"task_id": task_id})
    done = site.end_of(task_id)
    assert done.task["status"] == "cancelled"
    assert sorted(len(crew["tasks"]) for crew in done.task["result"].values()) == [0, 1]


def test_crews_leave_nothing_in_the_home_folder(site: LlmSite) -> None:
    site.run(CREW, RIVERS, params={"works": WORKS})
    assert [path.name for path in site.home.rglob("*.db")] == []


@pytest.mark.both_engines_nightly
def test_a_crew_whose_worker_dies_continues_after_its_last_finished_task(site: LlmSite) -> None:
    site.llm.will(Says(text="Facts."), Says(text="one two three", stalls_after=1), Says(text="A poem."))
    task_id = site.start(CREW, RIVERS, params={"works": WORKS})
    site.wait_for_words(task_id, "one")
    site.server.kill(holder_of(site.server, task_id))
    done = site.end_of(task_id)
    assert done.task["status"] == "completed", done.task["error"]
    assert done.task["result"]["result"] == "A poem."
    assert done.task["result"]["tasks"] == [
        {"name": "look", "output": "Facts."},
        {"name": "write", "output": "A poem."},
    ]
    assert len(site.llm.asked) == 3, "the finished task asks its model no more"
    assert "Facts." in str(site.llm.asked[-1].body["messages"])
    assert "continues after look" in done.logs
    assert site.server.query("SELECT key FROM tasks_taskstate") == []


def test_a_crew_whose_worker_dies_after_a_tool_has_begun_to_act_is_interrupted(site: LlmSite, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    site.llm.will(Says(tool_calls=(("wait", {"gate": str(tmp_path / "gate"), "begun": str(begun)}),)))
    task_id = site.start(CREW, {}, params={"works": with_tools("wait")})
    until(begun.exists, seconds=150, what="the tool acts")
    site.server.kill(holder_of(site.server, task_id))
    assert site.end_of(task_id).task["error"].endswith(INTERRUPTED)
