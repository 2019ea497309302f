"""The dashboard on a phone."""

import re

from playwright.sync_api import Page, expect

from tests.dashboard.browsing import open_tree
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server


def test_on_a_phone_a_tapped_task_is_shown(phone: Page, server: Server, finished: Make) -> None:
    names = [str(number) for number in range(60)]
    prefix = finished(root("Wide work", *names), *[step(name) for name in names])
    open_tree(phone, server, f"{prefix}-root")
    expect(phone.locator("#panel")).not_to_be_in_viewport()
    phone.locator(f"[data-graph] [data-task='{prefix}-7']").tap()
    expect(phone.locator("#panel h2")).to_have_text(re.compile("Step 7"))
    expect(phone.locator("#panel h2")).to_be_in_viewport()
    expect(phone.locator("[data-log] .which").last).to_have_text("Wide work")
    expect(phone.locator("[data-log] .which").last).to_be_visible()


def test_on_a_phone_the_types_of_inputs_stay_whole(phone: Page, server: Server) -> None:
    phone.goto(f"{server.url}/ui/executors/")
    kind = phone.get_by_role("cell", name="boolean", exact=True).first
    lines = kind.evaluate(
        "cell => { const all = document.createRange(); all.selectNodeContents(cell); return all.getClientRects().length; }"
    )
    assert lines == 1
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_on_a_phone_what_waits_for_an_answer_leaves_room_for_the_name(phone: Page, server: Server, make: Make) -> None:
    ask = step("a", question="Ship it?") | {"schemas": {"method": "approval_executor"}}
    prefix = make(root("Report of all the weeks of the year", "a"), ask, execute=True)
    phone.goto(f"{server.url}/ui/tasks/")
    row = phone.locator(f"tr[data-id='{prefix}-root']")
    expect(row.locator(".asks")).to_be_visible()
    # In one call, which looks for the row itself: it is rendered again when its tree changes.
    name, badge = phone.evaluate(
        "id => ['a', '.asks'].map(what => document.querySelector(`tr[data-id='${id}'] ${what}`).getBoundingClientRect().toJSON())",
        f"{prefix}-root",
    )
    server.rpc("tasks.cancel", {"task_id": f"{prefix}-root"})
    assert name["width"] > 170
    assert name["bottom"] <= badge["top"]


def test_on_a_phone_the_list_has_durations(phone: Page, server: Server, finished: Make) -> None:
    prefix = finished(root("Short work", "a"), step("a"))
    phone.goto(f"{server.url}/ui/tasks/")
    duration = phone.locator(f"tr[data-id='{prefix}-root'] .brief")
    expect(duration).to_be_visible()
    expect(duration).to_have_text(re.compile("[0-9] m?s$"))
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
