"""What the models of a task did, on its panel: a conversation for each call, and when each ran."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tasks.dashboard.conversation import arrange, message_of
from tasks.models import ModelCall
from tests.browser import new_page
from tests.dashboard.browsing import SCHEMES, barriers, open_tree
from tests.servers import Server

Json = dict[str, Any]
START = datetime(2026, 11, 27, 8, tzinfo=UTC)
WORKS: Json = {
    "agents": {"ada": {"role": "Reader", "llm": "demo/demo"}, "bob": {"role": "Writer", "llm": "demo/demo"}},
    "tasks": {
        "read": {"description": "Read <b>all</b> of it.", "agent": "ada", "expected_output": "notes"},
        "write": {"description": "Write.", "agent": "bob", "expected_output": "a poem"},
    },
}


def call(seconds: float, took: float, **fields: Any) -> ModelCall:
    return ModelCall(started_at=START + timedelta(seconds=seconds), duration_ms=round(took * 1000), **fields)


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def test_bars_say_when_each_call_ran() -> None:
    found = arrange([(call(0, 2), {}), (call(1, 3), {}), (call(2.5, 0), {})])
    assert [(row.x, row.width) for row in found.rows] == [(0, 50), (25, 75), (62.5, 1)]
    assert found.seconds == 4


def test_what_an_agent_has_sent_before_is_not_shown_again() -> None:
    first = {"messages": [user("Hi")], "answer": "Hello."}
    again = {"messages": [user("Hi"), {"role": "assistant", "content": "Hello."}, user("More")], "answer": "No."}
    rows = arrange([(call(0, 1), first), (call(1, 1, agent="bob"), first), (call(2, 1), again)]).rows
    assert [len(row.earlier) for row in rows] == [0, 0, 1]
    assert [message.text for message in rows[2].messages] == ["Hello.", "More"]


@pytest.mark.parametrize(
    ("citation", "title", "url"),
    [
        ("https://example.com/a", "https://example.com/a", "https://example.com/a"),
        ({"type": "url_citation", "url_citation": {"url": "https://example.com/", "title": "An example"}}, "An example", "https://example.com/"),
        ({"type": "char_location", "document_title": "Report", "cited_text": "It rains."}, "Report", ""),
        ({"url": "javascript:alert(1)", "title": "No"}, "No", ""),
        ("javascript:alert(1)", "javascript:alert(1)", ""),
        ({"odd": 1}, '{"odd": 1}', ""),
    ],
)  # fmt: skip
def test_sources_of_any_form_are_shown(citation: Any, title: str, url: str) -> None:
    rows = arrange([(call(0, 1), {"answer": "It rains.", "reasoning": "Clouds.", "citations": [citation]})]).rows
    assert [(source.title, source.url) for source in rows[0].sources] == [(title, url)]
    assert rows[0].reasoning == "Clouds."


@pytest.mark.parametrize(
    ("message", "role", "text", "tools"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}, "user", "a\n[image_url]", []),
        ({"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, "assistant", "", [("f", "{}")]),
        ({"role": "assistant", "tool_calls": ["odd"]}, "assistant", "", [("tool", '"odd"')]),
        ({"role": "assistant", "tool_calls": {"odd": 1}}, "assistant", "", []),
        (["odd"], "message", '["odd"]', []),
        ({"role": 1}, "message", '{"role": 1}', []),
    ],
)  # fmt: skip
def test_messages_of_any_form_are_shown(message: Any, role: str, text: str, tools: list[tuple[str, str]]) -> None:
    shown = message_of(message)
    assert (shown.role, shown.text, [(tool.name, tool.arguments) for tool in shown.tools]) == (role, text, tools)


@pytest.fixture(scope="module")
def crew(open_server: Server) -> Json:
    tasks = [
        {"id": "all", "name": "A crew at work"},
        {"id": "crew", "name": "Two agents", "parent_id": "all", "schemas": {"method": "crewai_executor"}, "params": {"works": WORKS}},
        {"id": "ask", "name": "Ask", "parent_id": "all", "schemas": {"method": "llm_executor"}, "inputs": {"prompt": "Why <i>rivers</i>?", "model": "demo/demo"}},
    ]  # fmt: skip
    reply: Json = open_server.rpc("tasks.execute", {"tasks": tasks})
    open_server.finished(reply["task_id"])
    return reply


@pytest.mark.crews
def test_a_call_is_a_conversation(page: Page, server: Server, crew: Json) -> None:
    open_tree(page, server, crew["ids"]["ask"])
    calls = page.locator("#panel .calls")
    expect(calls.locator(".said-by.user")).to_contain_text("Why <i>rivers</i>?")
    expect(calls.locator(".said-by.assistant")).to_contain_text("This is the built-in demo model")
    expect(calls.locator("summary").first).to_contain_text("tokens")
    for scheme in SCHEMES:
        assert barriers(page, scheme) == []


@pytest.mark.crews
def test_the_calls_of_a_crew_are_named_and_folded(page: Page, server: Server, crew: Json) -> None:
    open_tree(page, server, crew["ids"]["crew"])
    calls = page.locator("#panel .calls > .call")
    expect(calls).to_have_count(2)
    expect(calls.nth(0)).to_contain_text("ada · read")
    expect(calls.nth(1).locator(".call-bar .bar")).to_be_visible()
    expect(calls.nth(1).locator(".said-by.user")).to_be_hidden()
    calls.nth(1).locator(":scope > summary").click()
    expect(calls.nth(1).locator(".said-by.user")).to_contain_text("Write.")
    assert barriers(page, "light") == []


@pytest.mark.crews
def test_on_a_phone_the_calls_fit(browser: Browser, server: Server, crew: Json) -> None:
    with new_page(browser, viewport={"width": 390, "height": 800}) as page:
        open_tree(page, server, crew["ids"]["ask"])
        expect(page.locator("#panel .calls .said-by.user")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.crews
@pytest.mark.browser  # where the crew is: to load the library for crews takes seconds
def test_the_pages_of_runs_say_what_they_used(server: Server, crew: Json) -> None:
    (run,) = server.rpc("runs.list", {"task_id": crew["task_id"]})["runs"]
    tokens = f"{run['token_usage']['total_tokens']:,}"
    listed = server.http.get(f"/ui/runs/?task={crew['task_id']}").text
    assert f'<td class="num">{tokens}</td><td class="num">$0</td>' in listed
    assert f"<dt>Tokens</dt><dd>{tokens}</dd>" in server.http.get(f"/ui/runs/{run['id']}/").text
