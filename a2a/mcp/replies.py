"""The replies of clients to requests of the server, for the streams of this process that wait for them."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from accounts.callers import Caller
from tasks.rules.strict_json import Json

Reply = asyncio.Future[Json]
Key = tuple[str, str]
"""The caller's user, and the id of the request: no user replies for another one."""


class Replies:
    """The replies that are waited for. It belongs to the event loop of the process."""

    def __init__(self) -> None:
        self._waiting: defaultdict[Key, set[Reply]] = defaultdict(set)

    @contextmanager
    def expected(self, caller: Caller, request_id: str) -> Iterator[Reply]:
        """Give the block the reply to wait for; one that another process receives never arrives here."""
        key, reply = (caller.user_id, request_id), asyncio.get_running_loop().create_future()
        self._waiting[key].add(reply)
        try:
            yield reply
        finally:
            reply.cancel()
            self._waiting[key].discard(reply)
            if not self._waiting[key]:
                del self._waiting[key]

    def take(self, caller: Caller, request_id: str, body: Json) -> None:
        """Give a reply to those who wait for it: a message with a result or an error."""
        for reply in self._waiting.get((caller.user_id, request_id), ()):
            if not reply.done():
                reply.set_result(body)


@cache
def replies() -> Replies:
    """Return the replies that this process waits for."""
    return Replies()
