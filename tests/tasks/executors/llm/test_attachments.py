"""Images, documents and sounds in messages: fetched through the guard, sent as data, filled in from dependencies."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from aipartnerupflow.executors import ExecutorError
from aipartnerupflow.executors.files import Files as OwnFiles
from tasks.executors.http.safe_http import Egress, fetch
from tasks.executors.llm.attachments import MAX_FILES, with_files
from tests.llm_site import KEY, WITH_KEY, LlmSite

EXECUTOR = "llm_executor"
DOT = b"\x89PNG\r\n\x1a\n dot"
PNG = f"data:image/png;base64,{base64.b64encode(DOT).decode()}"
PDF = "data:application/pdf;base64,JVBERi0xLjQ="
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZF", "format": "wav"}}
Json = dict[str, Any]


class Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 404 if self.path == "/gone" else 503 if self.path == "/away" else 200
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if self.path == "/page" else "image/png")
        self.send_header("Content-Length", str(len(DOT)))
        self.end_headers()
        self.wfile.write(DOT)

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def files() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def image(url: str) -> Json:
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def message(*parts: Json) -> Json:
    return {"role": "user", "content": [{"type": "text", "text": "Look"}, *parts]}


async def no_file(name: str, arguments: Json) -> Any:
    raise AssertionError(f"{name}: no message names a file")


async def fetched(*paths: str) -> list[Json]:
    with files() as port:
        egress = Egress(
            allow_private=["127.0.0.1"], allowed_ports=[port], allow_private_by="{host}", allowed_ports_key="ports"
        )
        parts = [image(f"http://127.0.0.1:{port}{path}") for path in paths]
        return await with_files(
            [message(*parts), {"role": "assistant", "content": "So."}], partial(fetch, egress=egress), OwnFiles(no_file)
        )


async def test_an_image_behind_an_address_is_sent_as_data() -> None:
    assert await fetched("/a", "/b", "/a") == [
        message(image(PNG), image(PNG), image(PNG)),
        {"role": "assistant", "content": "So."},
    ]


@pytest.mark.parametrize(
    ("path", "says", "permanent"),
    [
        ("/gone", "its server answered 404", True),
        ("/away", "its server answered 503", False),
        ("/page?secret=1", "is neither an address nor data:image/", True),
    ],
)
async def test_a_file_that_cannot_be_sent_fails_the_task(path: str, says: str, permanent: bool) -> None:
    with pytest.raises(ExecutorError, match=says) as failed:
        await fetched(path.partition("?")[0])
    assert failed.value.permanent is permanent
    assert "secret" not in str(failed.value)


async def test_a_message_has_not_many_addresses() -> None:
    with pytest.raises(ExecutorError, match=f"more than {MAX_FILES} addresses"):
        await fetched(*(f"/{number}" for number in range(MAX_FILES + 1)))


def test_an_address_in_the_network_of_the_operator_is_refused(site: LlmSite) -> None:
    error = site.error_of(EXECUTOR, {"messages": [message(image("http://169.254.169.254/latest"))]})
    assert "its address 169.254.169.254 is not public" in error
    assert site.llm.asked == []


def test_documents_and_sounds_reach_a_model_that_takes_them(site: LlmSite) -> None:
    parts = [{"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}}, SOUND]
    site.run(EXECUTOR, {"messages": [message(*parts)], "model": "openai/gpt-4o"})
    assert site.llm.asked[-1].body["messages"][0]["content"][1:] == parts


def test_a_sound_is_not_left_out_silently(site: LlmSite) -> None:
    key = {"X-LLM-API-KEY": f"anthropic:{KEY}"}
    inputs = {"messages": [message(SOUND)], "model": "anthropic/claude-sonnet-4-5"}
    assert "anthropic/claude-sonnet-4-5 takes no audio." in site.error_of(EXECUTOR, inputs, key)
    assert site.llm.asked == []


@pytest.mark.parametrize(
    ("result", "url"),
    [({"image": PNG}, "{{draw.image}}"), ({"bits": PNG.partition(",")[2]}, "data:image/png;base64,{{draw.bits}}")],
)
def test_an_image_of_a_dependency_fills_a_place(site: LlmSite, result: Json, url: str) -> None:
    draw = {"id": "draw", "parent_id": "root", "name": "echo_executor", "inputs": result}
    asks: Json = {"id": "asks", "parent_id": "root", "name": EXECUTOR, "dependencies": ["draw"]}
    asks["inputs"] = {"messages": [message(image(url))], "model": "openai/gpt-4o"}
    task_id = site.server.rpc("tasks.execute", {"tasks": [{"id": "root", "name": "root"}, draw, asks]}, **WITH_KEY)[
        "task_id"
    ]
    assert site.end_of(task_id).task["status"] == "completed"
    assert site.llm.asked[-1].body["messages"][0]["content"][1] == image(PNG)
