"""Agents: a real server, real workers, and a provider on loopback that asks for tools."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pytest_django import Settings

from apflow_site.config import load
from tasks.executors.llm.executor import Llm
from tests.acceptance.test_faults import holder_of
from tests.documents import text, texts
from tests.llm_formats import Says
from tests.llm_site import KEY, WITH_KEY, Done, LlmSite
from tests.sections import replace
from tests.servers import until
from tests.workers import Ran

Json = dict[str, Any]
EXECUTOR = "llm_executor"
PAGE = "docs/how-to/agents.md"
PATIENCE_SECONDS = 60


class Agents:
    def __init__(self, site: LlmSite, calls: Path) -> None:
        self.site = site
        self._calls = calls

    def run(self, tools: list[str], *script: Says, **inputs: Any) -> Done:
        self.site.llm.will(*script)
        return self.site.run(EXECUTOR, {"prompt": "Go.", "tools": tools, **inputs})

    def tree_of(self, done: Done) -> dict[str, Json]:
        """The tasks of its tree, by what follows the id of the agent."""
        root: str = done.task["id"]
        nodes = [self.site.server.rpc("tasks.tree", {"task_id": root})]
        for node in nodes:
            nodes += node.get("children", [])
        return {node["id"].removeprefix(f"{root}/"): node for node in nodes}

    def open_gate(self) -> None:
        self._calls.with_name("tools-gate").touch()

    @property
    def calls(self) -> list[Any]:
        """What the tools were called with."""
        return [json.loads(line) for line in self._calls.read_text().splitlines()] if self._calls.exists() else []

    @property
    def read(self) -> list[str]:
        """What the model read of its tools at last."""
        return [each["content"] for each in self.site.llm.asked[-1].body["messages"] if each["role"] == "tool"]


def calls(*named: tuple[str, Json]) -> Says:
    return Says(tool_calls=named)


@pytest.fixture
def agents(site: LlmSite, models_folder: Path) -> Agents:
    for name in ("calls", "tools-gate"):
        (models_folder / name).unlink(missing_ok=True)
    return Agents(site, models_folder / "calls")


def test_a_model_calls_tools_until_it_answers(agents: Agents) -> None:
    done = agents.run(
        ["weather"],
        calls(("weather", {"city": "Bern"}), ("weather", {"city": "Rom", "unit": "F"})),
        calls(("weather", {"city": "Wien"})),
        Says(text="It is warm."),
    )
    result = done.task["result"]
    assert (done.task["status"], result["content"]) == ("completed", "It is warm.")
    Draft202012Validator(Llm.result_schema).validate(result)
    assert [
        [(call["name"], call["id"], call["status"]) for call in step["tool_calls"]] for step in result["steps"]
    ] == [
        [("weather", "call_0", "completed"), ("weather", "call_1", "completed")],
        [("weather", "call_0", "completed")],
        [],
    ]
    assert result["usage"]["total_tokens"] == 3 * 14 == done.task["token_usage"]["total_tokens"]
    assert result["cost_usd"] == pytest.approx(3 * result["steps"][0]["cost_usd"])
    root: str = done.task["id"]
    recorded = agents.site.server.query("SELECT step FROM tasks_modelcall WHERE task_id = %s ORDER BY step", root)
    assert recorded == [(1,), (2,), (3,)]
    tree = agents.tree_of(done)
    assert sorted(name for name in tree if name != done.task["id"]) == ["1/call_0", "1/call_1", "2/call_0"]
    assert tree["1/call_1"]["inputs"] == {"function": "weather", "arguments": {"city": "Rom", "unit": "F"}}
    assert tree["1/call_1"]["result"] == {"city": "Rom", "degrees": 21, "unit": "F"}
    sent = agents.site.llm.asked[-1].body
    assert [message["role"] for message in sent["messages"]] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "tool",
    ]
    assert json.loads(agents.read[1]) == tree["1/call_1"]["result"]
    (tool,) = sent["tools"]
    assert tool["function"] == {
        "name": "weather",
        "description": "Return the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"], "default": "C"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }


def test_what_goes_wrong_with_a_call_is_a_text_for_the_model(agents: Agents) -> None:
    done = agents.run(
        ["weather", "broken", "given"],
        calls(
            ("weather", {"town": "Bern"}),
            ("broken", {"why": "rust"}),
            ("given", {"n": 4}),
            ("given", {"n": 3}),
            ("format_disk", {}),
        ),
        calls(("weather", {"city": 7})),
        Says(text="So be it."),
    )
    assert done.task["result"]["content"] == "So be it."
    texts = agents.read
    assert texts[0].startswith("Not called: the arguments do not fit: ")
    assert texts[1] == "Error: It broke: rust"
    assert texts[2].startswith("Not called: the arguments do not fit: ")
    assert texts[3] == '{"n":3}'
    assert texts[4] == "Not called: there is no tool 'format_disk'; the tools are weather, broken, given."
    assert texts[5].startswith("Not called: the arguments do not fit: ")
    assert agents.calls == [["broken", {"why": "rust"}]]
    statuses = [[call["status"] for call in step["tool_calls"]] for step in done.task["result"]["steps"]]
    assert statuses == [["refused", "failed", "refused", "completed", "refused"], ["refused"], []]
    assert done.events[-1]["status"] == "completed"


def test_arguments_are_data(agents: Agents) -> None:
    """They are no places of results, secrets or inputs of the run, in functions and in executors."""
    sly = "{{call_0.city}} {{secret.token}} {{run.inputs.x}} {{{{"
    done = agents.run(
        ["send_email", "echo_executor"],
        calls(("send_email", {"to": sly, "text": "{{secret.token}}"}), ("echo_executor", {"list": [{"a": sly}]})),
        Says(text="Done."),
    )
    assert done.task["status"] == "completed", done.task
    assert agents.calls == [["send_email", {"to": sly, "text": "{{secret.token}}"}]]
    assert agents.tree_of(done)["1/call_1"]["result"] == {"list": [{"a": sly}]}


@pytest.mark.parametrize(("answer", "comment"), [("yes", None), ("no", None), ("no", "Not to him.")])
def test_a_person_approves_a_call(agents: Agents, answer: str, comment: str | None) -> None:
    email = {"to": "bob", "text": "{{secret.token}}"}
    agents.site.llm.will(calls(("send_email", email), ("weather", {"city": "Bern"})), Says(text="Over."))
    tools = {"prompt": "Go.", "tools": ["send_email", "weather"], "confirm": ["send_email"]}
    task_id = agents.site.start(EXECUTOR, tools)
    question = agents.site.wait_for_question(f"{task_id}/1/confirm_0")
    assert (question["options"], "'a task' wants to call send_email with" in question["text"]) == (["yes", "no"], True)
    assert json.loads(question["text"].partition("\n")[2]) == email
    agents.site.server.rpc(
        "tasks.answer",
        {"task_id": f"{task_id}/1/confirm_0", "answer": answer} | ({"comment": comment} if comment else {}),
    )
    done = agents.site.end_of(task_id)
    assert (done.task["status"], done.events[-1]["status"]) == ("completed", "completed")
    assert [name for name, _ in agents.calls] == (["weather", "send_email"] if answer == "yes" else ["weather"])
    said = {"yes": "sent", "no": "Not called: a person has refused it."}[answer]
    assert agents.read[0] == said + (f" local says: {comment}" if comment else "")


def test_an_approval_has_assignees_and_an_end(agents: Agents) -> None:
    agents.site.llm.will(calls(("send_email", {"to": "bob", "text": "Hello."})), Says(text="Over."))
    approval = {"assignees": ["role:admin"], "timeout_seconds": 1}
    tools = {"prompt": "Go.", "tools": ["send_email"], "confirm": ["send_email"], "approval": approval}
    done = agents.site.run(EXECUTOR, tools)
    asked = agents.tree_of(done)["1/confirm_0"]
    assert (asked["inputs"]["assignees"], asked["status"]) == (["role:admin"], "failed")
    assert done.task["status"] == "completed" and agents.calls == []
    assert agents.read[0].startswith("Not called: it was not approved. ")


def test_a_worker_that_dies_repeats_no_call_and_no_step(agents: Agents) -> None:
    """The first one is killed in the middle of the second answer, the second one during the call after that.

    The agent does not go on without the answer of a call that may not be safe to repeat: it fails, by name. Another run of the tree
    makes the call again, and no other.
    """
    agents.site.llm.will(
        calls(("send_email", {"to": "bob", "text": "Hello."})),
        Says(text="It breaks off here.", stalls_after=1),
        calls(("wait_for_gate", {"number": 7}), ("weather", {"city": "Bern"})),
        Says(text="Done."),
    )
    server = agents.site.server
    tools = ["send_email", "wait_for_gate", "weather"]
    task_id = agents.site.start(EXECUTOR, {"prompt": "Go.", "tools": tools}, WITH_KEY)
    assert agents.site.llm.stalled.wait(PATIENCE_SECONDS)
    server.kill(holder_of(server, task_id))
    until(lambda: len(agents.calls) == 3, seconds=PATIENCE_SECONDS, what="the calls of the second step")
    ended = "SELECT 1 FROM tasks_task WHERE id = %s AND status = 'completed'"
    until(
        lambda: server.query(ended, f"{task_id}/2/call_1"),
        seconds=PATIENCE_SECONDS,
        what="the end of the call of weather",
    )
    server.kill(holder_of(server, task_id))
    stopped = agents.site.end_of(task_id).task
    assert (stopped["status"], len(agents.site.llm.asked)) == ("failed", 3)
    assert f"The call of the tool 'wait_for_gate' ({task_id}/2/call_0) was interrupted" in stopped["error"]
    assert sorted(name for name, _ in agents.calls) == ["send_email", "wait_for_gate", "weather"]
    agents.open_gate()
    server.rpc("tasks.execute", {"task_id": task_id}, **WITH_KEY)
    done = agents.site.end_of(task_id)
    assert (done.task["status"], done.task["result"]["content"]) == ("completed", "Done.")
    assert sorted(name for name, _ in agents.calls) == ["send_email", "wait_for_gate", "wait_for_gate", "weather"]
    assert agents.read[:2] == ["sent", "7"]
    assert [len(step["tool_calls"]) for step in done.task["result"]["steps"]] == [1, 2, 0]
    assert done.task["token_usage"]["total_tokens"] == done.task["result"]["usage"]["total_tokens"] == 3 * 14


def killed_during(agents: Agents, tool: str, **inputs: Any) -> str:
    """An agent whose worker is killed during a call of the tool. Returns its id."""
    agents.site.llm.will(calls((tool, {"number": 7})), Says(text="Done."))
    task_id = agents.site.start(EXECUTOR, {"prompt": "Go.", "tools": [tool], **inputs}, WITH_KEY)
    until(lambda: agents.calls, seconds=PATIENCE_SECONDS, what="the call")
    agents.site.server.kill(holder_of(agents.site.server, task_id))
    return task_id


def test_a_call_that_is_safe_to_repeat_is_repeated_with_the_same_key(agents: Agents) -> None:
    task_id = killed_during(agents, "safe_wait")
    until(lambda: len(agents.calls) == 2, seconds=PATIENCE_SECONDS, what="the call again")
    agents.open_gate()
    assert agents.site.end_of(task_id).task["status"] == "completed"
    assert agents.read == ["7"]
    (_, first), (_, second) = agents.calls
    assert first == second


@pytest.mark.parametrize("says", ["repeat", {"wait_for_gate": "repeat"}])
def test_the_agent_says_that_a_call_is_repeated(agents: Agents, says: Any) -> None:
    task_id = killed_during(agents, "wait_for_gate", on_interrupt=says)
    until(lambda: len(agents.calls) == 2, seconds=PATIENCE_SECONDS, what="the call again")
    agents.open_gate()
    assert agents.site.end_of(task_id).task["status"] == "completed"
    assert agents.read == ["7"]


def test_a_person_says_how_an_interrupted_call_ended(agents: Agents) -> None:
    task_id = killed_during(agents, "wait_for_gate", on_interrupt={"wait_for_gate": "ask"})
    call_id = f"{task_id}/1/call_0"
    question = agents.site.wait_for_question(call_id)
    assert "'wait_for_gate' was interrupted" in question["text"]
    agents.site.server.rpc("tasks.answer", {"task_id": call_id, "answer": "done", "comment": "The gate was open."})
    assert agents.site.end_of(task_id).task["status"] == "completed"
    assert agents.read == ["The gate was open."]
    assert len(agents.calls) == 1


def test_the_most_steps_fail_the_task(agents: Agents) -> None:
    one = calls(("weather", {"city": "Bern"}))
    done = agents.run(["weather"], one, one, one, max_steps=2)
    assert done.task["error"].startswith("The model has not answered in 2 steps: it asked for tools each time.")
    assert len(agents.calls) == 1
    assert done.task["token_usage"]["total_tokens"] == 28


def test_a_long_result_is_cut(agents: Agents) -> None:
    agents.run(["long_text"], calls(("long_text", {"characters": 30_000})), Says(text="Long."))
    assert agents.read == ["x" * 20_000 + "… (cut off: the first 20,000 of 30,000 characters)"]


def test_tool_choice_is_for_the_first_step(agents: Agents) -> None:
    agents.run(["weather"], calls(("weather", {"city": "Bern"})), Says(text="Fine."), tool_choice="required")
    assert [asked.body["tool_choice"] for asked in agents.site.llm.asked] == ["required", "auto"]


def test_an_answer_with_a_schema_is_checked(agents: Agents) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    done = agents.run(
        ["weather"],
        calls(("weather", {"city": "Bern"})),
        Says(text="{}"),
        Says(text='{"n": 1}'),
        response_format=wanted,
    )
    assert done.task["result"]["parsed"] == {"n": 1}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"tools": ["weathr"]}, "inputs.tools: there is no tool 'weathr'. Did you mean 'weather'?"),
        ({"tools": ["rest_executor"]}, "inputs.tools: the executor 'rest_executor' is not allowed as a tool."),
        ({"tools": ["none_executor"]}, "inputs.tools: Executor 'none_executor' is not registered"),
        ({"tools": ["llm_executor"]}, "inputs.tools: 'llm_executor' cannot be a tool, because it fills templates"),
        (
            {"tools": ["flow:no such"]},
            "inputs.tools: the name of the flow in 'flow:no such' must have 1 to 100 letters",
        ),
        ({"tools": ["weather", {"type": "function"}]}, "inputs.tools: has names and objects."),
        (
            {"tools": ["weather"], "confirm": ["send_email"]},
            "inputs.confirm: 'send_email' is none of the tools weather",
        ),
        ({"tools": ["weather"], "confirm": 5}, "confirm: "),
        (
            {"tools": ["weather"], "on_interrupt": {"wether": "ask"}},
            "'wether' is none of the tools weather; did you mean 'weather'?",
        ),
        (
            {"tools": ["weather"], "on_interrupt": {"weather": "asks"}},
            '"tasks[0].inputs.on_interrupt.weather", "reason": "must be one of repeat, fail, ask."',
        ),
        (
            {"tools": ["weather"], "on_interrupt": "retry"},
            "must be repeat, fail, ask, or an object with one of these for each tool",
        ),
        (
            {"tools": ["weather"], "approval": {"timeout_seconds": 9}},
            "inputs.approval: is for the tools in inputs.confirm",
        ),
        (
            {"tools": ["weather"], "confirm": ["weather"], "approval": {"assignees": ["role:boss"]}},
            "inputs.approval.assignees: has the role 'role:boss'",
        ),
        ({"max_steps": 3}, "inputs.max_steps: is for tools by name"),
        ({"tools": ["weather"], "max_steps": 101}, "max_steps: the value is greater than the maximum of 100"),
    ],
)
def test_tools_that_cannot_be_called_are_refused_before_anything_is_stored(
    agents: Agents, fields: Json, error: str
) -> None:
    refusal = agents.site.refusal_of(EXECUTOR, inputs={"prompt": "Go.", **fields})
    assert error in json.dumps(refusal, ensure_ascii=False).replace('\\"', '"')


def test_the_agents_of_the_page_work(agents: Agents) -> None:
    site = agents.site

    def started(heading: str) -> str:
        tasks = json.loads(text(PAGE, heading, "json"))
        task_id: str = site.server.rpc("tasks.execute", {"tasks": tasks}, **WITH_KEY)["task_id"]
        return task_id

    both = calls(("stock_of", {"product": "tea"}), ("stock_of", {"product": "cocoa"}))
    site.llm.will(both, Says(text="12 of tea."))
    assert site.end_of(started("Offer functions as tools")).task["result"]["content"] == "12 of tea."
    assert agents.read == ["12", "Error: There is no product 'cocoa'. Products are tea, coffee."]

    flow, manager = texts(PAGE, "Let agents call other agents", "json")
    site.server.rpc("flows.save", json.loads(flow))
    wants = calls(("flow_buyer", {"request": "Tea and coffee"}))
    site.llm.will(wants, calls(("order", {"product": "coffee"})), Says(text="Ordered."), Says(text="All is ready."))
    root: str = site.server.rpc("tasks.execute", {"tasks": json.loads(manager)}, **WITH_KEY)["task_id"]
    asking = until(lambda: site.server.rpc("questions.list", {})["questions"], seconds=60, what="the question")
    site.server.rpc("tasks.answer", {"task_id": asking[0]["task_id"], "answer": "yes"})
    assert site.end_of(root).task["result"]["content"] == "All is ready."
    assert agents.read == ["Ordered."]
    assert [asked.key for asked in site.llm.asked[-4:]] == [KEY] * 4
    assert site.llm.asked[-3].last_message == "Tea and coffee"
    site.server.rpc("flows.delete", {"name": "buyer"})

    site.llm.will(calls(("order", {"product": "coffee"})), Says(text="On its way."))
    shopper = started("Ask a person first")
    site.wait_for_question("shopper/1/confirm_0")
    site.server.rpc("tasks.answer", {"task_id": "shopper/1/confirm_0", "answer": "yes"})
    assert site.end_of(shopper).task["result"]["content"] == "On its way."
    assert agents.read == ["ordered 1 of coffee"]

    site.llm.will(Says(status=401), calls(("stock_of", {"product": "tea"})), Says(text="Yes, 12."))
    report = site.end_of(started("Limit what it may spend, and fall back to another model"))
    assert report.events[-1]["status"] == "completed", report.events[-1]
    assert report.task["result"]["second"]["content"] == "Yes, 12."
    assert site.llm.asked[-1].body["model"] == "gpt-4o-mini"


def test_what_the_page_says_about_interrupted_calls_is_accepted(agents: Agents) -> None:
    agents.site.llm.will(calls(("stock_of", {"product": "tea"}), ("order", {"product": "tea"})), Says(text="Done."))
    task = json.loads(text(PAGE, "When a worker dies during a call", "json"))
    task_id: str = agents.site.server.rpc("tasks.execute", {"tasks": task}, **WITH_KEY)["task_id"]
    tree = agents.tree_of(agents.site.end_of(task_id))
    assert [tree[f"1/call_{index}"]["params"]["on_interrupt"] for index in (0, 1)] == ["repeat", "ask"]


def test_the_settings_of_the_page_allow_an_executor(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text(PAGE, "Offer executors as tools", "yaml"))
    config = load({"XDG_DATA_HOME": str(tmp_path), "AIPARTNERUPFLOW_CONFIG": str(tmp_path / "config.yaml")})
    assert config.executors.llm.tools == ("echo_executor",)


def test_a_budget_ends_an_agent(agents: Agents) -> None:
    one = calls(("weather", {"city": "Bern"}))
    agents.site.llm.will(one, one, one)
    tools = {"prompt": "Go.", "tools": ["weather"]}
    done = agents.site.run(EXECUTOR, tools, params={"budget": {"tokens": 20}})
    assert (done.task["status"], len(agents.calls)) == ("failed", 1)
    assert "tokens" in done.task["error"]


def test_a_budget_may_ask_in_the_middle_of_an_agent(agents: Agents) -> None:
    agents.site.llm.will(calls(("weather", {"city": "Bern"})), calls(("weather", {"city": "Rom"})), Says(text="Warm."))
    budget = {"tokens": 20, "on_exceeded": "ask"}
    tools = {"prompt": "Go.", "tools": ["weather"]}
    task_id = agents.site.start(EXECUTOR, tools, params={"budget": budget})
    asking = f"{task_id}/2/call_0"
    agents.site.wait_for_question(asking)
    agents.site.server.rpc("tasks.answer", {"task_id": asking, "answer": 1000})
    done = agents.site.end_of(task_id)
    assert (done.task["status"], len(agents.calls), len(agents.site.llm.asked)) == ("completed", 2, 3)


def test_an_agent_may_run_a_tree_with_another_agent_if_the_operator_allows_it(agents: Agents) -> None:
    inner = {"name": "llm_executor", "inputs": {"prompt": "Inner.", "tools": ["weather"]}}
    done = agents.run(
        ["run_tree_executor"],
        calls(("run_tree_executor", {"tasks": [inner]})),
        calls(("weather", {"city": "Bern"})),
        Says(text="Warm."),
        Says(text="It says warm."),
    )
    assert done.task["result"]["content"] == "It says warm."
    assert "Warm." in agents.read[0]
    assert len(agents.calls) == 1


def test_a_flow_of_another_owner_or_of_none_fails_the_agent_by_name(agents: Agents) -> None:
    agents.site.server.rpc("flows.save", {"name": "known", "tasks": {"name": "echo_executor"}})
    error = agents.site.error_of(EXECUTOR, {"prompt": "Go.", "tools": ["flow:knwon"]})
    assert error == "inputs.tools: you have no flow 'knwon'. Did you mean 'known'?"
    theirs = agents.site.error_of(EXECUTOR, {"prompt": "Go.", "tools": ["flow:known"]}, user_id="bob")
    assert theirs == "inputs.tools: you have no flow 'known'."
    agents.site.server.rpc("flows.delete", {"name": "known"})
    assert agents.site.llm.asked == []


@pytest.mark.django_db(transaction=True)
def test_an_agent_runs_without_a_key(run: Callable[[list[Json]], Ran], settings: Settings) -> None:
    executors = settings.APFLOW.executors
    allowed = replace(executors, llm=replace(executors.llm, tools=("system_info_executor",)))
    settings.APFLOW = replace(settings.APFLOW, executors=allowed)
    inputs = {"prompt": "How is the server?", "model": "demo/demo", "tools": ["system_info_executor"]}
    ran = run([{"id": "agent", "name": "llm_executor", "inputs": inputs}])
    assert ran.run.status == "completed"
    assert ran.tasks["agent"].result["content"]
    assert [len(step["tool_calls"]) for step in ran.tasks["agent"].result["steps"]] == [1, 0]
