"""The request of a program says what Django's own says."""

from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest

from apflow_site.edge.bodies import Body
from apflow_site.edge.handler import ProgramRequest


def scope(query: bytes = b"", *headers: tuple[bytes, bytes], **other: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "post",
        "path": "/prefix/tasks",
        "root_path": "",
        "query_string": query,
        "headers": [(b"host", b"flow.example"), *headers],
        "client": ("192.0.2.7", 4711),
        "server": ("127.0.0.1", 8000),
        "scheme": "https",
    } | other


CASES = {
    "nothing": scope(),
    "JSON": scope(b"", (b"content-type", b"application/json"), (b"content-length", b"2")),
    "JSON with a charset": scope(b"", (b"content-type", b"application/json; charset=latin-1")),
    "a query": scope(b"a=1&b=%C3%A4&a=2"),
    "a header twice": scope(b"", (b"accept", b"text/html"), (b"Accept", b"text/plain"), (b"x-name", b"\xe4")),
    "an underscore": scope(b"", (b"x_api_key", b"forged"), (b"x-api-key", b"sent")),
    "below a prefix": scope(root_path="/prefix"),
    "no client": scope(client=None),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_it_is_as_djangos(case: dict[str, Any]) -> None:
    with Body() as body:
        ours, djangos = ProgramRequest(case, body), ASGIRequest(case, body)
        assert {name.lower(): value for name, value in djangos.headers.items()} == dict(ours.headers)
        for name in ("method", "path", "path_info", "content_type", "content_params", "encoding", "scheme", "META"):
            assert getattr(ours, name) == getattr(djangos, name), name
        assert ours.GET == djangos.GET
        assert ours.build_absolute_uri("/") == djangos.build_absolute_uri("/")
        assert ours.get_full_path() == djangos.get_full_path()


def test_names_of_headers_are_found_in_any_case() -> None:
    with Body() as body:
        headers = ProgramRequest(scope(b"", (b"x-api-key", b"sent")), body).headers
        assert headers["X-API-Key"] == headers.get("X-Api-Key") == headers.get("x-api-key", "") == "sent"
        assert "X-API-KEY" in headers
        assert headers.get("X-Other") is None
        assert headers.get("X-Other", "none") == "none"
        with pytest.raises(KeyError):
            headers["X-Other"]


def test_a_query_that_is_not_utf_8_is_refused_as_django_does() -> None:
    for request in (ProgramRequest, ASGIRequest):
        with Body() as body, pytest.raises(UnicodeDecodeError):
            request(scope(b"a=\xff"), body)
