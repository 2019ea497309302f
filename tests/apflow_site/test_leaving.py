"""A request whose client leaves: the work for it ends, and nothing else does."""

import asyncio
from typing import Any

import pytest

from apflow_site.edge import handler
from apflow_site.edge.bodies import Body, read_into
from apflow_site.edge.handler import until_left

DISCONNECT = {"type": "http.disconnect"}


@pytest.fixture(autouse=True)
def watched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "WATCHED_AFTER_SECONDS", 0)


async def test_the_work_for_a_client_that_leaves_is_cancelled() -> None:
    reached = list[str]()

    async def receive() -> dict[str, Any]:
        return DISCONNECT

    with until_left(receive):
        reached.append("begin")
        await asyncio.Event().wait()
        reached.append("end")
    assert reached == ["begin"]
    await asyncio.sleep(0)  # the cancellation was of this request only


async def test_another_cancellation_is_passed_on() -> None:
    begun = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return DISCONNECT

    async def respond() -> None:
        with until_left(receive):
            begun.set()
            await asyncio.Event().wait()

    request = asyncio.create_task(respond())
    await begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


async def test_a_client_that_leaves_after_the_response_disturbs_nothing() -> None:
    has_left, is_watching = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        is_watching.set()
        await has_left.wait()
        return DISCONNECT

    with until_left(receive):
        await is_watching.wait()
        has_left.set()  # as when the server closes the connection itself
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_body_that_breaks_off_is_no_request() -> None:
    pieces: list[dict[str, Any]] = [{"type": "http.request", "body": b"half of", "more_body": True}, DISCONNECT]
    messages = iter(pieces)

    async def receive() -> dict[str, Any]:
        return next(messages)

    with Body() as body:
        assert not await read_into(body, receive)


async def test_a_body_in_pieces_is_read_from_its_beginning() -> None:
    pieces: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"one, ", "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": False},
    ]
    messages = iter(pieces)

    async def receive() -> dict[str, Any]:
        return next(messages)

    with Body(4) as body:  # the rest is on disk
        assert await read_into(body, receive)
        assert body.read() == b"one, two"
