"""Copies all tasks of a running predecessor into a file of SQLite, which is then imported as a database is."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx

from aipartnerupflow.importing.sources import NEEDED, CannotRead, Cell

TABLE: Final = "apflow_tasks"
JSON_COLUMNS: Final = ("dependencies", "inputs", "params", "schemas", "result")
ALL: Final = 10**9
CONNECT_SECONDS: Final = 10.0
INSTEAD: Final = "Stop the predecessor, and import its database."


def download(url: str, token: str | None, file: Path) -> None:
    """Ask the server for all of its tasks, and store them. Raises CannotRead.

    A single request returns all of them: pages may overlap or have gaps, because the predecessor sorts by a time that
    all tasks of a tree may share; and version 0.9 stops after a thousand requests.
    """
    tasks = _call(url, token, "tasks.list", {"root_only": False, "limit": ALL})
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "id" in task for task in tasks):
        raise CannotRead(f"{url} is not a server of the predecessor: it returned no list of tasks.")
    columns = list(dict.fromkeys(name for task in tasks for name in task)) or list(NEEDED)
    names = ", ".join('"{}"'.format(name.replace('"', '""')) for name in columns)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"CREATE TABLE {TABLE} ({names})")
        connection.executemany(
            f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
            [[_cell(name, task.get(name)) for name in columns] for task in tasks],
        )
        connection.execute(f"CREATE INDEX by_id ON {TABLE} (id)")
        connection.execute(f"CREATE INDEX by_parent ON {TABLE} (parent_id)")


def _call(url: str, token: str | None, method: str, params: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)  # it may take minutes to read its database
    try:
        response = httpx.post(f"{url.rstrip('/')}/tasks", json=request, headers=headers, timeout=timeout)
        reply = json.loads(response.content)  # and not `orjson`, to which long integers are floats
    except httpx.InvalidURL as error:
        raise CannotRead(f"'{url}' is not a URL: {error}.") from None
    except httpx.HTTPError as error:
        raise CannotRead(f"{url} did not answer: {error}. {INSTEAD}") from None
    except ValueError:
        raise CannotRead(f"{url} answered {response.status_code}, without JSON. {INSTEAD}") from None
    if not isinstance(reply, dict) or "result" not in reply:
        raise CannotRead(f"{url} answered {response.status_code}: {_error_of(reply)} {INSTEAD}")
    return reply["result"]


def _error_of(reply: Any) -> str:
    error = reply.get("error", reply) if isinstance(reply, dict) else reply
    texts = [error.get("message"), error.get("data")] if isinstance(error, dict) else [error]
    return " ".join(f"{text}." for text in texts if text)


def _cell(column: str, value: Any) -> Cell:
    """Return the value as text, as databases return it."""
    if value is None or (isinstance(value, str) and column not in JSON_COLUMNS):
        return value
    return json.dumps(value)
