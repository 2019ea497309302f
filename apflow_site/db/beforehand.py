"""Work of a call of the write pool that is done before its transaction begins.

To check the tasks of a large tree and to make its rows takes ten times as long as to store them. SQLite has one writer,
and on PostgreSQL a transaction holds its rows, so other users would wait for all of it. A function that does such work
says so where it does it, and need not know who calls it: the call ends, the work is done on a thread for it, where users take
turns, and the call begins again.
"""

import marshal
from asyncio import Future
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, TypeVar

T = TypeVar("T")
Key = tuple[str, bytes]
MOST: Final = 10
"""The number of times that a call may begin again."""
_made: ContextVar[dict[Key, Future[Any]] | None] = ContextVar("made", default=None)


class NotMadeYet(BaseException):
    """Ends a call, which begins again when `make` has returned. Its transaction is rolled back.

    It is no error, so code that catches all of these does not catch it.
    """

    def __init__(self, key: Key, make: Callable[[], Any]) -> None:
        super().__init__(key)
        self.key, self.make = key, make


def beforehand(name: str, make: Callable[[], T], *given: Any) -> T:
    """Return what `make` returns or raise what it raises; it only reads. In a call of the write pool it has been called before.

    Ask before the call writes, or in the transaction in which it has written.

    `given` is all that the work depends on besides the database, made of the types of JSON: the call that begins again
    may want other work.
    """
    made = _made.get()
    if made is None or len(made) >= MOST:
        return make()
    key = (name, marshal.dumps(given, 2))  # equal values have equal bytes in this version
    if key not in made:
        raise NotMadeYet(key, make)
    result: T = made[key].result()
    return result


def called_with(made: dict[Key, Future[Any]], function: Callable[[], T]) -> T:
    """Call the function, which may raise NotMadeYet for what is not in `made`."""
    token = _made.set(made)
    try:
        return function()
    finally:
        _made.reset(token)
