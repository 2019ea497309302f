"""The app of runs in a host with the official bridge, in Chromium: seen live, answered, started, and in the theme of the host."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from tests.clients.mcp_app import BUILT, built, script_of
from tests.documents import text
from tests.servers import Server
from tests.shell import new_shell

Json = dict[str, Any]
HOST: Final = Path(__file__).with_name("mcp_app_host.js")
PAGE: Final = "<!doctype html><style>body{margin:0}iframe{width:100%;border:0}</style><body><script>"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of the host's page, at another origin than the server of the app."""
    script = script_of(HOST).replace("</script", r"<\/script")
    page = f"{PAGE}{script}</script>".encode()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


class Host:
    """The host in a page of the browser, connected to our server."""

    def __init__(self, page: Page, address: str, server: Server) -> None:
        self.page = page
        self.asked: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on(
            "console", lambda line: self.asked.append(line.text) if "Content Security Policy" in line.text else None
        )
        page.goto(address)
        self.tools = page.evaluate("url => host.connect(url)", f"{server.url}/mcp")
        self.allowed = (address, f"{server.url}/mcp")

    def call(self, tool: str, given: Json, theme: str = "light") -> Json:
        result: Json = self.page.evaluate(
            "([name, given, theme]) => host.call(name, given, theme)", [tool, given, theme]
        )
        return result

    @property
    def app(self) -> FrameLocator:
        return self.page.frame_locator("iframe")

    @property
    def foreign(self) -> list[str]:
        """What was requested, or refused by the policy, beside the host's page and its calls of the server."""
        return [url for url in self.asked if url not in self.allowed and url != "about:srcdoc"]


@pytest.fixture
def host(page: Page, address: str, open_server: Server) -> Host:
    return Host(page, address, open_server)


def test_the_document_is_built_from_its_sources() -> None:
    for name, content in built().items():
        assert (BUILT / name).read_text() == content, "run `make reference`"


def test_a_tree_is_seen_live_answered_and_its_result_is_shown(host: Host, tmp_path: Path) -> None:
    tasks = [
        {"id": "root", "name": "Announce", "dependencies": ["ask", "work"]}
        | {"schemas": {"method": "aggregate_results_executor"}},
        {"id": "work", "name": "Draft", "parent_id": "root", "schemas": {"method": "scripted_executor"}}
        | {"inputs": {"gate": str(tmp_path / "gate")}},
        {
            "id": "ask",
            "name": "Approve",
            "parent_id": "root",
            "dependencies": [],
            "schemas": {"method": "approval_executor"},
        }
        | {"inputs": {"question": "Publish it?", "options": ["yes", "no"]}},
    ]
    result = host.call("run_tree", {"tasks": tasks})
    assert result["structuredContent"]["status"] == "in_progress"
    app = host.app
    expect(app.get_by_role("heading", name="Announce")).to_be_visible()
    expect(app.get_by_role("listitem").filter(has_text="Draft")).to_have_attribute("data-status", "in_progress")
    expect(app.get_by_role("status")).to_have_text("waits for an answer")
    app.get_by_label("Comment").fill("Good")
    app.get_by_role("button", name="yes").click()
    expect(app.get_by_role("listitem").filter(has_text="Approve")).to_have_attribute("data-status", "completed")
    expect(app.get_by_text("Publish it?")).to_have_count(0)
    (tmp_path / "gate").touch()
    expect(app.get_by_role("status")).to_have_text("completed")
    expect(app.locator("pre")).to_contain_text('"comment": "Good"')
    host.page.wait_for_function("host.context.length === 1")
    (said,) = host.page.evaluate("host.context")
    assert said.startswith(f"The run {result['structuredContent']['run_id']} of Announce is completed:")
    assert host.foreign == []


def test_the_form_of_a_flow_runs_it(host: Host, open_server: Server) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "title": "Name", "description": "The person to greet."},
            "times": {"type": "integer", "minimum": 1, "default": 2},
            "tone": {"enum": ["warm", "formal"], "default": "warm"},
            "loud": {"type": "boolean"},
            "more": {"type": "array"},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    inputs = {name: f"{{{{run.inputs.{name}}}}}" for name in ("name", "times", "tone", "loud", "more")}
    task = {"name": "Greet", "schemas": {"method": "echo_executor"}, "inputs": inputs}
    flow = {"name": "greet-in-app", "description": "Greets a person.", "inputs_schema": schema, "tasks": task}
    open_server.rpc("flows.save", flow)
    host.call("show_flow", {"name": "greet-in-app"}, "dark")
    app = host.app
    expect(app.get_by_text("Greets a person.")).to_be_visible()
    app.get_by_role("button", name="Run").click()  # the name is required
    expect(app.get_by_label("Name")).to_be_focused()
    app.get_by_label("Name").fill("Ada")
    app.get_by_label("tone").select_option("formal")
    app.get_by_label("more").fill('["x"]')
    app.get_by_role("button", name="Run").click()
    expect(app.get_by_role("status")).to_have_text("completed")
    for line in ('"name": "Ada"', '"times": 2', '"tone": "formal"', '"loud": false'):
        expect(app.locator("pre")).to_contain_text(line)
    open_server.rpc("flows.delete", {"name": "greet-in-app"})
    assert host.foreign == []


def test_the_files_of_a_result_are_links_that_the_host_opens(host: Host, open_server: Server) -> None:
    file = open_server.http.post("/files?name=report.txt", content=b"Rivers flow to the sea.").json()
    task = {"name": "Report", "schemas": {"method": "echo_executor"}, "inputs": {"report": file}}
    host.call("run_tree", {"tasks": task})
    host.app.get_by_role("button", name="report.txt · 23 bytes").click()
    host.page.wait_for_function("host.links.length === 1")
    (link,) = host.page.evaluate("host.links")
    assert link.startswith(open_server.url)
    assert open_server.http.get(link).content == b"Rivers flow to the sea."


def test_a_failure_and_a_refusal_are_shown(host: Host) -> None:
    host.call(
        "run_tree", {"tasks": {"name": "Break", "schemas": {"method": "scripted_executor"}, "inputs": {"then": "fail"}}}
    )
    expect(host.app.get_by_role("status")).to_have_text("failed")
    host.call("show_run", {"run_id": "no-such-run"})
    expect(host.app.get_by_text("no-such-run")).to_be_visible()


def test_a_run_is_cancelled_from_the_app_in_the_theme_of_the_host(host: Host) -> None:
    sleep = {"name": "Sleep", "schemas": {"method": "sleep_executor"}, "inputs": {"seconds": 600}}
    host.call("run_tree", {"tasks": sleep}, "dark")
    colour = "element => getComputedStyle(element).backgroundColor"
    body = host.app.locator("body")
    expect(host.app.get_by_role("listitem").filter(has_text="Sleep")).to_have_attribute("data-status", "in_progress")
    assert body.evaluate(colour) == "rgb(16, 21, 28)"
    host.page.evaluate("host.theme('light')")
    expect(body).to_have_css("background-color", "rgb(255, 253, 247)")
    host.app.get_by_role("button", name="Cancel").click()
    expect(host.app.get_by_role("status")).to_have_text("cancelled")


def test_the_page_is_true(host: Host, open_server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    page, heading = "docs/how-to/mcp.md", "See a tree inside the chat"
    shell = new_shell(tmp_path_factory)
    (shell.folder / "announce.yaml").write_text(text(page, heading, "yaml"))
    shell.run(text(page, heading, "sh"), AIPARTNERUPFLOW_URL=open_server.url)
    host.call("show_flow", {"name": "announce"})
    app = host.app
    app.get_by_label("Product").fill("Version 2")
    app.get_by_role("button", name="Run").click()
    expect(app.get_by_text("Publish 'Version 2 is here.'?")).to_be_visible()
    app.get_by_role("button", name="yes").click()
    expect(app.get_by_role("status")).to_have_text("completed")
    expect(app.get_by_role("listitem")).to_have_count(3)
    open_server.rpc("flows.delete", {"name": "announce"})


def test_models_do_not_get_the_tools_of_the_app(host: Host) -> None:
    assert {"run_tree", "show_run", "show_flow"} <= set(host.tools)
    assert {"watch_run", "link_file"} & set(host.tools) == set()
