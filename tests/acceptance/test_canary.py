"""Keys go in by every door, and much goes wrong; then they are searched for wherever anything is written or shown.

A canary is a key with a middle that occurs nowhere else in the world. Its middle must not be found, not as it is, in base64 or URL-encoded; its
last four characters may be shown.
"""

import base64
import html
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus
from uuid import uuid4

import httpx
import pytest
from redis import Redis

from tests.a2a.a2a_client import data
from tests.a2a.sockets import socket
from tests.admin.conftest import session_of
from tests.fork_server import run_command
from tests.key_executors import hash_of
from tests.receiver import receiving
from tests.servers import MODULES, Json, Server, environment_of, new_database, running_server, until
from tests.valkey import valkey_server

pytestmark = pytest.mark.both_engines_nightly

PASSWORD: Final = "correct horse battery 9"
SHAPES: Final = ("sk-{}", "sk-ant-api03-{}", "AIza{}", "gsk_{}", "plain{}")
"""The last one looks like nothing in particular."""
MOST_PAGES: Final = 80
CREATE_ROOT: Final = ("users", "create", "root", "--role", "admin", "--password", PASSWORD)


@dataclass(slots=True)
class Canaries:
    """Every key that was sent, by the door through which it went."""

    by_door: dict[str, str] = field(default_factory=dict)

    def new(self, door: str) -> str:
        assert door not in self.by_door, door
        shape = SHAPES[len(self.by_door) % len(SHAPES)]
        key = self.by_door[door] = f"{shape.format(uuid4().hex)}-{len(self.by_door):04}"
        return key

    def found_in(self, haystack: bytes | str) -> list[str]:
        """The doors whose keys are there."""
        where = haystack.encode() if isinstance(haystack, str) else haystack
        return [door for door, key in self.by_door.items() if any(needle in where for needle in _needles(key))]


def _needles(key: str) -> Iterator[bytes]:
    middle = re.findall("[0-9a-f]{32}", key)[0].encode()
    yield from (middle, middle.upper(), quote(middle).encode(), quote_plus(middle).encode())
    for shift in range(3):  # base64 looks different by where a text begins
        yield base64.b64encode(b"\0" * shift + middle + b"\0" * 3)[4:-8]


@dataclass(kw_only=True)
class Site:
    """A server with its store, everything that it answered, and everything that its Valkey was told."""

    server: Server
    valkey: str
    canaries: Canaries
    answers: list[bytes] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def post(self, path: str, body: Any, **headers: str) -> Any:
        """The reply as JSON, or the text of a stream."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = self.server.http.post(path, content=content, headers={"Content-Type": "application/json", **headers})
        self.answers.append(response.content + repr(response.headers).encode())
        return response.json() if response.headers.get("content-type") == "application/json" else response.text

    def rpc(self, method: str, params: Any, path: str = "/tasks", **headers: str) -> Any:
        reply = self.post(path, {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}, **headers)
        assert "error" not in reply, reply
        return reply["result"]

    def with_key(self, door: str, form: str = "{}") -> dict[str, str]:
        """The header with a new key."""
        return {"X-LLM-API-KEY": form.format(self.canaries.new(door))}

    def end_of(self, task_id: str) -> Json:
        """The task when its run is over."""
        self.answers.append(json.dumps(self.server.finished(task_id)).encode())
        found: Json = self.rpc("tasks.detail", {"task_id": task_id})
        return found

    def assert_ran_with(self, task_id: str, door: str, *, source: str = "request") -> None:
        """The canary reached the executor: else it proves nothing that it is found nowhere."""
        result = self.end_of(task_id)["result"]
        assert result == {"source": source, "hash": hash_of(self.canaries.by_door[door])}, (door, result)


def task(task_id: str, then: str = "", **fields: Any) -> Json:
    return {
        "id": task_id,
        "name": task_id,
        "schemas": {"method": "careless_executor"},
        "params": {"then": then, **fields},
    }


@contextmanager
def listening(valkey: str, told: list[str]) -> Iterator[None]:
    """All commands that Valkey gets."""
    client: Any = Redis.from_url(valkey, socket_timeout=None)  # no limit: it may be told nothing for long
    with client.monitor() as monitor:
        reader = threading.Thread(
            target=lambda: told.extend(str(line) for line in _until_the_end(monitor)), daemon=True
        )
        reader.start()
        yield
        Redis.from_url(valkey).echo("the end")
        reader.join(60)


def _until_the_end(monitor: Any) -> Iterator[Any]:
    for line in monitor.listen():
        yield line
        if "the end" in str(line):
            return


# --- the doors: each gets a key of its own, which the executor must get ---


def methods(site: Site) -> None:
    for path in ("/tasks", "/"):
        site.rpc("tasks.execute", {"tasks": task(f"by {path}")}, path, **site.with_key(f"execute {path}"))
        site.assert_ran_with(f"by {path}", f"execute {path}")
    site.rpc("tasks.execute", {"tasks": task("named")}, **site.with_key("with provider", "openai:{}"))
    site.assert_ran_with("named", "with provider")
    site.rpc("tasks.create", {"tasks": task("later")}, **site.with_key("create"))
    site.rpc("tasks.execute", {"task_id": "later"})
    site.assert_ran_with("later", "create")
    site.rpc("tasks.create", {"tasks": task("now"), "execute": True}, **site.with_key("create and execute"))
    site.assert_ran_with("now", "create and execute")
    copy = site.rpc("tasks.execute", {"task_id": "now", "copy_execution": True}, **site.with_key("copy"))
    site.assert_ran_with(copy["task_id"], "copy")
    site.rpc("tasks.create", {"tasks": task("never run")}, **site.with_key("waiting"))


def streams(site: Site) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute"}
    for path in ("/tasks", "/"):
        params = {"tasks": task(f"stream {path}", "log"), "use_streaming": True}
        frames = site.post(path, call | {"params": params}, **site.with_key(f"stream {path}"))
        assert "…" in frames
        site.assert_ran_with(f"stream {path}", f"stream {path}")


def batches_and_repetitions(site: Site) -> None:
    call: Json = {"jsonrpc": "2.0", "method": "tasks.execute"}
    batch = [call | {"id": name, "params": {"tasks": task(name)}} for name in ("batch 1", "batch 2")]
    site.post("/tasks", batch, **site.with_key("batch"))
    for name in ("batch 1", "batch 2"):
        site.assert_ran_with(name, "batch")
    header = site.with_key("repeated") | {"Idempotency-Key": "canary"}
    for _ in range(2):
        site.rpc("tasks.execute", {"tasks": task("again")}, **header)
    site.assert_ran_with("again", "repeated")
    site.post("/tasks", call | {"params": {"tasks": task("notified")}}, **site.with_key("notification"))
    site.assert_ran_with("notified", "notification")


def rest(site: Site) -> None:
    site.post("/api/tasks/", {"tasks": task("rest-new"), "execute": True}, **site.with_key("REST create"))
    site.assert_ran_with("rest-new", "REST create")
    site.post("/api/tasks/", task("rest-old"))
    site.post("/api/tasks/rest-old/execute/", {}, **site.with_key("REST execute"))
    site.assert_ran_with("rest-old", "REST execute")


def a2a(site: Site) -> None:
    message = {"message": data({"tasks": [task("by message")]})}
    site.rpc("SendMessage", message, "/", **{"A2A-Version": "1.0"}, **site.with_key("SendMessage"))
    site.assert_ran_with("by message", "SendMessage")


def websockets(site: Site) -> None:
    """The header of the handshake goes with every execution of the socket."""
    login = {"Authorization": str(site.server.http.headers["Authorization"])}
    good = login | site.with_key("WebSocket")
    with socket(site.server.url, additional_headers=good) as client:
        client.call("tasks.execute", {"tasks": task("by socket", "log")})
        messages = client.until("final")
        while messages[-1]["data"]["task_id"] != "by socket":  # the end of an earlier run may come late
            messages += client.until("final")
        client.connection.send(f'{{"api_key": "{site.canaries.new("bad message")}", ')
        site.answers.append(json.dumps([*messages, client.next()]).encode())
    site.assert_ran_with("by socket", "WebSocket")
    bad = login | site.with_key("bad handshake", "opnai:{}")
    with socket(site.server.url, additional_headers=bad) as client:
        client.call("tasks.execute", {"tasks": task("refused")})
        answer = client.next()
        assert answer["error"]["code"] == -32602, answer
        site.answers.append(json.dumps(answer).encode())


def stored_keys(site: Site) -> None:
    key = site.canaries.new("stored")
    site.rpc("config.llm_key.set", {"provider": "openai", "api_key": key}, "/system")
    site.rpc("tasks.execute", {"tasks": task("with stored key")})
    site.assert_ran_with("with stored key", "stored", source="user")
    site.rpc("config.llm_key.get", {}, "/system")
    site.rpc("config.llm_key.set", {"provider": "groq", "api_key": site.canaries.new("replaced")}, "/system")
    site.rpc("config.llm_key.set", {"provider": "groq", "api_key": site.canaries.new("replacing")}, "/system")
    site.rpc("config.llm_key.set", {"provider": "mistral", "api_key": site.canaries.new("deleted")}, "/system")
    site.rpc("config.llm_key.delete", {"provider": "mistral"}, "/system")


def named_secrets(site: Site) -> None:
    """Each way to tell a secret, also to a stream and to a webhook."""
    secret = site.canaries.new("named secret")
    site.rpc("secrets.set", {"name": "canary", "value": secret}, "/system")
    for pool in ("loop", "thread"):
        for how in ("result", "error", "raise", "stop", "question"):
            name = f"tells {how} in {pool}"
            tasks = telling(name, how, pool, {"secret": "{{secret.canary}}"} if how == "error" else {"name": "canary"})
            site.rpc("tasks.execute", {"tasks": tasks})
            if how == "question":
                until(lambda name=name: question_of(site, name), seconds=60, what="a question")  # type: ignore[misc]
                site.rpc("tasks.answer", {"task_id": name, "answer": "yes"})
            done = site.end_of(name)
            if how in ("result", "question"):
                assert done["result"]["…"][-1] == len(secret), done
    params = {"tasks": telling("tells a stream", "result", "loop"), "use_streaming": True}
    assert "The secret is …" in site.post("/tasks", rpc_call("tasks.execute", params))
    with receiving() as receiver:
        params = {"tasks": telling("tells a webhook", "result", "loop"), "webhook_config": {"url": receiver.url}}
        site.rpc("tasks.execute", params)
        site.end_of("tells a webhook")
        receiver.until()
        site.answers += [delivery.body for delivery in receiver.received]
    site.rpc("tasks.copy", {"task_id": "tells result in loop", "copy_mode": "full"})
    site.rpc("tasks.tree", {"task_id": "tells result in loop"})
    bodies: tuple[Json, ...] = ({}, {"scope": "shared"}, {"allow_hosts": ["api.example.com"]})
    for number, body in enumerate(bodies):
        value = {"value": site.canaries.new(f"PUT {number}")}
        site.server.http.put("/api/secrets/by_rest/", json=body | value).raise_for_status()
    for door, given in {
        "secret with a bad name": {"name": "a-b", "value": "{}"},
        "secret with bad hosts": {"name": "a", "value": "{}", "allow_hosts": ["https://{}"]},
        "secret that is a list": {"name": "a", "value": ["{}"]},
        "secret that is too long": {"name": "a", "value": "{}" + "x" * 20_000},
        "secret as a name": {"name": "a", "value": "12345678", "{}": 1},
    }.items():
        params = json.loads(json.dumps(given).replace("{}", site.canaries.new(door)))
        reply = site.post("/system", rpc_call("secrets.set", params))
        assert "error" in reply
        if door == "secret as a name":
            site.answers.pop()  # it names the unknown parameter
    site.rpc("secrets.list", {}, "/system")


def question_of(site: Site, task_id: str) -> Any:
    return site.rpc("tasks.detail", {"task_id": task_id})["question"]


def telling(name: str, how: str, pool: str, inputs: Json | None = None) -> Json:
    given = inputs or {"secret": "{{secret.canary}}"}
    return {"id": name, "name": "telling_executor", "inputs": given | {"how": how}, "params": {"pool": pool}}


def webhooks(site: Site) -> None:
    with receiving() as receiver:
        token, header = site.canaries.new("webhook's token"), site.canaries.new("webhook's header")
        config = {"url": receiver.url, "token": token, "headers": {"Authorization": f"Bearer {header}"}}
        receiver.answer(500)
        site.rpc(
            "tasks.execute", {"tasks": task("told"), "webhook_config": config}, **site.with_key("beside a webhook")
        )
        site.assert_ran_with("told", "beside a webhook")
        receiver.until()
        assert receiver.received[0].headers["authorization"] == f"Bearer {header}"
        site.answers += [delivery.body for delivery in receiver.received]
    config |= {"token": site.canaries.new("bad webhook"), "headers": {"Host": site.canaries.new("bad header")}}
    site.post("/tasks", rpc_call("tasks.execute", {"tasks": task("untold"), "webhook_config": config}))


# --- what goes wrong ---


def executors_that_are_careless(site: Site) -> None:
    for then in ("log", "report", "fail", "retry", "raise", "chain", "odd result"):
        wrong = task(f"then {then}", then, retry={"max_attempts": 2, "backoff_seconds": 0.01})
        site.rpc("tasks.execute", {"tasks": wrong}, **site.with_key(f"then {then}"))
        done = site.end_of(f"then {then}")
        assert done["status"] == ("completed" if then in ("log", "report") else "failed"), done
    for then in ("fail", "raise"):
        site.rpc("tasks.execute", {"tasks": task(f"stored {then}", then)})
        site.end_of(f"stored {then}")
    other = task("for another provider", provider="anthropic")
    site.rpc("tasks.execute", {"tasks": other}, **site.with_key("for another provider", "openai:{}"))
    assert site.end_of("for another provider")["status"] == "failed"


def requests_that_are_wrong(site: Site) -> None:
    json_type = {"Content-Type": "application/json"}
    ok = rpc_call("tasks.execute", {"tasks": task("refused")})
    refused: list[tuple[str, Any, dict[str, str]]] = [
        ("/tasks", b'{"jsonrpc": "2.0", "method": ', site.with_key("bad JSON")),
        ("/tasks", b"[" * 100, site.with_key("deep JSON")),
        ("/tasks", ok | {"method": "tasks.exekute"}, site.with_key("unknown method")),
        (
            "/tasks",
            rpc_call("tasks.execute", {"tasks": {"name": "x"} | {"schemas": {"method": "nobody"}}}),
            site.with_key("unknown executor"),
        ),
        ("/tasks", rpc_call("tasks.execute", {"task_id": "nowhere"}), site.with_key("unknown task")),
        ("/tasks", ok, site.with_key("unknown provider", "opnai:{}")),
        ("/tasks", ok, site.with_key("key before the colon", "{}:x")),
        ("/tasks", ok, site.with_key("two words", "Bearer {}")),
        ("/tasks", ok, site.with_key("far too long", "{}" + "x" * 5000)),
        ("/", ok, site.with_key("on /", "opnai:{}")),
        ("/system", rpc_call("system.health", {}), site.with_key("on /system", "opnai:{}")),
        ("/api/tasks/", task("refused"), site.with_key("on REST", "opnai:{}")),
        ("/tasks", ok, site.with_key("wrong type") | {"Content-Type": "text/plain"}),
        ("/nowhere", ok, site.with_key("no such place")),
        ("/tasks", ok, site.with_key("bad token") | {"Authorization": f"Bearer {site.canaries.new('token')}"}),
        ("/tasks", ok, site.with_key("bad host") | {"Host": "evil.example"}),
        (f"/tasks?key={site.canaries.new('in the address')}", b"{", json_type),
        ("/system", f'{{"api_key": "{site.canaries.new("stored by bad JSON")}", '.encode(), json_type),
    ]
    for path, body, headers in refused:
        assert "error" in site.post(path, body, **headers), path
    for door, given in {
        "stored as a list": {"provider": "openai", "api_key": ["{}"]},
        "stored as a number's neighbour": {"provider": 1, "api_key": "{}"},
        "stored with a space": {"provider": "openai", "api_key": "{} x"},
        "stored for nobody": {"provider": "opnai", "api_key": "{}"},
        "stored too long": {"provider": "openai", "api_key": "{}" + "x" * 5000},
    }.items():
        params = json.loads(json.dumps(given).replace("{}", site.canaries.new(door)))
        assert "error" in site.post("/system", rpc_call("config.llm_key.set", params))


def rpc_call(method: str, params: Any) -> Json:
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}


DOORS: Final = (
    methods,
    streams,
    batches_and_repetitions,
    rest,
    a2a,
    websockets,
    stored_keys,
    named_secrets,
    webhooks,
    executors_that_are_careless,
    requests_that_are_wrong,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server after all of it has happened."""
    folder = tmp_path_factory.mktemp("data")
    with valkey_server() as valkey, new_database() as url:
        create = run_command(*CREATE_ROOT, env=environment_of(url, folder))
        assert create.returncode == 0, create.stderr
        environment = {
            "AIPARTNERUPFLOW_AUTH_JWT_SECRET": f"{uuid4()}{uuid4()}",
            "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.key_executors,tests.secret_executors",
            "AIPARTNERUPFLOW_REDIS_URL": valkey.connection_url,
            "AIPARTNERUPFLOW_LLM_KEY_STORE": "database" if url.startswith("sqlite") else "redis",
            "AIPARTNERUPFLOW_WEBHOOKS_ALLOW_PRIVATE": "true",
        }
        with running_server(url, env=environment, data_dir=folder) as server:
            site = Site(server=server, valkey=valkey.connection_url, canaries=Canaries())
            login = site.post("/auth/login", {"username": "root", "password": PASSWORD})
            server.http.headers["Authorization"] = f"Bearer {login['access']}"
            with listening(valkey.connection_url, site.told):
                for door in DOORS:
                    door(site)
            yield site


# --- where they are searched for ---


def test_the_search_finds_a_key_in_every_form() -> None:
    canaries = Canaries()
    keys = [canaries.new(f"door {number}") for number in range(len(SHAPES))]
    for key in keys:
        assert canaries.found_in(f"…{key[:-4]}…") != []
        for shift in range(3):
            assert canaries.found_in(base64.b64encode(b"x" * shift + key.encode() + b"tail")) != []
        assert canaries.found_in(f"…{key[-4:]}") == []


def test_no_answer_and_no_event_shows_a_key(site: Site) -> None:
    assert len(site.answers) > 50
    assert site.canaries.found_in(b"\n".join(site.answers)) == []


def test_the_log_shows_no_key(site: Site) -> None:
    log = site.server.log.read_text()
    assert "the key is " in log and "The secret is " in log  # an executor has said what it should not
    assert "Traceback" in log
    assert site.canaries.found_in(log) == []


def test_no_page_shows_a_key(site: Site) -> None:
    with session_of("root", site.server, PASSWORD) as session:
        pages = dict(_pages(session, ["/", "/admin/"]))
    assert any("/admin/llmkeys/" in address for address in pages), list(pages)
    assert any("/admin/tasks/task/" in address for address in pages), list(pages)
    assert any("/ui/" in address for address in pages), list(pages)
    assert [(address, found) for address, page in pages.items() if (found := site.canaries.found_in(page))] == []


def test_the_database_holds_no_key(site: Site) -> None:
    rows = {table: str(site.server.query(f'SELECT * FROM "{table}"')) for table in _tables(site.server)}
    assert "gAAAAA" in rows["llmkeys_runsecret"]  # sealed, and still waiting
    assert "gAAAAA" in rows["llmkeys_namedsecret"]
    assert [(table, found) for table, text in rows.items() if (found := site.canaries.found_in(text))] == []
    for file in _files_of(site.server):
        assert site.canaries.found_in(file.read_bytes()) == [], file


def test_no_key_outlives_its_run(site: Site) -> None:
    rows = site.server.query("SELECT tree_id, run_id FROM llmkeys_runsecret")
    assert rows == [("never run", None)]


def test_valkey_is_told_no_key(site: Site) -> None:
    in_redis = bool(Redis.from_url(site.valkey).hkeys("apflow:llm_keys:root"))
    assert any("HSET" in line and "apflow:llm_keys:root" in line for line in site.told) == in_redis
    [(in_database,)] = site.server.query("SELECT count(*) FROM llmkeys_llmkey")
    assert in_redis != bool(in_database)
    assert site.canaries.found_in("\n".join(site.told)) == []


def _tables(server: Server) -> list[str]:
    statement = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if server.database_url.startswith("sqlite")
        else "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    return [name for (name,) in server.query(statement)]


def _files_of(server: Server) -> list[Path]:
    """The files of the data folder, and those of SQLite, which keep what was deleted until it is overwritten."""
    beside = (
        Path(server.database_url.removeprefix("sqlite:///")).parent
        if server.database_url.startswith("sqlite")
        else server.data_dir
    )
    return [file for folder in {beside, server.data_dir} for file in folder.rglob("*") if file.is_file()]


def _pages(session: httpx.Client, addresses: list[str]) -> Iterator[tuple[str, bytes]]:
    """The pages that somebody comes to by clicking, at most so many."""
    seen = set(addresses)
    for _ in range(MOST_PAGES):
        if not addresses:
            return
        address = addresses.pop(0)
        response = session.get(address, headers={"Accept": "text/html"}, follow_redirects=True)
        yield address, response.content
        found = [html.unescape(link) for link in re.findall(r'href="(/[^"#]*)"', response.text)]
        fresh = [
            link for link in found if link not in seen and not re.search("logout|/static/|events|\\.(css|js|svg)", link)
        ]
        seen.update(fresh)
        addresses += fresh
