"""The forms of new tasks and trees in a real browser."""

import re

from playwright.sync_api import Page, Route, expect

from tests.dashboard.browsing import STATUSES
from tests.servers import Server


def test_a_form_is_made_from_the_schema_and_says_what_is_wrong(home: Page, server: Server) -> None:
    home.goto(server.url)
    home.keyboard.press("n")
    expect(home).to_have_url(re.compile("/ui/new/"))
    home.locator("select[name=executor]").select_option("rest_executor")
    expect(home.locator("[name='in.method']")).to_be_visible()
    home.locator("[name='in.timeout_seconds']").fill("soon")
    home.get_by_role("button", name="Save without running").click()
    expect(home.locator(".field.wrong")).to_contain_text("This must be a number")
    home.locator("[name='in.timeout_seconds']").fill("9000")
    home.get_by_role("button", name="Save without running").click()
    expect(home.get_by_role("alert")).to_contain_text("timeout_seconds")
    expect(home.locator("[name='in.timeout_seconds']")).to_have_accessible_description(re.compile("600"))
    home.locator("[name='in.timeout_seconds']").fill("5")
    home.get_by_role("button", name="Save without running").click()
    expect(home.locator("#panel")).to_contain_text('"timeout_seconds": 5')


def test_the_form_of_a_model_works_without_a_key(home: Page, server: Server) -> None:
    for provider in server.rpc("config.llm_key.get", {}, path="/system")["providers"]:  # of other tests
        server.rpc("config.llm_key.delete", {"provider": provider}, path="/system")
    home.goto(f"{server.url}/ui/new/?executor=llm_executor")
    expect(home.locator("[name='in.model']")).to_have_value("demo/demo")
    home.get_by_role("button", name="Run", exact=True).click()
    expect(home.locator(STATUSES)).to_have_text("completed")


def test_an_executor_that_is_chosen_before_the_script_has_loaded_counts(home: Page, server: Server) -> None:
    held: list[Route] = []
    home.route(re.compile(r"/form[^/]*\.js"), lambda route: route.continue_() if held else held.append(route))
    home.goto(f"{server.url}/ui/new/", wait_until="commit")
    home.locator("select[name=executor]").select_option("rest_executor")
    held[0].continue_()
    expect(home.locator("[name='in.method']")).to_be_visible()


def test_each_field_that_is_wrong_says_so_itself(bare: Page, server: Server) -> None:
    bare.goto(f"{server.url}/ui/new/?executor=rest_executor")
    headers, more = bare.locator("[name='in.headers']"), bare.locator("[name='in.']")
    headers.fill('{"a": ')
    more.fill("[1]")
    bare.get_by_text("Priority, timeout, retries, options").click()
    bare.locator("[name=params]").fill("{")
    bare.get_by_role("button", name="Save without running").click()
    for field, problem in [(headers, "line 1"), (more, "must be an object"), (bare.locator("[name=params]"), "line 1")]:
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(problem))
    expect(bare.locator("[name='in.url']")).not_to_have_attribute("aria-invalid", "true")
    expect(bare.get_by_role("alert")).to_contain_text("Check these fields: headers, more inputs, params.")


def test_the_editor_names_broken_json_at_once_and_a_bad_tree_when_it_is_sent(home: Page, server: Server) -> None:
    home.goto(f"{server.url}/ui/new/tree/")
    editor = home.locator("textarea[name=tree]")
    editor.fill('[{"name": "x"},]')
    expect(home.locator("[data-json-problem]")).not_to_be_empty()
    editor.fill('[{"id": "a", "name": "a", "priority": 9, "dependencies": ["a"]}]')
    editor.press("Control+Enter")
    expect(home.get_by_role("alert")).to_contain_text("tasks[0].priority")
    home.wait_for_load_state()  # its scripts hear the keys
    editor.fill(
        '[{"id": "a", "name": "a", "dependencies": ["b"]}, {"id": "b", "name": "b", "parent_id": "a", "dependencies": ["a"]}]'
    )
    editor.press("Control+Enter")
    expect(home.get_by_role("alert")).to_contain_text("Circular dependency: a -> b -> a")
    expect(editor).to_have_value(re.compile("Circular|dependencies"))


def test_the_editor_names_the_line_of_a_fault_and_leads_there(home: Page, server: Server) -> None:
    home.goto(f"{server.url}/ui/new/tree/")
    editor, problem = home.locator("textarea[name=tree]"), home.locator("[data-json-problem]")
    for text, found in [
        ('[\n  {"id": "a",}\n]', "Line 2, column 14: Expected a name in double quotes."),
        ("[1 2]", "Line 1, column 4: Expected a comma or ]."),
        ('{"a" 1}', "Line 1, column 6: Expected a colon."),
        ('["a\nb"]', "Line 1, column 2: This text does not end, or has a character that needs a backslash."),
        ("[tru]", "Line 1, column 2: Unexpected t."),
        ("[1]\n[", "Line 2, column 1: Expected nothing more."),
        ('[{"a": [', "Line 1, column 9: The text ends too early: expected a value or ]."),
    ]:
        editor.fill(text)
        expect(problem).to_have_text(found)
    editor.fill('[\n  {"id": "a",}\n]')
    problem.get_by_role("button").click()
    expect(editor).to_be_focused()
    assert editor.evaluate("field => field.selectionStart") == len('[\n  {"id": "a",')
    expect(home.locator(".gutter .wrong")).to_have_text("2")
    editor.fill('[{"id": "a"}]')
    expect(problem).to_be_empty()


def test_the_editor_names_the_line_of_what_the_server_refuses(home: Page, server: Server) -> None:
    home.goto(f"{server.url}/ui/new/tree/")
    editor = home.locator("textarea[name=tree]")
    editor.fill('[\n  {"id": "a", "name": "a",\n   "priority": 9}\n]')
    home.get_by_role("button", name="Save without running").click()
    expect(home.get_by_role("alert")).to_contain_text("Line 3")
    expect(home.locator(".paint .number")).to_have_text("9")
