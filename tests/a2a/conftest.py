"""A real server with its worker, and a client that speaks JSON-RPC to it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest

from a2a.methods import METHODS, SYSTEM_METHODS
from tests.a2a.a2a_client import Agent, agent_of
from tests.ports import free_port
from tests.servers import NO_TLS, Server, patient

ROOT = Path(__file__).parents[2]
PYTHON = [sys.executable, "-m"]
Rpc = Callable[..., Any]
TABLES = {"/tasks": METHODS, "/system": SYSTEM_METHODS}


@contextmanager
def serving(data_dir: Path, **settings: str) -> Iterator[str]:
    """The address of a server whose database may be away."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "apflow_site.settings",
        "AIPARTNERUPFLOW_DATA_DIR": str(data_dir),
        "AIPARTNERUPFLOW_WORKER_DRAIN_SECONDS": "0",
        **settings,
    }
    port = str(free_port())
    command = [*PYTHON, "uvicorn", "apflow_site.asgi:application", "--port", port, "--log-level", "warning"]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as server:
        yield f"http://127.0.0.1:{port}"
        server.send_signal(signal.SIGTERM)


@contextmanager
def client_of(base_url: str) -> Iterator[httpx.Client]:
    # The first connection waits for the server by trying again.
    with httpx.Client(
        base_url=base_url, transport=httpx.HTTPTransport(retries=8, verify=NO_TLS), timeout=120
    ) as client:
        yield client


@pytest.fixture(scope="session")
def http(open_server: Server) -> httpx.Client:
    return open_server.http


@pytest.fixture
def call(http: httpx.Client) -> Rpc:
    """Call a method and return the whole reply."""
    numbers = count(1)

    def call(method: str, params: Any, *, path: str = "/tasks") -> Any:
        request = {"jsonrpc": "2.0", "method": method, "params": patient(params), "id": next(numbers)}
        response = http.post(path, json=request)
        assert response.status_code == 200
        reply = response.json()
        assert reply["id"] == request["id"]
        return reply

    return call


@pytest.fixture
def rpc(call: Rpc) -> Rpc:
    """Call a method that works and return its result."""

    def rpc(method: str, params: Any, *, path: str = "/tasks") -> Any:
        reply = call(method, params, path=path)
        assert "error" not in reply, reply
        is_partial = isinstance(params, dict) and "fields" in params
        if path in TABLES and not is_partial:  # every answer has the shape that is published
            msgspec.convert(reply["result"], TABLES[path][method].answer)
        return reply["result"]

    return rpc


@pytest.fixture
def refusal(call: Rpc) -> Rpc:
    """Call a method that refuses and return the error."""

    def refusal(method: str, params: Any, *, path: str = "/tasks") -> Any:
        reply = call(method, params, path=path)
        assert "result" not in reply, reply
        return reply["error"]

    return refusal


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that is not there yet: `gated` tasks end once it is."""
    return tmp_path / "gate"


def frames_of(lines: Iterator[str]) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """The (id, data) of each frame of an event stream."""
    event_id = None
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = value
        elif name == "data":
            yield event_id, orjson.loads(value)
            event_id = None


@pytest.fixture(scope="session")
def agent_server(auth_server: Server) -> Server:
    """A server with authentication, whose webhooks may lead to this machine."""
    return auth_server


@pytest.fixture
def alice(agent_server: Server) -> Agent:
    """A client of A2A 1.0."""
    return agent_of(agent_server.http, "alice")


@pytest.fixture
def bob(agent_server: Server) -> Agent:
    return agent_of(agent_server.http, "bob")


@pytest.fixture
def old_alice(agent_server: Server) -> Agent:
    """The same user with a client of A2A 0.3."""
    return agent_of(agent_server.http, "alice", version="")
