"""What the models of a task did: messages of any form, results beside their calls, and the list of calls in the panel."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tasks.dashboard.conversation import answer_of, files_in, message_of, source_of, talk_of, tools_in
from tests.dashboard.browsing import SCHEMES, barriers, open_tree
from tests.servers import Server

Json = dict[str, Any]
WORKS: Json = {
    "agents": {"ada": {"role": "Reader", "llm": "demo/demo"}, "bob": {"role": "Writer", "llm": "demo/demo"}},
    "tasks": {
        "read": {"description": "Read <b>all</b> of it.", "agent": "ada", "expected_output": "notes"},
        "write": {"description": "Write.", "agent": "bob", "expected_output": "a poem"},
    },
}


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def asks(*ids: str) -> Json:
    calls = [{"id": each, "function": {"name": f"f{number}", "arguments": "{}"}} for number, each in enumerate(ids)]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def read(call_id: str, text: str) -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def test_results_are_beside_their_calls() -> None:
    messages = [
        user("Hi"),
        asks("a", "b"),
        read("b", "B"),
        read("a", "A"),
        asks("a"),
        read("a", "Error: no"),
        user("So?"),
    ]
    talk = talk_of({"messages": messages})
    assert [message.role for message in talk] == ["user", "assistant", "assistant", "user"]
    results = [[(tool.name, tool.result, tool.is_bad) for tool in message.tools] for message in talk]
    assert results == [[], [("f0", "A", False), ("f1", "B", False)], [("f0", "Error: no", True)], []]


def test_results_without_ids_are_in_the_order_of_their_calls() -> None:
    talk = talk_of({"messages": [asks("", ""), read("", "first"), read("", "second"), read("", "of none")]})
    assert [tool.result for tool in talk[0].tools] == ["first", "second"]
    assert [(message.role, message.text) for message in talk[1:]] == [("tool", "of none")]


def test_the_results_of_an_answer_are_in_the_next_call() -> None:
    content = {"messages": [user("Hi")], "answer": "I look.", "tool_calls": asks("a")["tool_calls"]}
    following = {"messages": [user("Hi"), asks("a"), read("a", "old"), asks("a"), read("a", "12")]}
    answer = answer_of(content, following)
    assert answer is not None
    assert (answer.text, [tool.result for tool in answer.tools]) == ("I look.", ["12"])
    assert [tool.result for tool in (answer_of(content) or answer).tools] == [None]
    assert answer_of({"messages": [user("Hi")], "answer": None}) is None


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"product": "tea", "packets": 5, "to": null}', 'product="tea", packets=5, to=null'),
        ("{}", ""),
        ("[1]", "[1]"),
        ('{"cut": "of', '{"cut": "of'),
    ],
)
def test_arguments_are_written_as_in_a_call(arguments: str, shown: str) -> None:
    (tool,) = tools_in([{"function": {"name": "f", "arguments": arguments}}])
    assert tool.as_code == shown


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
    source = source_of(citation)
    assert (source.title, source.url) == (title, url)


@pytest.mark.parametrize(
    ("message", "role", "text", "tools"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, "odd"]}, "user", 'a\n"odd"', []),
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


PNG = "data:image/png;base64," + "A" * 100


@pytest.mark.parametrize(
    ("part", "name", "src"),
    [
        ({"type": "image_url", "image_url": {"url": PNG}}, "image/png", PNG),
        ({"type": "image_url", "image_url": {"url": f"{PNG[:64]}… (58 more characters)"}}, "image/png", PNG),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,B… (9 more characters)"}}, "image/png", ""),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "https://example.com/a.png", ""),
        ({"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AAAA"}}, "image/svg+xml", ""),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"}}, "a.pdf", ""),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "wav", ""),
        ({"type": "odd"}, "odd", ""),
    ],
)
def test_images_are_shown_and_other_files_are_named(part: Json, name: str, src: str) -> None:
    known = dict(files_in({"messages": [{"content": [{"image_url": {"url": PNG}}]}]}))
    (file,) = message_of({"role": "user", "content": [part]}, known).files
    assert (file.name, file.src) == (name, src)


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
def test_the_panel_lists_the_calls_of_a_crew_with_links_to_their_trace(page: Page, server: Server, crew: Json) -> None:
    open_tree(page, server, crew["ids"]["crew"])
    calls = page.locator("#panel .calls li")
    expect(calls).to_have_count(2)
    expect(calls.nth(0)).to_contain_text("ada · read")
    expect(calls.nth(0)).to_contain_text("tokens")
    assert barriers(page, "light") == []
    calls.nth(1).get_by_role("link", name="bob · write").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Two agents")
    expect(page.locator(".panel-head h2")).to_contain_text("bob · write")
    expect(page.locator(".talk .said.user")).to_contain_text("Write.")
    for scheme in SCHEMES:
        assert barriers(page, scheme) == []


@pytest.mark.crews
def test_a_call_of_a_model_task_is_shown_as_it_was_sent(page: Page, server: Server, crew: Json) -> None:
    open_tree(page, server, crew["ids"]["ask"])
    page.get_by_role("link", name="Open the trace").click()
    expect(page.locator(".talk .said.user")).to_contain_text("Why <i>rivers</i>?")
    expect(page.locator(".talk .said.assistant")).to_contain_text("This is the built-in demo model")


@pytest.mark.crews
@pytest.mark.browser  # where the crew is: to load the library for crews takes seconds
def test_the_pages_of_runs_say_what_they_used(server: Server, crew: Json) -> None:
    (run,) = server.rpc("runs.list", {"task_id": crew["task_id"]})["runs"]
    tokens = f"{run['token_usage']['total_tokens']:,}"
    listed = server.http.get(f"/ui/runs/?task={crew['task_id']}").text
    assert f'<td class="num">{tokens}</td><td class="num">$0</td>' in listed
    assert f"<dt>Tokens</dt><dd>{tokens}</dd>" in server.http.get(f"/ui/runs/{run['id']}/").text
