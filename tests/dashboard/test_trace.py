"""The trace of an agent: its waterfall, its calls as conversations, two calls compared, a call replayed, and what people think of it."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, expect

from accounts.callers import LOCAL
from tasks.dashboard.conversation import as_html, diff
from tasks.dashboard.trace import context_of
from tasks.dashboard.waterfall import Axis, Row
from tasks.models import ModelCall
from tasks.services.trees import execute_tree
from tests.browser import new_page
from tests.dashboard.browsing import SCHEMES, barriers
from tests.servers import Server, until

Json = dict[str, Any]
START: Final = datetime(2026, 11, 27, 8, tzinfo=UTC)
HOSTILE: Final = "<img src=x onerror=alert(1)> [go](javascript:alert(1)) ![spy](https://spy.example/p.png)"
WIDTHS: Final = (390, 720, 1440)


def row(kind: str, seconds: float, took: float, **fields: Any) -> Row:
    return Row(kind=kind, depth=1, label=kind, start=START + timedelta(seconds=seconds), seconds=took, **fields)


def test_a_long_wait_for_an_answer_is_folded() -> None:
    rows = [row("model", 0, 10, first_seconds=5.0), row("asks", 10, 80), row("model", 90, 10)]
    axis = Axis(rows)
    assert [axis.at(each.start) for each in rows] == pytest.approx([0, 45.5, 54.5])
    assert [(round(x, 3), width, text) for x, width, text in axis.gaps] == [(45.5, 9.0, "1 m 20 s")]
    assert (axis.seconds, axis.waited, axis.has_long_waits) == (100, 80, True)
    assert axis.bars_of(rows[0]) == [("model until", 0, 22.75), ("model", 22.75, 22.75)]
    assert Axis(rows, is_true=True).at(rows[1].start) == pytest.approx(10)
    assert Axis(rows[::2]).folds == Axis([row("asks", 0, 1), row("model", 0, 9)]).folds == []


def test_a_waterfall_without_times_is_drawn() -> None:
    axis = Axis([row("model", 0, 0)])
    assert (axis.seconds, axis.at(START), axis.bars_of(row("model", 0, 0))) == (0, 0, [("model", 0, 0.4)])
    assert Axis([]).ticks[0][1] == "0"


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("We have **12** of `tea`.", "<p>We have <strong>12</strong> of <code>tea</code>.</p>"),
        ("### Deep\n\n# Top\n\n#### Deepest", "<h4>Deep</h4>\n<h4>Top</h4>\n<h5>Deepest</h5>"),
        ("| a |\n|---|\n| 1 |", "<td>1</td>"),
        ("[x](https://example.com/)", '<a href="https://example.com/" rel="noopener noreferrer nofollow">x</a>'),
        ("![a <b>](https://spy.example/p.png)", '<a href="https://spy.example/p.png" rel="noopener noreferrer nofollow">'),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("[x](/ui/settings/)", '<a rel="noopener noreferrer nofollow">x</a>'),
        ("[" * 4_000, "[[[["),
    ],
)  # fmt: skip
def test_markdown_is_shown_without_what_could_harm(text: str, inside: str) -> None:
    assert inside in as_html(text)


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "[x](data:text/html;base64,PHNjcmlwdD4=) <javascript:alert(1)>",
        "```<svg onload=alert(1)>\n<iframe src=//spy.example>\n```",
        '<a href="https://example.com" style="position:fixed" onclick="alert(1)">x</a>',
        "[x]: javascript:alert(1)\n\n[x][x] [y](vbscript:x) [z](JAVASCRIPT:x)",
    ],
)
def test_hostile_markdown_has_no_element_but_text_and_links(text: str) -> None:
    html = as_html(text)
    opened = {part.partition(">")[0].split()[0].strip("/") for part in html.split("<")[1:]}
    assert opened <= {"p", "a", "pre", "code"}
    assert 'href="javascript' not in html.lower() and 'href="data' not in html and 'href="vbscript' not in html


def test_a_difference_shows_its_surroundings() -> None:
    before = "\n".join(f"line {number}" for number in range(20))
    found = diff(before, before.replace("line 10", "another"))
    shown = [(line.sign, line.text) for line in found]
    assert shown == [
        *[("…", "8"), ("=", "line 8"), ("=", "line 9"), ("-", "line 10"), ("+", "another")],
        *[("=", "line 11"), ("=", "line 12"), ("…", "7")],
    ]
    assert diff(before, before) == []


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_a_long_trace_has_pages_and_is_searched_as_a_whole() -> None:
    execution = execute_tree(caller=LOCAL, tasks=[{"name": "llm_executor", "inputs": {"prompt": "Hi"}}])
    task, run = execution.task, execution.run
    used = {"total_tokens": 7, "prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 1, "cost_nanos": 1_000}
    of_task = {"run_id": run.id, "root_id": task.id, "task_id": task.id, "user_id": task.user_id, "model": "demo/demo"}
    ModelCall.objects.bulk_create(
        ModelCall(
            id=f"call-{number:03}",
            executor_id="llm_executor",
            attempt=1,
            step=number + 1,
            status="completed",
            started_at=START + timedelta(seconds=number),
            duration_ms=500,
            content={"messages": [], "answer": 'It is "quoted" 100%.' if number == 177 else "No.", "tool_calls": []},
            **of_task,
            **used,
        )
        for number in range(250)
    )
    first = context_of(LOCAL, task.id, {})
    assert (len(first["rows"]), first["count"], first["page"], first["later"]) == (101, 250, 1, 2)
    assert (first["totals"]["total_tokens"], first["totals"]["cached"], first["totals"]["cost"]) == (
        1750,
        0.2,
        "$0.00025",
    )
    chosen = context_of(LOCAL, task.id, {"call": "call-177"})
    assert (chosen["page"], chosen["later"], chosen["selected"].title) == (2, 3, "Step 178: answer")
    last = context_of(LOCAL, task.id, {"page": "3"})
    assert (len(last["rows"]), last["later"]) == (51, None)
    found = context_of(LOCAL, task.id, {"q": '"QUOTED" 100%'})
    assert [row.args for row, _ in found["rows"]] == ["model", 'Assistant: It is "quoted" 100%.']
    for text in ("100_", "No?", 'answer"'):
        assert context_of(LOCAL, task.id, {"q": text})["rows"] == []


@pytest.fixture(scope="module")
def agent(server: Server) -> str:
    """An agent that asks a person, calls a flow, and answers: of the demo model, which calls its first tool once."""
    schema = {"type": "object", "properties": {"product": {"type": "string"}}, "required": ["product"]}
    tasks = [{"id": "look", "name": "echo_executor", "inputs": {"product": "{{run.inputs.product}}"}}]
    server.rpc("flows.save", {"name": "stock", "tasks": tasks, "inputs_schema": schema})
    inputs: Json = {
        "prompt": f"How much **tea**?\n\n{HOSTILE}",
        "system": "You look after a shop.",
        "model": "demo/demo",
        "temperature": 0.2,
        "tools": ["flow:stock"],
        "confirm": ["flow:stock"],
    }
    task = {"name": "Restock", "schemas": {"method": "llm_executor"}, "inputs": inputs}
    task_id: str = server.rpc("tasks.execute", {"tasks": task})["task_id"]
    asked = {"task_id": f"{task_id}/1/confirm_0"}
    until(
        lambda: (server.call("tasks.detail", asked).get("result") or {}).get("question"),
        seconds=60,
        what="the question of the agent",
    )
    server.rpc("tasks.answer", asked | {"answer": "yes"})
    server.finished(task_id)
    return task_id


def calls_of(server: Server, task_id: str) -> list[Json]:
    run_id = server.rpc("runs.list", {"task_id": task_id})["runs"][0]["id"]
    found: list[Json] = server.rpc("runs.calls", {"run_id": run_id, "task_id": task_id})["calls"]
    return found


def rows_of(page: Page) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(".trace tbody tr td:first-child").all_inner_texts()]


def test_the_waterfall_has_calls_tools_questions_and_sub_runs(home: Page, server: Server, agent: str) -> None:
    home.goto(f"{server.url}/ui/trace/{agent}")
    whole, first, *below, last = rows_of(home)
    assert (whole, first, last) == ("Restock agent", "Step 1", "Step 2 answer")
    assert [text.split()[0].partition("(")[0] for text in below] == ["'Restock'", "flow_stock", "echo_executor"]
    assert any(text.startswith('flow_stock(product="How much **tea**?")') and "→" in text for text in below)
    assert any("yes, by local" in text for text in below)
    facts = home.locator(".tree-head .facts")
    expect(facts).to_contain_text("2 model calls")
    expect(facts).to_contain_text("of it waiting for an answer")
    expect(facts).to_contain_text("1 tool call")


def test_a_call_is_a_conversation_with_results_beside_their_calls(home: Page, server: Server, agent: str) -> None:
    home.goto(f"{server.url}/ui/trace/{agent}")
    talk = home.locator(".talk")
    expect(talk.locator(".said.user strong")).to_have_text("tea")
    expect(talk.locator(".said.user")).to_contain_text("<img src=x onerror=alert(1)>")
    expect(talk.locator("img")).to_have_count(0)
    expect(talk.locator(".said.system summary")).to_contain_text("You look after a shop.")
    expect(talk.locator(".pair-of")).to_contain_text('flow_stock(product="How much **tea**?")')
    expect(talk.locator(".pair-of .res")).to_contain_text("product")
    expect(talk.locator(".said.answer")).to_contain_text("The tool returned")
    expect(home.locator(".conversation .facts")).to_contain_text("temp. 0.2")
    home.get_by_role("link", name="Source").click()
    expect(talk.locator(".said.user .source")).to_contain_text("How much **tea**?")
    home.get_by_role("link", name="Text", exact=True).click()
    expect(talk.locator(".said.user strong")).to_have_text("tea")
    home.goto(f"{server.url}/ui/trace/{agent}")
    home.get_by_role("link", name="Step 1").click()
    expect(talk.locator(".said.answer .pair-of .res")).to_contain_text("product")
    expect(home).to_have_url(f"{server.url}/ui/trace/{agent}?call={calls_of(server, agent)[0]['id']}")


def test_the_arrow_keys_select_calls_and_pass_what_is_none(home: Page, server: Server, agent: str) -> None:
    home.goto(f"{server.url}/ui/trace/{agent}")
    home.wait_for_load_state()
    first = home.get_by_role("link", name="Step 1")
    first.focus()
    home.keyboard.press("ArrowDown")
    expect(home.locator(".trace tbody :focus")).to_contain_text("'Restock' wants to call")
    home.keyboard.press("ArrowUp")
    expect(home.locator(".panel-head h2")).to_have_text("Step 1")
    expect(home.get_by_role("link", name="Step 1")).to_be_focused()
    home.keyboard.press("ArrowDown")
    home.keyboard.press("ArrowDown")
    expect(home.locator(".trace tbody :focus")).to_contain_text("flow_stock(")


def test_without_scripts_a_call_is_a_page(bare: Page, server: Server, agent: str) -> None:
    bare.goto(f"{server.url}/ui/trace/{agent}")
    bare.get_by_role("link", name="Step 1").click()
    expect(bare.locator(".panel-head h2")).to_contain_text("Step 1")


def test_prompts_and_arguments_are_searched(home: Page, server: Server, agent: str) -> None:
    home.goto(f"{server.url}/ui/trace/{agent}")
    search = home.get_by_role("searchbox")
    for text, count in (("RETURNED", 1), ("after a shop", 2), ("tool_calls", 0)):
        search.fill(text)
        search.press("Enter")
        expect(home.locator(".note").first).to_contain_text(f"{count} call")
    home.goto(f"{server.url}/ui/trace/{agent}?q=MUCH")
    assert any("How much **tea**?" in text for text in rows_of(home) if text.startswith("Step"))


@pytest.mark.parametrize("query", ["", "?replay=open", "?with={first}"])
def test_a_trace_has_no_barriers_and_fits_every_screen(
    query: str, browser: Browser, server: Server, agent: str
) -> None:
    address = f"{server.url}/ui/trace/{agent}{query.format(first=calls_of(server, agent)[0]['id'])}"
    for width in WIDTHS:
        with new_page(browser, viewport={"width": width, "height": 900}) as page:
            page.goto(address)
            expect(page.locator(".talk")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            ticks = [text.bounding_box() for text in page.locator(".ticks text:not(.gap-label):visible").all()]
            assert all(a["x"] + a["width"] < b["x"] for a, b in pairwise(box for box in ticks if box))
            for scheme in SCHEMES:
                assert barriers(page, scheme) == []


def test_two_calls_are_compared(home: Page, server: Server, agent: str) -> None:
    home.goto(f"{server.url}/ui/trace/{agent}")
    home.get_by_role("button", name="Diff with…").click()
    home.get_by_role("link", name="Step 1 of this run").click()
    compared = home.locator("#diff")
    expect(compared.locator(".deltas")).to_contain_text("Tokens in")
    expect(compared.locator(".prompt-diff").first).to_contain_text("→ flow_stock(")


def test_a_call_is_replayed_with_another_prompt_and_its_run_stays(home: Page, server: Server, agent: str) -> None:
    before = server.rpc("tasks.tree", {"task_id": agent})
    home.goto(f"{server.url}/ui/trace/{agent}")
    home.get_by_role("link", name="Replay this call").click()
    replay = home.locator("#replay")
    expect(replay.get_by_label("System prompt")).to_have_value("You look after a shop.")
    replay.get_by_label("System prompt").fill("You look after a {{small}} shop.")
    replay.get_by_label("Temperature").fill("0.7")
    replay.get_by_role("button", name="Replay", exact=True).click()
    expect(replay.locator(".replayed .status")).to_contain_text("completed")
    expect(replay.get_by_role("article", name="Replayed")).to_contain_text("The tool returned")
    expect(replay.locator("ins")).to_contain_text("You look after a {{small}} shop.")
    expect(replay.get_by_label("Temperature")).to_have_value("0.7")
    assert server.rpc("tasks.tree", {"task_id": agent}) == before
    scratch = server.rpc("runs.list", {"tag": "replay"})["runs"][0]
    assert scratch["tags"] == ["replay", f"replay:{calls_of(server, agent)[1]['id']}"]
    (call,) = server.rpc("runs.calls", {"run_id": scratch["id"]})["calls"]
    assert call["content"]["messages"][0]["content"] == "You look after a {{small}} shop."
    assert call["content"]["options"]["temperature"] == 0.7


def test_a_replay_that_is_refused_says_why_and_keeps_the_form(home: Page, server: Server, agent: str) -> None:
    home.goto(f"{server.url}/ui/trace/{agent}?replay=open")
    replay = home.locator("#replay")
    replay.get_by_label("Times").evaluate("(field) => field.removeAttribute('max')")
    replay.get_by_label("Times").fill("50")
    replay.get_by_label("Last message of the user").fill("Another question")
    replay.get_by_role("button", name="Replay", exact=True).click()
    expect(replay.get_by_role("alert")).to_contain_text("times: must be from 1 to 5")
    expect(replay.get_by_label("Last message of the user")).to_have_value("Another question")


def test_what_was_replayed_is_saved_as_a_version_of_its_flow(home: Page, server: Server) -> None:
    inputs = {
        "system": "Rhyme.",
        "prompt": "Write about {{run.inputs.topic}}.",
        "model": "demo/demo",
        "temperature": 0.9,
    }
    tasks = [
        {"id": "all", "name": "Poems"},
        {"id": "write", "name": "llm_executor", "parent_id": "all", "inputs": inputs},
    ]
    server.rpc("flows.save", {"name": "poems", "tasks": tasks, "description": "Writes."})
    ran = server.rpc("flows.run", {"name": "poems", "inputs": {"topic": "tea"}, "wait": True})
    home.goto(f"{server.url}/ui/trace/{ran['ids']['write']}?replay=open")
    replay = home.locator("#replay")
    replay.get_by_label("System prompt").fill("Do not rhyme.\nUse {{braces}}.")
    replay.get_by_label("Temperature").fill("")
    replay.get_by_role("button", name="Replay", exact=True).click()
    expect(replay.locator(".replayed .status")).to_contain_text("completed")
    replay.get_by_role("button", name="Save as flow version").click()
    expect(home.locator(".message.success")).to_contain_text("Saved version 2 of poems.")
    saved = server.rpc("flows.get", {"name": "poems"})
    system = {"system": "Do not rhyme.\nUse {{{{braces}}."}
    kept = {name: value for name, value in inputs.items() if name != "temperature"}
    assert [task.get("inputs") for task in saved["tasks"]] == [None, kept | system]
    assert saved["description"] == "Writes."

    home.go_back()
    replay.get_by_label("Last message of the user").fill("Write about coffee.")
    replay.get_by_role("button", name="Save as flow version").click()
    expect(replay.get_by_role("alert")).to_contain_text("prompt: has places ({{…}})")


def test_the_same_calls_of_two_runs_are_compared(home: Page, server: Server) -> None:
    task = {"name": "llm_executor", "inputs": {"prompt": "Write about\n{{run.inputs.topic}}.", "model": "demo/demo"}}
    server.rpc("flows.save", {"name": "essays", "tasks": [task]})
    ran = [
        server.rpc("flows.run", {"name": "essays", "inputs": {"topic": each}, "wait": True}) for each in ("tea", "ink")
    ]
    home.goto(f"{server.url}/ui/trace/{ran[1]['task_id']}")
    home.get_by_role("button", name="Diff with…").click()
    home.get_by_role("link", name="version 1").click()
    compared = home.locator("#diff")
    expect(compared.locator("del")).to_have_text("−tea.")
    expect(compared.locator("ins")).to_have_text("+ink.")
    expect(compared.locator("p", has_text="No difference.")).to_have_count(1)


def test_feedback_is_stored_with_the_call(home: Page, server: Server, agent: str) -> None:
    home.goto(f"{server.url}/ui/trace/{agent}")
    home.get_by_role("button", name="Good").click()
    expect(home.get_by_role("button", name="Good")).to_have_attribute("aria-pressed", "true")
    home.get_by_role("button", name="Note…").click()
    home.get_by_label("Note").fill("Not *quite* <b>right</b>.")
    home.get_by_label("Score, from 0 (bad) to 1 (good)").fill("0.5")
    home.get_by_role("button", name="Save").click()
    expect(home.locator(".given")).to_contain_text("Thumb up, score 0.5: “Not *quite* <b>right</b>.” by local")
    given = calls_of(server, agent)[1]["feedback"]
    assert (given["thumb"], given["score"], given["by"]) == ("up", 0.5, "local")
    home.get_by_role("button", name="Good").click()
    expect(home.get_by_role("button", name="Good")).to_have_attribute("aria-pressed", "false")


def test_a_task_without_calls_and_a_run_of_another_tree_say_so(home: Page, server: Server, agent: str) -> None:
    task = {"name": "echo_executor", "inputs": {"a": 1}}
    task_id = server.rpc("tasks.execute", {"tasks": task, "wait": True})["task_id"]
    run_id = server.rpc("runs.list", {"task_id": agent})["runs"][0]["id"]
    assert "This task called no model in run 1" in server.http.get(f"/ui/trace/{task_id}").text
    reply = server.http.get(f"/ui/trace/{task_id}?run={run_id}")
    assert (reply.status_code, f"Run &#x27;{run_id}&#x27; not found" in reply.text) == (404, True)


def test_long_texts_are_cut_with_a_way_to_the_whole(home: Page, server: Server) -> None:
    image = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    content = [{"type": "text", "text": "word " * 1_500}, {"type": "image_url", "image_url": {"url": image}}]
    inputs = {"messages": [{"role": "user", "content": content}], "model": "demo/demo"}
    task = {"name": "llm_executor", "inputs": inputs}
    task_id = server.rpc("tasks.execute", {"tasks": task, "wait": True})["task_id"]
    home.goto(f"{server.url}/ui/trace/{task_id}")
    said = home.locator(".said.user")
    expect(said.get_by_role("img")).to_have_attribute("src", image)
    shown = len(said.inner_text())
    said.get_by_role("link", name="more characters").click()
    expect(said.get_by_role("link", name="more characters")).to_have_count(0)
    assert len(said.inner_text()) > 7_000 > 5_000 > shown
