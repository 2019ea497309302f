"""Trees that a model writes: the executor, the method, the command; what is taken, what is mended, what is refused."""

import json
import re
import subprocess
from typing import Any
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator

from tasks.executors.generate import Generate
from tests.fork_server import run_command
from tests.llm_formats import Says
from tests.llm_site import KEY, WITH_KEY, LlmSite
from tests.servers import Server, environment_of

EXECUTOR = "generate_executor"
Json = dict[str, Any]
WANTED: Json = {"requirement": "Look at the CPU, then wait a second."}
TREE: list[Json] = [
    {"id": "root", "name": "Root", "schemas": {"method": "aggregate_results_executor"}, "dependencies": ["wait"]},
    {"id": "cpu", "name": "Look", "parent_id": "root", "schemas": {"method": "system_info_executor"}},
    {
        "id": "wait",
        "name": "Wait",
        "parent_id": "root",
        "schemas": {"method": "sleep_executor"},
        "inputs": {"seconds": 0},
        "dependencies": ["cpu"],
    },
]


def writes(tasks: object) -> Says:
    return Says(text=json.dumps(tasks))


@pytest.mark.parametrize(
    "answer",
    [
        writes({"tasks": TREE}),
        writes(TREE),
        Says(text=f"Here it is:\n```json\n{json.dumps({'tasks': TREE}, indent=2)}\n```\nEnjoy!"),
    ],
)
def test_a_valid_tree_is_the_result(site: LlmSite, answer: Says) -> None:
    site.llm.will(answer)
    done = site.run(EXECUTOR, WANTED)
    assert done.task["result"] == {"tasks": TREE, "count": 3}
    assert done.task["token_usage"]["total_tokens"] == 14
    Draft202012Validator(Generate.result_schema).validate(done.task["result"])


def calling(secret: str) -> Json:
    inputs = {"url": "https://a.example", "auth": {"bearer": f"{{{{secret.{secret}}}}}"}}
    return {"tasks": [{"name": "Call", "schemas": {"method": "rest_executor"}, "inputs": inputs}]}


def test_the_model_learns_the_names_of_secrets_and_may_use_no_others(site: LlmSite) -> None:
    site.llm.will(writes(calling("invented")), writes(calling("token")))
    done = site.run(EXECUTOR, WANTED | {"secrets": ["token", "other"]})
    assert done.task["result"]["tasks"] == calling("token")["tasks"]
    first, second = site.llm.asked
    assert "The names are: token, other." in first.body["messages"][0]["content"]
    assert "there is no secret 'invented'" in second.last_message


def running(flow: str) -> Json:
    inputs = {"flow": flow, "inputs": {"who": "you"}}
    return {"tasks": [{"name": "Greet", "schemas": {"method": "run_tree_executor"}, "inputs": inputs}]}


def test_the_model_learns_the_flows_of_the_caller_and_may_run_no_others(site: LlmSite) -> None:
    greet = {"name": "Hello", "schemas": {"method": "echo_executor"}, "inputs": {"text": "{{run.inputs.who}}"}}
    schema = {"type": "object", "properties": {"who": {"type": "string"}}}
    flow = {"name": "greet", "tasks": [greet], "description": "Greets {{who}}", "inputs_schema": schema}
    site.server.rpc("flows.save", flow)
    helped = {
        "name": "Ask",
        "schemas": {"method": "llm_executor"},
        "inputs": {"prompt": "?", "tools": ["flow:invented"]},
    }
    site.llm.will(writes([helped]), writes(running("greet")))
    result = generate(site, **WANTED)["result"]
    assert result["tasks"] == running("greet")["tasks"]
    first, second = site.llm.asked
    assert "- greet: Greets {{who}} " in first.body["messages"][0]["content"]
    assert '"who"' in first.body["messages"][0]["content"]
    assert "flow:greet" in first.body["messages"][0]["content"]
    assert re.search(r"there is no flow 'invented'\. The flows are [^.]*\bgreet\b", second.last_message)
    site.server.rpc("flows.delete", {"name": "greet"})


def test_a_tree_is_run_at_once(site: LlmSite) -> None:
    site.llm.will(writes([{"id": "at-once", "name": "Look", "schemas": {"method": "system_info_executor"}}]))
    result = generate(site, **WANTED, run=True)["result"]
    assert (result["root_task_id"], result["message"]) == ("at-once", "The tree is stored and runs.")
    done = site.end_of("at-once")
    assert done.task["status"] == "completed"
    assert {event["run_id"] for event in done.events} == {result["run_id"]}


@pytest.mark.crews
def test_the_model_learns_what_crews_are_and_the_tools_of_the_operator(site: LlmSite) -> None:
    works = {"agents": {"a": {"role": "One of {{who}}", "tools": ["letters"]}}}
    crew = {"name": "Crew", "schemas": {"method": "crewai_executor"}, "params": {"works": works}}
    right = {"agents": {"a": {"role": "Counter", "tools": ["length"]}}}
    site.llm.will(writes([crew]), writes([crew | {"params": {"works": right}}]))
    assert site.run(EXECUTOR, WANTED).task["result"]["count"] == 1
    first, second = site.llm.asked
    instructions = first.body["messages"][0]["content"]
    assert "Tools of agents and tasks of crews: length, process, wait, lost, wrong." in instructions
    assert "process, manager_llm" in instructions
    assert "params.works.agents.a.tools names 'letters', but there is no such tool" in second.last_message


@pytest.mark.parametrize(("model", "is_json"), [("openai/gpt-4o", True), ("openai/gpt-4", False)])
def test_a_model_that_can_is_asked_for_json_only(site: LlmSite, model: str, is_json: bool) -> None:
    site.llm.will(writes(TREE))
    site.run(EXECUTOR, WANTED | {"model": model})
    wanted = site.llm.asked[0].body.get("response_format")
    assert wanted == ({"type": "json_object"} if is_json else None)


def test_the_method_passes_the_names_of_the_callers_secrets(site: LlmSite) -> None:
    rpc = site.server.rpc
    rpc("secrets.set", {"name": "token", "value": "canary-of-the-tests"}, path="/system")
    site.llm.will(writes(calling("token")))
    wanted = {"requirement": "Call with {{secret.token}} and {{this.text}}", "save": True}
    made = rpc("tasks.generate", wanted, **WITH_KEY)
    rpc("secrets.delete", {"name": "token"}, path="/system")
    (asked,) = site.llm.asked
    assert asked.last_message == wanted["requirement"]
    assert "canary" not in str(asked.body)
    assert rpc("tasks.get", {"task_id": made["root_task_id"]})["inputs"]["auth"] == {"bearer": "{{secret.token}}"}


def test_the_model_is_told_the_rules_and_the_executors_and_nothing_of_keys(site: LlmSite) -> None:
    site.llm.will(writes(TREE))
    site.run(EXECUTOR, {**WANTED, "model": "openai/gpt-4"})
    [asked] = site.llm.asked
    instructions = asked.body["messages"][0]["content"]
    assert "aggregate_results_executor" in instructions and '"seconds"' in instructions
    assert "command_executor" not in instructions  # it is not enabled
    assert asked.last_message == WANTED["requirement"]
    assert asked.body["model"] == "gpt-4"
    assert KEY not in json.dumps(asked.body)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Says(text="I cannot do that."), "the answer is not JSON"),
        (Says(text='{"tasks": ['), "the answer is not JSON"),
        (writes({"tree": []}), "the JSON has no list of tasks"),
        (writes([]), "at least one task"),
        (writes([{"id": "a"}]), "name: is required"),
        (writes([{"name": "a", "schemas": {"method": "shell_executor"}}]), "'shell_executor' is not registered"),
        (writes([{"name": "a", "user_id": "bob"}]), "a task has a user_id"),
        (writes([{"name": "a", "status": "completed"}]), "read only"),
        (writes([{"name": "a"}, {"name": "b"}]), "root"),
        (writes([{"id": "a", "name": "a", "dependencies": ["a"]}]), "depends on itself"),
    ],
)
def test_a_wrong_tree_goes_back_once_with_what_is_wrong(site: LlmSite, wrong: Says, says: str) -> None:
    site.llm.will(wrong, writes(TREE))
    assert site.run(EXECUTOR, WANTED).task["result"]["count"] == 3
    assert says in site.llm.asked[1].last_message
    assert [message["role"] for message in site.llm.asked[1].body["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


def test_a_tree_that_is_wrong_twice_is_a_failure(site: LlmSite) -> None:
    site.llm.will(Says(text="No."), Says(text="No, really."))
    error = site.error_of(EXECUTOR, WANTED)
    assert error.startswith("openai/gpt-4o-mini returned no valid tree in 2 attempts: the answer is not JSON.")
    assert len(site.llm.asked) == 2


# --- tasks.generate ---


def test_without_a_model_nothing_is_stored(open_server: Server) -> None:
    requirement = f"Count the lines of {uuid4().hex}"
    error = open_server.call("tasks.generate", {"requirement": requirement})["error"]
    assert (error["code"], "model: is required" in error["message"]) == (-32602, True)
    assert "task's params" not in error["message"]
    assert open_server.query("SELECT 1 FROM tasks_task WHERE name = %s", f"Write a tree: {requirement}") == []


def generate(site: LlmSite, **params: Any) -> Json:
    reply: Json = site.server.call("tasks.generate", params, **WITH_KEY)
    return reply


@pytest.mark.both_engines_nightly
def test_a_tree_is_answered_and_neither_stored_nor_run(site: LlmSite) -> None:
    tree = [{"id": "unsaved", "name": "Look"}, TREE[1] | {"parent_id": "unsaved"}]
    site.llm.will(writes(tree))
    result = generate(site, **WANTED)["result"]
    assert (result["tasks"], result["count"]) == (tree, 2)
    assert result.keys() == {"tasks", "count", "message"}
    assert site.server.call("tasks.get", {"task_id": "unsaved"})["error"]["code"] == -32001
    assert site.llm.asked[0].key == KEY


@pytest.mark.both_engines_nightly
def test_a_saved_tree_waits_to_be_run(site: LlmSite) -> None:
    site.llm.will(writes([{**task, "name": f"Saved {task['name']}"} for task in TREE]))
    result = generate(site, **WANTED, save=True, model="openai/gpt-4")["result"]
    stored = site.server.rpc("tasks.tree", {"task_id": result["root_task_id"]})
    assert stored["status"] == "pending"
    assert [child["name"] for child in stored["children"]] == ["Saved Look", "Saved Wait"]
    assert site.server.rpc("tasks.execute", {"task_id": stored["id"], "wait": True})["status"] == "completed"


def test_on_the_a2a_address_the_answer_is_a_message_with_one_data_part(site: LlmSite) -> None:
    site.llm.will(writes(TREE))
    message = site.server.rpc("tasks.generate", WANTED, path="/", **WITH_KEY)
    assert message["kind"] == "message"
    assert message["parts"][0]["data"]["count"] == 3


@pytest.mark.parametrize(
    ("params", "code", "says"),
    [
        ({}, -32602, "requirement"),
        ({"requirement": ""}, -32602, "requirement"),
        ({"requirement": "x" * 20_001}, -32602, "requirement"),
        ({"requirement": "x", "run": "yes"}, -32602, "run"),
        ({"requirement": "x", "model": "nobody/knows"}, -32020, "Name it before a slash"),
        ({"requirement": "x", "model": "mistral/small"}, -32020, "No API key for the provider 'mistral'"),
    ],
)
def test_what_cannot_be_written_is_an_error(site: LlmSite, params: Json, code: int, says: str) -> None:
    error = generate(site, **params)["error"]
    assert error["code"] == code
    assert says in error["message"]


# --- the command ---


def command(site: LlmSite, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = environment_of("", site.home) | {"AIPARTNERUPFLOW_URL": site.server.url}
    return run_command("generate", *words, env=environment)


def test_the_command_prints_a_tree_that_runs(site: LlmSite) -> None:
    done = command(site, "Greet the world.", "--model", "demo/demo")
    assert (done.returncode, "not stored" in done.stderr) == (0, True)
    tasks = json.loads(done.stdout)
    assert tasks[1]["inputs"]["wanted"] == "Greet the world."
    assert "demo model" in tasks[1]["inputs"]["note"]
    assert site.server.rpc("tasks.execute", {"tasks": tasks, "wait": True})["status"] == "completed"


def test_the_command_stores_a_tree_and_says_how_to_run_it(site: LlmSite) -> None:
    done = command(site, "Greet the world.", "--save", "--model", "demo/demo")
    assert "aipartnerupflow tasks run " in done.stderr
    told = command(site, "Greet the world.", "--save", "--model", "demo/demo", "--json")
    assert site.server.rpc("tasks.get", {"task_id": json.loads(told.stdout)["root_task_id"]})["status"] == "pending"


def test_the_command_says_what_is_missing(site: LlmSite) -> None:
    done = command(site, "Greet the world.", "--model", "mistral/small")
    assert done.returncode != 0
    assert "No API key for the provider 'mistral'" in done.stderr
