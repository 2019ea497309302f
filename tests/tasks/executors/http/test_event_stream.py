"""Server-sent events from a real server on loopback."""

import pytest

from aipartnerupflow.executors import ExecutorError
from tasks.executors.http import event_stream
from tasks.executors.http.event_stream import NoStream, events
from tests.tasks.executors.conftest import Web

pytestmark = pytest.mark.usefixtures("allow_loopback")


async def read(web: Web, *chunks: bytes, content_type: str = "text/event-stream") -> list[bytes]:
    web.answer(200, Content_Type=content_type)
    web.chunks = list(chunks)
    return [data async for data in events("POST", web.url, headers={"X-Team": "blue"}, content=b"{}")]


@pytest.mark.parametrize(
    ("chunks", "found"),
    [
        ([b"data: 1\n\ndata: 2\n\n"], [b"1", b"2"]),
        ([b"da", b"ta: a", b"b\n", b"\n"], [b"ab"]),
        ([b"data: 1\r\n\r\n"], [b"1"]),
        ([b"data:1\n\n"], [b"1"]),
        ([b"data:  1\n\n"], [b" 1"]),
        ([b"data: a\ndata: b\n\n"], [b"a\nb"]),
        ([b": ping\n\nid: 7\nevent: x\ndata: 1\nretry: 5\n\n: ping\n\n"], [b"1"]),
        ([b"data: 1\n\ndata: cut o"], [b"1"]),
        ([b"data: 1\n\ndata: no end\n"], [b"1"]),
        ([b""], []),
    ],
)
async def test_the_data_of_each_event_is_read(web: Web, chunks: list[bytes], found: list[bytes]) -> None:
    assert await read(web, *chunks) == found
    (received,) = web.received
    assert received.headers["accept"] == "text/event-stream"
    assert received.headers["accept-encoding"] == "identity"
    assert (received.headers["x-team"], received.body) == ("blue", b"{}")


async def test_the_media_type_may_have_parameters(web: Web) -> None:
    assert await read(web, b"data: 1\n\n", content_type="Text/Event-Stream; charset=utf-8") == [b"1"]


@pytest.mark.parametrize(("status", "content_type"), [(200, "application/json"), (404, "text/event-stream")])
async def test_another_answer_is_given_as_it_is(web: Web, status: int, content_type: str) -> None:
    web.answer(status, b'{"error": 1}', Content_Type=content_type)
    with pytest.raises(NoStream) as caught:
        [data async for data in events("POST", web.url, headers={}, content=None)]
    assert (caught.value.reply.status_code, caught.value.reply.body) == (status, b'{"error": 1}')


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 1000, b"data: 1\n\n" * 100])
async def test_too_much_is_not_taken(web: Web, monkeypatch: pytest.MonkeyPatch, chunk: bytes) -> None:
    monkeypatch.setattr(event_stream, "MAX_BODY_BYTES", 500)
    monkeypatch.setattr(event_stream, "MAX_STREAM_BYTES", 1500)
    with pytest.raises(ExecutorError, match="is longer than allowed") as caught:
        await read(web, *[chunk] * 20)
    assert caught.value.permanent


async def test_silence_ends_it(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "SILENCE_SECONDS", 0.2)
    web.hangs = True
    with pytest.raises(ExecutorError, match="the connection was lost"):
        await read(web, b"data: 1\n\n")
