"""Backup of an SQLite database while it is in use."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path


class BackupFailed(Exception):
    """The backup could not be made. The text says why, and what to do."""


def back_up(source: Path, target: Path) -> int:
    """Copy the database as of one moment, check the copy, and return its size in bytes.

    Readers and writers are not blocked: in WAL mode a long read takes a snapshot. The copy can be
    read by this user only, and has its name once it is complete. Raises BackupFailed.
    """
    if os.path.lexists(target):  # also a link that leads nowhere
        raise BackupFailed(f"{target} exists. Choose another name, or remove it first.")
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as original,
            closing(sqlite3.connect(part)) as copy,
        ):
            original.backup(copy)  # in one step: in several, each commit of a writer would start it again
            (verdict,) = copy.execute("PRAGMA quick_check").fetchone()
        if verdict != "ok":
            raise BackupFailed(
                f"The copy is damaged ({verdict}): the database itself may be. Run `aipartnerupflow doctor`."
            )
        part.rename(target)
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(f"Cannot write {target}: {error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size
