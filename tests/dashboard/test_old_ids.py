"""Pages beside a task whose id has a NUL, which SQLite may hold from before every interface refused it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest

from tests.servers import Server, new_database, running_server

OLD: Final = "x\0y"
COLUMNS: Final = {"tasks_task": ("id", "root_id", "parent_id"), "tasks_run": ("root_id", "target_id")}
ADDRESSES: Final = {
    "/": 200,
    "/?q=x": 302,
    "/ui/tasks/?q=x": 200,
    "/ui/inbox/": 200,
    "/ui/new/tree/?copy=x%00y": 400,
    "/ui/tasks/x%00y": 404,
    "/ui/panel/x%00y": 404,
    "/ui/head/x%00y": 404,
    "/ui/tasks/child": 404,
    "/ui/panel/child": 200,
    "/ui/head/child": 404,
    "/api/tasks/": 200,
    "/api/tasks/x%00y/": 400,
    "/api/tasks/child/tree/": 200,
    "/tasks/x%00y/events": 400,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as database_url, running_server(database_url) as server:
        tasks = [{"id": "x", "name": "echo_executor"}, {"id": "child", "name": "echo_executor", "parent_id": "x"}]
        server.rpc("tasks.execute", {"tasks": tasks, "wait": True})
        with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as rows, rows:
            for table, columns in COLUMNS.items():
                for column in columns:
                    rows.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = 'x'", [OLD])
        yield server


def test_no_page_breaks(server: Server) -> None:
    html = {"Accept": "text/html"}
    assert {path: server.http.get(path, headers=html).status_code for path in ADDRESSES} == ADDRESSES
