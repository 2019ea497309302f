"""Places of open streams: taken when the response is made, and released exactly once."""

import asyncio
import gc
from collections.abc import AsyncGenerator

import pytest
from django.conf import LazySettings

from a2a.live.sse import held
from a2a.live.stream_limits import open_streams
from accounts.callers import Caller
from tasks.rules.exceptions import LimitReached
from tests.sections import replace

ALICE = Caller(user_id="alice-of-places")


@pytest.fixture(autouse=True)
def one_stream(settings: LazySettings) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, streams_per_user=1))


async def frames() -> AsyncGenerator[bytes]:
    yield b"1"
    yield b"2"


async def still() -> Caller:
    return ALICE


async def test_a_response_counts_before_it_is_sent_so_that_one_of_the_same_instant_is_refused() -> None:
    first = held(frames(), caller=ALICE, who_is_it=still)
    with pytest.raises(LimitReached):
        held(frames(), caller=ALICE, who_is_it=still)
    assert [frame async for frame in first] == [b"1", b"2"]
    second = held(frames(), caller=ALICE, who_is_it=still)
    del first
    gc.collect()  # its place was released before, and not twice
    with pytest.raises(LimitReached):
        held(frames(), caller=ALICE, who_is_it=still)
    assert [frame async for frame in second] == [b"1", b"2"]


async def test_a_response_that_is_never_sent_leaves_its_place() -> None:
    response = held(frames(), caller=ALICE, who_is_it=still)
    del response
    gc.collect()
    open_streams().take_place(ALICE)()


async def test_a_client_that_leaves_in_the_middle_leaves_its_place() -> None:
    response = held(frames(), caller=ALICE, who_is_it=still)
    content = aiter(response)
    assert await anext(content) == b"1"
    await content.aclose()  # type: ignore[attr-defined]
    del response, content
    gc.collect()
    while closing := asyncio.all_tasks() - {asyncio.current_task()}:  # the loop closes the generators within
        await asyncio.wait(closing)
    open_streams().take_place(ALICE)()
