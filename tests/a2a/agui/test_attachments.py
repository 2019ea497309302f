"""Attachments of AG-UI: their data becomes files, which a model, a skill or a flow gets."""

import os
from base64 import b64encode
from typing import Any

import httpx
import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.agui.front_end import FrontEnd, said, text_in
from tests.llm_formats import Says
from tests.llm_server import LlmServer
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)


@pytest.fixture
def carol(listening_server: Server, listening: LlmServer) -> FrontEnd:
    """A user without files."""
    listening.forget()
    return FrontEnd(http=listening_server.http, token=token_of(f"carol-{os.urandom(4).hex()}"))


def own(user: FrontEnd, method: str, **params: Any) -> Json:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {"Authorization": f"Bearer {user.token}"}
    found: Json = user.http.post("/tasks", json=request, headers=headers).json()["result"]
    return found


def uploaded(user: FrontEnd, content: bytes, name: str) -> Json:
    headers = {"Authorization": f"Bearer {user.token}"}
    response: httpx.Response = user.http.post("/files", params={"name": name}, content=content, headers=headers)
    return dict(response.json())


def attached(text: str, *parts: Json) -> Json:
    return said("") | {"content": [{"type": "text", "text": text}, *parts]}


def data(kind: str, content: bytes, media_type: str) -> Json:
    return {"type": kind, "source": {"type": "data", "value": b64encode(content).decode(), "mimeType": media_type}}


def by_id(file_id: str, kind: str = "document") -> Json:
    return {"type": kind, "source": {"type": "file", "value": file_id}}


@pytest.mark.both_engines
def test_a_model_gets_attachments_of_the_whole_conversation_and_the_tree_has_only_files(
    carol: FrontEnd, listening: LlmServer
) -> None:
    notes = uploaded(carol, b"Rivers are long.", "notes.txt")
    sound = data("audio", b"RIFF", "audio/wav")
    image, pdf = data("image", PNG, "image/png"), data("document", b"%PDF-", "application/pdf")
    listening.will(Says(text="A dot."))
    first = attached("What is it?", image)
    second = attached("And these?", pdf, sound, by_id(notes["$file"]))
    events = carol.run(first, {"id": "a", "role": "assistant", "content": "A dot."}, second)
    assert text_in(events) == "A dot."
    messages = listening.asked[-1].body["messages"]
    assert messages[0]["content"][1]["image_url"]["url"].endswith(b64encode(PNG).decode())
    _, document, heard, words = messages[2]["content"]
    assert document["file"]["file_data"] == f"data:application/pdf;base64,{b64encode(b'%PDF-').decode()}"
    assert heard["input_audio"] == {"data": b64encode(b"RIFF").decode(), "format": "wav"}
    assert words["text"] == "notes.txt:\nRivers are long."
    run = own(carol, "runs.list")["runs"][0]
    (history,) = [own(carol, "tasks.get", task_id=run["task_id"])["inputs"]["history"]]
    assert b64encode(PNG).decode() not in str(history)
    assert history[0]["content"][1]["file"]["media_type"] == "image/png"
    files = own(carol, "files.list")["files"]
    assert len(files) == 4
    assert sorted(file["media_type"] for file in files) == ["application/pdf", "audio/wav", "image/png", "text/plain"]


def test_a_skill_gets_the_files_of_the_message(carol: FrontEnd) -> None:
    text = 'echo_executor: {"given": "{{run.inputs.files}}"}'
    events = carol.run(attached(text, data("document", b"a,b", "text/csv")))
    (file,) = events[-1]["result"]["given"]
    assert (file["name"], file["media_type"], file["bytes"]) == ("file.csv", "text/csv", 3)
    headers = {"Authorization": f"Bearer {carol.token}"}
    assert carol.http.get(f"/files/{file['$file']}", headers=headers).content == b"a,b"


@pytest.mark.both_engines
def test_what_is_refused_leaves_nothing_behind(carol: FrontEnd, listening_server: Server) -> None:
    dave = FrontEnd(http=listening_server.http, token=token_of("dave"))
    theirs = uploaded(dave, b"theirs", "theirs.txt")
    good = data("image", PNG, "image/png")
    wrong: list[tuple[Json, str]] = [
        (
            attached(
                "What?", good, {"type": "image", "source": {"type": "data", "value": "%", "mimeType": "image/png"}}
            ),
            "is not base64",
        ),
        (attached("What?", good, data("document", b"x", "nonsense")), "must have a media type"),
        (attached("What?", good, data("video", b"x", "video/mp4")), "messages[0].content[2]"),
        (attached("What?", good, data("audio", b"x", "audio/flac")), "messages[0].content[2]"),
        (attached("What?", good, by_id(theirs["$file"])), "no complete file"),
        (attached("What?", good, by_id("nowhere")), "no complete file"),
        (attached("What?", good, by_id(theirs["$file"], "video")), "messages[0].content[2]"),
        (attached('echo_executor: {"say": "hello"}', good), "run_inputs"),
    ]
    for message, reason in wrong:
        assert reason in str(carol.refused(message)), message
    found = own(carol, "files.list")
    assert (found["files"], found["used_bytes"]) == ([], 0)
    own(dave, "files.delete", file_id=theirs["$file"])
