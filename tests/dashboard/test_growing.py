"""Trees that grow, in a real browser: maps, loops and spawners are boxes that open and close, and growth is seen live."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from tests.browser import new_page
from tests.dashboard.browsing import SCHEMES, STATUSES, barriers, line, open_tree
from tests.dashboard.conftest import Json, Make, root, step
from tests.servers import Server

FEW: Final = 3
MANY: Final = 30
VERY_MANY: Final = 300
ROUNDS: Final = 100


def map_over(count: int, *, failing: tuple[int, ...] = (), gates: Path | None = None) -> list[Json]:
    """A map, whose items at `failing` fail, and whose item N waits for the file N in the folder."""
    items = [
        {"then": "fail" if number in failing else "", "gate": str(gates / str(number)) if gates else "/"}
        for number in range(count)
    ]
    return [
        root("Report", "each"),
        {"id": "each", "name": "Each", "parent_id": "root", "dependencies": []}
        | {"params": {"for_each": {"items": items, "max_parallel": 1000}}},
        step("person", then="{{item.then}}", gate="{{item.gate}}") | {"parent_id": "each"},
    ]


def loop_of(rounds: int, *, gates: Path | None = None) -> list[Json]:
    """A loop, whose round N waits for the file N in the folder."""
    until = {"path": "/inputs/n", "op": "ge", "value": rounds}
    return [
        root("Looping", "work"),
        {"id": "work", "name": "Work", "parent_id": "root", "dependencies": []}
        | {"params": {"repeat": {"until": until, "max": rounds + 5}}},
        step("try", n="{{round}}", gate=f"{gates}/{{{{round}}}}" if gates else "/") | {"parent_id": "work"},
    ]


def spawner_of(count: int) -> list[Json]:
    tasks = [
        {"id": f"s{number}", "name": f"Spawned {number}", "schemas": {"method": "echo_executor"}}
        for number in range(count)
    ]
    plan = {"schemas": {"method": "echo_executor"}, "params": {"spawn": {}}, "inputs": {"tasks": tasks}}
    return [root("Planned", "plan"), step("plan") | plan]


def box(page: Page, name: str) -> Locator:
    """A map, loop or spawner in the graph."""
    return page.locator("[data-graph] .growing", has_text=name)


def toggle(page: Page, name: str) -> Locator:
    """Its button in the timeline."""
    return line(page, name).get_by_role("button")


def parts(page: Page, name: str) -> Locator:
    return page.locator("[data-lines] a", has_text=name)


def test_a_box_with_few_parts_is_open_and_its_template_is_not_shown(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*map_over(FEW))
    open_tree(home, server, f"{prefix}-root")
    expect(box(home, "Each")).to_contain_text("3 of 3 items")
    expect(line(home, "Each")).to_contain_text("3 of 3 items")
    assert parts(home, "Step person").all_text_contents() == [f"Step person [{number}]" for number in range(FEW)]
    expect(home.locator(f"[data-graph] [data-task^='{prefix}-person']")).to_have_count(FEW)


def test_parts_are_drawn_in_their_order(home: Page, server: Server, finished: Make) -> None:
    tree = map_over(FEW)
    letter = step("letter", "person") | {"parent_id": "each", "schemas": {"method": "echo_executor"}, "inputs": {}}
    for tasks in (tree, [*map_over(FEW), letter]):
        prefix = finished(*tasks)
        open_tree(home, server, f"{prefix}-root")
        tops = [
            home.locator(f"[data-graph] [data-task='{prefix}-person[{number}]']").bounding_box()
            for number in range(FEW)
        ]
        heights = [top["y"] for top in tops if top]
        assert heights == sorted(heights)
        assert len(heights) == FEW


def test_the_template_does_not_count(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*map_over(FEW))
    home.goto(f"{server.url}/ui/tasks/")
    expect(home.locator(f"tr[data-id='{prefix}-root']")).to_contain_text("5 of 5")
    open_tree(home, server, f"{prefix}-root")
    expect(home.locator("[data-done]")).to_have_text("5 of 5 tasks")
    expect(home.locator("[data-strip] .skipped")).to_have_count(0)


def test_before_it_runs_the_template_is_shown_as_one(home: Page, server: Server, make: Make) -> None:
    prefix = make(*map_over(FEW))
    open_tree(home, server, f"{prefix}-root")
    expect(line(home, "Step person")).to_contain_text("template")
    expect(home.locator(f"[data-graph] [data-task='{prefix}-person']")).to_contain_text("template")
    expect(home.locator("[data-fold]")).to_have_count(0)


def test_a_box_with_many_parts_is_closed_and_opens_by_click(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*map_over(MANY, failing=(7, 8)))
    open_tree(home, server, f"{prefix}-root?root")  # without it, the first failed item is selected
    for place in (line(home, "Each"), box(home, "Each")):
        expect(place).to_contain_text("30 of 30 items")
        expect(place).to_contain_text("2 failed")
        expect(place).to_have_class(re.compile("failed"))
    expect(parts(home, "Step person")).to_have_count(0)
    expect(toggle(home, "Each")).to_have_attribute("aria-expanded", "false")
    toggle(home, "Each").click()
    expect(parts(home, "Step person")).to_have_count(MANY)
    expect(toggle(home, "Each")).to_have_attribute("aria-expanded", "true")
    expect(home.locator("[data-graph] .cell.failed")).to_have_count(2)
    box(home, "Each").get_by_role("button").click()
    expect(parts(home, "Step person")).to_have_count(0)
    expect(box(home, "Each").get_by_role("button")).to_have_attribute("aria-expanded", "false")


def test_boxes_open_and_close_by_keys_and_keep_the_focus(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*map_over(MANY))
    open_tree(home, server, f"{prefix}-root")
    for place, keys in (
        (toggle(home, "Each"), ("Enter", "Space")),
        (box(home, "Each").get_by_role("button"), ("Space", "Enter")),
    ):
        place.focus()
        home.keyboard.press(keys[0])
        expect(parts(home, "Step person")).to_have_count(MANY)
        expect(place).to_have_attribute("aria-expanded", "true")
        expect(place).to_be_focused()
        home.keyboard.press(keys[1])
        expect(parts(home, "Step person")).to_have_count(0)
        expect(place).to_be_focused()


def test_the_link_to_a_failed_item_opens_its_box(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*map_over(MANY, failing=(7,)))
    open_tree(home, server, f"{prefix}-root")
    home.get_by_label("Failed tasks").get_by_role("link", name="Step person [7]", exact=True).click()
    expect(line(home, "Step person [7]")).to_have_class(re.compile("selected"))
    expect(home.locator("#panel h2")).to_contain_text("Step person [7]")
    toggle(home, "Each").click()
    expect(parts(home, "Step person")).to_have_count(0)
    expect(line(home, "Each")).to_have_class(re.compile("selected"))
    home.get_by_label("Failed tasks").get_by_role("link", name="Step person [7]", exact=True).click()
    expect(line(home, "Step person [7]")).to_have_class(re.compile("selected"))
    home.reload()
    expect(line(home, "Step person [7]")).to_have_class(re.compile("selected"))


def test_of_very_many_parts_the_failed_ones_are_shown(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*map_over(VERY_MANY, failing=(200, 299)))
    open_tree(home, server, f"{prefix}-root?root")
    toggle(home, "Each").click()
    expect(home.get_by_text("100 of 300 are shown, failed and running ones first.")).to_be_visible()
    expect(parts(home, "Step person")).to_have_count(100)
    expect(line(home, "Step person [200]")).to_have_class(re.compile("failed"))
    expect(line(home, "Step person [299]")).to_have_class(re.compile("failed"))
    expect(home.locator(f"[data-graph] [data-task^='{prefix}-person']")).to_have_count(100)
    open_tree(home, server, f"{prefix}-person%5B250%5D")
    expect(line(home, "Step person [250]")).to_have_class(re.compile("selected"))


def test_a_spawner_and_a_loop_say_how_far_they_are(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*spawner_of(4))
    open_tree(home, server, f"{prefix}-root")
    expect(box(home, "Step plan")).to_contain_text("4 of 4 tasks")
    prefix = finished(*loop_of(FEW))
    open_tree(home, server, f"{prefix}-root")
    expect(box(home, "Work")).to_contain_text("3 rounds")
    expect(line(home, "Work")).to_contain_text("3 rounds")


def test_items_appear_as_they_are_added_and_count(home: Page, server: Server, make: Make, tmp_path: Path) -> None:
    first = tmp_path / "first"
    tree = map_over(FEW, failing=(1,), gates=tmp_path)
    tree[1] |= {"dependencies": ["list"]}
    prefix = make(*tree, step("list", gate=str(first)), execute=True)
    open_tree(home, server, f"{prefix}-root")
    expect(line(home, "Step list")).to_have_class(re.compile("in_progress"))
    home.evaluate("window.isTheSamePage = true")
    first.touch()
    expect(parts(home, "Step person [")).to_have_count(FEW)
    expect(box(home, "Each")).to_contain_text("0 of 3 items")
    expect(home.locator("[data-lines] a").get_by_text("Step person", exact=True)).to_have_count(0)
    (tmp_path / "1").touch()
    expect(box(home, "Each")).to_contain_text("1 of 3 items · 1 failed")
    expect(line(home, "Each")).to_contain_text("1 failed")
    expect(line(home, "Step person [1]")).to_have_class(re.compile("failed"))
    for name in ("0", "2"):
        (tmp_path / name).touch()
    expect(home.locator(STATUSES)).to_have_text("failed")
    expect(box(home, "Each")).to_contain_text("3 of 3 items · 1 failed")
    assert home.evaluate("window.isTheSamePage")


def test_rounds_appear_one_after_the_other(home: Page, server: Server, make: Make, tmp_path: Path) -> None:
    prefix = make(*loop_of(FEW, gates=tmp_path), execute=True)
    open_tree(home, server, f"{prefix}-root")
    for number in range(1, FEW + 1):
        expect(box(home, "Work")).to_contain_text(f"round {number} of {FEW + 5}")
        expect(line(home, f"Step try #{number}")).to_have_class(re.compile("in_progress"))
        expect(home.locator(f"[data-graph] [data-task='{prefix}-try#{number}']")).to_have_class(
            re.compile("in_progress")
        )
        (tmp_path / str(number)).touch()
    expect(home.locator(STATUSES)).to_have_text("completed")
    expect(line(home, "Work")).to_contain_text("3 rounds")


def test_a_loop_of_many_rounds_loads_the_tree_at_most_once_a_second(
    home: Page, server: Server, make: Make, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    tree = loop_of(ROUNDS)
    tree[1] |= {"dependencies": ["start"]}
    prefix = make(*tree, step("start", gate=str(gate)), execute=True)
    loads: list[str] = []

    def note(request: Request) -> None:
        loads.append(urlsplit(request.url).path)

    home.on("request", note)
    open_tree(home, server, f"{prefix}-root")
    began = home.evaluate("performance.now()")
    gate.touch()
    expect(home.locator(STATUSES)).to_have_text("completed", timeout=180_000)
    expect(line(home, "Work")).to_contain_text(f"{ROUNDS} rounds")
    seconds = (home.evaluate("performance.now()") - began) / 1000
    home.remove_listener("request", note)
    growths = [path for path in loads if path.startswith("/ui/growth/")]
    at_once = 2  # the first and the last
    assert 1 <= len(growths) <= seconds + at_once < ROUNDS
    assert loads.count(f"/ui/tasks/{prefix}-root") == 1


def test_the_panel_leads_from_part_to_part(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*map_over(MANY, failing=(7,)))
    open_tree(home, server, f"{prefix}-each")
    panel = home.locator("#panel")
    expect(panel).to_contain_text("30 of 30 items")
    listed = panel.locator(".parts a")
    expect(listed).to_have_count(MANY)
    expect(listed.first).to_have_text("Step person [7]")
    listed.first.click()
    expect(panel.locator("h2")).to_contain_text("Step person [7]")
    expect(panel.locator("dl")).to_contain_text(re.compile(r"Item\s*8 of 30 of\s*Each"))
    panel.get_by_role("link", name="Step person [8]").click()
    expect(line(home, "Step person [8]")).to_have_class(re.compile("selected"))
    expect(panel.get_by_role("link", name="Step person [7]", exact=True)).to_be_visible()
    panel.get_by_role("link", name="Each").click()
    expect(panel.locator("h2")).to_contain_text("Each")


def test_the_panel_of_a_map_is_live(home: Page, server: Server, make: Make, tmp_path: Path) -> None:
    prefix = make(*map_over(FEW, failing=(1,), gates=tmp_path), execute=True)
    open_tree(home, server, f"{prefix}-each")
    panel = home.locator("#panel")
    expect(panel).to_contain_text("0 of 3 items")
    (tmp_path / "1").touch()
    expect(panel).to_contain_text("1 of 3 items")
    expect(panel.locator(".parts .failed + a")).to_have_text("Step person [1]")
    server.rpc("tasks.cancel", {"task_id": f"{prefix}-root"})


def test_a_copy_to_edit_has_the_template_alone(home: Page, server: Server, finished: Make) -> None:
    prefix = finished(*map_over(FEW))
    home.goto(f"{server.url}/ui/new/tree/?copy={prefix}-root")
    text = home.locator("textarea[name=tree]").input_value()
    assert f"{prefix}-person" in text
    assert f"{prefix}-person[0]" not in text


@pytest.fixture
def bare(browser: Browser) -> Iterator[Page]:
    """A browser without scripts."""
    with new_page(browser, java_script_enabled=False) as page:
        yield page


def test_without_scripts_boxes_open_and_close_too(bare: Page, server: Server, finished: Make) -> None:
    prefix = finished(*map_over(MANY))
    bare.goto(f"{server.url}/ui/tasks/{prefix}-root")
    for count in (MANY, 0, MANY):
        toggle(bare, "Each").click()
        expect(parts(bare, "Step person")).to_have_count(count)


def test_boxes_are_accessible(page: Page, server: Server, finished: Make) -> None:
    prefix = finished(*map_over(MANY, failing=(7,)))
    for place in (f"{prefix}-root", f"{prefix}-person%5B7%5D"):
        open_tree(page, server, place)
        for scheme in SCHEMES:
            assert barriers(page, scheme) == []
