"""`aipartnerupflow secrets …` against a real server, and the same methods of the Python client."""

from collections.abc import Callable, Iterator

import pytest

from aipartnerupflow.client import Client, InvalidRequest
from tests.aipartnerupflow.conftest import Said
from tests.servers import Server
from tests.terminal import Screen

Cli = Callable[..., Said]
Show = Callable[..., Screen]
VALUE = "canary-of-the-commands-1234"


@pytest.fixture(autouse=True)
def no_secrets(server: Server) -> Iterator[None]:
    """None from other files of tests, which share the server, and none for them."""

    def delete_all() -> None:
        with Client(server.url) as client:
            for secret in client.secrets()["secrets"]:
                client.delete_secret(secret["name"], scope=secret["scope"])

    delete_all()
    yield
    delete_all()


def test_a_secret_is_stored_listed_and_deleted_and_never_printed(screen: Show) -> None:
    said = [
        screen("secrets", "set", "token", "--host", "a.example", "--host", "*.b.example", text=f"{VALUE}\n"),
        screen("secrets", "list"),
        screen("secrets", "delete", "token"),
        screen("secrets", "delete", "token"),
        screen("secrets", "list"),
    ]
    assert [each.code for each in said] == [0] * 5
    assert "Stored the secret token, for a.example, *.b.example only." in " ".join(said[0].err.split())
    assert "{{secret.token}}" in said[0].err
    assert "a.example, *.b.example" in said[1].out and "never" in said[1].out
    assert "Deleted the secret token." in said[2].err
    assert "There was no secret token." in said[3].err
    assert "aipartnerupflow secrets set github_token" in said[4].err
    assert not any("canary" in each.out + each.err for each in said)


def test_the_answers_are_there_as_json(cli: Cli) -> None:
    [stored] = cli("secrets", "set", "token", "--shared", "--user", "bob", text=VALUE).lines
    assert (stored["scope"], stored["users"]) == ("shared", ["bob"])
    listed = cli("secrets", "list", "--json").json
    assert cli("secrets", "list").lines == listed["secrets"] == [stored]
    assert cli("secrets", "delete", "token", "--json").json["deleted"] is False
    assert cli("secrets", "delete", "token", "--shared", "--json").json["deleted"] is True


@pytest.mark.parametrize(
    ("words", "text", "why"),
    [
        (["token"], "", "The value is empty."),
        (["token"], "\n", "The value is empty."),
        (["to-ken"], VALUE, "letters, digits and underscores"),
        (["token"], "canary", "fewer than 8 characters"),
        (["token", "--host", "https://a.example"], VALUE, "without port"),
        (["token", "--user", "bob"], VALUE, "only with scope shared"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_what_to_do(cli: Cli, words: list[str], text: str, why: str) -> None:
    said = cli("secrets", "set", *words, text=text)
    assert said.code == 2
    assert why in " ".join(said.err.split())
    assert "canary" not in said.err


def test_a_value_of_several_lines_keeps_them_but_for_the_last_line_end(cli: Cli, server: Server) -> None:
    cli("secrets", "set", "token", text="first line\n\nlast line\n")
    task = {"name": "command", "inputs": {"text": "{{secret.token}}"}, "schemas": {"method": "echo_executor"}}
    with Client(server.url) as client:
        done = client.execute(task, wait=True, wait_timeout_seconds=110)
        assert done["task"]["result"] == {"text": "…"}
        client.set_secret("token", VALUE, allow_hosts=["a.example"])
        assert client.set_secret("token", VALUE)["allow_hosts"] == ["a.example"]
        assert client.set_secret("token", VALUE, allow_hosts=[])["allow_hosts"] == []
        with pytest.raises(InvalidRequest, match="fewer than 8"):
            client.set_secret("token", "short")
