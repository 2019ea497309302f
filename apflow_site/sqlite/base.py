"""SQLite backend for several processes that write many short transactions."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, TypeVar

from django.db.backends.sqlite3 import base

from apflow_site.db.file_gone import DatabaseFileGone

T = TypeVar("T")
WRITES: Final = ("UPDATE", "INSERT", "DELETE")
"""The beginnings of statements that take the write lock."""
BEGIN: Final = "BEGIN IMMEDIATE"
"""The statement of Django for a transaction (`transaction_mode`, in `apflow_site.databases`)."""
SIDE_FILES: Final = ("", "-wal", "-shm")
TURN_FILE: Final = "-turn"
"""Beside the database: locked by the transaction that begins next, because it has waited for BEGINS_NEXT_SECONDS."""
ASK_AGAIN_SECONDS: Final = 0.0003
BEGINS_NEXT_SECONDS: Final = 0.02
GIVES_WAY_SECONDS: Final = 1.0
"""The seconds for which a transaction lets another begin before it, at most: the other process may stand still."""


@cache
def _files() -> dict[str, tuple[int, int] | None]:
    """Return the files that this process uses, by path."""
    return {}


def _identity(path: str) -> tuple[int, int] | None:
    """Return the device and inode of the file; None if there is none, or a database in memory."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Cursor(base.SQLiteCursorWrapper):
    """Lets a statement that takes the write lock wait for its turn: one that begins a transaction, or writes outside of one."""

    wrapper: "DatabaseWrapper"

    def execute(self, query: str, params: Any = None) -> Any:
        execute = partial(super().execute, query, params)
        if self.connection.in_transaction:
            return execute()
        if query.startswith(BEGIN):
            self.wrapper.require_file()
        elif not query.lstrip().startswith(WRITES):
            return execute()
        return self.wrapper.in_turn(execute)


class DatabaseWrapper(base.DatabaseWrapper):
    """Retries to take the write lock every 0.3 ms, and lets a transaction that has waited begin before later ones.

    SQLite's busy handler sleeps 1, 2, 5, 10 … 100 ms, while most of our transactions take less than 1 ms.
    Under load, a waiting transaction would lose against later ones again and again; so it would against a
    process whose transactions take long and follow each other within microseconds.
    """

    def get_new_connection(self, conn_params: dict[str, Any]) -> sqlite3.Connection:
        """Raise DatabaseFileGone if this process has used the file, and it has gone: SQLite would make an empty one."""
        path = self.settings_dict["NAME"]
        if path in _files() and not Path(path).exists():
            raise DatabaseFileGone(path)
        make_private(path)
        made = super().get_new_connection(conn_params)
        _files().setdefault(path, _identity(path))
        return made  # type: ignore[no-any-return]

    def require_file(self) -> None:
        """Close the connection and raise DatabaseFileGone if another file is at its path, or none."""
        path = self.settings_dict["NAME"]
        if _identity(path) != _files().get(path):
            self.close()
            raise DatabaseFileGone(path)

    def create_cursor(self, name: Any = None) -> sqlite3.Cursor:
        cursor = self.connection.cursor(factory=Cursor)
        cursor.wrapper = self
        return cursor  # type: ignore[no-any-return]

    def in_turn(self, statement: Callable[[], T]) -> T:
        """Execute a statement that takes the write lock once the lock is free and it is this one's turn.

        Raises sqlite3.OperationalError for all other errors, and for the lock after the timeout.
        """
        seconds = float(self.settings_dict["OPTIONS"]["timeout"])
        asked, waited, own = time.monotonic(), 0.0, None
        self._set_busy_timeout(0)
        try:
            while True:
                if self._has_turn(own, waited):
                    try:
                        return statement()
                    except sqlite3.OperationalError as error:
                        if waited > seconds or not _is_busy(error):
                            raise
                time.sleep(ASK_AGAIN_SECONDS)
                waited = time.monotonic() - asked
                if own is None and waited > BEGINS_NEXT_SECONDS:
                    own = opened_turn(self.settings_dict["NAME"])
        finally:
            if own is not None:
                fcntl.flock(own, fcntl.LOCK_UN)  # a process that was forked meanwhile has it open, too
                os.close(own)
            self._set_busy_timeout(seconds)

    def _has_turn(self, own: int | None, waited: float) -> bool:
        """Return whether no other transaction begins next. With a turn file of its `own`, this one tries to be the next."""
        if waited > GIVES_WAY_SECONDS or (own is not None and _flocked(own, fcntl.LOCK_EX)):
            return True
        of_all = _turn_of_process(self.settings_dict["NAME"])
        if is_free := _flocked(of_all, fcntl.LOCK_SH):
            fcntl.flock(of_all, fcntl.LOCK_UN)
        return is_free

    def _set_busy_timeout(self, seconds: float) -> None:
        self.connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


def _is_busy(error: sqlite3.OperationalError) -> bool:
    """Return whether another process has the write lock. A read of this connection that is too old will not change."""
    code = error.sqlite_errorcode
    return code & 0xFF == sqlite3.SQLITE_BUSY and code != sqlite3.SQLITE_BUSY_SNAPSHOT


def opened_turn(path: str) -> int:
    """Open the turn file of the database, which is empty. It belongs to the owner of the database, also if root makes it."""
    turn = os.open(path + TURN_FILE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        owner = Path(path).stat()
        os.fchown(turn, owner.st_uid, owner.st_gid)
    return turn


@cache
def _turn_of_process(path: str) -> int:
    return opened_turn(path)


def _flocked(file: int, how: int) -> bool:
    """Lock the file, unless a process has locked it in another way."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_private(path: str) -> None:
    """Let only this user read the database, whose sessions and inputs are secret, in any folder.

    SQLite creates the file with the process's umask, and its companions with the mode of the file.
    The file is never opened here: to close it would drop SQLite's locks of this process.
    """
    with suppress(OSError):  # it exists, or SQLite reports what is wrong with the path
        os.mknod(path, 0o600)
    for file in (Path(path + suffix) for suffix in SIDE_FILES):
        with suppress(OSError):  # it does not exist, or belongs to another user
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)
