"""A zoo of odd tokens at every kind of door: only what is valid enters, and all others get the same words."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from a2a.endpoints.consumers import BEFORE_LOGIN_BYTES
from tests.a2a.sockets import socket
from tests.accounts.conftest import minted
from tests.accounts.test_auth import REFUSED
from tests.isolation.conftest import PeopleServer

pytestmark = pytest.mark.both_engines_nightly

Make = Callable[[PeopleServer], str]
Json = dict[str, Any]
LONGEST_HEADER: Final = 4096
"""No handshake carries more."""

#: Those that are put together without asking a database.
FORGED: Final = {name: make for name, make in REFUSED.items() if "ours" not in name and "disabled" not in name}


def _mixed(people_server: PeopleServer) -> str:
    """The claims of one token with the signature of another."""
    one, other = (people_server.pairs[name]["access"].split(".") for name in ("root", "bob"))
    return ".".join([*one[:2], other[2]])


ZOO: Final[Mapping[str, Make]] = {
    **{name: lambda people_server, make=make: make(None) for name, make in FORGED.items()},  # type: ignore[misc]
    "refresh, ours": lambda people_server: people_server.pairs["alice"]["refresh"],
    "expired, ours": lambda people_server: people_server.people["expired"]["Authorization"].removeprefix("Bearer "),
    "ours, of a disabled user": lambda people_server: people_server.pairs["carol"]["access"],
    "minted elsewhere for a disabled user": lambda people_server: minted(sub="carol"),
    "ours, with the claims of another": _mixed,
    "ours, twice": lambda people_server: (
        f"{people_server.pairs['alice']['access']} {people_server.pairs['alice']['access']}"
    ),
    "ours, of nobody": lambda people_server: minted(user_id="nobody", iss="aipartnerupflow"),
    "a key with another end": lambda people_server: people_server.keys["OPERATOR"][:-1] + "!",
    "a key that is cut off": lambda people_server: people_server.keys["OPERATOR"][:-1],
    "a key in capitals": lambda people_server: people_server.keys["OPERATOR"].upper(),
    "only the start of a key": lambda people_server: "apf_",
    "the prefix of a key": lambda people_server: people_server.keys["OPERATOR"][:12],
    "a user's name": lambda people_server: "root",
}
VALID: Final[Mapping[str, Make]] = {
    "ours": lambda people_server: people_server.pairs["alice"]["access"],
    "minted elsewhere": lambda people_server: minted(sub="alice"),
    "a key": lambda people_server: people_server.keys["OPERATOR"],
}


def fits_a_header(token: str) -> bool:
    return token.isprintable() and token.strip() == token and all(ord(char) < 256 for char in token)


MOST_HEADER_BYTES = 64 * 1024


def ask_all(people_server: PeopleServer, headers: Mapping[str, str]) -> dict[str, httpx.Response]:
    """What each kind of door says."""
    call: dict[str, Any] = {"jsonrpc": "2.0", "method": "tasks.count", "params": {}, "id": 1}
    stream = call | {"method": "tasks.execute", "params": {"tasks": {"name": "a"}, "use_streaming": True}}
    sent = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    http = people_server.server.http
    return {
        "POST /tasks": http.post("/tasks", json=call, headers=sent),
        "POST /": http.post("/", json=call, headers=sent),
        "POST /system": http.post("/system", json=call | {"method": "system.executors"}, headers=sent),
        "POST /tasks, as a stream": http.post("/tasks", json=stream, headers=sent),
        "GET /tasks/{id}/events": http.get("/tasks/x/events", headers=sent),
        "GET /api/tasks/": http.get("/api/tasks/", headers=sent),
        "GET /api/tasks/{id}/events/": http.get("/api/tasks/x/events/", headers=sent),
        "GET /tasks": http.get("/tasks", headers=sent),
        "GET /auth/me": http.get("/auth/me", headers=sent),
    }


@pytest.mark.parametrize("make", ZOO.values(), ids=ZOO.keys())
def test_an_odd_token_enters_nowhere(make: Make, people_server: PeopleServer) -> None:
    token = make(people_server)
    if not fits_a_header(token):
        token = json.dumps(token)[1:-1]  # as somebody would write it down
    before = people_server.dump()
    for headers in ({"Authorization": f"Bearer {token}".strip()}, {"X-API-Key": token}):
        for door, response in ask_all(people_server, headers).items():
            if len(token) > MOST_HEADER_BYTES:
                assert response.status_code == 431, (door, response.text)
                continue
            assert response.status_code == 401, (door, response.text)
            assert "Authentication required" in response.text
            assert response.headers["WWW-Authenticate"] == "Bearer"
    assert people_server.dump() == before


@pytest.mark.parametrize("make", VALID.values(), ids=VALID.keys())
def test_a_valid_one_enters_everywhere(make: Make, people_server: PeopleServer) -> None:
    for headers in ({"Authorization": f"Bearer {make(people_server)}"}, {"X-API-Key": make(people_server)}):
        call = {"jsonrpc": "2.0", "method": "tasks.count", "params": {}, "id": 1}
        assert "result" in people_server.server.http.post("/tasks", json=call, headers=headers).json()
        assert people_server.server.http.get("/api/tasks/", headers=headers).status_code == 200
        assert people_server.server.http.get("/tasks/x/events", headers=headers).status_code == 404
        assert people_server.server.http.get("/auth/me", headers=headers).json()["user_id"] == "alice"


def test_the_zoo_is_not_small() -> None:
    assert len(ZOO) >= 50


@pytest.mark.parametrize("place", ["query", "cookie", "body", "Basic"])
def test_a_token_enters_by_its_headers_only(place: str, people_server: PeopleServer) -> None:
    token = people_server.pairs["alice"]["access"]
    call: dict[str, Any] = {"jsonrpc": "2.0", "method": "tasks.count", "params": {}, "id": 1}
    query = {"token": token, "access_token": token} if place == "query" else {}
    headers = {"cookie": {"Cookie": f"sessionid={token}; access={token}"}, "Basic": {"Authorization": f"Basic {token}"}}
    body = call | {"token": token} if place == "body" else call
    response = people_server.server.http.post("/tasks", params=query, json=body, headers=headers.get(place, {}))
    assert response.status_code == 401


# --- on a WebSocket ---

TOKEN_CHARACTERS: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Those that a subprotocol may have (RFC 6455, section 4.1)."""
WAYS: Final[Mapping[str, Callable[[str], Json]]] = {
    "header": lambda token: {"additional_headers": {"Authorization": f"Bearer {token}".strip()}},
    "key": lambda token: {"additional_headers": {"X-API-Key": token}},
    "subprotocol": lambda token: {"subprotocols": ["bearer", token]},
    "message": lambda token: {},
}


def knocks(token: str) -> Iterator[tuple[str, Json]]:
    """The ways in which this token can be sent: how it is called, and the options of the handshake."""
    for way, options in WAYS.items():
        fits = TOKEN_CHARACTERS.fullmatch(token) if way == "subprotocol" else fits_a_header(token)
        if way == "message" or (fits and len(token) <= LONGEST_HEADER):
            yield way, options(token)


@pytest.mark.parametrize("make", ZOO.values(), ids=ZOO.keys())
def test_an_odd_token_opens_no_socket(make: Make, people_server: PeopleServer) -> None:
    token = make(people_server)
    for way, options in knocks(token):
        with socket(people_server.server.url, **options) as client:
            with suppress(ConnectionClosed):  # it was refused by the handshake
                client.send(action="auth", token=token.encode(errors="replace").decode().replace("\0", ""))
            if way == "message" and len(token) > BEFORE_LOGIN_BYTES:
                assert client.is_closed_as_too_big()
            else:
                assert client.closed() == 4401, way


@pytest.mark.parametrize("make", VALID.values(), ids=VALID.keys())
def test_a_valid_one_opens_it_whichever_way_it_comes(make: Make, people_server: PeopleServer) -> None:
    for _, options in knocks(make(people_server)):
        with socket(people_server.server.url, **options) as client:
            client.send(action="auth", token=make(people_server))
            client.until("authenticated")
            client.call("tasks.count", {})
            while "jsonrpc" not in (answer := client.next()):
                assert "type" in answer  # an event of another test, whose task has just ended
            assert "result" in answer
