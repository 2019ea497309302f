"""The meaning of a database error for the operator, and its repair."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from django.db import connection

from apflow_site.db.connections import IS_SQLITE, is_disk_full
from apflow_site.db.file_gone import DatabaseFileGone

Advice = tuple[str, str]
"""The cause, and what to do."""

FREE_SPACE: Final = (
    "The disk of the database is full: nothing can be stored.",
    "Free some space, or move the database (server.data_dir, database.url); work then resumes without a restart.",
)
NO_ANSWER: Final = (
    "The database does not answer.",
    "Start it, or correct database.url (AIPARTNERUPFLOW_DATABASE_URL).",
)
#: What PostgreSQL or libpq says when there is no connection, alternatives separated by `|`, and the advice. libpq has
#: no codes for them.
REFUSALS: Final[Mapping[str, Advice]] = {
    "password authentication failed": (
        "PostgreSQL rejects the user or the password.",
        "Correct them in database.url (AIPARTNERUPFLOW_DATABASE_URL); percent-encode special characters.",
    ),
    "no pg_hba.conf entry": (
        "PostgreSQL does not allow this user to connect from this machine.",
        "Allow it in pg_hba.conf, or set sslmode in database.url.",
    ),
    'role "': ("PostgreSQL has no such user.", "Create it with createuser, or correct the user in database.url."),
    'database "': ("PostgreSQL has no such database.", "Create it with createdb, or correct its name in database.url."),
    "too many clients": (
        "PostgreSQL has no free connection.",
        "Raise max_connections, or start fewer web and worker processes.",
    ),
    "Connection refused": (
        "No program listens at {place}.",
        "Start PostgreSQL there, or correct the host and the port in database.url (AIPARTNERUPFLOW_DATABASE_URL).",
    ),
    "invalid response to SSL negotiation|expected authentication request": (
        "The program at {place} is not PostgreSQL.",
        "Correct the port in database.url (AIPARTNERUPFLOW_DATABASE_URL).",
    ),
    "timeout expired|Network is unreachable|No route to host": (
        "{place} cannot be reached, or does not answer as PostgreSQL does.",
        "Check the host and the port in database.url, the firewall, and database.connect_seconds.",
    ),
    "resolve host": ("The host of the database is not known.", "Correct the host in database.url, or the DNS."),
}


def advice_for(error: Exception) -> Advice:
    """Return the cause of a database error, without secrets, and what to do."""
    if isinstance(error, DatabaseFileGone):
        return str(error), "Stop the server, restore the file from a backup, and start the server again."
    if is_disk_full(error):
        return FREE_SPACE
    if IS_SQLITE:
        return _of_sqlite(error)
    text = str(error)
    place = f"{connection.settings_dict['HOST'] or 'localhost'}:{connection.settings_dict['PORT'] or 5432}"
    for words, (cause, fix) in REFUSALS.items():
        if any(each in text for each in words.split("|")):
            return cause.format(place=place), fix
    return NO_ANSWER


def _of_sqlite(error: Exception) -> Advice:
    path, code = connection.settings_dict["NAME"], getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return f"{path} is not an SQLite database, or it is damaged.", _restore(path)
    if code == sqlite3.SQLITE_CORRUPT:
        return f"{path} is damaged.", _restore(path)
    if code == sqlite3.SQLITE_CANTOPEN:
        return f"{path} cannot be opened.", "Create its folder, and grant this user write access to it."
    if code == sqlite3.SQLITE_READONLY:
        return f"{path} cannot be written.", "Grant this user write access to the file and its folder."
    return f"{path}: {error}.", "Check the file and its disk."


def _restore(path: str) -> str:
    return (
        f"Stop the server and restore the file from a backup, or move {path} away: the next start makes an empty one."
    )
