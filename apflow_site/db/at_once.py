"""Short reads in the event loop, on SQLite: the turn of a thread takes longer than such a query.

Readers of SQLite wait for no writer, as its log is in WAL mode. PostgreSQL answers over a connection, for which a loop must not
wait, so there every read has a thread.
"""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, connections

from apflow_site.db.connections import IS_SQLITE

P = ParamSpec("P")
T = TypeVar("T")
SHORT_BYTES: Final = 64 * 1024
"""The bytes of rows that the event loop reads at once: they take less than a millisecond."""


class NotShort(Exception):
    """The read takes longer than the event loop may be kept."""


class _Reader(threading.local):
    """The connection of an event loop's thread, which can only read."""

    path = ""
    opened: sqlite3.Connection | None = None
    is_in_use = False

    def connected(self) -> sqlite3.Connection:
        path = connections.settings[DEFAULT_DB_ALIAS]["NAME"]  # `connection` is another one for each request here
        if self.opened is None or self.path != path:
            url = f"{Path(path).as_uri()}?mode=ro"
            self.opened, self.path = sqlite3.connect(url, uri=True, timeout=0, isolation_level=None), path
        return self.opened


_reader: Final = _Reader()


def at_once(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Return what a function reads, in the event loop. None: it has to be called on a thread, where its errors are raised, too.

    So it is on PostgreSQL, if the function reads by something else than `Prepared.tuples`, if it raises NotShort, and if SQLite
    would wait, or fails.
    """
    if not IS_SQLITE:
        return None
    _reader.is_in_use = True
    try:
        return function(*args, **kwargs)
    except (NotShort, SynchronousOnlyOperation):
        return None
    except sqlite3.Error:
        _reader.opened = None
        return None
    finally:
        _reader.is_in_use = False


def is_at_once() -> bool:
    """Return whether an event loop reads now: rows of more than SHORT_BYTES have to be left out, or refused with NotShort."""
    return _reader.is_in_use


def reader() -> sqlite3.Connection | None:
    """Return the connection of this event loop while it reads at once; None on the threads of the database."""
    return _reader.connected() if _reader.is_in_use else None
