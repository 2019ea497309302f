"""The least that a server can do for `tasks.get`: decode JSON, run one SELECT by id, encode the row.

Not used by the project; `benchmarks.http` measures it beside the server, on the same web server and database, with the
same client. It reads SQLite in the event loop, and PostgreSQL with prepared statements over asynchronous connections,
which take two thirds of the processor time of threads.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any, Final

import orjson
import psycopg
from psycopg.types.string import TextLoader
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

JSON: Final = ("dependencies", "inputs", "schemas", "params", "result", "token_usage")
"""Columns with JSON as text, which goes into the answer as it is."""
COLUMNS: Final = (
    *("id", "root_id", "parent_id", "user_id", "name", "status", "priority", "error", "progress", "attempt"),
    *("has_children", "has_copy", "original_task_id", "origin_type", "spawned_by"),
    *("created_at", "updated_at", "started_at", "completed_at"),
    *JSON,
)
"""The columns of a task that `tasks.get` shows."""
QUERY: Final = f"SELECT {', '.join(COLUMNS)} FROM tasks_task WHERE id = "
CONNECTIONS: Final = 16

Row = tuple[Any, ...]
Read = Callable[[str], Awaitable[Row | None]]


@asynccontextmanager
async def sqlite(file: str) -> AsyncIterator[Read]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:

        async def read(task_id: str) -> Row | None:
            row: Row | None = connection.execute(QUERY + "?", (task_id,)).fetchone()
            return row

        yield read


@asynccontextmanager
async def postgres(url: str) -> AsyncIterator[Read]:
    pool = asyncio.LifoQueue[psycopg.AsyncConnection[Row]]()
    for _ in range(CONNECTIONS):
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        connection.adapters.register_loader("timestamptz", TextLoader)
        pool.put_nowait(connection)

    async def read(task_id: str) -> Row | None:
        connection = await pool.get()
        try:
            cursor = await connection.execute(QUERY + "%s", (task_id,), prepare=True)
            return await cursor.fetchone()
        finally:
            pool.put_nowait(connection)

    yield read
    while not pool.empty():
        await pool.get_nowait().close()


@asynccontextmanager
async def connected(app: Starlette) -> AsyncIterator[None]:
    """Connect to the URL of PostgreSQL or the file of SQLite in the environment."""
    database = os.environ["BARE_DATABASE"]
    async with (postgres if database.startswith("postgres") else sqlite)(database) as read:
        app.state.read = read
        yield


async def health(request: Request) -> Response:
    return Response(b"{}", media_type="application/json")


async def get(request: Request) -> Response:
    call = orjson.loads(await request.body())
    row = await request.app.state.read(call["params"]["task_id"])
    result = dict(zip(COLUMNS, row, strict=True))
    for name in JSON:
        if result[name] is not None:
            result[name] = orjson.Fragment(result[name])
    answer = orjson.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result})
    return Response(answer, media_type="application/json")


def make_database(file: str, tasks: int) -> list[str]:
    """Make a database of SQLite with so many tasks, for a machine without our server. Returns their ids."""
    ids = [f"task-{number}" for number in range(tasks)]
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"CREATE TABLE tasks_task ({', '.join(COLUMNS)}, PRIMARY KEY (id))")
        database.executemany("INSERT INTO tasks_task (id, name, inputs) VALUES (?, 'one', '{}')", [(n,) for n in ids])
        database.commit()
    return ids


app = Starlette(routes=[Route("/tasks", get, methods=["POST"]), Route("/health", health)], lifespan=connected)
