"""`aipartnerupflow keys …` against a real server, and the guide's LLMKeyConfigManager in a script of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aipartnerupflow.client import Client
from tests.aipartnerupflow.conftest import Said
from tests.fork_server import printed_by, run_command
from tests.servers import PYTHON, ROOT, Server, environment_of, new_database, query
from tests.terminal import Screen

Cli = Callable[..., Said]
Show = Callable[..., Screen]
KEY = "sk-canary-of-the-commands-1234"
GUIDE = """
from aipartnerupflow.extensions.llm_key_config import LLMKeyConfigManager
# Set user's LLM key
config_manager = LLMKeyConfigManager()
config_manager.set_key(user_id="user123", api_key="sk-xxx", provider="openai")
# Set provider-specific keys
config_manager.set_key(user_id="user123", api_key="sk-xxx", provider="openai")
config_manager.set_key(user_id="user123", api_key="sk-ant-xxx", provider="anthropic")
"""


@pytest.fixture(autouse=True)
def no_keys(server: Server) -> Iterator[None]:
    yield
    with Client(server.url) as client:
        for provider in client.llm_keys()["providers"]:
            client.delete_llm_key(provider)


def test_a_key_is_stored_listed_and_deleted_and_never_printed(screen: Show) -> None:
    said = [
        screen("keys", "set", "google", "--key-stdin", text=f"{KEY}\n"),
        screen("keys", "list"),
        screen("keys", "delete", "gemini"),
        screen("keys", "list"),
    ]
    assert [each.code for each in said] == [0, 0, 0, 0]
    assert "Stored the key …1234 for gemini." in said[0].err
    assert "gemini" in said[1].out
    assert "…1234" in said[1].out
    assert "Deleted the key for gemini." in said[2].err
    assert "aipartnerupflow keys set openai" in said[3].err
    assert not any("canary" in each.out + each.err for each in said)


def test_the_answers_are_there_as_json(cli: Cli) -> None:
    [stored] = cli("keys", "set", "openai", "--key-stdin", text=f"{KEY}\n").lines
    assert (stored["provider"], stored["last_four"]) == ("openai", "1234")
    listed = cli("keys", "list", "--json").json
    assert listed["providers"] == {"openai": "…1234"}
    assert cli("keys", "list").lines == listed["keys"]
    assert cli("keys", "delete", "groq", "--json").json["deleted"] is False


@pytest.mark.parametrize(
    ("words", "text", "why"),
    [
        (["openai"], "", "Pass the key on it with --key-stdin."),
        (["openai", "--key-stdin"], "\n", "The key is empty."),
        (["opnai", "--key-stdin"], f"{KEY}\n", "Did you mean 'openai'?"),
        (["openai", "--key-stdin"], "sk canary\n", "has a space"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_what_to_do(cli: Cli, words: list[str], text: str, why: str) -> None:
    said = cli("keys", "set", *words, text=text)
    assert said.code == 2
    assert why in " ".join(said.err.split())
    assert "canary" not in said.err


def test_rotation_says_how_much_was_sealed_anew(tmp_path: Path) -> None:
    with new_database() as url:
        old, new = "old" * 12, "new" * 12

        def with_keys(keys: str) -> dict[str, str]:
            return environment_of(url, tmp_path) | {"AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": keys}

        def rotate(keys: str) -> "subprocess.CompletedProcess[str]":
            return run_command("keys", "rotate", env=with_keys(keys))

        printed_by(GUIDE, env=with_keys(old))
        assert "Re-encrypted: 2." in rotate(f"{new},{old}").stdout
        assert "Re-encrypted: 0." in rotate(new).stdout
        refused = rotate(old)
        assert (refused.returncode, "llm.encryption_keys" in refused.stderr) == (2, True)


def test_the_guides_script_runs_as_it_stands(tmp_path: Path) -> None:
    """From a folder that is not the project's, with nothing set but where the data is."""
    script = GUIDE + (
        'print(config_manager.get_key("user123", "anthropic"), config_manager.has_key("user123", "google"))\n'
        'print(config_manager.get_all_providers("user123"), config_manager.delete_key("user123", "openai"))\n'
        'print(config_manager.clear_all("user123"), config_manager.get_key(user_id="user123", provider="openai"))\n'
        'config_manager.set_key(user_id="user123", api_key="sk-xxx", provider="groq")\n'
    )
    with new_database() as url:
        environment = environment_of(url, tmp_path / "data") | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([PYTHON, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.stderr == ""
        assert done.stdout.splitlines() == ["sk-ant-xxx False", "['anthropic', 'openai'] True", "1 None"]
        [(provider, sealed)] = query(url, "SELECT provider, sealed FROM llmkeys_llmkey")
        assert (provider, "sk-xxx" in sealed) == ("groq", False)


def test_a_script_is_told_what_it_did_wrong(tmp_path: Path) -> None:
    script = "\n".join(
        [
            "from aipartnerupflow.extensions.llm_key_config import LLMKeyConfigManager",
            "manager = LLMKeyConfigManager()",
            "for arguments in (('u', 'k', 'opnai'), ('u', 'sk canary', 'openai'), ('', 'k', 'openai')):",
            "    try:",
            "        manager.set_key(*arguments)",
            "    except ValueError as error:",
            "        print(error)",
        ]
    )
    with new_database() as url:
        environment = environment_of(url, tmp_path) | {"PYTHONPATH": str(ROOT)}
        said = subprocess.run(
            [PYTHON, "-c", script], env=environment, capture_output=True, text=True, check=True
        ).stdout
    first, second, third = said.splitlines()
    assert "Did you mean 'openai'?" in first
    assert "has a space" in second
    assert "1 to 255 characters" in third
    assert "canary" not in said


def test_importing_the_manager_loads_nothing_heavy() -> None:
    script = (
        "import sys; import aipartnerupflow.extensions.llm_key_config; print({'django', 'litellm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.stdout == "set()\n"
