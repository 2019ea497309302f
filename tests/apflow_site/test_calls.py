"""The short way of a call: which requests take it. `tests.hostile` compares its answers with those of the way of all requests."""

from collections.abc import Mapping
from typing import Any

import pytest

from apflow_site.edge.calls import plain_headers
from tests.servers import LONG_WAY


def asked(
    headers: Mapping[str, str], *, method: str = "POST", path: str = "/tasks", query: bytes = b""
) -> Mapping[bytes, bytes] | None:
    given = {name.lower().replace("_", "-"): value for name, value in headers.items()}
    sent = {"host": "localhost:8000", "content-type": "application/json", "content-length": "40"} | given
    pairs = [(name.encode(), value.encode()) for name, value in sent.items() if value]
    return plain_headers({"method": method, "path": path, "query_string": query, "root_path": "", "headers": pairs})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer x"},
        {"x_api_key": "x", "user_agent": "a client"},
        {"content_type": "application/json; charset=utf-8"},
        {"accept": "application/json, text/plain, */*", "traceparent": "00-1-2-01", "x_request_id": "mine"},
    ],
)
def test_a_plain_call_takes_the_short_way(headers: dict[str, str]) -> None:
    assert asked(headers) is not None
    assert asked(headers, path="/system/") is not None


@pytest.mark.parametrize(
    ("request_line", "headers"),
    [
        ({"method": "GET"}, {}),
        ({"path": "/"}, {}),
        ({"path": "/api/tasks/"}, {}),
        ({"query": b"tokens=true"}, {}),
        ({}, {"host": "rebound.example"}),
        ({}, {"host": ""}),
        ({}, {"origin": "https://app.example"}),
        ({}, {"idempotency_key": "once"}),
        ({}, {"last_event_id": "7"}),
        ({}, {"x_llm_api_key": "openai:sk-1"}),
        ({}, {"transfer_encoding": "chunked"}),
        ({}, {"content_length": ""}),
        ({}, {"content_length": "10000000"}),
        ({}, {"content_encoding": "gzip"}),
        ({}, {"content_type": "text/plain"}),
        ({}, {"content_type": "application/jsonl"}),
        ({}, {"cookie": "sessionid=1"}),
        ({}, dict(LONG_WAY)),
    ],
)
def test_what_else_may_matter_to_a_layer_goes_the_way_of_all_requests(
    request_line: dict[str, Any], headers: dict[str, str]
) -> None:
    assert asked(headers, **request_line) is None


def test_a_header_that_is_sent_twice_goes_the_way_of_all_requests() -> None:
    twice = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"2")] * 2
    scope = {"method": "POST", "path": "/tasks", "query_string": b"", "headers": twice}
    assert plain_headers(scope) is None
