"""Where a follower stands, without a connection: cut frames, events that come twice or are missing, another run, pauses."""

import json
from typing import Any

import httpx
import pytest

from aipartnerupflow.client import Conflict, Unreachable
from aipartnerupflow.client.stream import LONGEST_PAUSE_SECONDS, Broken, Following


def following(**settings: Any) -> Following:
    given: dict[str, Any] = {"task_id": "x", "resume_seconds": 60.0} | settings
    return Following(url="http://server", **given)


def frame(seq: int, *, run_id: str = "run", kind: str = "log", newline: str = "\n") -> bytes:
    event = {"type": kind, "seq": seq, "run_id": run_id, "message": "é\u2028"}
    return f"id: {seq}{newline}data: {json.dumps(event, ensure_ascii=False)}{newline * 2}".encode()


def taken(follower: Following, *chunks: bytes) -> list[int]:
    return [event["seq"] for chunk in chunks for event in follower.take(chunk)]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_frame_may_be_cut_anywhere(newline: str) -> None:
    stream = b": hello\n\n" + frame(1, newline=newline) + b": keep-alive\n\n" + frame(2, newline=newline)
    for place in range(len(stream)):
        assert taken(following(), stream[:place], stream[place:]) == [1, 2]
    assert taken(following(), *(bytes([byte]) for byte in stream)) == [1, 2]


def test_half_a_frame_is_forgotten_when_the_stream_breaks() -> None:
    follower = following()
    assert taken(follower, frame(1) + frame(2)[:20]) == [1]
    assert follower.opens(httpx.Response(200))
    assert taken(follower, frame(2)) == [2]


def test_an_event_that_comes_twice_is_told_once() -> None:
    assert taken(following(), frame(1), frame(2), frame(1), frame(2), frame(3)) == [1, 2, 3]


def test_a_missing_event_breaks_the_stream_before_the_gap() -> None:
    follower = following()
    assert taken(follower, frame(1)) == [1]
    with pytest.raises(Broken, match="event 2 is missing"):
        taken(follower, frame(3))
    assert follower.headers["Last-Event-ID"] == "1:run"


def test_another_run_is_not_taken_for_this_one() -> None:
    follower = following()
    assert taken(follower, frame(1)) == [1]
    with pytest.raises(Conflict, match="Another run of task 'x'"):
        taken(follower, frame(1, run_id="another"))


def test_nothing_comes_after_the_final_event() -> None:
    follower = following()
    assert taken(follower, frame(1, kind="final") + frame(2, kind="stream_end")) == [1]
    assert follower.is_over
    follower.closed()


def test_a_stream_that_closes_early_is_broken() -> None:
    follower = following()
    taken(follower, frame(1))
    with pytest.raises(Broken, match="ended before the run did"):
        follower.closed()


def test_pauses_grow_up_to_a_limit_and_begin_anew_with_the_next_event() -> None:
    follower = following(has_answered=True)
    pauses = [follower.pause(Broken("gone")) for _ in range(12)]
    assert 0.05 <= pauses[0] <= 0.1
    assert LONGEST_PAUSE_SECONDS / 2 <= pauses[-1] <= LONGEST_PAUSE_SECONDS
    taken(follower, frame(1))
    assert follower.pause(Broken("gone")) <= 0.1


@pytest.mark.parametrize("settings", [{"has_answered": False}, {"has_answered": True, "resume_seconds": -1.0}])
def test_a_server_that_never_answered_or_not_for_long_is_given_up(settings: dict[str, Any]) -> None:
    with pytest.raises(Unreachable, match="No answer from http://server: gone"):
        following(**settings).pause(Broken("gone"))
