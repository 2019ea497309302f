"""Database URLs: what Django gets from them, and which are refused."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from apflow_site.databases import KEPT_ALIVE, PREPARED, database_settings, sqlite_url


def test_a_relative_sqlite_path_begins_in_the_working_folder() -> None:
    assert database_settings("sqlite:///data/a.db")["NAME"] == str(Path.cwd() / "data/a.db")


@pytest.mark.parametrize("name", ["a.db", "a b.db", "what?.db", "#1.db", "100%.db", "file:a.db", "ä.db"])
def test_an_sqlite_url_keeps_any_path(tmp_path: Path, name: str) -> None:
    assert database_settings(sqlite_url(tmp_path / name))["NAME"] == str(tmp_path / name)


@pytest.mark.parametrize(("synchronous", "code"), [("normal", 1), ("full", 2)])
def test_sqlite_is_set_up_for_several_processes(tmp_path: Path, synchronous: str, code: int) -> None:
    settings = database_settings(sqlite_url(tmp_path / "a.db"), sqlite_synchronous=synchronous)
    assert settings["ENGINE"] == "apflow_site.sqlite"
    assert settings["CONN_MAX_AGE"] is None
    assert settings["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    with sqlite3.connect(settings["NAME"]) as connection:
        connection.executescript(settings["OPTIONS"]["init_command"])
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (code,)
    connection.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://user:pass@localhost/db",
            {
                "USER": "user",
                "PASSWORD": "pass",
                "HOST": "localhost",
                "NAME": "db",
                "PORT": "",
                "OPTIONS": dict(PREPARED + KEPT_ALIVE) | {"connect_timeout": 3, "application_name": "aipartnerupflow"},
            },
        ),
        ("postgres://db.example:5433/db", {"USER": "", "PASSWORD": "", "HOST": "db.example", "PORT": "5433"}),
        ("postgresql://a%40b:p%2F%23%3Fw%25@h/d%20b", {"USER": "a@b", "PASSWORD": "p/#?w%", "NAME": "d b"}),
        ("postgresql://u:p+w@h/d", {"PASSWORD": "p+w"}),
        ("postgresql://[::1]:5432/db", {"HOST": "::1", "PORT": "5432"}),
        (
            "postgresql:///db?host=/run/Postgres&sslmode=require",
            {
                "HOST": "",
                "OPTIONS": dict(PREPARED + KEPT_ALIVE)
                | {
                    "connect_timeout": 3,
                    "application_name": "aipartnerupflow",
                    "host": "/run/Postgres",
                    "sslmode": "require",
                },
            },
        ),
    ],
)
def test_a_postgresql_url_is_taken_apart(url: str, expected: dict[str, Any]) -> None:
    settings = database_settings(url)
    assert settings | expected == settings
    assert settings["ENGINE"] == "django.db.backends.postgresql"
    assert settings["CONN_MAX_AGE"] is None
    assert settings["CONN_HEALTH_CHECKS"] is True


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "in-memory database is not supported"),
        ("sqlite:///", "in-memory database is not supported"),
        ("sqlite://:memory:", "in-memory database is not supported"),
        ("sqlite:///:memory:", "in-memory database is not supported"),
        ("sqlite:///file:a?mode=memory", "in-memory database is not supported"),
        ("sqlite://hush/a.db", "three slashes"),
        ("sqlite:hush.db", "three slashes"),
        ("sqlite:///a.db?hush=1", "no options"),
        ("sqlite:///a.db#hush", "no options"),
        ("sqlite:///a%00hush", "NUL"),
        ("mysql://hush@h/d", "only SQLite and PostgreSQL"),
        ("postgresql+psycopg://hush@h/d", "only SQLite and PostgreSQL"),
        ("hush", "only SQLite and PostgreSQL"),
        ("", "only SQLite and PostgreSQL"),
        ("postgresql://u:hush#1@h/d", "percent-encode"),
        ("postgresql://u:hush/1@h/d", "percent-encode"),
        ("postgresql://u:hush?1@h/d", "percent-encode"),
        ("postgresql://u:hush[@h/d", "percent-encode"),
        ("postgresql://u:hush\u2100@h/d", "percent-encode"),
        ("postgresql://u:p@h/d#hush", "write it as %23"),
        ("postgresql://u:p@h", "one database name"),
        ("postgresql://u:p@h/", "one database name"),
        ("postgresql://u:p@h:99999/d", "port"),
        ("postgresql://u:p@h:hush/d", "port"),
        ("postgresql://u:p@h/d?hush", "options"),
        ("postgresql://u:p@%2Frun%2Fpostgresql/d", "host=/folder"),
        ("postgresql://u:p%00@h/d", "NUL"),
    ],
)
def test_a_url_that_cannot_work_is_refused_without_repeating_it(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        database_settings(url)
    assert "hush" not in str(caught.value)
