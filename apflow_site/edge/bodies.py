"""The bodies of requests: how much of one is read, and where it is stored meanwhile."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from tempfile import SpooledTemporaryFile
from typing import Any, Final

from django.conf import settings

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Body = SpooledTemporaryFile[bytes]

END: Final[Message] = {"type": "http.request", "body": b"", "more_body": False}
IN_MEMORY_BYTES: Final = 2**20
"""A longer body is stored on disk while it arrives."""


def limited(receive: Receive, *, headers: Iterable[tuple[bytes, bytes]]) -> Receive:
    """Wrap `receive` to end the body once it exceeds `limits.body_bytes`.

    The views see a body that is too long and reject it. The rest of the body is read and discarded.
    """
    left = settings.APFLOW.limits.body_bytes
    announced = next((int(value) for name, value in headers if name == b"content-length"), None)
    if announced is not None and announced <= left:
        return receive  # the web server reads no more of it
    is_cut = announced is not None
    has_ended = False

    async def receive_limited() -> Message:
        nonlocal left, is_cut, has_ended
        if is_cut and not has_ended:
            has_ended = True
            return END
        message = await receive()
        while has_ended and message["type"] == "http.request":
            message = await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            is_cut, has_ended = left < 0, not message.get("more_body", False)
        return message

    return receive_limited


async def read_into(body: Body, receive: Receive) -> bool:
    """Store the body of a request. False: the client has left before its end."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        body.write(message.get("body", b""))
        if not message.get("more_body", False):
            body.seek(0)
            return True


async def read_whole(receive: Receive) -> bytes | None:
    """Return the body of a request, which is known to be short. None: the client has left before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def first(body: bytes, receive: Receive) -> Receive:
    """Wrap `receive` to begin again with the body, which has been read."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
