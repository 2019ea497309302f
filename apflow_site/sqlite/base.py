"""SQLite for several processes that write short transactions all the time."""

import sqlite3
import time
from typing import Final

from django.db.backends.sqlite3 import base

ASK_AGAIN_SECONDS: Final = 0.0003


class DatabaseWrapper(base.DatabaseWrapper):
    """Asks for the write lock every 0.3 ms.

    SQLite's own busy handler sleeps 1, 2, 5, 10 … 100 ms, while our transactions take less than one: under load the
    one that waits loses again and again to those that come later.
    """

    def _start_transaction_under_autocommit(self) -> None:
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
        """Whether the transaction has begun. Raises OperationalError for anything but a lock that may still come."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if is_last_try or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

    def _set_busy_timeout(self, seconds: float) -> None:
        self.connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
