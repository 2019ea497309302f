"""Names of providers, against LiteLLM's own tables."""

import pytest
from pytest_django import Settings

from llmkeys.providers import ALIASES, PROVIDERS, environment_key, environment_variables, normal_name, provider_named
from tests.lazy_modules import LazyModule
from tests.sections import replace

litellm_types = LazyModule("litellm.types.utils")
model_names = LazyModule("llmkeys.model_names")


def test_all_providers_that_litellm_knows_are_known_here() -> None:
    assert {normal_name(provider.value) for provider in litellm_types.LlmProviders} == PROVIDERS


@pytest.mark.parametrize("alias", ALIASES)
def test_another_name_leads_to_a_provider(alias: str) -> None:
    assert provider_named(alias.upper()) in PROVIDERS


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4", "openai"),
        ("openai/gpt-4", "openai"),
        ("anthropic/claude-sonnet-4-5", "anthropic"),
        ("gemini/gemini-2.5-pro", "gemini"),
        ("google/gemini-2.5-pro", "gemini"),
        ("mistral/mistral-large-latest", "mistral"),
        ("groq/llama-3.3-70b-versatile", "groq"),
        ("openrouter/openai/gpt-4o", "openrouter"),
        ("ollama_chat/llama3", "ollama"),
        ("cohere/command-r", "cohere"),
    ],
)
def test_the_provider_of_a_model_is_found_by_its_name(model: str, provider: str) -> None:
    assert model_names.provider_of(model) == provider


def test_a_model_without_a_provider_is_refused_with_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(model_names.UnknownModel) as refused:
        model_names.provider_of("my-own-model")
    assert "'my-own-model' is not known. Name it before a slash" in refused.value.message
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("provider", "variables"),
    [
        ("openai", ("OPENAI_API_KEY",)),
        ("gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
        ("nano-gpt", ("NANO_GPT_API_KEY",)),
    ],
)
def test_the_servers_own_key_has_the_name_that_litellm_gives_it(provider: str, variables: tuple[str, ...]) -> None:
    assert environment_variables(provider) == variables


def test_the_first_variable_that_is_set_counts(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", " ")
    monkeypatch.setenv("GOOGLE_API_KEY", "the-key-of-the-server")
    found = environment_key("gemini")
    assert found is not None
    assert found.reveal() == "the-key-of-the-server"
    settings.APFLOW_LLM = replace(settings.APFLOW_LLM, environment_keys=False)
    assert environment_key("gemini") is None
