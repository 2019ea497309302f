"""The secret that signs tokens changes while servers run: both are accepted meanwhile."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.acceptance.test_accounts import serving, who
from tests.accounts.conftest import minted
from tests.documents import text
from tests.fork_server import run_command
from tests.servers import PYTHON, SAME_KEYS, Server, environment_of, new_database

pytestmark = pytest.mark.both_engines_nightly

OLD: Final = "wZ0vJm3kq-8TfXc5Rb1nYhLs7DgPeAu4"
NEW: Final = "t6HqLx2Vd9-KbRm4Wc8pZs1FjNy7GoEu"


def signing(secret: str, *accepted: str) -> dict[str, str]:
    return SAME_KEYS | {
        "AIPARTNERUPFLOW_JWT_SECRET": secret,
        "AIPARTNERUPFLOW_AUTH_ACCEPTED_JWT_SECRETS": ",".join(accepted),
    }


@contextmanager
def two_servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """The first one still signs with the old secret, the second one already with the new one."""
    with new_database() as url:
        words = ("users", "create", "user", "--password", "pass", "--allow-weak")
        assert not run_command(*words, env=environment_of(url, folder) | signing(OLD)).returncode
        with (
            serving(url, env=signing(OLD, NEW), data_dir=folder / "first") as first,
            serving(url, env=signing(NEW, OLD), data_dir=folder / "second") as second,
        ):
            yield first, second


def test_two_servers_accept_the_tokens_and_sessions_of_each_other_while_the_secret_changes(tmp_path: Path) -> None:
    with two_servers(tmp_path) as (first, second):
        for one, other in ((first, second), (second, first)):
            pair = one.http.post("/auth/login", json={"username": "user", "password": "pass"}).json()
            assert who(other, pair["access"])["user_id"] == "user"
            renewed = other.http.post("/auth/refresh", json={"refresh": pair["refresh"]}).json()
            assert who(one, renewed["access"])["user_id"] == "user"
            assert who(other, minted(sub="zoe", key=OLD))["user_id"] == "zoe"
            assert who(other, minted(sub="zoe", key="neither-the-old-one-nor-the-new-one")) == 401
            assert who(other, minted(sub="zoe", key=OLD, exp=1)) == 401
        with httpx.Client(headers={"Origin": first.url}, timeout=60) as browser:
            (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(f"{first.url}/login/").text)
            form = {"username": "user", "password": "pass", "csrfmiddlewaretoken": token}
            browser.post(f"{first.url}/login/", data=form)
            assert "logged in as user" in browser.get(f"{first.url}/logout/").text
            assert "logged in as user" in browser.get(f"{second.url}/logout/").text
        assert "number 1 of auth.accepted_jwt_secrets is needed until" in _shared_secrets(first, signing(NEW, OLD))
        # Another process accepts no third secret, and one without the old secret would reject tokens of the first.
        for settings in (signing(f"{NEW}x", OLD, NEW), signing(NEW)):
            assert "auth.jwt_secret: another value" in _shared_secrets(first, settings)


def test_the_commands_of_the_page_keep_the_old_secret_and_make_a_new_one(tmp_path: Path) -> None:
    *exports, serve = text("docs/how-to/accounts.md", "Change the secret", "sh").splitlines()
    assert serve == "aipartnerupflow serve"
    names = ("AIPARTNERUPFLOW_JWT_SECRET", "AIPARTNERUPFLOW_AUTH_ACCEPTED_JWT_SECRETS")
    script = "\n".join([*exports, *(f"echo ${name}" for name in names)]).replace("python ", f"{PYTHON} ")
    environment = environment_of("", tmp_path) | {"AIPARTNERUPFLOW_JWT_SECRET": OLD}
    shown = subprocess.run(["bash", "-ec", script], env=environment, check=True, capture_output=True, text=True)
    new, accepted = shown.stdout.split()
    assert (accepted, len(new)) == (OLD, 64)


def _shared_secrets(server: Server, settings: dict[str, str]) -> str:
    """What a process with these settings finds beside the server."""
    environment = environment_of(server.database_url, server.data_dir) | settings
    found = json.loads(run_command("doctor", "--json", env=environment).stdout)
    (message,) = [each["message"] for each in found if each["name"] == "shared secrets"]
    return str(message)
