"""The replies to a batch, within `limits.response_bytes` together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import orjson
from django.conf import settings

from a2a.core.errors import failure_of
from a2a.core.jsonrpc import Request, Response
from a2a.methods.dispatch import Outcome
from tasks.rules.exceptions import ResponseTooLarge
from tasks.storage.loads import limited_loads


async def replies_to(requests: Sequence[Request], carry_out: Callable[[Request], Awaitable[Outcome]]) -> bytes:
    """Carry out the calls concurrently. Returns the JSON array of the replies, in the order of the calls.

    Empty for a batch of notifications. Each reply is encoded at once, so that its objects do not wait for the others.
    """
    limits = settings.APFLOW.limits
    left = limits.response_bytes + limits.body_bytes  # what a reply repeats of its request is not loaded

    def encoded(request: Request, answer: Response | None) -> bytes:
        nonlocal left
        if answer is None:
            return b""
        body = orjson.dumps(answer.to_json())
        if len(body) > left:
            body = orjson.dumps(failure_of(ResponseTooLarge(limits.response_bytes), call_id=request.id).to_json())
        left -= len(body)
        return body

    async def reply_to(request: Request) -> bytes:
        return encoded(request, (await carry_out(request)).answer)

    with limited_loads():
        replies = await asyncio.gather(*map(reply_to, requests))
    found = b",".join(filter(None, replies))
    return b"[%s]" % found if found else b""
