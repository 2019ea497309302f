"""`config.llm_key.*` on a real server, and the header `X-LLM-API-KEY` at each of its doors."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from a2a.core.http import Headers
from a2a.core.jsonrpc import Call
from a2a.methods.dispatch import SYSTEM as SYSTEM_DIALECT
from a2a.methods.dispatch import perform
from accounts.callers import Caller, Role
from tasks.rules.exceptions import RoleTooLow
from tests.a2a.conftest import Rpc

pytestmark = pytest.mark.both_engines_nightly

SYSTEM = "/system"
KEY = "canary-of-this-test-1234"
ALICE = Caller(user_id="alice", role=Role.OPERATOR)


@pytest.fixture
def system(rpc: Rpc) -> Iterator[Rpc]:
    """Call a method of `/system`; at the end no key is left."""
    yield lambda name, params: rpc(f"config.llm_key.{name}", params, path=SYSTEM)
    for provider in rpc("config.llm_key.get", {}, path=SYSTEM)["providers"]:
        rpc("config.llm_key.delete", {"provider": provider}, path=SYSTEM)


@pytest.mark.both_engines
def test_a_key_is_kept_and_shown_by_its_last_four_characters(system: Rpc) -> None:
    stored = system("set", {"provider": "google", "api_key": KEY})
    assert stored == {"success": True, "user_id": "local", "provider": "gemini", "last_four": "1234"}
    found = system("get", {})
    assert (found["has_key"], found["providers"]) == (True, {"gemini": "…1234"})
    [key] = found["keys"]
    assert (key["provider"], key["last_four"], key["used_at"]) == ("gemini", "1234", None)
    assert key["created_at"].endswith("+00:00")
    assert "canary" not in str(found)


def test_one_provider_can_be_asked_for(system: Rpc) -> None:
    system("set", {"provider": "openai", "api_key": KEY})
    assert system("get", {"provider": "openai"})["has_key"] is True
    other = system("get", {"provider": "groq"})
    assert (other["has_key"], other["provider"], other["keys"]) == (False, "groq", [])


@pytest.mark.both_engines
def test_a_deleted_key_is_gone(system: Rpc) -> None:
    system("set", {"provider": "openai", "api_key": KEY})
    assert system("delete", {"provider": "openai"})["deleted"] is True
    assert system("delete", {"provider": "openai"})["deleted"] is False
    assert system("get", {})["has_key"] is False


def test_who_sees_all_may_keep_keys_for_others(system: Rpc) -> None:
    system("set", {"provider": "openai", "api_key": KEY, "user_id": "user123"})
    assert system("get", {})["has_key"] is False
    assert system("get", {"user_id": "user123"})["providers"] == {"openai": "…1234"}
    system("delete", {"provider": "openai", "user_id": "user123"})


@pytest.mark.parametrize(
    ("params", "field", "reason"),
    [
        ({"api_key": KEY}, "provider", "required"),
        ({"provider": "openai"}, "api_key", "required"),
        ({"provider": "opnai", "api_key": KEY}, "provider", "Did you mean 'openai'?"),
        ({"provider": "openai", "api_key": "sk canary"}, "api_key", "has a space"),
        ({"provider": "openai", "api_key": f"{KEY} " * 200}, "api_key", "length <= 4096"),
        ({"provider": "openai", "api_key": [KEY]}, "api_key", "expected string, got array"),
        ({"provider": "openai", "apikey": KEY}, "apikey", "did you mean 'api_key'?"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name_and_without_the_key(
    refusal: Rpc, params: Any, field: str, reason: str
) -> None:
    error = refusal("config.llm_key.set", params, path=SYSTEM)
    assert error["code"] == -32602
    assert (error["data"][0]["field"], reason in error["data"][0]["reason"]) == (field, True), error
    assert "canary" not in str(error)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["set", "get", "delete"])
@pytest.mark.parametrize("user_id", ["bob", "nobody-at-all"])
async def test_nobody_else_looks_after_the_keys_of_a_user(name: str, user_id: str) -> None:
    given = {"provider": "openai", "user_id": user_id} | ({"api_key": KEY} if name == "set" else {})
    call = Call(method=f"config.llm_key.{name}", params=given)
    with pytest.raises(RoleTooLow, match="LLM keys of other users"):
        await perform(call, caller=ALICE, dialect=SYSTEM_DIALECT, headers=Headers())


# --- the header ---

BAD = {"X-LLM-API-KEY": "no-provider-canary:sk-canary-1234"}
TASK = {"name": "echo_executor"}
RPC = {"jsonrpc": "2.0", "method": "tasks.create", "params": {"tasks": TASK}, "id": 7}


@pytest.mark.parametrize("path", ["/tasks", "/"])
def test_a_malformed_header_is_refused_by_name_and_without_its_value(http: httpx.Client, path: str) -> None:
    response = http.post(path, json=RPC, headers=BAD)
    reply = response.json()
    assert (response.status_code, reply["id"], reply["error"]["code"]) == (200, 7, -32602)
    assert reply["error"]["data"][0]["field"] == "X-LLM-API-KEY"
    assert "canary" not in response.text


def test_so_it_is_in_a_batch_for_each_call(http: httpx.Client) -> None:
    replies = http.post("/tasks", json=[RPC, RPC | {"id": 8}], headers=BAD).json()
    assert [reply["error"]["code"] for reply in replies] == [-32602, -32602]


def test_so_it_is_by_the_other_doors(http: httpx.Client) -> None:
    by_rest = http.post("/api/tasks/", json={"tasks": TASK}, headers=BAD)
    assert (by_rest.status_code, by_rest.json()["error"]["code"]) == (400, "invalid_params")
    health = {"jsonrpc": "2.0", "method": "system.health", "id": 1}
    assert http.post("/system", json=health, headers=BAD).json()["error"]["code"] == -32602


def test_a_method_that_needs_no_key_ignores_a_good_one(http: httpx.Client) -> None:
    health = {"jsonrpc": "2.0", "method": "system.health", "id": 1}
    good = {"X-LLM-API-KEY": "openai:sk-canary-1234"}
    assert "result" in http.post("/system", json=health, headers=good).json()


def test_the_guides_headers_are_taken(http: httpx.Client) -> None:
    for value in ("sk-your-openai-key", "openai:sk-your-openai-key", "anthropic:sk-ant-your-key"):
        assert "result" in http.post("/tasks", json=RPC, headers={"X-LLM-API-KEY": value}).json()
