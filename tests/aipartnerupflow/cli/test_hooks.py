"""`aipartnerupflow hooks …`, and the Python client: inbound hooks are set, shown, replayed and deleted."""

import hashlib
import hmac
from collections.abc import Callable

from aipartnerupflow.client import Client
from tests.aipartnerupflow.conftest import Said
from tests.servers import Server

SECRET = "a-secret-of-the-command-line"
SET = ("hooks", "set", "of-cli", "--verifier", "github", "--secret", "of_cli")


def test_a_hook_from_the_command_line(server: Server, client: Client, cli: Callable[..., Said]) -> None:
    server.rpc("secrets.set", {"name": "of_cli", "value": SECRET}, path="/system")
    condition = '{"path": "/body/n", "op": "ge", "value": 1}'
    address = cli(*SET, "--event", "paid", "--payload", '{"n": "{{body.n}}"}', "--filter", condition).out.strip()
    assert address == client.hook("of-cli")["url"] == client.hooks()["hooks"][0]["url"]
    body = b'{"n": 1}'
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={mac}", "Content-Type": "application/json"}
    assert server.http.post(address, content=body, headers=headers).status_code == 200
    (listed,) = cli("hooks", "deliveries", "of-cli", "--body").lines
    assert (listed["outcome"], listed["body"]) == ("sent", {"n": 1})
    assert cli("hooks", "replay", "of-cli", str(listed["delivery"])).json["replay_of"] == listed["delivery"]
    assert client.replay_delivery("of-cli", listed["delivery"])["outcome"] == "sent"
    assert len(client.hook_deliveries("of-cli")["deliveries"]) == 3
    assert [each["name"] for each in cli("hooks", "list").lines] == ["of-cli"]
    assert cli("hooks", "delete", "of-cli").json["deleted"] is True
    assert client.delete_hook("of-cli")["deleted"] is False
    assert client.delete_secret("of_cli")["deleted"] is True


def test_json_that_is_none_is_refused_by_the_name_of_its_option(cli: Callable[..., Said]) -> None:
    for option in ("--inputs", "--payload", "--filter", "--hmac"):
        for given in ("{", "[]"):
            said = cli(*SET, "--event", "e", option, given)
            assert said.code != 0
            assert option in said.err
