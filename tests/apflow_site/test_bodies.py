"""What a view gets of a body: all of it, or so much that it sees that the body is too big."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.conf import LazySettings
from django.http import HttpResponse

from apflow_site.edge.bodies import limited
from apflow_site.edge.handler import Http
from tests.sections import replace

LIMIT = 10
DISCONNECT = {"type": "http.disconnect"}


@pytest.fixture(autouse=True)
def small_limit(settings: LazySettings) -> None:
    limits = replace(settings.APFLOW.limits, body_bytes=LIMIT)
    settings.APFLOW = replace(settings.APFLOW, limits=limits)


@pytest.mark.parametrize(
    ("announced", "sent", "got"),
    [
        (None, [b""], [b""]),
        (LIMIT, [b"x" * LIMIT], [b"x" * LIMIT]),
        (None, [b"12345", b"67890"], [b"12345", b"67890"]),
        (None, [b"x" * (LIMIT + 1)], [b"x" * (LIMIT + 1)]),
        (None, [b"12345", b"678901", b"2", b"3"], [b"12345", b"678901", b""]),
        (LIMIT + 1, [b"12345", b"678901"], [b""]),
    ],
)
async def test_a_body_ends_when_it_is_known_to_be_too_big_and_the_rest_is_forgotten(
    announced: int | None, sent: Sequence[bytes], got: Sequence[bytes]
) -> None:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": True} for body in sent]
    messages[-1]["more_body"] = False
    left = iter([*messages, DISCONNECT])

    async def receive() -> dict[str, Any]:
        return next(left)

    headers = [] if announced is None else [(b"content-length", str(announced).encode())]
    receive_limited = limited(receive, headers=headers)
    pieces = [await receive_limited() for _ in got]
    assert [piece["body"] for piece in pieces] == list(got)
    assert [piece["more_body"] for piece in pieces] == [True] * (len(got) - 1) + [False]
    assert await receive_limited() == DISCONNECT


async def test_the_body_of_a_response_is_freed_once_it_is_sent() -> None:
    response = HttpResponse(b"large")
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await Http().send_response(response, send)
    assert b"".join(message.get("body", b"") for message in sent) == b"large"
    assert response.content == b""
