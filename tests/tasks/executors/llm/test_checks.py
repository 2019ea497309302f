"""Checks of what goes into a model and comes out of it: a real server, real workers, and a provider on loopback."""

from typing import Any

import pytest

from tests.llm_formats import Says
from tests.llm_site import LlmSite

Json = dict[str, Any]
EXECUTOR = "llm_executor"
MAIL = "Write to ada@example.com."
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
    site.llm.will(Says(text=f"{MAIL} Or ghp_0123456789abcdefghij0123456789abcdef."))
    done = run(site, output("addresses", "redact"), output("secrets", "redact"))
    assert done.task["result"]["content"] == "Write to [redacted]. Or [redacted]."
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
    assert done.task["status"] == "completed", done.task
    assert site.llm.asked[0].last_message == "Write to [redacted]. {{x}}"
