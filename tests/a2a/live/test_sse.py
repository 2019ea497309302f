import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest

from a2a.core.parsing import EventId
from a2a.live.sse import frame, paced, stream_of
from tasks.models import Run

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "event_id", "expected"),
    [
        ({"type": "log"}, EventId(seq=7), b'id: 7\ndata: {"type":"log"}\n\n'),
        ({"jsonrpc": "2.0"}, None, b'data: {"jsonrpc":"2.0"}\n\n'),
        # A line break would end the field: in JSON it is always escaped.
        (
            {"message": "a\nb\r\nc\u2028"},
            EventId(seq=1, run_id="r"),
            'id: 1:r\ndata: {"message":"a\\nb\\r\\nc\u2028"}\n\n'.encode(),
        ),
    ],
)
def test_a_frame_is_an_id_and_one_line_of_data(value: Any, event_id: EventId | None, expected: bytes) -> None:
    assert frame(value, event_id=event_id) == expected


@pytest.mark.parametrize(
    ("after", "last_seq", "finished", "start", "is_over"),
    [
        (None, 5, False, 0, False),
        (0, 5, False, 0, False),
        (3, 5, False, 3, False),
        (5, 5, False, 5, False),
        # Beyond the log of a run that goes on: the number counts an earlier run.
        (6, 5, False, 0, False),
        (5, 5, True, 5, False),
        # One more is `stream_end`: the client has everything.
        (6, 5, True, 6, True),
        (7, 5, True, 0, False),
    ],
)
def test_a_stream_resumes_after_the_event_that_the_client_has(
    after: int | None, last_seq: int, finished: bool, start: int, is_over: bool
) -> None:
    for number in (1, 2):
        run = Run(id="r", number=number, last_seq=last_seq, finished_at=NOW if finished else None)
        stream = stream_of(run, after=None if after is None else EventId.of(run, after))
        assert (stream.after, stream.is_over) == (start, is_over)
        assert stream.is_replayed == bool(after and not start)


@pytest.mark.parametrize(
    ("number", "after"),
    [(2, EventId(seq=3)), (2, EventId(seq=3, run_id="first")), (1, EventId(seq=3, run_id="of another tree"))],
)
def test_an_event_of_another_run_is_answered_with_all_of_the_latest(number: int, after: EventId) -> None:
    stream = stream_of(Run(id="latest", number=number, last_seq=5), after=after)
    assert (stream.after, stream.is_replayed) == (0, True)


async def test_silence_is_filled_and_the_wait_for_the_event_goes_on() -> None:
    released = asyncio.Event()

    async def source() -> AsyncGenerator[dict[str, Any]]:
        yield {"seq": 1}
        await released.wait()
        yield {"seq": 2}

    seen: list[Any] = []
    async for event in paced(source(), seconds=0.01):
        seen.append(event)
        if seen.count(None) == 2:
            released.set()
    assert seen[:3] == [{"seq": 1}, None, None]
    assert seen[-1] == {"seq": 2}


async def test_a_client_that_goes_away_ends_the_source() -> None:
    ended = asyncio.Event()

    async def source() -> AsyncGenerator[dict[str, Any]]:
        try:
            yield {"seq": 1}
            await asyncio.Event().wait()
        finally:
            ended.set()

    steps = paced(source(), seconds=60)
    assert await anext(steps) == {"seq": 1}
    await steps.aclose()
    assert ended.is_set()


async def test_an_error_of_the_source_comes_out() -> None:
    async def source() -> AsyncGenerator[dict[str, Any]]:
        yield {"seq": 1}
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        [event async for event in paced(source(), seconds=60)]
