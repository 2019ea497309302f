"""Which key a call gets, in the order of the guide, and where it may be sent."""

from typing import Any

import pytest
from pytest_django import Settings

from llmkeys import keys
from llmkeys.models import LLMKey, RunSecret
from llmkeys.providers import parse_header
from llmkeys.resolve import AmbiguousKey, Credentials, MissingKey, UnreadableKey, credentials
from llmkeys.run_secrets import keep
from llmkeys.secret import Secret
from tests.sections import replace

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db]

OWN = "https://models.example.com/v1"
HOUSE = "https://house.example.com/v1"


def ask(provider: str = "openai", wants_api_base: str | None = None, user_id: str = "alice") -> Credentials:
    return credentials(run_id="run", user_id=user_id, provider=provider, wants_api_base=wants_api_base)


def told(granted: Credentials) -> tuple[str, str | None, str | None]:
    return granted.source, granted.api_key.reveal() if granted.api_key else None, granted.api_base


def send(value: str, *model_names: str) -> None:
    keep(parse_header(Secret(value)), tree_id="tree", run_id="run", user_id="alice", model_names=model_names)


def store(provider: str = "openai") -> None:
    keys.set_key(user_id="alice", provider=provider, key=Secret(f"{provider}-stored"))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "openai-of-server")


def configure(settings: Settings, **llm: Any) -> None:
    settings.APFLOW_LLM = replace(settings.APFLOW_LLM, **llm)


@pytest.mark.both_engines
def test_the_request_beats_the_user_and_the_user_beats_the_environment(server_key: None) -> None:
    assert told(ask()) == ("environment", "openai-of-server", None)
    store()
    assert told(ask()) == ("user", "openai-stored", None)
    send("openai:openai-sent")
    assert told(ask()) == ("request", "openai-sent", None)


@pytest.mark.both_engines
def test_a_key_of_another_user_or_another_run_is_not_used(server_key: None) -> None:
    store()
    assert ask(user_id="bob").source == "environment"
    send("openai:openai-sent")
    other = credentials(run_id="another", user_id="alice", provider="openai")
    assert other.source == "user"


def test_a_key_for_another_provider_is_passed_over() -> None:
    send("anthropic:anthropic-sent")
    store("groq")
    assert told(ask("anthropic")) == ("request", "anthropic-sent", None)
    assert told(ask("groq")) == ("user", "groq-stored", None)
    with pytest.raises(MissingKey):
        ask("openai")


def test_google_is_gemini_here_too() -> None:
    send("google:sent")
    assert told(ask("gemini")) == told(ask("google")) == ("request", "sent", None)


@pytest.mark.parametrize(
    "names", [[], ["gpt-4"], ["openai/gpt-4", "gpt-4o-mini"], ["Tesla Model 3", "openai/gpt-4", "no-model-at-all"]]
)
def test_a_key_without_a_provider_is_for_the_one_that_the_tree_uses(names: list[str]) -> None:
    send("sent", *names)
    assert told(ask("openai")) == ("request", "sent", None)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_key_without_a_provider_goes_to_none_where_there_are_several(provider: str, server_key: None) -> None:
    send("sent", "openai/gpt-4", "anthropic/claude-sonnet-4-5")
    with pytest.raises(AmbiguousKey) as refused:
        ask(provider)
    assert "uses several: anthropic, openai." in refused.value.message
    assert f"'X-LLM-API-KEY: {provider}:<key>'" in refused.value.message


def test_without_any_key_the_message_names_the_provider_and_three_ways() -> None:
    with pytest.raises(MissingKey) as refused:
        ask("gemini")
    assert refused.value.provider == "gemini"
    for part in ("'gemini'", "X-LLM-API-KEY: gemini:<key>", "aipartnerupflow keys set gemini", "GEMINI_API_KEY"):
        assert part in refused.value.message


def test_the_operator_may_keep_the_servers_keys_to_himself(server_key: None, settings: Settings) -> None:
    configure(settings, environment_keys=False)
    with pytest.raises(MissingKey):
        ask()


def test_an_address_of_ones_own_is_used_with_a_key_of_ones_own() -> None:
    store()
    assert told(ask(wants_api_base=OWN)) == ("user", "openai-stored", OWN)
    send("openai-sent")
    assert told(ask(wants_api_base=OWN)) == ("request", "openai-sent", OWN)


def test_the_servers_key_never_goes_to_an_address_that_a_client_chose(server_key: None, settings: Settings) -> None:
    for api_base in (None, {"openai": HOUSE}):
        configure(settings, api_base=api_base)
        with pytest.raises(MissingKey, match="requires your own key"):
            ask(wants_api_base=OWN)


def test_the_operators_address_is_used_unless_somebody_brings_address_and_key(
    server_key: None, settings: Settings
) -> None:
    configure(settings, api_base={"openai": HOUSE})
    assert told(ask()) == ("environment", "openai-of-server", HOUSE)
    store()
    assert told(ask()) == ("user", "openai-stored", HOUSE)
    assert told(ask(wants_api_base=OWN)) == ("user", "openai-stored", OWN)


def test_a_local_provider_needs_no_key_but_the_operators_address(settings: Settings) -> None:
    with pytest.raises(MissingKey):
        ask("ollama")
    with pytest.raises(MissingKey):
        ask("ollama", wants_api_base="http://localhost:11434")
    configure(settings, api_base={"ollama": "http://localhost:11434", "openai": HOUSE})
    assert told(ask("ollama_chat")) == ("none", None, "http://localhost:11434")
    with pytest.raises(MissingKey):
        ask("openai")


@pytest.mark.both_engines
@pytest.mark.parametrize("model", [LLMKey, RunSecret])
def test_a_key_that_does_not_open_says_so_instead_of_giving_way(model: Any, server_key: None) -> None:
    store()
    if model is RunSecret:
        send("openai:openai-sent")
    model.objects.update(sealed="00000000:x")
    with pytest.raises(UnreadableKey) as refused:
        ask()
    assert "cannot be decrypted" in refused.value.message
    assert "llm.encryption_keys" in refused.value.message


@pytest.mark.both_engines
def test_an_expired_key_is_not_used(server_key: None) -> None:
    send("openai:openai-sent")
    row = RunSecret.objects.get()
    RunSecret.objects.update(expires_at=row.expires_at.replace(year=2020))
    assert ask().source == "environment"


def test_credentials_do_not_print_their_key() -> None:
    send("openai:sk-canary-12345678")
    assert "canary" not in repr(ask())
