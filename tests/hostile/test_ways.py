"""Calls on the short way and on the way of all requests: the same answers, byte for byte."""

import json
from collections.abc import Mapping
from typing import Final

import httpx
import pytest

from a2a.methods import METHODS, SYSTEM_METHODS
from accounts.callers import Role
from tests.hostile.conftest import Target
from tests.hostile.test_corpus import HEADERS, MADE_BY_SERVERS
from tests.servers import LONG_WAY

READS: Final = [
    (path, name)
    for path, methods in (("/tasks", METHODS), ("/system", SYSTEM_METHODS))
    for name, method in methods.items()
    if method.role is Role.VIEWER
]


def same_both_ways(http: httpx.Client, path: str, content: bytes, **headers: str) -> httpx.Response:
    """Ask on both ways, and return the answer of the short one. All but made ids, times and the id of the request are the same."""
    sent = {"Content-Type": "application/json", **headers}
    short, long = (http.post(path, content=content, headers={**sent, **more}) for more in ({}, LONG_WAY))
    assert short.status_code == long.status_code
    names = ({*each.headers} for each in (short, long))
    assert next(names) == next(names)
    assert [short.headers.get(name) for name in HEADERS] == [long.headers.get(name) for name in HEADERS]
    assert MADE_BY_SERVERS.sub(b"made", short.content) == MADE_BY_SERVERS.sub(b"made", long.content)
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
