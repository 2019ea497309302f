"""Checks of what goes into a model and comes out of it: a real server, real workers, and a provider on loopback."""

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.rules.places import escaped
from tests.llm_formats import Says
from tests.llm_site import LlmSite
from tests.servers import until

Json = dict[str, Any]
EXECUTOR = "llm_executor"
MAIL = "Write to ada@example.com."
BERN = {"ok": "text.city == 'Bern'"}
OK_IF_BERN = [{"name": "transform_executor", "inputs": {"text": "{{run.inputs.value}}", "select": BERN}}]
OBJECT: Json = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def run(site: LlmSite, *checks: Json, prompt: str = "Hi", **params: Any) -> Any:
    return site.run(EXECUTOR, {"prompt": prompt}, params={"checks": list(checks), **params})


def found(task: Json) -> list[tuple[Any, ...]]:
    return [(each["on"], each["name"], each["passed"], each["then"]) for each in task["checks"]]


def output(kind: Any, then: str = "fail", **more: Any) -> Json:
    return {"on": "output", "with": kind, "then": then, **more}


# --- the output ---


@pytest.mark.parametrize(
    ("says", "kind", "reason"),
    [
        (MAIL, "addresses", "it has an e-mail address"),
        ("Call +41 44 668 18 00.", "addresses", "it has a phone number"),
        ("Pay with 4111 1111 1111 1111.", "addresses", "it has a card number"),
        ("Send it to DE89 3704 0044 0532 0130 00 today.", {"addresses": ["iban"]}, "it has an IBAN"),
        ("The key is AKIAIOSFODNN7EXAMPLE.", "secrets", "it has a secret"),
        ("one two three", {"length": {"max": 7}}, "it has 13 characters, more than 7"),
        ("{}", {"schema": OBJECT}, "it does not fit the schema"),
        ("no", {"schema": OBJECT}, "it is not JSON"),
        ("no", {"expression": {"task": "value", "op": "eq", "value": "yes"}}, "this is not true of it"),
    ],
)
def test_an_answer_that_does_not_pass_fails_the_task(site: LlmSite, says: str, kind: Any, reason: str) -> None:
    site.llm.will(Says(text=says))
    done = run(site, output(kind, name="mine"))
    assert done.task["status"] == "failed", done.task
    assert done.task["error"].startswith("Refused by the check 'mine' on the output: ")
    assert reason in done.task["error"]
    assert done.task["result"] is None
    assert found(done.task) == [("output", "mine", False, "fail")]
    assert reason in done.task["checks"][0]["reason"]
    assert len(site.llm.asked) == 1


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        ("On 2024-08-06 at 10:30, 1234567 people came to 192.168.0.1.", "addresses"),
        ("Order 4111 1111 1111 1112 and build 20240806123456.", "addresses"),
        (MAIL, {"addresses": ["card", "phone"]}),
        ("Our sketch of a task is risky.", "secrets"),
        ("one", {"length": {"min": 3, "max": 3}}),
        ('{"name": "Ada"}', {"schema": OBJECT}),
        ("yes", {"expression": {"task": "value", "op": "contains", "value": "yes"}}),
    ],
)
def test_an_answer_that_passes_is_the_result(site: LlmSite, says: str, kind: Any) -> None:
    site.llm.will(Says(text=says))
    done = run(site, output(kind, name="mine"))
    assert (done.task["status"], done.task["result"]["content"]) == ("completed", says), done.task
    assert found(done.task) == [("output", "mine", True, "fail")]


def test_what_was_found_is_redacted_before_it_is_stored_or_streamed(site: LlmSite) -> None:
    site.llm.will(Says(text=f"{MAIL} Or… ghp_0123456789abcdefghij0123456789abcdef."))
    done = run(site, output("addresses", "redact"), output("secrets", "redact"))
    assert done.task["result"]["content"] == "Write to [redacted]. Or… [redacted]."
    assert found(done.task) == [("output", "addresses", False, "redact"), ("output", "secrets", False, "redact")]
    assert done.words == []
    everything = str([done.task, done.events, site.server.rpc("runs.calls", {"run_id": done.events[0]["run_id"]})])
    assert "ada@" not in everything and "ghp_" not in everything
    assert "ada@" not in site.server.http.get(f"/ui/trace/{done.task['id']}").text


def test_words_are_streamed_without_checks_on_the_output(site: LlmSite) -> None:
    done = run(site, {"on": "input", "with": {"length": {"max": 100}}})
    assert "".join(done.words) == done.task["result"]["content"]


def test_the_model_answers_again_with_the_reason(site: LlmSite) -> None:
    site.llm.will(Says(text=MAIL), Says(text="Write to her."))
    done = run(site, output("addresses", "retry"))
    assert done.task["result"]["content"] == "Write to her."
    assert found(done.task) == [("output", "addresses", False, "retry"), ("output", "addresses", True, "retry")]
    said = [(each["role"], each["content"]) for each in site.llm.asked[1].body["messages"]]
    refused = "That was refused: it has an e-mail address. Answer again."
    assert said == [("user", "Hi"), ("assistant", MAIL), ("user", refused)]


@pytest.mark.parametrize(("more", "calls"), [({}, 3), ({"retries": 1}, 2)])
def test_retries_end(site: LlmSite, more: Json, calls: int) -> None:
    site.llm.will(*[Says(text=MAIL)] * 5)
    done = run(site, output("addresses", "retry", **more))
    assert done.task["status"] == "failed"
    assert "it has an e-mail address" in done.task["error"]
    assert len(site.llm.asked) == calls


def test_the_retry_policy_of_the_task_runs_it_again(site: LlmSite) -> None:
    site.llm.will(Says(text=MAIL), Says(text="Fine."))
    done = run(site, output("addresses"), retry={"max_attempts": 2, "backoff_seconds": 0.01})
    assert (done.task["status"], done.task["attempt"]) == ("completed", 2)
    assert found(done.task) == [("output", "addresses", True, "fail")]


def test_another_attempt_asks_the_model_and_the_person_again(site: LlmSite, moderate: str) -> None:
    retry = {"max_attempts": 2, "backoff_seconds": 0.01}
    task_id, _ = asked(site, output("addresses", "ask"), output({"length": {"max": 5}}), retry=retry)
    site.llm.will(Says(text="a@b.c"))
    decide(site, task_id, "approve")
    question = until(lambda: site.wait_for_question(task_id), seconds=60, what="the second question")
    assert "[redacted]" in question["text"]
    until(lambda: len(site.llm.asked) == 2, seconds=60, what="the second attempt")
    site.wait_for_question(task_id)
    decide(site, task_id, "edit", "ok")
    done = site.end_of(task_id)
    assert (done.task["result"]["content"], done.task["attempt"]) == ("ok", 2)


def test_tasks_that_a_task_adds_have_no_checks_that_it_may_not_use(site: LlmSite, moderate: str) -> None:
    added = {"name": "echo_executor", "params": {"checks": [output(moderate)]}}
    done = site.run("echo_executor", {"tasks": [escaped(added)]}, params={"spawn": {"path": "/tasks"}})
    assert "a check of 'echo_executor' needs run_tree_executor" in done.task["error"], done.task


def test_a_judge_decides_by_its_rubric_and_its_cost_counts(site: LlmSite) -> None:
    site.llm.will(Says(text="The moon."), Says(text='{"ok": false, "reason": "It is not about rivers."}'))
    done = run(site, output({"judge": {"rubric": "It is about rivers.", "model": "openai/gpt-4o"}}))
    assert "Refused by the check 'judge' on the output: It is not about rivers." in done.task["error"]
    asked = site.llm.asked[1].body
    assert (asked["model"], asked["messages"][1]["content"]) == ("gpt-4o", "The moon.")
    assert "It is about rivers." in asked["messages"][0]["content"]
    calls = site.server.rpc("runs.calls", {"run_id": done.events[0]["run_id"]})["calls"]
    assert [call["agent"] for call in calls] == [None, "check judge"]
    assert done.task["token_usage"]["total_tokens"] == sum(call["usage"]["total_tokens"] for call in calls)
    assert done.words == []


def test_a_judge_without_a_verdict_lets_nothing_pass(site: LlmSite) -> None:
    site.llm.will(Says(text="The moon."), Says(text="Well."), Says(text="Well!"))
    done = run(site, output({"judge": {"rubric": "It is about rivers."}}))
    assert "The check 'judge' has no result" in done.task["error"]


def test_the_budget_stops_a_judge(site: LlmSite) -> None:
    site.llm.will(Says(text="one two three"))
    done = run(site, output({"judge": {"rubric": "Rivers."}}), budget={"tokens": 2})
    assert done.task["status"] == "failed"
    assert "budget" in done.task["error"].lower()
    assert len(site.llm.asked) == 1


# --- the input ---


def test_the_input_is_checked_before_the_model_is_called(site: LlmSite) -> None:
    task: Json = {
        "id": "ask",
        "name": "ask",
        "schemas": {"method": EXECUTOR},
        "inputs": {"prompt": "Answer {{mail}}"},
        "dependencies": [{"id": "mail"}],
        "params": {"checks": [{"on": "input", "with": "addresses"}]},
    }
    mail = {
        "id": "mail",
        "name": "mail",
        "schemas": {"method": "echo_executor"},
        "inputs": {"from": MAIL},
        "parent_id": "ask",
    }
    answer = site.server.rpc("tasks.execute", {"tasks": [task, mail]})
    done = site.end_of(answer["task_id"])
    assert "Refused by the check 'addresses' on the input: it has an e-mail address" in done.task["error"]
    assert site.llm.asked == []


def test_the_input_is_redacted_before_the_model_gets_it(site: LlmSite) -> None:
    done = run(site, {"on": "input", "with": "addresses", "then": "redact"}, prompt=f"{MAIL} {{{{{{{{x}}}}")
    assert done.task["status"] == "completed", done.task["error"]
    assert site.llm.asked[0].last_message == "Write to [redacted]. {{x}}"


# --- people, flows and functions ---


def decide(site: LlmSite, task_id: str, decision: str, value: str | None = None, **more: Any) -> None:
    answer = {"decision": decision} | ({} if value is None else {"value": value})
    site.server.rpc("tasks.answer", {"task_id": task_id, "answer": answer, **more})


def asked(site: LlmSite, *checks: Json, text: str = MAIL, **params: Any) -> tuple[str, Json]:
    site.llm.will(Says(text=text))
    task_id = site.start(EXECUTOR, {"prompt": "Hi"}, params={"checks": list(checks), **params})
    return task_id, site.wait_for_question(task_id)


def test_a_person_approves_an_answer(site: LlmSite) -> None:
    task_id, question = asked(site, output("addresses", "ask"))
    assert "The check 'addresses' on the output of 'a task' did not pass: it has an e-mail address" in question["text"]
    assert "Write to [redacted]." in question["text"] and "ada@" not in question["text"]
    decide(site, task_id, "approve")
    done = site.end_of(task_id)
    assert (done.task["status"], done.task["result"]["content"]) == ("completed", MAIL)
    first, last = done.task["checks"]
    assert (first["passed"], first["reason"], last["passed"]) == (False, "it has an e-mail address", True)
    assert last["reason"].endswith(": approve")
    assert (len(site.llm.asked), done.words) == (1, [])


def test_a_person_gives_another_text_that_the_next_check_sees(site: LlmSite) -> None:
    task_id, _ = asked(site, output("addresses", "ask"), output({"length": {"max": 5}}))
    decide(site, task_id, "edit", "much too long")
    done = site.end_of(task_id)
    assert "Refused by the check 'length' on the output: it has 13 characters" in done.task["error"]


def test_a_person_rejects_an_answer(site: LlmSite) -> None:
    task_id, _ = asked(site, output("addresses", "ask"))
    decide(site, task_id, "reject", comment="Too much.")
    done = site.end_of(task_id)
    assert done.task["error"].startswith("Refused by the check 'addresses' on the output: it has an e-mail address. ")
    assert done.task["error"].endswith("has rejected it: Too much.")


def test_a_question_that_is_not_answered_in_time_fails_the_task(site: LlmSite) -> None:
    site.llm.will(Says(text=MAIL))
    done = run(site, output("addresses", "ask", timeout_seconds=0.2))
    assert done.task["error"].startswith("Not answered in time: The check 'addresses'")


def test_a_person_edits_the_input(site: LlmSite) -> None:
    task_id = site.start(
        EXECUTOR, {"prompt": MAIL}, params={"checks": [{"on": "input", "with": "addresses", "then": "ask"}]}
    )
    site.wait_for_question(task_id)
    assert site.llm.asked == []
    decide(site, task_id, "edit", "Write to {{her}}.")
    done = site.end_of(task_id)
    assert done.task["status"] == "completed", done.task["error"]
    assert [each.last_message for each in site.llm.asked] == ["Write to {{her}}."]


@pytest.fixture
def moderate(site: LlmSite) -> Iterator[str]:
    """A flow that lets no text with an @ pass."""
    select = {"ok": "!contains(text, '@')", "reason": "'it has an at'", "redacted": "'[gone]'"}
    inputs = {"text": "{{run.inputs.value}}", "select": select}
    tasks = [{"name": "transform_executor", "inputs": inputs}]
    site.server.rpc("flows.save", {"name": "moderate", "tasks": tasks})
    yield "flow:moderate"
    site.server.rpc("flows.delete", {"name": "moderate"})


def test_a_flow_checks_the_answer_as_a_run_of_its_own(site: LlmSite, moderate: str) -> None:
    site.llm.will(Says(text=MAIL))
    done = run(site, output(moderate))
    assert done.task["error"] == "Refused by the check 'flow:moderate' on the output: it has an at"
    child = site.server.rpc("tasks.detail", {"task_id": done.task["id"]})["child_run"]
    assert child["status"] == "completed"


@pytest.mark.parametrize(("says", "passed"), [(MAIL, False), ("Fine.", True)])
def test_a_flow_gives_another_text(site: LlmSite, moderate: str, says: str, passed: bool) -> None:
    site.llm.will(Says(text=says))
    done = run(site, output(moderate, "redact"), output({"length": {"max": 10}}))
    assert done.task["result"]["content"] == ("Fine." if passed else "[gone]")
    assert found(done.task)[0] == ("output", "flow:moderate", passed, "redact")
    assert len(site.llm.asked) == 1


def test_a_flow_sends_an_answer_back(site: LlmSite, moderate: str) -> None:
    site.llm.will(Says(text=MAIL), Says(text=MAIL), Says(text="Fine."))
    done = run(site, output({"length": {"max": 100}}), output(moderate, "retry"))
    assert done.task["result"]["content"] == "Fine.", done.task
    refused = "That was refused: it has an at. Answer again."
    assert [m["content"] for m in site.llm.asked[2].body["messages"]] == ["Hi", MAIL, refused, MAIL, refused]


def test_a_flow_then_a_person(site: LlmSite, moderate: str) -> None:
    task_id, question = asked(site, {"on": "output", "with": moderate, "then": "ask"})
    assert "it has an at" in question["text"]
    decide(site, task_id, "edit", "By hand.")
    done = site.end_of(task_id)
    assert done.task["result"]["content"] == "By hand."
    assert [each["passed"] for each in done.task["checks"]] == [False, True]


def test_a_conversation_has_the_text_that_the_checks_leave(site: LlmSite, moderate: str) -> None:
    site.llm.will(Says(text=MAIL), Says(text="Fine."))
    first = run(site, output(moderate, "redact"), conversation="checked")
    assert first.task["result"]["content"] == "[gone]"
    site.run(EXECUTOR, {"prompt": "And?"}, params={"conversation": "checked"})
    said = [each["content"] for each in site.llm.asked[1].body["messages"]]
    assert said == ["Hi", "[gone]", "And?"]


def test_a_function_of_a_plug_in_checks_the_input_and_the_answer(site: LlmSite) -> None:
    site.llm.will(Says(text="Go away."))
    both = [{"on": on, "with": "polite", "then": then} for on, then in (("input", "redact"), ("output", "fail"))]
    done = run(site, *both, prompt="Go away, please.")
    assert site.llm.asked[0].last_message == "Go [redacted], please."
    assert done.task["error"] == "Refused by the check 'polite' on the output: it says away"


@pytest.mark.parametrize(
    ("value", "says"), [("nothing", "it must return an object with `ok`"), ("raise", "ended as failed")]
)
def test_a_function_without_a_verdict_lets_nothing_pass(site: LlmSite, value: str, says: str) -> None:
    site.llm.will(Says(text=value))
    done = run(site, output("polite"))
    assert done.task["error"].startswith("The check 'polite' has no result")
    assert says in done.task["error"]


# --- tools ---


def agent(site: LlmSite, *script: Says, checks: list[Json], **params: Any) -> str:
    site.llm.will(*script)
    return site.start(EXECUTOR, {"prompt": "Go.", "tools": ["weather"]}, params={"checks": checks, **params})


def calling(city: str) -> Says:
    return Says(tool_calls=(("weather", {"city": city}),))


def read_by_model(site: LlmSite) -> list[str]:
    return [each["content"] for each in site.llm.asked[-1].body["messages"] if each["role"] == "tool"]


def test_arguments_that_do_not_pass_fail_the_agent(site: LlmSite) -> None:
    task_id = agent(site, calling("ada@example.com"), checks=[{"on": "tool_arguments", "with": "addresses"}])
    done = site.end_of(task_id)
    assert done.task["error"] == "Refused by the check 'addresses' on the input: it has an e-mail address"
    call = site.server.rpc("tasks.get", {"task_id": f"{task_id}/1/call_0"})
    assert (call["status"], found(call)) == ("failed", [("input", "addresses", False, "fail")])
    assert len(site.llm.asked) == 1


def test_the_model_reads_why_a_call_was_refused_a_few_times(site: LlmSite) -> None:
    checks = [{"on": "tool_arguments", "with": "addresses", "then": "retry", "retries": 1}]
    done = site.end_of(agent(site, calling("a@example.com"), calling("Bern"), Says(text="Warm."), checks=checks))
    assert done.task["status"] == "completed", done.task["error"]
    refused, answered = read_by_model(site)
    assert refused == "Error: Refused by the check 'addresses' on the input: it has an e-mail address"
    assert "21" in answered
    site.llm.forget()
    done = site.end_of(agent(site, *[calling("a@example.com")] * 3, checks=checks))
    assert done.task["error"].startswith("Refused by the check 'addresses' on the input")
    assert len(site.llm.asked) == 2


def test_arguments_and_results_are_redacted(site: LlmSite) -> None:
    checks = [{"on": on, "with": "addresses", "then": "redact"} for on in ("tool_arguments", "tool_result")]
    task_id = agent(site, calling("a@example.com"), Says(text="Warm."), checks=checks)
    site.end_of(task_id)
    call = site.server.rpc("tasks.get", {"task_id": f"{task_id}/1/call_0"})
    assert call["result"]["city"] == "[redacted]"
    assert found(call) == [("input", "addresses", False, "redact"), ("output", "addresses", True, "redact")]


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_person_decides_about_a_call(site: LlmSite, decision: str) -> None:
    checks = [
        {
            "on": "tool_arguments",
            "with": {"expression": {"task": "value", "path": "/city", "op": "eq", "value": "Bern"}},
            "then": "ask",
        }
    ]
    task_id = agent(site, calling("Rom"), Says(text="Warm."), checks=checks)
    call_id = f"{task_id}/1/call_0"
    site.wait_for_question(call_id)
    decide(site, call_id, decision)
    assert site.end_of(task_id).task["result"]["content"] == "Warm."
    (text,) = read_by_model(site)
    assert ("21" in text) == (decision == "approve")


def test_the_answer_of_an_agent_is_checked_after_its_last_step(site: LlmSite, moderate: str) -> None:
    checks = [
        {"on": "output", "with": moderate, "then": "retry"},
        {"on": "input", "with": "addresses", "then": "redact"},
    ]
    site.llm.will(calling("Bern"), Says(text=MAIL), calling("Rom"), Says(text="Warm."))
    inputs = {"prompt": MAIL, "tools": ["weather"]}
    done = site.run(EXECUTOR, inputs, params={"checks": checks})
    assert done.task["status"] == "completed", done.task["error"]
    last = site.llm.asked[-1].body["messages"]
    assert [each["role"] for each in last] == ["user", "assistant", "tool", "assistant", "user", "assistant", "tool"]
    assert {each.body["messages"][0]["content"] for each in site.llm.asked} == {"Write to [redacted]."}
    assert found(done.task) == [
        ("input", "addresses", False, "redact"),
        ("output", "flow:moderate", False, "retry"),
        ("output", "flow:moderate", True, "retry"),
    ]


def test_a_flow_checks_the_arguments_and_the_result_of_a_call(site: LlmSite, moderate: str) -> None:
    checks = [{"on": on, "with": moderate} for on in ("tool_arguments", "tool_result")]
    site.server.rpc("flows.save", {"name": "moderate", "tasks": OK_IF_BERN})
    task_id = agent(site, calling("Bern"), Says(text="Warm."), checks=checks)
    assert site.end_of(task_id).task["status"] == "completed"
    call = site.server.rpc("tasks.get", {"task_id": f"{task_id}/1/call_0"})
    assert found(call) == [("input", "flow:moderate", True, "fail"), ("output", "flow:moderate", True, "fail")]


def test_the_agent_of_a_workflow_has_checks(site: LlmSite) -> None:
    site.llm.will(Says(text=MAIL))
    done = site.run("workflow:discreet", {"city": "Bern"})
    assert done.task["result"] == "Write to [redacted].", done.task


# --- other executors ---


def test_the_result_of_any_executor_is_checked(site: LlmSite) -> None:
    inputs = {"to": {"ada@example.com": [MAIL, 4111111111111111, True], "bob@example.com": 7}}
    done = site.run("echo_executor", inputs, params={"checks": [output("addresses", "redact")]})
    assert done.task["result"] == {
        "to": {"[redacted]": ["Write to [redacted].", "[redacted]", True], "[redacted] (1)": 7}
    }


# --- refused when stored ---


@pytest.mark.parametrize(
    ("executor", "checks", "inputs", "more", "where", "why"),
    [
        (EXECUTOR, [], {}, {}, "params.checks", "must be a list of 1 to 20 checks"),
        (EXECUTOR, [output("addreses")], {}, {}, "params.checks[0].with", "Did you mean 'addresses'?"),
        (
            EXECUTOR,
            [{"on": "outputs", "with": "secrets"}],
            {},
            {},
            "params.checks[0].on",
            "must be one of input, output",
        ),
        (EXECUTOR, [output("secrets", "block")], {}, {}, "params.checks[0].then", "must be one of fail, ask"),
        (EXECUTOR, [output("secrets", bananas=1)], {}, {}, "params.checks[0].bananas", "known are on, with"),
        (EXECUTOR, [{"on": "output"}], {}, {}, "params.checks[0].with", "is required"),
        (EXECUTOR, [output({"schemas": {}})], {}, {}, "params.checks[0].with.schemas", "known are schema, expression"),
        (EXECUTOR, [output({"schema": {"type": "text"}})], {}, {}, "params.checks[0].with.schema", "is no JSON Schema"),
        (
            EXECUTOR,
            [output({"expression": {"task": "x", "op": "exists"}})],
            {},
            {},
            "params.checks[0].with.expression",
            "'value'",
        ),
        (
            EXECUTOR,
            [output({"expression": {"task": "value", "op": "like"}})],
            {},
            {},
            "params.checks[0].with.expression.op",
            "",
        ),
        (EXECUTOR, [output({"length": {"min": 3, "max": 2}})], {}, {}, "params.checks[0].with.length", "above `max`"),
        (EXECUTOR, [output({"addresses": ["mail"]})], {}, {}, "params.checks[0].with.addresses", "known are email"),
        (EXECUTOR, [output({"judge": {}})], {}, {}, "params.checks[0].with.judge", "`rubric`"),
        (EXECUTOR, [output({"schema": {}}, "redact")], {}, {}, "params.checks[0].then", "does not say where"),
        (
            EXECUTOR,
            [output({"judge": {"rubric": "x"}}, "redact")],
            {},
            {},
            "params.checks[0].then",
            "does not say where",
        ),
        (EXECUTOR, [{"on": "input", "with": "secrets", "then": "retry"}], {}, {}, "params.checks[0].then", "no model"),
        (EXECUTOR, [output("secrets", retries=3)], {}, {}, "params.checks[0].retries", "`then: retry`"),
        (EXECUTOR, [output("secrets"), output("secrets", "redact")], {}, {}, "params.checks[1]", "another `name`"),
        (EXECUTOR, [output("flow:nowhere")], {}, {}, "params.checks[0].with", "you have no flow 'nowhere'"),
        (EXECUTOR, [output("flow:No such")], {}, {}, "params.checks[0].with", "the name of the flow"),
        (EXECUTOR, [{"on": "tool_result", "with": "secrets"}], {}, {}, "params.checks[0].on", "has no inputs.tools"),
        (EXECUTOR, [output("secrets", "retry")], {}, {"pool": "process"}, "params.checks[0].then", "needs the pool"),
        (EXECUTOR, [output("secrets")], {}, {"spawn": {}}, "params.checks[0].on", "adds others"),
        ("echo_executor", [output("secrets", "retry")], {}, {}, "params.checks[0].then", "takes no answer back"),
        (
            "echo_executor",
            [{"on": "tool_result", "with": "secrets"}],
            {},
            {},
            "params.checks[0].on",
            "does not call tools",
        ),
    ],
)
def test_what_can_never_work_is_refused_when_stored(
    site: LlmSite, executor: str, checks: Any, inputs: Json, more: Json, where: str, why: str
) -> None:
    error = site.refusal_of(executor, inputs={"prompt": "Hi", **inputs}, params={"checks": checks, **more})
    (problem,) = error["data"]
    assert problem["field"] == f"tasks[0].{where}"
    assert why in problem["reason"]


def test_a_flow_that_takes_other_inputs_is_refused(site: LlmSite) -> None:
    task = [{"name": "echo_executor", "inputs": {"a": "{{run.inputs.other}}"}}]
    schema = {"type": "object", "required": ["value", "other"]}
    for name, more, why in (
        ("takes-other", {}, "does not take the input 'value'"),
        ("needs-other", {"inputs_schema": schema}, "needs the input 'other'"),
    ):
        site.server.rpc("flows.save", {"name": name, "tasks": task, **more})
        error = site.refusal_of(EXECUTOR, inputs={"prompt": "Hi"}, params={"checks": [output(f"flow:{name}")]})
        assert why in error["data"][0]["reason"]
        site.server.rpc("flows.delete", {"name": name})
