"""Calls on the short way and on the way of all requests: the same answers, byte for byte."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any, Final

import httpx
import pytest

from a2a.methods import METHODS, SYSTEM_METHODS
from a2a.methods.openrpc import openrpc_document
from accounts.callers import Role
from tests.hostile.conftest import Target
from tests.hostile.grammar import WAIT_SECONDS
from tests.hostile.test_corpus import HEADERS, MADE_BY_SERVERS
from tests.servers import LONG_WAY, new_database, running_server
from tests.sizes import size

TABLES: Final = {"/tasks": METHODS, "/system": SYSTEM_METHODS}
READS: Final = [
    (path, name) for path, methods in TABLES.items() for name, method in methods.items() if method.role is Role.VIEWER
]
SHORT: Final = [
    (path, name) for path, methods in TABLES.items() for name, method in methods.items() if not method.takes_url
]
"""The methods that may go the short way."""
MOST: Final = size(25, full=10_000)
"""The valid and the invalid parameters for a method. A method that takes whole trees has thousands, most have less than 50."""
NAMED: Final = "0"
"""The id that schemathesis uses in its cases."""


def same_both_ways(
    http: httpx.Client, path: str, content: bytes, *, long: httpx.Client | None = None, **headers: str
) -> httpx.Response:
    """Ask on both ways, and return the answer of the short one. All but made ids, times and the id of the request are the same.

    `long` asks another server on the long way.
    """
    sent = {"Content-Type": "application/json", **headers}
    short, other = (
        client.post(path, content=content, headers={**sent, **more})
        for client, more in ((http, {}), (long or http, LONG_WAY))
    )
    assert short.status_code == other.status_code, (short.text, other.text)
    names = ({*each.headers} for each in (short, other))
    assert next(names) == next(names)
    assert [short.headers.get(name) for name in HEADERS] == [other.headers.get(name) for name in HEADERS]
    assert MADE_BY_SERVERS.sub(b"made", short.content) == MADE_BY_SERVERS.sub(b"made", other.content)
    return short


@pytest.mark.parametrize(("path", "name"), READS, ids=[name for _, name in READS])
def test_a_read_is_answered_alike(target_of_engine: Mapping[str, Target], path: str, name: str) -> None:
    for params in ({}, {"task_id": "seed"}, {"task_id": "none"}, {"unknown": 1}, {"limit": 3}, {"limit": "x"}):
        call = {"jsonrpc": "2.0", "method": name, "params": params, "id": 7}
        same_both_ways(target_of_engine["sqlite"].server.http, path, json.dumps(call).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"jsonrpc": "2.0"}',
        b'{"jsonrpc": "2.0", "method": "tasks.gte", "id": 1}',
        b'{"a": 1, "a": 2}',
    ],
)
def test_what_is_no_call_is_refused_alike(target_of_engine: Mapping[str, Target], body: bytes) -> None:
    same_both_ways(target_of_engine["sqlite"].server.http, "/tasks", body)
    same_both_ways(target_of_engine["sqlite"].server.http, "/system", body, Accept="text/plain")


def test_an_error_has_its_text_alike_for_clients_that_want_one(target_of_engine: Mapping[str, Target]) -> None:
    call = b'{"jsonrpc": "2.0", "method": "tasks.get", "params": {}, "id": 1}'
    answer = same_both_ways(
        target_of_engine["sqlite"].server.http, "/tasks", call, Accept="application/json, text/plain, */*"
    )
    assert "errors" in answer.json()["error"]


def test_the_id_of_the_request_is_kept(target_of_engine: Mapping[str, Target]) -> None:
    call = b'{"jsonrpc": "2.0", "method": "tasks.count", "id": 1}'
    for more in ({}, LONG_WAY):
        headers = {"Content-Type": "application/json", "X-Request-Id": "mine-1", **more}
        assert (
            target_of_engine["sqlite"].server.http.post("/tasks", content=call, headers=headers).headers["X-Request-Id"]
            == "mine-1"
        )


@pytest.fixture(scope="module")
def cases() -> Mapping[str, list[Any]]:
    """For each method the parameters that schemathesis finds in its schemas: each value that a schema distinguishes, valid or not."""
    import schemathesis  # noqa: PLC0415  half a second that the collection of tests need not take

    document = openrpc_document(TABLES)
    bodies = {
        f"/{method['name']}": {
            "type": "object",
            "properties": {each["name"]: each["schema"] for each in method["params"]},
            "required": [each["name"] for each in method["params"] if each["required"]],
            "additionalProperties": False,
        }
        for method in document["methods"]
    }
    operations = {
        path: {
            "post": {
                "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
                "responses": {"200": {"description": ""}},
            }
        }
        for path, schema in bodies.items()
    }
    api = schemathesis.openapi.from_dict(
        {
            "openapi": "3.1.0",
            "info": {"title": "methods", "version": "1"},
            "paths": operations,
            "components": {"schemas": document["components"]["schemas"]},
        }
    )
    found: dict[str, list[Any]] = defaultdict(list)
    for path, mode in product(operations, schemathesis.GenerationMode):
        made = api.iter_coverage_cases(
            api[path]["POST"], generation_modes=[mode], generation_config=api.config.generation
        )
        sent = (case.body for case in made if case.method == "POST" and case.media_type)
        found[path[1:]] += islice(sent, MOST)
    return found


@pytest.fixture(scope="module")
def twins() -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of two servers without a worker. They get the same calls, one of them on the short way, and so stay the same."""
    with (
        new_database() as url,
        new_database() as other_url,
        running_server(url, "--no-worker") as short,
        running_server(other_url, "--no-worker") as long,
    ):
        yield short.http, long.http
        for each in (short, long):
            assert "Traceback" not in (log := each.log.read_text()), log[log.index("Traceback") - 500 :][:3000]


@pytest.mark.sized
@pytest.mark.both_engines_nightly
@pytest.mark.parametrize(("path", "name"), SHORT, ids=[name for _, name in SHORT])
def test_each_value_that_a_schema_distinguishes_is_answered_alike(
    twins: tuple[httpx.Client, httpx.Client], cases: Mapping[str, list[Any]], path: str, name: str
) -> None:
    """The failure names every call that is answered differently. What a call names is there, if it is a task."""
    short, long = twins
    faults = {}
    named = {"jsonrpc": "2.0", "method": "tasks.create", "params": [{"id": NAMED, "name": NAMED}], "id": 1}
    same_both_ways(short, "/tasks", json.dumps(named).encode(), long=long)
    for params in filter(_ends, cases[name]):
        if isinstance(params, dict) and params.get("wait") is True:
            params["wait_timeout_seconds"] = WAIT_SECONDS
        call = {"jsonrpc": "2.0", "method": name, "params": params, "id": 7}
        content = json.dumps(call).encode("utf-8", "surrogatepass")
        try:
            same_both_ways(short, path, content, long=long)
        except (AssertionError, httpx.TransportError) as fault:
            faults[content] = repr(fault)
    assert not faults, "\n\n".join(f"{content.decode()}: {fault}" for content, fault in faults.items())


def _ends(params: Any) -> bool:
    """Return whether the answer is neither a stream nor one that needs a worker: the tree that a model generates."""
    if not isinstance(params, dict):
        return True
    return params.get("use_streaming") is not True and not ("requirement" in params and params.get("model"))
