"""The pages that start servers of their own: with accounts, and with a database that is named."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
import yaml

from tests.documents import text
from tests.servers import Server, new_database, query, until
from tests.shell import Shell, new_shell

pytestmark = pytest.mark.nightly
Json = dict[str, Any]
ACCOUNTS: Final = "docs/how-to/accounts.md"
DEPLOY: Final = "docs/how-to/deploy.md"
OPERATE: Final = "docs/how-to/operate.md"
PASSWORD: Final = "seven green bicycles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server that asks who it is, and a shell beside it."""

    server: Server
    shell: Shell

    def run(self, block: str) -> str:
        return self.shell.run(block.replace("http://localhost:8000", self.server.url), given=PASSWORD)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


@pytest.fixture(scope="module")
def site(shell: Shell) -> Iterator[Site]:
    """Started as the page on accounts says; it logs for programs."""
    (shell.folder / "password").write_text(PASSWORD)
    with new_database() as database:
        variables = {"AIPARTNERUPFLOW_DATABASE_URL": database, "AIPARTNERUPFLOW_LOG_FORMAT": "json"}
        shell = Shell(folder=shell.folder, environment=shell.environment | variables)
        with shell.server(f"exec < password\n{text(ACCOUNTS, 'Accounts', 'sh')}", database=database) as server:
            yield Site(server=server, shell=shell)


@pytest.fixture(scope="module")
def keys(site: Site) -> list[str]:
    """The API keys that the page makes: of an operator, and one that only reads."""
    create, _, _ = text(ACCOUNTS, "API keys for programs", "sh").partition("aipartnerupflow tokens revoke")
    return re.findall(r"apf_\S{20,}", site.shell.typed(create))


def me(site: Site, **headers: str) -> tuple[int, Any]:
    """The status of the answer, and the role."""
    answer = site.server.http.get("/auth/me", headers=headers)
    return answer.status_code, answer.json().get("role")


def test_users_are_made_and_changed_beside_the_server(site: Site) -> None:
    """The page asks for two passwords, and for each of them twice."""
    shown = site.shell.typed(text(ACCOUNTS, "Roles", "sh"), *[PASSWORD] * 4)
    assert re.search(r"^bob +operator +no +$", shown, re.MULTILINE)
    assert site.server.http.post("/auth/login", json={"username": "bob", "password": PASSWORD}).status_code == 401


def test_a_password_buys_a_token(site: Site) -> None:
    command = (
        text(ACCOUNTS, "Tokens for people", "sh").replace('"user"', '"ada"').replace('"pass"', json.dumps(PASSWORD))
    )
    token = json.loads(site.run(command))["token"]
    assert me(site, Authorization=f"Bearer {token}") == (200, "admin")


def test_a_key_works_until_it_is_revoked(site: Site, keys: list[str]) -> None:
    revoke, _, shown = text(ACCOUNTS, "API keys for programs", "sh").splitlines()[-1].rpartition(" ")
    assert me(site, **{"X-API-Key": keys[0]}) == (200, "operator")
    site.run(f"{revoke} {keys[0][: len(shown)]}")

    def is_out() -> bool:
        return me(site, **{"X-API-Key": keys[0]}) == (401, None)

    until(is_out, seconds=60, what="the end of the key, which another process hears of within a second")


def test_prometheus_gets_the_metrics_with_a_key_from_a_file(site: Site, keys: list[str]) -> None:
    """As its own documentation reads what the page shows: the key goes as a bearer token to `/metrics` of the target."""
    (job,) = yaml.safe_load(text(OPERATE, "Metrics", "yaml"))["scrape_configs"]
    assert job["job_name"] == "aipartnerupflow"
    assert job["authorization"] == {"credentials_file": "/etc/prometheus/apflow.key"}
    assert job["static_configs"] == [{"targets": ["flow.example.com:8000"]}]
    scraped = site.server.http.get("/metrics", headers={"Authorization": f"Bearer {keys[1]}"})
    assert "apflow_workers_alive" in scraped.text
    assert site.server.http.get("/metrics").status_code == 401


def test_a_line_of_the_log_is_as_shown(site: Site) -> None:
    shown = json.loads(text(OPERATE, "Logs", "json"))
    login = site.server.http.post("/auth/login", json={"username": "ada", "password": PASSWORD}).json()
    task = {"id": "fetch", "name": "scripted_executor", "inputs": {"then": "raise"}}
    site.server.rpc("tasks.execute", {"tasks": [task], "wait": True}, Authorization=f"Bearer {login['token']}")
    (line,) = until(lambda: logged(site.server, shown["event"]), seconds=60, what="the line")
    fixed = ("level", "logger", "task", "event")
    assert {name: line[name] for name in fixed} == {name: shown[name] for name in fixed}
    assert line.keys() == shown.keys()


def logged(server: Server, event: str) -> list[Json]:
    lines = [
        json.loads(line) for line in server.log.read_text().rpartition("\n")[0].splitlines() if line.startswith("{")
    ]
    return [line for line in lines if line["event"] == event]


@pytest.mark.both_engines_nightly
def test_the_database_of_the_page_is_used(shell: Shell) -> None:
    """On PostgreSQL when the tests run there."""
    with new_database() as database:
        script = text(DEPLOY, "PostgreSQL", "sh").replace("postgresql://user:pass@localhost/db", database)
        with shell.server(script) as server:
            assert query(database, "SELECT 1 FROM tasks_workerprocess")
            assert server.http.get("/ready").json()["checks"]["database"]["ok"]
