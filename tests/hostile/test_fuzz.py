"""Spoilt requests for every method, on one connection: always an answer in JSON-RPC 2.0, and never one of 5xx.

FUZZ_EXAMPLES says how many (100, and 1,000 at night), and another FUZZ_SEED draws others. By default all runs are the same, so that none fails for what its
commit has not changed.
"""

import os
from collections.abc import Iterator
from typing import Any, Final

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis.strategies import booleans

from a2a.core.errors import RULES
from a2a.core.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR
from tasks.rules.strict_json import MalformedJson, decode
from tests.hostile.conftest import SEEDS
from tests.hostile.grammar import requests
from tests.hostile.test_corpus import OF_EXCEPTIONS, TIMEOUT_SECONDS
from tests.servers import LONG_WAY, Server, new_database, running_server, until
from tests.sizes import size

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", size(100, full=1000)))
SEED: Final = int(os.environ.get("FUZZ_SEED", "0"))
CODES: Final = {rule.code for rule in RULES.values()} | {INVALID_REQUEST}
END_SECONDS: Final = 120.0

pytestmark = pytest.mark.both_engines_nightly


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One with a worker, so that there are tasks of every status. At the end all its runs end, and its log has no surprise."""
    print(f"FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}")  # noqa: T201
    with new_database() as url, running_server(url, env={"AIPARTNERUPFLOW_WORKER_PROCESSES": "1"}) as server:
        for tasks in SEEDS:
            server.rpc("tasks.create", tasks)
        yield server
        unfinished = "SELECT id FROM tasks_run WHERE finished_at IS NULL"
        until(lambda: not server.query(unfinished), seconds=END_SECONDS, what="the end of all runs")
        assert "Traceback" not in (log := server.log.read_text()), log[log.index("Traceback") - 500 :][:3000]


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[httpx.Client]:
    """One, kept alive."""
    with httpx.Client(base_url=server.url, timeout=TIMEOUT_SECONDS, limits=httpx.Limits(max_connections=1)) as client:
        yield client


STREAM: Final = (
    b'{"jsonrpc": "2.0", "method": "tasks.execute", "params": {"task_id": "seed", "use_streaming": true}, "id": 1}'
)


@seed(SEED)
@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@example(request=("/", STREAM), is_long_way=False)
@example(request=("/tasks", STREAM), is_long_way=False)
@example(request=("/tasks", b"[" + STREAM + b"]"), is_long_way=False)
@given(request=requests(), is_long_way=booleans())
@pytest.mark.timeout(0)
@pytest.mark.sized
def test_a_spoilt_request_gets_a_proper_answer(
    connection: httpx.Client, request: tuple[str, bytes], is_long_way: bool
) -> None:
    path, body = request
    headers = {"Content-Type": "application/json", **(LONG_WAY if is_long_way else {})}
    with connection.stream("POST", path, content=body, headers=headers) as response:
        replies = _replies_of(response, body)
    try:
        sent = decode(body)
    except MalformedJson:
        assert response.status_code == 400
        assert [reply["error"]["code"] for reply in replies] == [PARSE_ERROR]
        return
    assert response.status_code == (200 if replies else 204)
    _check(replies, sent)


def _replies_of(response: httpx.Response, body: bytes) -> list[Any]:
    """All of a batch, or the one, which is the first frame where it streams; none of a batch's notifications."""
    if response.headers.get("content-type") == "text/event-stream":
        return [orjson.loads(next(response.iter_lines()).removeprefix("data: "))]
    content = response.read()
    assert response.status_code < 500, content
    if not content:
        return []
    assert not set(OF_EXCEPTIONS.findall(content)) - set(OF_EXCEPTIONS.findall(body)), content
    value = orjson.loads(content)
    return value if isinstance(value, list) else [value]


def _check(replies: list[Any], sent: Any) -> None:
    for reply in replies:
        _check_shape(reply)
    awaited = [request for request in sent if not _is_notification(request)] if isinstance(sent, list) else [sent]
    if sent == []:
        assert [reply["error"]["code"] for reply in replies] == [INVALID_REQUEST]
        return
    assert [_id_of(reply) for reply in replies] == [_id_of(request) for request in awaited]


def _check_shape(reply: Any) -> None:
    """Section 5 of the specification."""
    assert reply["jsonrpc"] == "2.0"
    if "result" in reply:
        assert reply.keys() == {"jsonrpc", "id", "result"}
        return
    assert reply.keys() == {"jsonrpc", "id", "error"}
    error = reply["error"]
    assert {"code", "message"} <= error.keys() <= {"code", "message", "data"}
    assert error["code"] in CODES - {INTERNAL_ERROR}, error
    assert isinstance(error["message"], str)
    assert error["message"]


def _is_notification(request: Any) -> bool:
    """Well formed, and without an id (section 4.1)."""
    return (
        isinstance(request, dict)
        and "id" not in request
        and request.get("jsonrpc") == "2.0"
        and isinstance(request.get("method"), str)
        and isinstance(request.get("params", {}), dict | list)
    )


def _id_of(value: Any) -> tuple[type, Any]:
    """The id with its type: 1 is not 1.0, nor true. What is none counts as null (section 5)."""
    found = value.get("id") if isinstance(value, dict) else None
    is_id = isinstance(found, str | int | float) and not isinstance(found, bool)
    return (type(found), found) if is_id else (type(None), None)
