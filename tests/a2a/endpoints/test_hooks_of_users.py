"""Inbound hooks of several users, with limits, and on a server that is killed."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.a2a.endpoints.test_inbound_hooks import ECHO, JSON, SECRET, signed
from tests.a2a.methods.test_secrets import call
from tests.a2a.rest.test_rest import as_
from tests.ports import free_port
from tests.servers import Json, Server, new_database, running_server, until

pytestmark = pytest.mark.both_engines

HOOK: Final[Json] = {"name": "mine", "verifier": "github", "secrets": ["HOOK"]}
ORPHAN_SECONDS: Final = 60


def ask(server: Server, method: str, params: Json, user: str) -> Json:
    return call(server, method, params, user, "/tasks")


def hook_of(server: Server, user: str, **given: Any) -> str:
    """The address of a new hook of the user, who has the secret and the flow."""
    call(server, "secrets.set", {"name": "HOOK", "value": SECRET}, user)
    ask(server, "flows.save", {"name": "triage", "tasks": ECHO}, user)
    to_flow = {"flow": "triage", "inputs": {"title": "{{body.title}}"}}
    found: str = ask(server, "hooks.set", HOOK | (given or to_flow), user)["result"]["url"]
    return found.removeprefix(server.url)


def post(http: httpx.Client, address: str, body: Json) -> httpx.Response:
    raw = json.dumps(body).encode()
    return http.post(address, content=raw, headers=JSON | signed(raw) | {"X-GitHub-Delivery": str(body["title"])})


def test_each_has_hooks_of_their_own(auth_server: Server) -> None:
    address = hook_of(auth_server, "hooks-alice")
    assert post(auth_server.http, address, {"title": "1"}).status_code == 200
    (delivery,) = ask(auth_server, "hooks.deliveries", {"name": "mine"}, "hooks-alice")["result"]["deliveries"]
    theirs = {"name": "mine", "delivery": delivery["delivery"]}
    for method, params in (
        ("hooks.get", {"name": "mine"}),
        ("hooks.deliveries", {"name": "mine"}),
        ("hooks.replay", theirs),
    ):
        bobs = ask(auth_server, method, params, "hooks-bob")
        assert bobs["error"]["code"] == -32001
        absent = ask(auth_server, method, params | {"name": "none"}, "hooks-bob")
        assert json.dumps(bobs) == json.dumps(absent).replace("'none'", "'mine'").replace('"none"', '"mine"')
    assert ask(auth_server, "hooks.list", {}, "hooks-bob")["result"] == {"hooks": []}
    assert ask(auth_server, "hooks.delete", {"name": "mine"}, "hooks-bob")["result"]["deleted"] is False
    assert hook_of(auth_server, "hooks-bob") != address
    shown = [auth_server.rpc("runs.get", {"run_id": delivery["run_id"]}, **as_(user)) for user in ("hooks-alice",)]
    assert [each["user_id"] for each in shown] == ["hooks-alice"]
    refused = ask(auth_server, "runs.get", {"run_id": delivery["run_id"]}, "hooks-bob")
    assert refused["error"]["code"] == -32001


def test_a_secret_of_another_user_is_like_none(auth_server: Server) -> None:
    hook_of(auth_server, "hooks-carol")
    replies = []
    for name in ("HOOK", "NONE"):
        reply = ask(auth_server, "hooks.set", HOOK | {"secrets": [name], "event": "e"}, "hooks-dora")
        replies.append(json.dumps(reply).replace(name, "X"))
    assert replies[0] == replies[1]
    assert "secrets[0]" in replies[0]


def test_a_viewer_may_look_and_change_nothing(auth_server: Server) -> None:
    def status(method: str, params: Json) -> int:
        body = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        return auth_server.http.post("/tasks", json=body, headers=as_("hooks-vera", roles=["viewer"])).status_code

    assert status("hooks.list", {}) == 200
    assert status("hooks.set", HOOK | {"event": "e"}) == 403
    assert status("hooks.delete", {"name": "mine"}) == 403
    assert status("hooks.replay", {"name": "mine", "delivery": 1}) == 403


def test_a_hook_with_too_many_deliveries_is_limited_and_others_are_not() -> None:
    settings = {"AIPARTNERUPFLOW_LIMITS_HOOK_DELIVERIES_PER_MINUTE": "5"}
    with new_database() as database, running_server(database, env=settings) as server:
        server.rpc("secrets.set", {"name": "HOOK", "value": SECRET}, path="/system")
        addresses = []
        for name in ("busy", "calm"):
            url = server.rpc("hooks.set", HOOK | {"name": name, "event": "e"})["url"]
            addresses.append(url.removeprefix(server.url))
        found = [post(server.http, addresses[0], {"title": str(number)}) for number in range(8)]
        assert [each.status_code for each in found] == [200] * 5 + [429] * 3
        assert found[-1].headers["Retry-After"].isdecimal()
        again = post(server.http, addresses[0], {"title": "0"})
        assert (again.status_code, again.json()["is_repeated"]) == (200, True)
        assert post(server.http, addresses[1], {"title": "0"}).status_code == 200
        assert len(server.rpc("hooks.deliveries", {"name": "busy"})["deliveries"]) == 5


def test_a_delivery_is_started_once_although_the_server_is_killed(tmp_path: Path) -> None:
    """Between receipt and start, too: both are one transaction, so a repetition starts what the killed server did not."""
    port, numbers = free_port(), [str(number) for number in range(40)]
    with new_database() as database:
        with running_server(database, data_dir=tmp_path, port=port) as server:
            server.rpc("secrets.set", {"name": "HOOK", "value": SECRET}, path="/system")
            server.rpc("flows.save", {"name": "triage", "tasks": ECHO})
            hook = HOOK | {"flow": "triage", "inputs": {"title": "{{body.title}}"}}
            address = server.rpc("hooks.set", hook)["url"].removeprefix(server.url)

            def send(title: str) -> int | None:
                with suppress(httpx.HTTPError), httpx.Client(base_url=server.url, timeout=60) as client:
                    return post(client, address, {"title": title}).status_code
                return None

            with ThreadPoolExecutor(20) as pool:
                sent = [pool.submit(send, title) for title in numbers]
                until(lambda: any(each.done() for each in sent), seconds=60, what="the first delivery")
                server.kill(*[process.pid for process in reversed(server.processes())])
                acknowledged = {title for title, each in zip(numbers, sent, strict=True) if each.result() == 200}
            server.assert_gone(within_seconds=ORPHAN_SECONDS)
        with running_server(database, data_dir=tmp_path, port=port) as server:
            before = {each["delivery_id"] for each in server.rpc("hooks.deliveries", {"name": "mine"})["deliveries"]}
            assert acknowledged <= before
            for title in numbers:
                reply = post(server.http, address, {"title": title})
                assert (reply.status_code, reply.json()["is_repeated"]) == (200, title in before)
            rows = server.rpc("hooks.deliveries", {"name": "mine"})["deliveries"]
            assert sorted(each["delivery_id"] for each in rows) == sorted(numbers)
            assert Counter(run for (run,) in server.query("SELECT id FROM tasks_run")) == Counter(
                each["run_id"] for each in rows
            )
