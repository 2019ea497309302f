"""The error of an SQLite file that has gone. A module of its own: the database backend imports it before there is a connection."""

from django.db.utils import OperationalError


class DatabaseFileGone(OperationalError):
    """The SQLite file has been deleted or replaced: a write would go to a file that has no name any more."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} has been deleted or replaced while the server was running.")
