"""People score the results of an experiment in a real browser, with the keyboard alone and without seeing which version they are of."""

import re
from typing import Any, Final

from playwright.sync_api import Locator, Page, expect

from tests.servers import Server, until

Json = dict[str, Any]
NAME: Final = "greetings-for-people"
TABS: Final = 300


def press(page: Page, control: Locator, *keys: str) -> None:
    """Go to the control with the Tab key, and press these keys there."""
    for _ in range(TABS):
        page.keyboard.press("Tab")
        if control.evaluate("node => node === document.activeElement"):
            break
    else:
        raise AssertionError("The Tab key does not lead there.")
    for key in keys:
        page.keyboard.press(key)


def test_people_compare_answers_by_keyboard_and_blind(home: Page, server: Server) -> None:
    for text in ("Bye {{run.inputs.who}}", "Hello {{run.inputs.who}}"):
        tasks = [{"id": "greet", "name": "echo_executor", "inputs": {"text": text}}]
        server.rpc("flows.save", {"name": NAME, "tasks": tasks})
    rows = [{"inputs": {"who": who}, "expected": f"Hello {who}"} for who in ("Ada", "Alan")]
    server.rpc("datasets.save", {"name": NAME, "rows": rows, "flow": NAME})
    exact: Json = {"name": "exact", "with": {"exact": {"path": "/text"}}}
    nicer = {"question": "Which is nicer?", "pair": True, "only_if": "inputs.who == 'Ada' && scores.exact[1]"}
    warm = {"question": "How warm is it?", "scale": [1, 5], "only_if": "inputs.who == 'Alan'"}
    evaluators = [exact, {"name": "nicer", "with": {"person": nicer}}, {"name": "warm", "with": {"person": warm}}]
    started = server.rpc("evals.run", {"dataset": NAME, "evaluators": evaluators, "versions": [1, 2], "at_once": 2})
    page = {"experiment_id": started["task_id"]}
    until(lambda: server.rpc("evals.get", page)["questions"] == 2, seconds=60, what="both questions")
    scores = server.rpc("evals.get", page)["results"][0]["runs"][0]["scores"]
    assert scores["nicer"] == {"value": None, "reason": "A person has not answered yet."}
    assert scores["warm"] == {"value": None, "reason": "No person was asked: only_if is not true."}
    home.goto(f"{server.url}/ui/")
    asked = home.locator("form.ask", has_text="Which is nicer?")
    expect(asked.get_by_role("link", name="Read and answer")).to_be_visible()
    assert "Hello Ada" not in asked.inner_text()
    home.goto(f"{server.url}/ui/experiments/{started['task_id']}/")
    press(home, home.get_by_role("link", name="Inbox", exact=True).last, "Enter")
    expect(home).to_have_url(re.compile("/ui/inbox/"))

    pair = home.get_by_role("article", name="Score nicer")
    expect(pair).to_contain_text("Hello Ada")
    assert "ersion" not in pair.inner_text()
    shown = {
        each: pair.locator("section").filter(has=home.get_by_role("heading", name=each))
        for each in ("Inputs", "Expected", "Answer A", "Answer B")
    }
    expect(shown["Inputs"]).to_contain_text('"who": "Ada"')
    expect(shown["Expected"]).to_contain_text("Hello Ada")
    letter = "A" if "Hello" in shown["Answer A"].inner_text() else "B"
    boxes = [shown[f"Answer {each}"].bounding_box() for each in "AB"]
    assert boxes[0] is not None and boxes[1] is not None and boxes[0]["y"] == boxes[1]["y"]
    press(home, pair.get_by_role("button", name=letter, exact=True), "Enter")
    expect(home.get_by_text("Answer saved.")).to_be_visible()

    form = home.get_by_role("article", name="Score warm")
    first = form.locator("section").filter(has=home.get_by_role("heading", name="Answer A")).inner_text()
    for each in "AB":
        press(home, form.locator(f"[name='in.Answer {each}']"), "5" if ("Hello" in first) == (each == "A") else "2")
    press(home, form.get_by_role("button", name="Answer", exact=True), "Enter")
    expect(home.get_by_text("Answer saved.")).to_be_visible()

    until(lambda: server.rpc("evals.get", page)["status"] == "completed", seconds=60, what="the end")
    found = {case["inputs"]["who"]: case["runs"] for case in server.rpc("evals.get", page)["results"]}
    assert [run["scores"]["nicer"]["value"] for run in found["Ada"]] == [0, 1]
    assert [run["scores"]["warm"]["value"] for run in found["Alan"]] == [2, 5]
    server.rpc("datasets.delete", {"name": NAME})
    server.rpc("flows.delete", {"name": NAME})
