"""A limit on request bodies. Without it, Django writes the whole body to disk before the view runs."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from django.conf import settings

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
END: Message = {"type": "http.request", "body": b"", "more_body": False}


def limited(receive: Receive, *, headers: Iterable[tuple[bytes, bytes]]) -> Receive:
    """Wrap `receive` to end the body once it exceeds `limits.body_bytes`.

    The views see a body that is too long and reject it. The rest of the body is read and discarded.
    """
    left = settings.APFLOW.limits.body_bytes
    is_cut = any(name == b"content-length" and int(value) > left for name, value in headers)
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
