"""Fields for files, in a real browser: they send what is chosen, continue after broken connections, and say what failed."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.dashboard.browsing import SCHEMES, barriers
from tests.dashboard.conftest import Make, root, step
from tests.servers import Server, until

Json = dict[str, Any]
SCHEMA: Json = {
    "properties": {
        "doc": {"format": "file", "title": "Report", "description": "A PDF"},
        "pages": {"type": "array", "items": {"format": "file"}},
    },
    "required": ["doc"],
}
TASKS: list[Json] = [
    {
        "id": "read",
        "name": "Read",
        "schemas": {"method": "echo_executor"},
        "inputs": {"message": {"doc": "{{run.inputs.doc}}"}},
    }
]


@pytest.fixture
def flow(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a flow that takes files. Its runs and the files of the test are deleted with it."""
    name = re.sub("[^a-z]", "-", f"files-{request.node.name}")[:90]
    before = {file["id"] for file in server.rpc("files.list", {"limit": 1000})["files"]}
    server.rpc("flows.save", {"name": name, "tasks": TASKS, "inputs_schema": SCHEMA})
    yield name
    for run in server.rpc("runs.list", {"flow": name})["runs"]:
        completed(server, run["root_task_id"])
        server.rpc("tasks.delete", {"task_id": run["root_task_id"], "force": True})
    server.rpc("flows.delete", {"name": name})
    for file in server.rpc("files.list", {"limit": 1000})["files"]:
        if file["id"] not in before:
            server.rpc("files.delete", {"file_id": file["id"]})


def completed(server: Server, task_id: str) -> Json:
    """The task, once it has completed."""

    def found() -> Json:
        task: Json = server.rpc("tasks.get", {"task_id": task_id})
        return task if task["status"] == "completed" else {}

    return until(found, seconds=60, what="the end of the task")


def inputs_of_run(server: Server, flow: str) -> Json:
    (run,) = server.rpc("runs.list", {"flow": flow})["runs"]
    inputs: Json = server.rpc("runs.get", {"run_id": run["id"]})["inputs"]
    return inputs


def made(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def test_files_that_are_chosen_are_the_inputs_of_the_run(home: Page, server: Server, flow: str, tmp_path: Path) -> None:
    report = made(tmp_path / "Q3 <b>report.pdf", 300_000)
    pages = [made(tmp_path / f"page {number}.png", 10 + number) for number in range(2)] + [made(tmp_path / "empty", 0)]
    home.goto(f"{server.url}/ui/flows/{flow}/run/")
    expect(home.locator("textarea[name='in.doc']")).to_be_hidden()
    home.get_by_label("Report", exact=False).set_input_files(report)
    expect(home.locator(".sent-files li").first).to_contain_text("Q3 <b>report.pdf293 KiB")
    home.get_by_label("pages").set_input_files(pages)
    expect(home.locator("[name='in.pages']")).to_have_value(re.compile("empty"))
    home.get_by_role("button", name="Remove: page 0.png").click()
    home.get_by_role("button", name="Run", exact=True).click()
    expect(home.locator(".messages")).to_contain_text("was submitted")
    inputs = inputs_of_run(server, flow)
    assert [inputs["doc"]["name"], inputs["doc"]["media_type"]] == [report.name, "application/pdf"]
    assert [each["name"] for each in inputs["pages"]] == ["page 1.png", "empty"]
    for value, path in zip([inputs["doc"], *inputs["pages"]], [report, *pages[1:]], strict=True):
        assert server.http.get(f"/files/{value['$file']}").content == path.read_bytes()


def test_an_upload_continues_where_its_connection_broke(home: Page, server: Server, flow: str, tmp_path: Path) -> None:
    report = made(tmp_path / "report.bin", 500_000)
    offsets = list[str]()

    def cut(route: Route) -> None:
        """Send the first half of the bytes, then break the connection."""
        offsets.append(route.request.headers["upload-offset"])
        if len(offsets) == 1:
            half = report.read_bytes()[:250_000]
            sent = server.http.put(route.request.url, content=half, headers={"Upload-Offset": "0"})
            assert sent.json()["received"] == len(half)
            route.abort("connectionreset")
        else:
            route.continue_()

    home.route("**/files/*?upload=*", cut)
    home.goto(f"{server.url}/ui/flows/{flow}/run/")
    home.get_by_label("Report", exact=False).set_input_files(report)
    expect(home.locator("[name='in.doc']")).to_have_value(re.compile("report.bin"))
    assert offsets == ["0", "500000", "250000"], "it asks where to continue"
    home.get_by_role("button", name="Run", exact=True).click()
    expect(home.locator(".messages")).to_contain_text("was submitted")
    assert server.http.get(f"/files/{inputs_of_run(server, flow)['doc']['$file']}").content == report.read_bytes()


def test_the_form_waits_for_its_files_and_says_what_failed(
    home: Page, server: Server, flow: str, tmp_path: Path
) -> None:
    held = list[Route]()
    home.route("**/files/*?upload=*", lambda route: route.continue_() if held else held.append(route))
    home.goto(f"{server.url}/ui/flows/{flow}/run/")
    field = home.get_by_label("Report", exact=False)
    with home.expect_request("**/files/*?upload=*"):
        field.set_input_files(made(tmp_path / "slow.bin", 10))
    home.get_by_role("button", name="Run", exact=True).click()
    assert field.evaluate("field => field.validationMessage") == "Wait until the files have been sent."
    expect(home).to_have_url(re.compile("/run/$"))
    held[0].fulfill(status=413, json={"error": {"message": "The file has more than 5 bytes (limits.file_bytes)."}})
    expect(home.locator(".sent-files .failed")).to_contain_text("The file has more than 5 bytes (limits.file_bytes).")
    assert field.evaluate("field => field.validationMessage") == "A file was not sent. Try again, or remove it."
    home.get_by_role("button", name="Try again: slow.bin").click()
    expect(home.locator("[name='in.doc']")).to_have_value(re.compile("slow.bin"))
    assert field.evaluate("field => field.validationMessage") == ""


def test_a_form_that_is_shown_again_keeps_its_files(home: Page, server: Server, flow: str, tmp_path: Path) -> None:
    home.goto(f"{server.url}/ui/flows/{flow}/run/")
    home.get_by_label("Report", exact=False).set_input_files(made(tmp_path / "kept.bin", 10))
    expect(home.locator("[name='in.doc']")).to_have_value(re.compile("kept.bin"))
    home.locator("[name=tags]").fill("x" * 500)
    home.get_by_role("button", name="Run", exact=True).click()
    expect(home.locator(".field.wrong")).to_have_count(1)
    expect(home.locator(".sent-files li")).to_contain_text("kept.bin10 bytes")
    home.locator("[name=tags]").fill("")
    home.get_by_role("button", name="Run", exact=True).click()
    expect(home.locator(".messages")).to_contain_text("was submitted")
    assert inputs_of_run(server, flow)["doc"]["name"] == "kept.bin"


def test_a_question_may_ask_for_a_file(home: Page, server: Server, make: Make, tmp_path: Path) -> None:
    form = {"type": "object", "properties": {"signed": {"format": "file"}}, "required": ["signed"]}
    ask = step("a", question="Sign it?", schema=form) | {"schemas": {"method": "approval_executor"}}
    task_id = f"{make(root('Signed', 'a'), ask, execute=True)}-a"
    signed = made(tmp_path / "signed.pdf", 100)
    until(lambda: "Sign it?" in server.http.get("/ui/inbox/").text, seconds=30, what="the question")
    home.goto(f"{server.url}/ui/inbox/")
    home.get_by_label("signed").set_input_files(signed)
    expect(home.locator(".sent-files li")).to_contain_text("signed.pdf100 bytes")
    home.get_by_role("button", name="Answer").click()
    expect(home.locator(".messages")).to_contain_text("Answer saved")
    (value,) = _files(completed(server, task_id)["result"])
    assert server.http.get(f"/files/{value}").content == signed.read_bytes()


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$file" in value:
            yield value["$file"]
        for each in value.values():
            yield from _files(each)


def test_the_fields_are_accessible_and_fit_a_phone(
    home: Page, phone: Page, server: Server, flow: str, tmp_path: Path
) -> None:
    long = made(tmp_path / f"{'long ' * 40}.pdf", 5)
    for page in (home, phone):
        page.goto(f"{server.url}/ui/flows/{flow}/run/")
        field = page.get_by_label("Report", exact=False)
        assert field.evaluate("field => getComputedStyle(field).fontSize") == "0px", "it does not say: no file chosen"
        assert field.evaluate("field => parseFloat(getComputedStyle(field, '::file-selector-button').fontSize)") > 10
        field.focus()
        expect(field).to_be_focused()
        field.set_input_files(long)
        expect(page.locator(".sent-files li")).to_contain_text("5 bytes")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for scheme in SCHEMES:
        assert barriers(home, scheme) == []
