"""Previews of files on the pages of a task and a run: they show the beginning, and nothing of a file runs."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.admin.conftest import PASSWORD
from tests.dashboard.browsing import SCHEMES, barriers
from tests.dashboard.conftest import As
from tests.servers import Server, until
from tests.tasks.rules.test_previews import png

Json = dict[str, Any]
WAVE = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\0\0\0"
HOSTILE = b"<script>document.title = 'owned'</script><svg onload=\"document.title='owned'\"/>"
Keep = Callable[..., str]


@pytest.fixture
def keep(server: Server) -> Iterator[Keep]:
    """Send files, run a tree that has them as inputs and result, and return its id. Both are deleted after the test."""
    kept = list[str]()
    root_ids = list[str]()

    def keep(*files: tuple[str, str, bytes]) -> str:
        values = []
        for name, media_type, data in files:
            sent = server.http.post("/files", params={"name": name, "media_type": media_type}, content=data)
            values.append(sent.json())
        kept.extend(value["$file"] for value in values)
        task = {"name": "Files", "schemas": {"method": "echo_executor"}, "inputs": {"message": values}}
        done = server.rpc("tasks.create", {"tasks": [task]})
        task_id: str = (done if isinstance(done, dict) else done[0])["id"]
        server.rpc("tasks.execute", {"task_id": task_id, "wait": True})
        root_ids.append(task_id)
        return task_id

    yield keep
    for root_id in root_ids:
        server.rpc("tasks.delete", {"task_id": root_id, "force": True})
    for file_id in kept:
        server.rpc("files.delete", {"file_id": file_id})


def opened(page: Page, name: str) -> Any:
    """The preview of the file in the result, opened."""
    row = page.locator("#panel section").first.locator(".file-list li", has_text=name)
    row.locator("summary").click()
    return row.locator("file-view")


def test_files_of_a_result_are_shown_and_nothing_of_them_runs(home: Page, server: Server, keep: Keep) -> None:
    name = '"><img src=x onerror=\'document.title = "owned"\'>'
    task_id = keep(
        ("dot.png", "image/png", png(4, 4, (b"\0" + b"\xff\0\0" * 4) * 4)),
        ("table.csv", "text/csv", b"city,<b>people</b>\nBern,134\n"),
        ("tone.wav", "audio/wav", WAVE),
        ("page.html", "text/html", HOSTILE),
        ("picture.svg", "image/svg+xml", HOSTILE),
        ("false.png", "image/png", HOSTILE),
        ("bomb.png", "image/png", png(100_000, 100_000)),
        ("report.pdf", "application/pdf", b"%PDF-1.7"),
        (name, "text/plain", b"<i>words</i>\n" * 100),
    )
    home.goto(f"{server.url}/ui/tasks/{task_id}")
    title = home.title()
    image = opened(home, "dot.png").locator("img")
    expect(image).to_be_visible()
    assert image.evaluate("async image => { await image.decode(); return image.naturalWidth; }") == 4
    table = opened(home, "table.csv")
    expect(table.get_by_role("columnheader")).to_have_text(["city", "<b>people</b>"])
    expect(table.get_by_role("cell")).to_have_text(["Bern", "134"])
    expect(opened(home, "tone.wav").locator("audio")).to_be_visible()
    for hostile in ("page.html", "picture.svg", "false.png"):
        expect(opened(home, hostile).locator("pre")).to_contain_text("<script>document.title")
    expect(opened(home, "bomb.png")).to_contain_text("too large to show: 10,000 million pixels")
    expect(opened(home, "report.pdf")).to_contain_text("The pages cannot be shown")
    text = opened(home, "onerror")
    expect(text.locator("pre")).to_contain_text("<i>words</i>")
    expect(text).to_contain_text("Only the beginning is shown.")
    assert home.locator("#panel img[src=x]").count() == 0
    assert home.title() == title
    for scheme in SCHEMES:
        assert barriers(home, scheme) == []


def test_a_file_that_is_opened_by_its_address_is_stored_and_not_shown(server: Server, keep: Keep) -> None:
    task_id = keep(("page.html", "text/html", HOSTILE), ("dot.png", "image/png", png(1, 1) + HOSTILE))
    for value in server.rpc("tasks.get", {"task_id": task_id})["inputs"]["message"]:
        answer = server.http.get(f"/ui/files/{value['$file']}/", follow_redirects=True)
        assert answer.status_code == 200
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"] in ("application/octet-stream", "image/png")


def test_the_files_of_a_run_are_listed_and_downloaded(home: Page, server: Server, keep: Keep) -> None:
    task_id = keep(("a.txt", "text/plain", b"A" * 2048), ("b.txt", "text/plain", b"B"))
    (run,) = server.rpc("runs.list", {"task_id": task_id})["runs"]
    listed = server.rpc("files.list", {"run_id": run["id"]})["files"]
    assert [file["name"] for file in listed] == ["b.txt", "a.txt"]
    home.goto(f"{server.url}/ui/runs/{run['id']}/")
    files = home.locator(".file-list li")
    expect(files).to_have_text([re.compile("b.txt text/plain · 1 byte"), re.compile("a.txt text/plain · 2 KiB")])
    with home.expect_download() as download:
        home.get_by_role("link", name="Download a.txt").click()
    assert download.value.suggested_filename == "a.txt"
    assert download.value.path().read_bytes() == b"A" * 2048


def test_on_a_phone_files_fit(phone: Page, server: Server, keep: Keep) -> None:
    rows = b",".join(b"column %d" % number for number in range(12)) + b"\n" + b"x" * 300
    task_id = keep((f"{'wide ' * 40}.csv", "text/csv", rows))
    phone.goto(f"{server.url}/ui/tasks/{task_id}")
    expect(phone.locator("file-view table").first).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_permit_allows_to_send_files_and_nothing_else(guarded: Server, as_: As) -> None:
    form = as_("alice").get("/ui/new/?executor=rest_executor").text
    permit = re.search('data-permit="([^"]+)"', form)
    assert permit is not None
    fields = {"name": "new.txt", "bytes": "3", "media_type": ""}
    announced = httpx.post(f"{guarded.url}/ui/files/", data=fields | {"permit": permit[1]})
    assert announced.status_code == 201, announced.text
    sent = httpx.put(guarded.url + announced.json()["url"], content=b"new")
    assert (sent.status_code, sent.json()["user_id"]) == (200, "alice")
    again = httpx.put(guarded.url + announced.json()["url"], content=b"", headers={"Upload-Offset": "3"})
    assert again.json()["file"] == sent.json()["file"], "a client that missed the response asks again"
    assert httpx.put(guarded.url + announced.json()["url"] + "x", content=b"new").status_code == 404
    assert httpx.get(guarded.url + announced.json()["url"]).status_code == 400, "it allows to send, not to read"
    assert httpx.get(guarded.url + announced.json()["url"].replace("?upload=", "?link=")).status_code == 404
    for wrong in ({"permit": permit[1] + "x"}, {"permit": ""}, {"permit": permit[1], "bytes": "-1"}, {"name": "a/b"}):
        refused = httpx.post(f"{guarded.url}/ui/files/", data=fields | {"permit": permit[1]} | wrong)
        assert refused.status_code == 400, refused.text
    assert as_("vera").get("/ui/new/?executor=rest_executor").status_code == 403


def test_a_file_in_an_answer_belongs_to_the_owner_of_the_run(guarded: Server, as_: As) -> None:
    def headers_of(name: str) -> dict[str, str]:
        login = guarded.http.post("/auth/login", json={"username": name, "password": PASSWORD}).json()
        return {"Authorization": f"Bearer {login['access']}"}

    alice, bob = headers_of("alice"), headers_of("bob")
    form = {"type": "object", "properties": {"signed": {"format": "file"}}, "required": ["signed"]}
    inputs = {"question": "Signed?", "schema": form, "assignees": ["bob"]}
    ask = {"name": "Ask", "schemas": {"method": "approval_executor"}, "inputs": inputs}
    task_id = guarded.rpc("tasks.execute", {"tasks": [ask]}, **alice)["task_id"]

    def asked() -> list[Json]:
        found = guarded.rpc("questions.list", {}, **bob)["questions"]
        return [question for question in found if question["task_id"] == task_id]

    link = until(asked, seconds=60, what="the question to bob")[0]["answer_url"]
    permit = re.search('data-permit="([^"]+)"', httpx.get(link).text)
    assert permit is not None
    announced = httpx.post(f"{guarded.url}/ui/files/", data={"permit": permit[1], "name": "a.pdf", "bytes": "3"})
    value = httpx.put(guarded.url + announced.json()["url"], content=b"yes").json()["file"]
    own = guarded.http.post("/files", params={"name": "bobs.pdf"}, content=b"bob", headers=bob).json()
    refused = httpx.post(link, data={"in.signed": json.dumps(own)})
    assert (refused.status_code, "there is no complete file" in refused.text) == (400, True)
    assert httpx.post(link, data={"in.signed": json.dumps(value)}).status_code == 200
    until(
        lambda: guarded.rpc("tasks.get", {"task_id": task_id}, **alice)["status"] == "completed",
        seconds=60,
        what="the end of the task",
    )
    assert guarded.rpc("tasks.get", {"task_id": task_id}, **alice)["result"] == {"signed": value}
    assert guarded.http.get(f"/files/{value['$file']}", headers=alice).content == b"yes"
    assert guarded.http.get(f"/files/{value['$file']}", headers=bob).status_code == 404
    page, absent = f"/ui/files/{value['$file']}/", f"/ui/files/{'0' * 36}/"
    assert as_("alice").get(page).status_code == 302
    seen = [as_("bob").get(path) for path in (page, absent)]
    assert [each.status_code for each in seen] == [404, 404]
    assert len({_without(each.text, value["$file"], "0" * 36) for each in seen}) == 1
    assert httpx.get(guarded.url + page).headers["Location"].startswith("/login/")


def _without(page: str, *names: str) -> str:
    """The page, without ids and what each page has of its own."""
    for name in names:
        page = page.replace(name, "")
    return re.sub(r'(csrfmiddlewaretoken" value=|X-CSRFToken[^:]*:\s*)"?\w+', "", page)
