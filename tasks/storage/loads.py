"""The bytes of stored data that a request may load: `limits.response_bytes`.

The database adds up the sizes before the rows are read, so a reply that is too large is refused before it is in
memory. Work without a request, such as a worker's, has no limit.
"""

import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache, reduce
from operator import add
from typing import Any, Final, TypeVar

from django.conf import settings
from django.db.models import BigIntegerField, F, Func, QuerySet, Sum, TextField, Value
from django.db.models.functions import Cast, Coalesce

from apflow_site.db.connections import IS_SQLITE
from tasks.rules.exceptions import ResponsesTooLarge, ResponseTooLarge
from tasks.rules.strict_json import TEXT

JSON_COLUMNS: Final = ("inputs", "result", "params", "schemas")
TASK_COLUMNS: Final = (*JSON_COLUMNS, "dependencies", "error", "token_usage", "checks")
"""The columns of a task that may be large."""
SMALL_BYTES: Final = 2**20
"""Requests that load no more are always served."""
ROW_BYTES: Final = 1024
"""The bytes that the other columns of a row take, in memory and in a reply."""


K = TypeVar("K")
Q = TypeVar("Q", bound=QuerySet[Any])


class InHand:
    """The large responses that a process is making or sending, in bytes of stored data by user."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_user: Counter[str] = Counter()

    def take(self, user_id: str, size: int) -> None:
        """Raise ResponsesTooLarge if there is no room, for anyone or for this user, who may hold half of it."""
        limits = settings.APFLOW.limits
        most = max(limits.all_responses_bytes, limits.response_bytes)
        share = max(most // 2, limits.response_bytes) if settings.APFLOW.auth.is_on else most
        with self._lock:
            if self._by_user.total() + size > most or self._by_user[user_id] + size > share:
                raise ResponsesTooLarge(most)
            self._by_user[user_id] += size

    def give_back(self, user_id: str, size: int) -> None:
        with self._lock:
            self._by_user[user_id] -= size
            if not self._by_user[user_id]:
                del self._by_user[user_id]


@cache
def in_hand() -> InHand:
    """Return the responses of this process."""
    return InHand()


class Allowance:
    """The bytes that a request, or all calls of a batch together, may still load. Data beyond SMALL_BYTES is in memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit
        self._lock = threading.Lock()  # the calls of a batch load on several threads
        self._user_id = ""
        self._in_hand = 0

    @property
    def left(self) -> int:
        return self._left

    def spend(self, size: int) -> None:
        """Count bytes before they are loaded. Raises ResponseTooLarge, and then counts nothing."""
        with self._lock:
            if size > self._left:
                raise ResponseTooLarge(self._limit)
            spent = self._limit - self._left
            more = max(0, spent + size - SMALL_BYTES) - max(0, spent - SMALL_BYTES)
            if more:
                in_hand().take(self._user_id, more)
                self._in_hand += more
            self._left -= size

    def charge(self, user_id: str) -> None:
        """Name the user for whom the rest is loaded."""
        with self._lock:
            if not self._in_hand:
                self._user_id = user_id

    def let_go(self) -> None:
        """Return the bytes: the loaded data is no longer in memory."""
        with self._lock:
            if self._in_hand:
                in_hand().give_back(self._user_id, self._in_hand)
            self._in_hand = 0


_current: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


class limited_loads:
    """Limit what the block loads, on other threads too. It ends when the response has been sent.

    A block in another one shares its limit. A class, because every request enters it: a generator takes twice as long.
    """

    __slots__ = ("_allowance", "_token")

    def __enter__(self) -> None:
        self._allowance: Allowance | None = None
        if _current.get() is None:
            self._allowance = Allowance(settings.APFLOW.limits.response_bytes)
            self._token = _current.set(self._allowance)

    def __exit__(self, *_: object) -> None:
        if self._allowance is not None:
            _current.reset(self._token)
            self._allowance.let_go()


def charge(user_id: str) -> None:
    """Name the user of the current request."""
    if (allowance := _current.get()) is not None:
        allowance.charge(user_id)


def let_go() -> None:
    """Say that a stream begins: what its request has loaded is not kept until the end."""
    if (allowance := _current.get()) is not None:
        allowance.let_go()


def spend(size: int) -> None:
    """Count bytes that the current request is about to load or send. Raises ResponseTooLarge."""
    if (allowance := _current.get()) is not None:
        allowance.spend(size)


def spend_on(rows: QuerySet[Any], *columns: str, times: int = 1) -> None:
    """Count the rows before they are loaded, with these columns, so many times. Raises ResponseTooLarge."""
    if _current.get() is not None:
        spend(times * rows.order_by().aggregate(size=Coalesce(Sum(size_of(*columns)), 0))["size"])


def spend_on_page(sizes: Mapping[K, int], *, least: int) -> list[K]:
    """Count the rows of a page in order, each with its size, and return the keys of those that may be loaded.

    The page ends with the last row that fits. Raises ResponseTooLarge if these are fewer than `least`.
    """
    allowance = _current.get()
    if allowance is None:
        return list(sizes)
    left, taken = allowance.left, list[K]()
    for key, size in sizes.items():
        if size > left and len(taken) >= least:
            break
        left -= size
        taken.append(key)
    allowance.spend(sum(sizes[key] for key in taken))
    return taken


def with_texts(tasks: Q) -> Q:
    """Load the JSON of tasks as the text that is stored, for replies that only pass it on.

    Parsed, a JSON of many small values takes 20 times as much memory.
    """
    return tasks.defer(*JSON_COLUMNS, "steps", "call").annotate(
        **{f"{column}{TEXT}": Cast(column, TextField()) for column in JSON_COLUMNS}
    )


def without_texts(tasks: Q) -> Q:
    """Load tasks without their JSON. Replies have null in its place."""
    return tasks.defer(*JSON_COLUMNS, "steps", "call").annotate(
        **{f"{column}{TEXT}": Value(None, output_field=TextField()) for column in JSON_COLUMNS}
    )


@cache
def size_of(*columns: str) -> Any:
    """Return the size of a row with these columns in bytes, as a database expression."""
    length = sized("octet_length(%(expressions)s)")
    octets = [Func(F(column), template=length, output_field=BigIntegerField()) for column in columns]
    return reduce(add, (Coalesce(each, 0) for each in octets), Value(ROW_BYTES))


def sized(sql: str) -> str:
    """Return SQL with `octet_length` for this database. SQLite before 3.43 lacks it, and has to read the texts."""
    if IS_SQLITE and sqlite3.sqlite_version_info < (3, 43):
        return re.sub(r"octet_length\(([^()]+(?:\(\w+\)\w)?)\)", r"length(CAST(\1 AS BLOB))", sql)
    return sql
