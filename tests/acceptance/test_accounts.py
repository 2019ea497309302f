"""People, their passwords and keys, on a real server and by the real commands; and what a server that others reach insists on."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.accounts.conftest import minted
from tests.curl import curl
from tests.fork_server import run_command
from tests.ports import free_port
from tests.servers import SAME_KEYS, SERVE, Server, environment_of, new_database, running, until

pytestmark = pytest.mark.both_engines_nightly

SECRET: Final = "wZ0vJm3kq-8TfXc5Rb1nYhLs7DgPeAu4"
PASSWORD: Final = "open sesame 42"
LOG_IN: Final = """
curl -X POST http://localhost:8000/auth/login \\
-H "Content-Type: application/json" \\
-d '{"username": "user", "password": "pass"}'
"""
USE: Final = """
curl -X POST http://localhost:8000/ \\
-H "Authorization: Bearer {token}" \\
-H "Content-Type: application/json" \\
-d '{...}'
"""
CALL: Final = '{"jsonrpc": "2.0", "method": "tasks.count", "params": {}, "id": 1}'

Command = Callable[..., str]


@contextmanager
def serving(database_url: str, *flags: str, **more: Any) -> Iterator[Server]:
    """A server without a worker: nothing runs here."""
    port = free_port()
    words = [*SERVE, "--port", str(port), "--no-worker", *flags]
    with running(words, port=port, database_url=database_url, is_ready="/health", **more) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accounts")


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with new_database() as url:
        yield url


@pytest.fixture(scope="module")
def command(database_url: str, home: Path) -> Command:
    """Run a command of ours beside the server: what it prints, to both ends."""

    def command(*words: str, code: int = 0, typed: str = "") -> str:
        environment = environment_of(database_url, home) | {"AIPARTNERUPFLOW_JWT_SECRET": SECRET}
        done = run_command(*words, env=environment, given=typed)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return command


@pytest.fixture(scope="module")
def server(command: Command, database_url: str, home: Path) -> Iterator[Server]:
    command("users", "create", "root", "--role", "admin", typed=f"{PASSWORD}\n")
    command("users", "create", "user", "--password", "pass", "--allow-weak")
    with serving(database_url, env=SAME_KEYS | {"AIPARTNERUPFLOW_JWT_SECRET": SECRET}, data_dir=home) as server:
        yield server


def who(server: Server, token: str) -> Any:
    response = server.http.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
    return response.json() if response.status_code == 200 else response.status_code


def test_the_guides_login_works_as_it_stands(server: Server) -> None:
    token = curl(LOG_IN, base_url=server.url).json()["token"]
    answer = curl(USE.replace("{token}", token).replace("{...}", CALL), base_url=server.url).json()
    assert answer["result"]["parts"][0]["data"]["total"] == 0
    assert curl(USE.replace("{...}", CALL), base_url=server.url).status_code == 401


def test_the_box_has_a_link_that_logs_the_first_admin_in_once(server: Server) -> None:
    box = server.log.read_text()
    assert "logs in root, once, within 15 minutes" in box
    (link,) = re.findall(r"http://localhost:\d+(/login/link/\S+/)", box)
    with httpx.Client(base_url=server.url, timeout=60) as browser:
        assert browser.get(link).headers["Location"] == "/"
        assert "logged in as root" in browser.get("/logout/").text
    with httpx.Client(base_url=server.url, timeout=60) as browser:
        assert browser.get(link).status_code == 410
        assert "logged in as" not in browser.get("/logout/").text


def test_who_logged_in_on_one_machine_is_logged_in_on_the_others(
    server: Server, database_url: str, tmp_path: Path
) -> None:
    """They share the database and the secret. Each has a data folder of its own."""
    with (
        serving(database_url, env=SAME_KEYS | {"AIPARTNERUPFLOW_JWT_SECRET": SECRET}, data_dir=tmp_path) as other,
        httpx.Client(headers={"Origin": server.url}, timeout=60) as browser,
    ):
        (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(f"{server.url}/login/").text)
        form = {"username": "root", "password": PASSWORD, "csrfmiddlewaretoken": token}
        assert browser.post(f"{server.url}/login/", data=form).headers["Location"] == "/"
        assert "logged in as root" in browser.get(f"{other.url}/logout/").text


def becomes(server: Server, token: str, seen: object) -> None:
    """Another process made the change, so a server notices it within a second."""

    def is_seen() -> bool:
        answer = who(server, token)
        return bool(seen == (answer["role"] if isinstance(answer, dict) else answer))

    until(is_seen, seconds=60, what=f"a caller who is {seen}")


def test_a_user_who_is_disabled_is_out(server: Server, command: Command) -> None:
    command("users", "create", "alice", "--password", PASSWORD, "--role", "viewer")
    login = {"username": "alice", "password": PASSWORD}
    token = server.http.post("/auth/login", json=login).json()["token"]
    assert who(server, token)["role"] == "viewer"
    command("users", "set-role", "alice", "operator")
    becomes(server, token, "operator")
    command("users", "disable", "alice")
    becomes(server, token, 401)
    assert server.http.post("/auth/login", json=login).status_code == 401
    command("users", "enable", "alice")
    assert who(server, token)["user_id"] == "alice"  # a refusal is not remembered
    command("users", "set-password", "alice", typed="another sesame 42\n")
    becomes(server, token, 401)
    listed = {user["name"]: user for user in json.loads(command("users", "list", "--json"))}
    assert (listed["alice"]["role"], listed["alice"]["enabled"]) == ("operator", True)
    assert listed["root"]["role"] == "admin"


def test_a_key_works_until_it_is_revoked_and_never_stands_in_the_log(server: Server, command: Command) -> None:
    made = json.loads(command("tokens", "create", "root", "--name", "CI", "--read-only", "--days", "30", "--json"))
    assert who(server, made["key"]) | {"auth_enabled": True} == {
        "user_id": "root",
        "role": "admin",
        "is_read_only": True,
        "is_admin": True,
        "auth_enabled": True,
    }
    assert server.call("tasks.create", {"name": "a"}, **{"X-API-Key": made["key"]})["error"]["code"] == -32004
    (listed,) = json.loads(command("tokens", "list", "--user", "root", "--json"))
    assert made["key"].startswith(listed["key"].removesuffix("…"))
    assert listed["last_used"] is not None
    command("tokens", "revoke", made["key"][:12])
    becomes(server, made["key"], 401)
    assert command("tokens", "list") == ""  # no line of NDJSON
    assert made["key"] not in server.log.read_text()


REFUSALS: Final = {
    ("users", "create", "user", "--password", PASSWORD): "already exists",
    ("users", "create", "bob", "--password", "pass"): "too short",
    ("users", "disable", "nobody"): "Users: ",
    ("users", "set-role", "user", "king"): "viewer",
    ("tokens", "create", "user", "--role", "admin"): "cannot exceed that of its owner",
    ("tokens", "revoke", "apf_nothing"): "tokens list",
}


@pytest.mark.parametrize(("words", "reason"), REFUSALS.items(), ids=[" ".join(words[:2]) for words in REFUSALS])
@pytest.mark.usefixtures("server")
def test_a_command_that_cannot_be_carried_out_says_why(words: tuple[str, ...], reason: str, command: Command) -> None:
    assert reason in command(*words, code=2)


# --- beyond this machine ---

OPEN: Final = {"AIPARTNERUPFLOW_HOST": "0.0.0.0"}
IN_URL: Final = {"AIPARTNERUPFLOW_DATABASE_URL": f"postgresql://apflow:{SECRET}@localhost/apflow"}
PROXIED: Final = {"AIPARTNERUPFLOW_SERVER_PUBLIC_URL": "https://flow.example.com"}
NOT_STARTED: Final = {
    "an example": (OPEN, "your-secret-key", "an example from a manual"),
    "the example of our own settings": (
        OPEN,
        "an-example-that-everybody-knows-so-make-your-own",
        "an example from a manual",
    ),
    "the example of an encryption key": (
        OPEN | {"AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": "another-example-that-everybody-knows-so-make-your-own"},
        SECRET,
        "llm.encryption_keys: it is an example",
    ),
    "an encryption key": (
        {"AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": f"{'k7Qz' * 10},{SECRET}"},
        SECRET,
        "also in llm.encryption_keys",
    ),
    "too short": (OPEN, "k7#Qz-x9!Lm2", "needs at least 32"),
    "too short, behind a proxy": (PROXIED, "k7#Qz-x9!Lm2", "needs at least 32"),
    "the database's password": (OPEN | IN_URL, SECRET, "used for something else"),
    "the key of the sessions": (OPEN, "of-the-sessions-4Vb8xQ2mZt6Lw9Kc", "used for something else"),
    "none, though required": (OPEN | {"AIPARTNERUPFLOW_AUTH_REQUIRED": "true"}, None, "required but off"),
}


@pytest.mark.parametrize(("settings", "secret", "reason"), NOT_STARTED.values(), ids=NOT_STARTED.keys())
def test_where_others_reach_it_the_secret_must_be_good(
    settings: dict[str, str], secret: str | None, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "secret_key").write_text("of-the-sessions-4Vb8xQ2mZt6Lw9Kc")
    given = {"AIPARTNERUPFLOW_JWT_SECRET": secret} if secret else {}
    environment = environment_of("", tmp_path) | settings | given
    done = run_command("serve", env=environment)
    assert done.returncode == 2
    assert reason in " ".join(done.stderr.split())
    assert secret is None or secret not in done.stdout + done.stderr


def test_an_open_server_says_so_wherever_one_looks() -> None:
    with new_database() as url, serving(url, "--host", "0.0.0.0") as server:
        assert "Authentication is off: anyone who can reach this server" in _in_one_line(server.log.read_text())
        for path in ("/", "/ui/executors/"):
            assert "Authentication is off." in server.http.get(path, headers={"Accept": "text/html"}).text


def test_on_this_machine_the_guides_secret_works_with_a_warning(tmp_path: Path) -> None:
    env = {"AIPARTNERUPFLOW_JWT_SECRET": "your-secret-key"}
    with new_database() as url, serving(url, env=env) as server:
        box = _in_one_line(server.log.read_text())
        assert "jwt_secret: it is an example" in box
        assert re.search(r"no administrator yet; create one: \S*aipartnerupflow users create NAME --role admin", box)
        assert "Authentication is off." not in server.http.get("/login/").text
        assert server.http.get("/auth/me", headers={"Authorization": f"Bearer {minted(sub='a')}"}).status_code == 401
        assert "InsecureKeyLength" not in server.log.read_text()


def _in_one_line(box: str) -> str:
    return " ".join(box.replace("│", " ").split())
