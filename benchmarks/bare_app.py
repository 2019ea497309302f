"""The least that a server can do for `tasks.get`: decode JSON, run one SELECT by id, encode the row.

Not used by the project; `benchmarks.http` measures it beside the server, on the same machine, with the same client.
"""

import json
import os
import sqlite3

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

TASK_ID = "the-task"
database = sqlite3.connect(os.environ["BARE_DATABASE"], isolation_level=None, check_same_thread=False)
database.execute("PRAGMA journal_mode=WAL")
database.execute(
    "CREATE TABLE IF NOT EXISTS task (id TEXT PRIMARY KEY, name TEXT, status TEXT, inputs TEXT, result TEXT)"
)
database.execute(
    "INSERT OR REPLACE INTO task VALUES (?, ?, ?, ?, ?)", (TASK_ID, "one", "pending", '{"key": "value"}', None)
)


async def health(request: Request) -> JSONResponse:
    return JSONResponse({})


async def get(request: Request) -> JSONResponse:
    call = await request.json()
    assert call["params"]["task_id"]
    row = database.execute("SELECT * FROM task WHERE id = ?", (TASK_ID,)).fetchone()
    names = ("id", "name", "status", "inputs", "result")
    result = dict(zip(names, row, strict=True)) | {"inputs": json.loads(row[3])}
    return JSONResponse({"jsonrpc": "2.0", "id": call["id"], "result": result})


app = Starlette(routes=[Route("/tasks", get, methods=["POST"]), Route("/health", health)])
