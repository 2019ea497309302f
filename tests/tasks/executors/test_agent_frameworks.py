"""Agents of frameworks in workflows on a server: with the key of the run, and its budget."""

from typing import Any

from tests.llm_formats import Says
from tests.llm_site import KEY, LlmSite
from tests.servers import until

Json = dict[str, Any]
TRIP = (
    Says(tool_calls=(("weather", {"city": "Bern"}), ("hotel", {"city": "Bern"}))),
    Says(tool_calls=(("final_result", {"city": "Bern", "nights": 2}),)),
)


def steps_of(site: LlmSite, task: Json) -> list[tuple[Any, ...]]:
    """The name, the status and the number of tokens of each step, in the order of their calls."""
    return site.server.query(
        "SELECT t.name, t.status, sum(c.total_tokens) FROM tasks_task t LEFT JOIN tasks_modelcall c ON c.task_id = t.id "
        "WHERE t.parent_id = %s GROUP BY t.id, t.name, t.status, t.position ORDER BY t.position",
        task["id"],
    )


def test_an_agent_of_pydantic_ai_calls_models_with_the_key_of_the_run(site: LlmSite) -> None:
    site.llm.will(*TRIP)
    done = site.run("workflow:trip", {"question": "Where to?"})
    assert (done.task["status"], done.task["error"]) == ("completed", None)
    assert done.task["result"] == {"city": "Bern", "nights": 2}
    assert [asked.key for asked in site.llm.asked] == [KEY, KEY]
    model = ("trips: gpt-4o-mini", "completed", 14)
    assert steps_of(site, done.task) == [model, ("weather", "completed", None), ("hotel", "completed", None), model]


def test_a_budget_stops_an_agent(site: LlmSite) -> None:
    site.llm.will(*TRIP)
    done = site.run("workflow:trip", {"question": "Where to?"}, params={"budget": {"tokens": 10}})
    assert done.task["status"] == "failed"
    assert "budget" in done.task["error"]
    assert len(site.llm.asked) == 1


def test_a_handoff_of_the_openai_agents_sdk_runs_with_the_key_of_the_run(site: LlmSite) -> None:
    site.llm.will(Says(tool_calls=(("transfer_to_billing", {}),)))
    site.llm.will(Says(tool_calls=(("refund", {"order": 7}),), ids="b"), Says(text="Done."))
    done = site.run("workflow:helped", {"question": "Pay back order 7."})
    assert (done.task["status"], done.task["error"], done.task["result"]) == ("completed", None, "billing: Done.")
    assert [asked.key for asked in site.llm.asked] == [KEY] * 3
    assert "".join(done.words) == "Done."
    model = ("gpt-4o-mini", "completed", 14)
    assert steps_of(site, done.task) == [model, model, ("refund", "completed", None), model]


def test_a_person_approves_a_tool_call_while_the_run_is_suspended(site: LlmSite) -> None:
    site.llm.will(Says(tool_calls=(("pay", {"number": 3}),)), Says(text="Paid."))
    task_id = site.start("workflow:paid", {"question": "Pay 3."})

    def asked() -> list[str]:
        questions = site.server.rpc("questions.list", {})["questions"]
        return [each["task_id"] for each in questions if each["text"] == 'May pay run with {"number": 3}?']

    (question,) = until(asked, seconds=60, what="the question")
    site.server.rpc("tasks.answer", {"task_id": question, "answer": "yes"})
    done = site.end_of(task_id)
    assert (done.task["status"], done.task["error"], done.task["result"]) == ("completed", None, "Paid.")
    assert len(site.llm.asked) == 2
    assert site.llm.asked[1].body["messages"][-1]["content"] == "3"
