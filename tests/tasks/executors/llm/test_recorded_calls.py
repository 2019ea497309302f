"""What the models of tasks and crews did is recorded: the answers, the failures, and what was cancelled."""

from typing import Any

import pytest

from tests.llm_formats import Says
from tests.llm_site import KEY, LlmSite

Json = dict[str, Any]
GPT = "openai/gpt-4"
WORKS: Json = {
    "agents": {"ada": {"role": "Reader", "llm": GPT}, "bob": {"role": "Writer", "llm": GPT}},
    "tasks": {
        "read": {"description": "Read.", "agent": "ada", "expected_output": "notes"},
        "write": {"description": "Write.", "agent": "bob", "expected_output": "a poem"},
    },
}


def calls_of(site: LlmSite, task_id: str, *columns: str) -> list[tuple[Any, ...]]:
    return site.server.query(
        f"SELECT {', '.join(columns)} FROM tasks_modelcall WHERE task_id = '{task_id}' ORDER BY started_at, id"
    )


@pytest.mark.crews
def test_the_calls_of_a_crew_name_the_agent_and_its_task(site: LlmSite) -> None:
    site.llm.will(Says(text="Notes."), Says(text="A poem."))
    done = site.run("crewai_executor", {}, params={"works": WORKS})
    columns = ("agent", "crew_task", "model", "status", "total_tokens", "finish_reason")
    of_each = (GPT, "completed", 14, "stop")
    assert calls_of(site, done.task["id"], *columns) == [("ada", "read", *of_each), ("bob", "write", *of_each)]


@pytest.mark.crews
def test_the_calls_of_crews_in_a_batch_name_the_crew(site: LlmSite) -> None:
    done = site.run("batch_crewai_executor", {}, params={"works": {"poets": WORKS}})
    assert [crew for (crew,) in calls_of(site, done.task["id"], "crew_task")] == ["poets: read", "poets: write"]


@pytest.mark.crews
def test_each_try_of_a_call_that_fails_is_recorded(site: LlmSite) -> None:
    site.llm.will(Says(status=500, error="Oh."), Says(text="Fine."))
    works = WORKS | {"tasks": {"read": WORKS["tasks"]["read"]}}
    done = site.run("crewai_executor", {}, params={"works": works})
    failed, completed = calls_of(site, done.task["id"], "status", "error", "total_tokens", "content")
    assert failed[:3] == ("failed", "openai had an internal error (500). Try again later, or set params.retry.", None)
    assert completed[:3] == ("completed", None, 14)
    assert "Read." in failed[3]


def test_a_cancelled_call_keeps_what_was_said(site: LlmSite) -> None:
    site.llm.will(Says(text="one two three", stalls_after=2))
    task_id = site.start("llm_executor", {"prompt": "Count to three.", "model": GPT})
    site.wait_for_words(task_id, "one two ")
    site.server.rpc("tasks.cancel", {"task_id": task_id})
    site.end_of(task_id)
    ((status, error, content),) = calls_of(site, task_id, "status", "error", "content")
    assert (status, error) == ("cancelled", "The call was cancelled.")
    assert '"answer":"one two "' in content


def test_tool_calls_are_recorded_and_keys_are_not(site: LlmSite) -> None:
    site.llm.will(Says(text="", tool_calls=(("look", {"at": KEY}),)))
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    done = site.run("llm_executor", {"prompt": f"Look at {KEY}.", "model": GPT, "tools": [tool]})
    ((content,),) = calls_of(site, done.task["id"], "content")
    assert '"name":"look"' in content
    assert KEY not in content
