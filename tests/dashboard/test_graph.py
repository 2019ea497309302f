"""The graph of a tree in a real browser: zoom, pan, folded groups, arrow keys, and where it opens."""

import re
from typing import Any, Final

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.browsing import SCHEMES, line, open_tree
from tests.dashboard.conftest import Json, Make, root, step
from tests.servers import Server

LAYERS: Final = 10
READABLE_PX: Final = 11
TEXTS: Final = """svg => [...svg.querySelectorAll("text")].map(text => {
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return parseFloat(getComputedStyle(text).fontSize) * scale;
})"""
CONTRAST: Final = """(graph, [what, property]) => {
  const part = (number) => (number /= 255) <= 0.03928 ? number / 12.92 : ((number + 0.055) / 1.055) ** 2.4;
  const light = (color) => {
    const [r, g, b] = color.match(/[0-9.]+/g).map(Number);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = light(getComputedStyle(graph).backgroundColor);
  const lines = [...graph.querySelectorAll(what)].map((each) => light(getComputedStyle(each)[property]));
  return Math.min(...lines.map((line) => (Math.max(line, ground) + 0.05) / (Math.min(line, ground) + 0.05)));
}"""


def layers(count: int, *, failing: str = "") -> list[Json]:
    """Three tasks in each layer, which need two of the layer before."""
    tasks = [root("Layers")]
    for layer in range(count):
        for place in range(3):
            needs = [f"{layer - 1}-{other}" for other in (place, (place + 1) % 3)] if layer else []
            name = f"{layer}-{place}"
            tasks.append(step(name, *needs, then="fail" if name == failing else ""))
    return tasks


def groups() -> list[Json]:
    """Two groups with two steps each."""
    tasks = [root("Groups")]
    for group in ("one", "two"):
        tasks.append({"id": group, "name": f"Group {group}", "parent_id": "root", "dependencies": []})
        tasks += [step(f"{group}-{number}") | {"parent_id": group} for number in range(2)]
    return tasks


def drawing(page: Page) -> Locator:
    return page.locator("[data-graph] > svg")


def width(page: Page) -> float:
    box = drawing(page).bounding_box()
    assert box
    return box["width"]


def test_texts_are_readable_and_the_fit_shows_the_whole(home: Page, server: Server, make: Make) -> None:
    prefix = make(*layers(LAYERS))
    open_tree(home, server, f"{prefix}-root")
    assert min(drawing(home).evaluate(TEXTS)) >= READABLE_PX
    figure = home.locator("[data-graph]")
    assert figure.evaluate("each => each.scrollWidth > each.clientWidth")
    expect(home.locator("[data-map]")).to_be_visible()
    home.get_by_role("button", name="Fit").click()
    assert figure.evaluate("each => each.scrollWidth <= each.clientWidth && each.scrollHeight <= each.clientHeight")
    expect(home.locator("[data-map]")).to_be_hidden()


def test_a_tree_that_has_not_run_opens_at_its_beginning(home: Page, server: Server, make: Make) -> None:
    prefix = make(*layers(LAYERS))
    open_tree(home, server, f"{prefix}-root")
    expect(home.locator(f"[data-graph] [data-task='{prefix}-0-0']")).to_be_in_viewport()


def test_it_is_zoomed_by_buttons_keys_and_the_wheel_with_ctrl(home: Page, server: Server, make: Make) -> None:
    prefix = make(*layers(LAYERS))
    open_tree(home, server, f"{prefix}-root")
    first = width(home)
    home.get_by_role("button", name="Zoom in").click()
    assert width(home) > first
    home.get_by_role("button", name="Zoom out").click()
    assert width(home) == pytest.approx(first, rel=0.01)
    home.locator("[data-graph]").focus()
    home.keyboard.press("+")
    assert width(home) > first
    home.keyboard.press("0")
    assert width(home) < first
    home.keyboard.press("1")
    at = home.locator(f"[data-graph] [data-task='{prefix}-{LAYERS // 2}-1']")
    full = drawing(home).get_attribute("width") or ""
    before = at.bounding_box()
    assert before
    home.mouse.move(before["x"] + 5, before["y"] + 5)
    home.keyboard.down("Control")
    home.mouse.wheel(0, -40)
    home.keyboard.up("Control")
    expect(drawing(home)).not_to_have_attribute("width", full)
    after = at.bounding_box()
    assert after
    assert after["width"] > before["width"]
    assert after["x"] == pytest.approx(before["x"], abs=6)


def test_it_is_dragged_without_a_click(home: Page, server: Server, make: Make) -> None:
    prefix = make(*layers(LAYERS))
    open_tree(home, server, f"{prefix}-root")
    figure = home.locator("[data-graph]")
    task = home.locator(f"[data-graph] [data-task='{prefix}-2-1']")
    box = task.bounding_box()
    assert box
    before = figure.evaluate("each => each.scrollLeft")
    home.mouse.move(box["x"] + 40, box["y"] + 20)
    home.mouse.down()
    home.mouse.move(box["x"] - 60, box["y"] + 20, steps=4)
    home.mouse.up()
    assert figure.evaluate("each => each.scrollLeft") == before + 100
    expect(home.locator("#panel h2")).to_have_text("Layers")
    task.click()
    expect(home.locator("#panel h2")).to_contain_text("Step 2-1")


def test_two_fingers_zoom(phone: Page, server: Server, make: Make) -> None:
    prefix = make(*layers(3))
    open_tree(phone, server, f"{prefix}-root")
    first = width(phone)
    box = phone.locator("[data-graph]").bounding_box()
    assert box
    session = phone.context.new_cdp_session(phone)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, far in [("touchStart", 20), ("touchMove", 40), ("touchMove", 60)]:
        points: list[Json] = [{"x": x - far, "y": y, "id": 0}, {"x": x + far, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert width(phone) > first * 1.5


def test_the_map_leads_to_a_place(home: Page, server: Server, make: Make) -> None:
    prefix = make(*layers(LAYERS))
    open_tree(home, server, f"{prefix}-root")
    last = home.locator(f"[data-graph] [data-task='{prefix}-{LAYERS - 1}-1']")
    expect(last).not_to_be_in_viewport()
    box = home.locator("[data-map]").bounding_box()
    assert box
    home.locator("[data-map]").click(position={"x": box["width"] - 12, "y": box["height"] / 2})
    expect(last).to_be_in_viewport()


def test_a_failed_tree_opens_at_its_first_failure(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*layers(LAYERS, failing="6-1"))
    open_tree(home, server, f"{prefix}-root")
    expect(home.locator("#panel h2")).to_contain_text("Step 6-1")
    failed = home.locator(f"[data-graph] [data-task='{prefix}-6-1']")
    expect(failed).to_have_class(re.compile("selected"))
    expect(failed).to_be_in_viewport()
    expect(home.locator("[data-done]")).to_have_text(re.compile(r"^\d+ completed · 1 failed · \d+ not run$"))
    line(home, "Layers").get_by_role("link").click()
    expect(home.locator("#panel h2")).to_have_text("Layers")
    home.reload()
    expect(home.locator("#panel h2")).to_have_text("Layers")


def test_a_failed_tree_opens_at_its_failure_without_scripts(bare: Page, server: Server, finished: Make) -> None:
    prefix = finished(root("Bare failure", "a"), step("a", then="fail"))
    bare.goto(f"{server.url}/ui/tasks/{prefix}-root")
    expect(bare.locator("#panel h2")).to_contain_text("Step a")
    line(bare, "Bare failure").get_by_role("link").click()
    expect(bare.locator("#panel h2")).to_contain_text("Bare failure")


def test_groups_are_folded_in_graph_and_timeline(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*groups())
    open_tree(home, server, f"{prefix}-root")
    group = home.locator("[data-graph] .node", has_text="Group one")
    step_of = home.locator(f"[data-graph] [data-task='{prefix}-one-0']")
    toggle = line(home, "Group one").get_by_role("button")
    expect(toggle).to_have_attribute("aria-expanded", "true")
    toggle.click()
    expect(group).to_contain_text("2 of 2 tasks")
    expect(step_of).to_have_count(0)
    expect(line(home, "Step one-0")).to_be_hidden()
    expect(line(home, "Step two-0")).to_be_visible()
    expect(toggle).to_be_focused()
    group.get_by_role("button").focus()
    home.keyboard.press("Enter")
    expect(step_of).to_have_count(1)
    expect(line(home, "Step one-0")).to_be_visible()


def test_a_folded_group_opens_for_a_task_that_is_selected_in_it(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*groups())
    open_tree(home, server, f"{prefix}-one-1")
    line(home, "Group one").get_by_role("button").click()
    expect(home.locator("#panel h2")).to_contain_text("Group one")
    home.get_by_label("Find a task").fill("one-0")
    home.keyboard.press("Enter")
    expect(home.locator("#panel h2")).to_contain_text("Step one-0")
    expect(home.locator(f"[data-graph] [data-task='{prefix}-one-0']")).to_have_class(re.compile("selected"))


def test_a_folded_group_counts_while_it_runs(home: Page, server: Server, make: Make, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    tasks = [each | {"inputs": {"gate": str(gate)}} if each["id"] == "one-1" else each for each in groups()]
    prefix = make(*tasks, execute=True)
    open_tree(home, server, f"{prefix}-root")
    line(home, "Group one").get_by_role("button").click()
    group = home.locator("[data-graph] .node", has_text="Group one")
    expect(group).to_contain_text("1 of 2 tasks")
    gate.touch()
    expect(group).to_contain_text("2 of 2 tasks")


def test_arrow_keys_lead_from_box_to_box(home: Page, server: Server, make: Make) -> None:
    prefix = make(*layers(3))
    open_tree(home, server, f"{prefix}-0-1")
    assert home.locator("[data-graph] a[tabindex='0']").count() == 1
    home.locator("[data-graph] a[tabindex='0']").focus()
    home.keyboard.press("ArrowRight")
    expect(home.locator(":focus")).to_have_attribute("data-task", re.compile(f"{prefix}-1-"))
    home.keyboard.press("Enter")
    expect(home.locator("#panel h2")).to_contain_text("Step 1-")


def test_edges_and_borders_can_be_seen(page: Page, server: Server, make: Make) -> None:
    prefix = make(*layers(3))
    open_tree(page, server, f"{prefix}-root")
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for what in (".edge", ".node .box"):
            assert page.locator("[data-graph]").evaluate(CONTRAST, [what, "stroke"]) >= 3, scheme
