"""Converts a database URL to an entry of Django's DATABASES."""

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes, urlsplit

DATABASE_URLS: Final = "sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host:5432/name"
NO_MEMORY: Final = "an in-memory database is not supported: worker processes could not see it"
SQLITE_OPTIONS: Final = (("transaction_mode", "IMMEDIATE"), ("timeout", 20))
SQLITE_INIT: Final = (
    "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16000;"
)
PREPARED: Final = (("server_side_binding", True), ("prepare_threshold", 3))
"""Server-side parameters and prepared statements: one plan per statement and connection.

Measured: 1.4 times the steps per second. A pooler must support prepared statements (PgBouncer 1.21
and later do).
"""


KEPT_ALIVE: Final = (
    ("keepalives", 1),
    ("keepalives_idle", 5),
    ("keepalives_interval", 2),
    ("keepalives_count", 2),
    ("tcp_user_timeout", 9_000),
)
"""The kernel ends a connection whose peer has gone without a word, after 9 seconds.

Otherwise a thread waits for a lost packet for a quarter of an hour. After a cut of 20 seconds, an
old connection sends its packet again only 5 seconds later, and requests wait for it; a new one is
made at once. PostgreSQL does the same (`apflow_site.db.connections`). A URL may override them.
"""
CONNECT_SECONDS: Final = 3
APPLICATION: Final = "aipartnerupflow"
"""The `application_name` of sessions, to which `apflow_site.db.connections` adds what the process does."""


def is_postgresql(url: str) -> bool:
    return url.partition("://")[0] in ("postgresql", "postgres")


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{quote(os.fsencode(path))}"


def database_settings(
    url: str, *, connect_seconds: int = CONNECT_SECONDS, sqlite_synchronous: str = "normal"
) -> dict[str, Any]:
    """Return the DATABASES entry for a URL.

    Raises ValueError with the reason; it never contains the URL, which may have a password.
    """
    if "\0" in unquote(url):
        raise ValueError("it contains a NUL character")
    if is_postgresql(url):
        return postgresql_settings(url, connect_seconds=connect_seconds)
    if url.startswith("sqlite:"):
        return sqlite_settings(url, synchronous=sqlite_synchronous)
    raise ValueError("only SQLite and PostgreSQL are supported")


def sqlite_settings(url: str, *, synchronous: str = "normal") -> dict[str, Any]:
    if url in ("sqlite://", "sqlite://:memory:"):
        raise ValueError(NO_MEMORY)
    if not url.startswith("sqlite:///"):
        raise ValueError("write the path of an SQLite file after three slashes: sqlite:///path")
    parts = urlsplit(url)
    path = os.fsdecode(unquote_to_bytes(parts.path[1:]))
    if path in ("", ":memory:") or "mode=memory" in parts.query:
        raise ValueError(NO_MEMORY)
    if parts.query or parts.fragment:
        raise ValueError("an SQLite URL has no options; in a path, write ? as %3F and # as %23")
    # An absolute path is valid in any working directory, and SQLite cannot mistake it for a `file:`
    # URI.
    name = str(Path(path).absolute())
    return {
        "ENGINE": "apflow_site.sqlite",
        "NAME": name,
        "CONN_MAX_AGE": None,
        "OPTIONS": dict(SQLITE_OPTIONS) | {"init_command": SQLITE_INIT.format(synchronous=synchronous)},
    }


def postgresql_settings(url: str, *, connect_seconds: int = CONNECT_SECONDS) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        # Not chained: the message quotes the host or port, which may be part of an unescaped
        # password.
        raise ValueError("its host, port or options are malformed; percent-encode special characters") from None
    host, name = unquote(parts.hostname or ""), unquote(parts.path[1:])
    if parts.fragment:
        raise ValueError("it contains a #; write it as %23")
    if "/" in host:
        raise ValueError("pass the folder of a socket as an option: postgresql:///name?host=/folder")
    if not name or "/" in name:
        raise ValueError("it needs one database name after the host; percent-encode special characters")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(port or ""),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": dict(PREPARED + KEPT_ALIVE)
        | {"connect_timeout": connect_seconds, "application_name": APPLICATION}
        | options,
    }
