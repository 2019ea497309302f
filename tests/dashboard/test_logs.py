"""The log of a run and of a task: levels, filters, pages and files."""

import html
import json
import re
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Page, expect

from tasks.dashboard.logs import Level, join_words, level_of, name_in, types_below
from tests.dashboard.browsing import open_tree
from tests.dashboard.conftest import Json, Make, root, step
from tests.servers import Server

HTML: Final = {"Accept": "text/html"}
STEPS: Final = 250


def event(kind: str, task_id: str = "a", message: str = "", *, status: str = "in_progress", result: Any = None) -> Json:
    return {"type": kind, "task_id": task_id, "message": message, "status": status, "result": result, "error": None}


def lines_of(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return re.findall(r'<span class="what">(\w+)</span>', response.text)


@pytest.mark.parametrize(
    ("kind", "status", "level"),
    [
        ("progress", "in_progress", Level.DEBUG),
        ("log", "in_progress", Level.INFO),
        ("token", "in_progress", Level.INFO),
        ("task_retry", "in_progress", Level.WARNING),
        ("task_failed", "failed", Level.ERROR),
        ("final", "failed", Level.ERROR),
        ("final", "cancelled", Level.WARNING),
        ("final", "completed", Level.INFO),
    ],
)
def test_each_event_has_a_level(kind: str, status: str, level: Level) -> None:
    assert level_of(event(kind, status=status)) is level
    assert all(kind not in types_below(least) for least in Level if least <= level)


def test_the_words_of_a_model_call_are_joined_and_name_their_agent() -> None:
    first, second = ({"call_id": call_id, "agent": agent} for call_id, agent in (("1", "Ada"), ("2", "Crew")))
    events = [
        event("task_start"),
        event("token", "a", "One ", result=first),
        event("token", "a", "Eins ", result=second),
        event("token", "a", "Hm.", result=second | {"kind": "reasoning"}),
        event("log", "a", "x"),
        event("log", "a", "y", result={"call_id": "1"}),
        event("token", "a", "two", result=first),
        event("token", "a", "zwei", result=second),
    ]
    shown = [(name_in(each, {"a": "Crew"}), each["message"]) for each in join_words(events)]
    assert shown == [
        ("Crew", ""),
        ("Crew · Ada", "One two"),
        ("Crew", "Eins zwei"),
        ("Crew · reasoning", "Hm."),
        ("Crew", "x"),
        ("Crew", "y"),
    ]
    assert events[1]["message"] == "One "


@pytest.mark.both_engines
def test_events_are_filtered_by_level_text_and_task(server: Server, finished: Make) -> None:
    prefix = finished(root("Logged work", "a"), step("a", then="fail"), step("b", seconds=0.02, steps=2))
    path = f"/ui/logs/{prefix}-root"
    every = lines_of(server.http.get(path, headers=HTML))
    assert {"task_start", "progress", "task_failed", "final"} <= {*every}
    errors = lines_of(server.http.get(f"{path}?level=error", headers=HTML))
    assert {*errors} == {"task_failed", "final"}
    assert lines_of(server.http.get(f"{path}?q=STEP+1+of", headers=HTML)) == ["progress"]
    of_b = lines_of(server.http.get(f"{path}?task=step+b", headers=HTML))
    assert of_b == lines_of(server.http.get(f"/ui/logs/{prefix}-b", headers=HTML))
    assert "task_failed" not in of_b
    linked = re.findall(r'href="([^"#]+)#event-2"', server.http.get(path, headers=HTML).text)
    assert lines_of(server.http.get(path + html.unescape(linked[0]), headers=HTML)) == every[:2]
    assert "No events match" in server.http.get(f"{path}?q=nothing-like-it", headers=HTML).text


@pytest.mark.both_engines_nightly
def test_older_events_are_a_click_away(server: Server, finished: Make) -> None:
    prefix = finished(root("Long log", "a"), step("a", seconds=0.01, steps=STEPS))
    page, seen = f"/ui/logs/{prefix}-a", 0
    while True:
        response = server.http.get(page, headers=HTML)
        seen += len(lines_of(response))
        older = re.search(r'rel="prev" href="(\?[^"]+)"', response.text)
        if older is None:
            break
        page = f"/ui/logs/{prefix}-a{older[1].replace('&amp;', '&')}"
    every = server.http.get(f"/ui/logs/{prefix}-a?format=ndjson").text.splitlines()
    assert seen == len(every)
    assert seen > STEPS


@pytest.mark.both_engines_nightly
def test_a_log_is_downloaded_as_text_and_as_ndjson(server: Server, finished: Make) -> None:
    prefix = finished(root("Filed work", "a"), step("a", then="fail"))
    stored = server.finished(f"{prefix}-root")
    ndjson = server.http.get(f"/ui/logs/{prefix}-root?format=ndjson")
    assert [json.loads(line)["seq"] for line in ndjson.text.splitlines()] == [
        each["seq"] for each in stored if each["type"] != "stream_end"
    ]
    assert ndjson.headers["Content-Disposition"] == f'attachment; filename="{prefix}-root-log.ndjson"'
    text = server.http.get(f"/ui/logs/{prefix}-root?format=text&level=error").text
    assert re.search(rf"ERROR   {prefix}-a \(Step a\) task_failed ", text)
    assert "task_start" not in text


@pytest.mark.parametrize("query", ["level=loud", "before=x", "run=-1", "format=csv", "q=%00", "before=99999999999"])
def test_a_filter_that_cannot_be_is_refused(query: str, server: Server, make: Make) -> None:
    prefix = make(root("Refused log"))
    response = server.http.get(f"/ui/logs/{prefix}-root?{query}", headers=HTML)
    assert response.status_code == 400
    assert query.split("=")[0] in response.text


def test_a_tree_that_has_not_run_has_no_log(server: Server, make: Make) -> None:
    prefix = make(root("Quiet work"))
    assert "has not run yet" in server.http.get(f"/ui/logs/{prefix}-root", headers=HTML).text
    assert server.http.get(f"/ui/logs/{prefix}-root?format=text").text == ""


def test_an_answer_of_a_model_is_one_line_while_it_streams(home: Page, server: Server, make: Make) -> None:
    ask = step("a", model="demo/writer", prompt="Three sentences about rates")
    prefix = make(root("Written work", "a"), ask | {"schemas": {"method": "llm_executor"}})
    open_tree(home, server, f"{prefix}-root")
    home.get_by_role("button", name="Run", exact=True).click()
    expect(home.locator("[data-tree-status]")).to_have_text("completed")
    pieces = home.locator("[data-log] li", has=home.locator(".what", has_text=re.compile("^token$")))
    expect(pieces).to_have_count(1)
    answer = server.rpc("tasks.get", {"task_id": f"{prefix}-a"})["result"]["content"]
    for place in ("[data-log]", "#panel .events"):
        if place != "[data-log]":
            home.locator("[data-lines] a", has_text="Step a").click()
        expect(home.locator(place)).to_contain_text(answer[:60])
    home.reload()
    expect(pieces).to_have_count(1)
    home.get_by_role("link", name="All events").first.click()
    expect(home.locator(".log-lines")).to_contain_text(answer[:60])
