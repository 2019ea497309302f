"""From a database URL to Django's DATABASES entry."""

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes, urlsplit

DATABASE_URLS: Final = "sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host:5432/name"
NO_MEMORY: Final = "worker processes cannot see a database in the memory of another process"
SQLITE_OPTIONS: Final = (
    ("transaction_mode", "IMMEDIATE"),
    ("timeout", 20),
    (
        "init_command",
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16000;",
    ),
)
PREPARED: Final = (("server_side_binding", True), ("prepare_threshold", 3))
"""The driver sends values apart from statements, and PostgreSQL plans a statement once for each connection: measured,
1.4 times the steps a second. A pooler between must keep prepared statements (PgBouncer 1.21 and later do)."""


def is_postgresql(url: str) -> bool:
    return url.partition("://")[0] in ("postgresql", "postgres")


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{quote(os.fsencode(path))}"


def database_settings(url: str) -> dict[str, Any]:
    """Django's DATABASES entry. Raises ValueError with the reason, which never repeats the URL: it holds a password."""
    if "\0" in unquote(url):
        raise ValueError("it holds a NUL character")
    if is_postgresql(url):
        return postgresql_settings(url)
    if url.startswith("sqlite:"):
        return sqlite_settings(url)
    raise ValueError("only SQLite and PostgreSQL are supported")


def sqlite_settings(url: str) -> dict[str, Any]:
    if url in ("sqlite://", "sqlite://:memory:"):
        raise ValueError(NO_MEMORY)
    if not url.startswith("sqlite:///"):
        raise ValueError("the path of an SQLite file begins after three slashes")
    parts = urlsplit(url)
    path = os.fsdecode(unquote_to_bytes(parts.path[1:]))
    if path in ("", ":memory:") or "mode=memory" in parts.query:
        raise ValueError(NO_MEMORY)
    if parts.query or parts.fragment:
        raise ValueError("an SQLite URL has no options; in a path, write ? as %3F and # as %23")
    # An absolute name holds wherever a process works, and SQLite cannot take it for a `file:` URI.
    name = str(Path(path).absolute())
    return {
        "ENGINE": "apflow_site.sqlite",
        "NAME": name,
        "CONN_MAX_AGE": None,
        "OPTIONS": dict(SQLITE_OPTIONS),
    }


def postgresql_settings(url: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        # Not chained: the message quotes what was taken for a host or a port, which may be half a password.
        raise ValueError("its host, port or options cannot be read; percent-encode special characters") from None
    host, name = unquote(parts.hostname or ""), unquote(parts.path[1:])
    if parts.fragment:
        raise ValueError("it holds a #; write it as %23")
    if "/" in host:
        raise ValueError("the folder of a socket is given as an option: postgresql:///name?host=/folder")
    if not name or "/" in name:
        raise ValueError("after the host it needs the name of one database; percent-encode special characters")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(port or ""),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": dict(PREPARED) | options,
    }
