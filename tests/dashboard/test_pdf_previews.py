"""Pages of PDFs: they are drawn by a process of their own, and a PDF that is made to do harm does none."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from tasks.dashboard import pdf
from tasks.dashboard.pdf import PROGRAM, Places, _printed
from tests.dashboard.browsing import SCHEMES, barriers
from tests.pdfs import page
from tests.pdfs import pdf as pdf_of
from tests.servers import Server, children_with

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the processor time of the program is limited here."""
    monkeypatch.setattr(pdf, "SECONDS", 250.0)


@pytest.fixture
def run(server: Server) -> Iterator[Any]:
    """Run a tree that has these PDFs as its result, and return its id. It is deleted after the test."""
    left: list[tuple[str, list[str]]] = []

    def run(**documents: bytes) -> str:
        values = []
        for name, data in documents.items():
            sent = server.http.post("/files", params={"name": f"{name}.pdf"}, content=data)
            values.append(sent.json())
        task = {"name": "PDFs", "schemas": {"method": "echo_executor"}, "inputs": {"message": values}}
        task_id: str = server.rpc("tasks.execute", {"tasks": [task], "wait": True})["task_id"]
        left.append((task_id, [value["$file"] for value in values]))
        return task_id

    yield run
    for task_id, file_ids in left:
        server.rpc("tasks.delete", {"task_id": task_id, "force": True})
        for file_id in file_ids:
            server.rpc("files.delete", {"file_id": file_id})


def preview(tab: Page, name: str) -> Any:
    """The preview of a file in the result. Few files are open from the beginning."""
    return tab.locator("#panel section").first.locator(".file-list li", has_text=name).locator("file-view")


def test_the_first_pages_of_a_pdf_are_shown(home: Page, phone: Page, server: Server, run: Any) -> None:
    task_id = run(report=pdf_of(*(page(f"Page {number}") for number in range(7))), broken=b"%PDF-1.7\nno more")
    for tab in (home, phone):
        tab.goto(f"{server.url}/ui/tasks/{task_id}")
        view = preview(tab, "report.pdf")
        expect(view.get_by_role("img")).to_have_count(5)
        expect(view.get_by_role("img", name="Page 1 of report.pdf")).to_be_visible()
        expect(view).to_contain_text("5 of 7 pages are shown.")
        first = view.get_by_role("img").first.evaluate(COLOURS)
        assert first == [700, 1000, [255, 0, 0, 255], [255, 255, 255, 255]]
        expect(preview(tab, "broken.pdf")).to_contain_text("The pages cannot be shown")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for scheme in SCHEMES:
        assert barriers(home, scheme) == []


COLOURS: Final = """async image => {
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const at = (x, y) => [...context.getImageData(x, y, 1, 1).data];
    return [canvas.width, canvas.height, at(350, 50), at(350, 900)];
}"""


async def printed(folder: Path, data: bytes) -> Json:
    path = folder / "document.pdf"
    path.write_bytes(data)
    found = await _printed(path)
    assert children_with(PROGRAM) == []
    return dict(json.loads(found)) if found else {}


@pytest.mark.parametrize("size", [(14_400, 14_400), (0.001, 14_400), (1e30, 1e30), (1, 1)])
async def test_a_page_of_any_size_is_an_image_of_a_usual_one(size: tuple[float, float], tmp_path: Path) -> None:
    found = await printed(tmp_path, pdf_of(b"", size=size))
    assert (found["count"], len(found["images"][0]) < 10_000) == (1, True)


@pytest.mark.parametrize(
    "content",
    [
        b"0 0 m 300 400 l S\n" * 20_000_000,  # 870 KB in the file, 360 MB in memory
        b"0 0 m 300 400 l 9 9 200 300 re S\n" * 3_000_000,  # 290 KB, and minutes to draw
    ],
)
async def test_a_page_that_takes_too_much_is_not_shown(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "LIMITS", replace(pdf.LIMITS, cpu_seconds=1))
    assert await printed(tmp_path, pdf_of(content)) == {}


async def test_the_program_reads_nothing_but_the_pdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the PDF takes it over, as this program in its place shows."""
    secret, program = tmp_path / "secret", tmp_path / "program.py"
    secret.write_text("canary")
    program.write_text(f"print(open({str(secret)!r}).read())")
    monkeypatch.setattr(pdf, "PROGRAM", str(program))
    home = tmp_path / "home"
    home.mkdir()
    (home / "document.pdf").write_bytes(pdf_of(b""))
    assert await _printed(home / "document.pdf") == b""


async def test_a_user_reads_one_pdf_at_a_time_and_two_users_two() -> None:
    places, order, end = Places(), list[str](), asyncio.Event()

    async def read(user_id: str) -> None:
        async with places.taken_by(user_id):
            order.append(user_id)
            await end.wait()

    tasks = [asyncio.create_task(read(user_id)) for user_id in ("alice", "alice", "alice", "bob", "carol")]
    for _ in range(10):
        await asyncio.sleep(0)
    assert order == ["alice", "bob"]
    end.set()
    await asyncio.gather(*tasks)
    assert sorted(order[2:]) == ["alice", "alice", "carol"]
