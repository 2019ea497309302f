"""A server with authentication and without a worker, so that nothing moves but by requests; and people who want something of each other."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

import jwt
import orjson
import psycopg
import pytest
from django.apps import apps
from websockets.exceptions import ConnectionClosed

from tests.a2a.sockets import socket
from tests.accounts.conftest import SECRET
from tests.fork_server import printed_by
from tests.hostile.test_corpus import MADE_BY_SERVERS
from tests.isolation.doors import Shot
from tests.ports import free_port
from tests.servers import SERVE, Server, environment_of, new_database, running

PASSWORD: Final = "open sesame 42"
MAKE_PEOPLE: Final = """
import json, sys
from aipartnerupflow import bootstrap
bootstrap()
import django
django.setup()
from accounts import api_keys, tokens, users
from accounts.callers import Role
from apflow_site.prepare import prepare
prepare()
for name in ("alice", "bob", "carol", "root"):
    users.create_user(name, password=sys.argv[1], role=Role.ADMIN if name == "root" else Role.OPERATOR)
found = {name: tokens.issue(users.user_named(name)) for name in ("alice", "bob", "carol", "root")}
users.set_active("carol", is_active=False)
keys_of_alice = {role.name: api_keys.create_key(users.user_named("alice"), name="a", role=role)[1] for role in Role if role < 3}
print(json.dumps({"pairs": found, "keys": keys_of_alice}))
"""
#: What ends the wait for an answer on a WebSocket, beside an answer in JSON-RPC.
ANSWERS: Final = frozenset({"subscribed", "unsubscribed"})
#: The code that a WebSocket is closed with → the status that says the same.
STATUSES: Final[Mapping[int, int]] = MappingProxyType({4401: 401})
ROLE_TOO_LOW: Final = -32004
#: What requests change that tell nothing and belong to nobody.
VOLATILE: Final = frozenset({"last_used_at", "last_login"})
OF_NO_USER: Final = frozenset({"tasks_installationfact"})
"""What the processes note of the installation from time to time."""

Headers = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: all of it, or of a stream its first frame."""

    status: int
    body: bytes
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleServer:
    """The server, its people by their headers, and what is in its database."""

    server: Server
    people: dict[str, Headers]
    pairs: dict[str, dict[str, str]]
    keys: dict[str, str]
    dump: Callable[[], dict[str, str]]
    numbers: Iterator[int] = field(default_factory=count)

    def tree(self, owner: str, *, runs: bool) -> dict[str, str]:
        """A new tree of two tasks: the names in a row, and what they stand for."""
        number = next(self.numbers)
        task, leaf = f"{owner}-root-{number:04}", f"{owner}-leaf-{number:04}"
        tasks = [
            {"id": task, "name": "root", "schedule_type": "once", "schedule_expression": "2999-01-01"},
            {"id": leaf, "name": "leaf", "parent_id": task},
        ]
        call = {"tasks": tasks, "execute": runs}
        self.server.rpc("tasks.create", call, **self.people[owner])
        sent = self.server.http.post("/files", params={"name": "a.txt"}, content=b"", headers=self.people[owner])
        plan = {"task_id": task, "at": "2999-01-01T00:00"}
        planned = self.server.rpc("schedules.create", plan, **self.people[owner])["id"]
        names = {"$task": task, "$leaf": leaf, "$run": str(uuid4()), "$config": f"hook-{number:04}", "$user": owner}
        names |= {"$document": sent.json()["$file"]}
        names |= {"$schedule": planned, "$webhook": str(uuid4()), "$model_call": str(uuid4())}
        if runs:
            ((names["$run"],),) = self.server.query("SELECT id FROM tasks_run WHERE root_id = %s", task)
            config = {"taskId": names["$run"], "id": names["$config"], "url": "https://192.0.2.1/hook"}
            self.server.rpc("CreateTaskPushNotificationConfig", config, path="/", **self.people[owner])
            recorded = (
                names["$model_call"],
                names["$run"],
                task,
                task,
                owner,
                "llm_executor",
                1,
                "demo/demo",
                "completed",
            )
            columns = "id, run_id, root_id, task_id, user_id, executor_id, attempt, model, status, started_at"
            marks = ", ".join(["%s"] * len(recorded))
            self.server.query(f"INSERT INTO tasks_modelcall ({columns}) VALUES ({marks}, CURRENT_TIMESTAMP)", *recorded)
            ((names["$webhook"],),) = self.server.query("SELECT id FROM tasks_webhook WHERE run_id = %s", names["$run"])
        return names

    def _ask_by_socket(self, message: str, headers: Headers) -> Answer:
        """What answers the message; who is not let in is told by a code as HTTP tells it."""
        with socket(self.server.url, additional_headers=headers) as client:
            try:
                client.connection.send(message)
                while not (found := client.next()).keys() & {"jsonrpc", "error"} and found["type"] not in ANSWERS:
                    pass
            except ConnectionClosed:
                return Answer(status=STATUSES[client.closed()], body=b"", kind="ws")
        is_too_low = found.get("error", {}).get("code") == ROLE_TOO_LOW
        return Answer(status=403 if is_too_low else 200, body=orjson.dumps(found), kind="ws")

    def ask(self, shot: Shot, names: dict[str, str], headers: Headers) -> Answer:
        """Send it with the names filled in."""
        body = None if shot.body is None else _filled(shot.body, names)
        if shot.method == "WS":
            return self._ask_by_socket(str(body), headers)
        kind = {"Content-Type": "application/json"} if body is not None else {}
        path, query = _filled_text(shot.path, names), json.loads(_filled(shot.query, names))
        filled = {name: _filled_text(value, names) for name, value in shot.headers.items()}
        with self.server.http.stream(
            shot.method, path, params=query, content=body, headers={**kind, **filled, **headers}
        ) as response:
            kind_of_answer = response.headers.get("content-type", "")
            is_stream = kind_of_answer.startswith("text/event-stream")
            if is_stream and shot.method == "GET":
                content = b""  # nothing happens here, so nothing would come
            else:
                content = next(response.iter_lines()).encode() if is_stream else response.read()
            return Answer(status=response.status_code, body=content, kind=kind_of_answer)


def missing(names: dict[str, str]) -> dict[str, str]:
    """Names of the same length for what is not there."""
    return {name: value if name == "$mine" else name[1] * len(value) for name, value in names.items()}


def anonymised(answer: Answer, names: dict[str, str]) -> Answer:
    """The answer, without the ids that were sent, and those and the times that the server made up for it."""
    body = answer.body
    for name, value in names.items():
        body = body.replace(value.encode(), name.encode())
    body = MADE_BY_SERVERS.sub(b"*", body)
    return Answer(status=answer.status, body=body, kind=answer.kind)


def _filled(value: Any, names: dict[str, str]) -> str:
    return _filled_text(json.dumps(value), names)


def _filled_text(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return text


@pytest.fixture(scope="package")
def people_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleServer]:
    folder, port = tmp_path_factory.mktemp("isolation"), free_port()
    settings = {
        "AIPARTNERUPFLOW_JWT_SECRET": SECRET,
        "AIPARTNERUPFLOW_WEBHOOKS_ALLOW_PRIVATE": "true",
        "AIPARTNERUPFLOW_AUTH_ACCESS_MINUTES": "1440",  # longer than all these tests take on a busy machine
        "AIPARTNERUPFLOW_LIMITS_SCHEDULES": "100000",
        "AIPARTNERUPFLOW_MCP_WAIT_SECONDS": "0",  # there is no worker
    }
    command = [*SERVE, "--port", str(port), "--no-worker"]
    with new_database() as url:
        environment = environment_of(url, folder) | settings
        found = json.loads(printed_by(MAKE_PEOPLE, PASSWORD, env=environment))
        with (
            running(command, port=port, database_url=url, env=settings, data_dir=folder, is_ready="/health") as server,
            closing(_connection(url)) as connection,
        ):
            yield PeopleServer(
                server=server,
                people=_people(found),
                pairs=found["pairs"],
                keys=found["keys"],
                dump=_Dumps(connection).latest,
            )
            assert "Traceback" not in (log := server.log.read_text()), log[log.index("Traceback") - 500 :][:3000]


def _people(found: dict[str, Any]) -> dict[str, Headers]:
    expired = jwt.decode(found["pairs"]["alice"]["access"], SECRET, algorithms=["HS256"]) | {"exp": time.time() - 60}
    tokens = {name: pair["access"] for name, pair in found["pairs"].items()}
    bearers = {
        "owner": tokens["alice"],
        "alice": tokens["alice"],
        "other": tokens["bob"],
        "bob": tokens["bob"],
        "viewer": found["keys"]["VIEWER"],
        "admin": tokens["root"],
        "disabled": tokens["carol"],
        "expired": jwt.encode(expired, SECRET, algorithm="HS256"),
    }
    return {"anonymous": {}} | {name: {"Authorization": f"Bearer {token}"} for name, token in bearers.items()}


def _connection(url: str) -> Any:
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"), timeout=120, isolation_level=None)
    return psycopg.connect(url, autocommit=True)


class _Dumps:
    """What is in a database, read again only after a commit: SQLite counts those of other connections."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._commits = -1
        self._rows: dict[str, str] = {}

    def latest(self) -> dict[str, str]:
        commits = self._counted()
        if commits is None or commits != self._commits:
            self._rows, self._commits = _dump(self._connection), -1 if commits is None else commits
        return self._rows

    def _counted(self) -> int | None:
        """None on PostgreSQL."""
        if not isinstance(self._connection, sqlite3.Connection):
            return None
        ((commits,),) = self._connection.execute("PRAGMA data_version").fetchall()
        return int(commits)


def _dump(connection: Any) -> dict[str, str]:
    """Table → a hash of all its rows, but for what is volatile."""
    tables = {}
    for model in apps.get_models():
        if model._meta.db_table in OF_NO_USER or not model._meta.managed:
            continue
        columns = [f'"{field.column}"' for field in model._meta.concrete_fields if field.column not in VOLATILE]
        rows = connection.execute(f'SELECT {", ".join(columns)} FROM "{model._meta.db_table}" ORDER BY 1').fetchall()
        tables[model._meta.db_table] = sha256(repr(rows).encode()).hexdigest()
    return tables
