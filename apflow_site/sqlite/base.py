"""SQLite backend for several processes that write many short transactions."""

import os
import sqlite3
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.db.backends.sqlite3 import base

from apflow_site.db.file_gone import DatabaseFileGone

SIDE_FILES: Final = ("", "-wal", "-shm")
ASK_AGAIN_SECONDS: Final = 0.0003


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


class DatabaseWrapper(base.DatabaseWrapper):
    """Retries to take the write lock every 0.3 ms.

    SQLite's busy handler sleeps 1, 2, 5, 10 … 100 ms, while our transactions take less than 1 ms.
    Under load, a waiting transaction would lose against later ones again and again.
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

    def _start_transaction_under_autocommit(self) -> None:
        self.require_file()
        seconds = float(self.settings_dict["OPTIONS"]["timeout"])
        deadline = time.monotonic() + seconds
        with self.wrap_database_errors:
            self._set_busy_timeout(0)
            try:
                while not self._begin(is_last_try=time.monotonic() > deadline):
                    time.sleep(ASK_AGAIN_SECONDS)
            finally:
                self._set_busy_timeout(seconds)

    def _begin(self, *, is_last_try: bool) -> bool:
        """Try to begin the transaction. Returns False if another process holds the lock.

        Raises OperationalError for all other errors, and for the lock on the last try.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if is_last_try or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

    def _set_busy_timeout(self, seconds: float) -> None:
        self.connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


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
