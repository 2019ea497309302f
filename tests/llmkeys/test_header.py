"""`X-LLM-API-KEY`: both forms of the guide, and refusals that never repeat what was sent."""

import pytest
from pytest_django import Settings

from llmkeys.providers import MalformedKey, parse_header
from llmkeys.secret import Secret
from tests.sections import replace


@pytest.mark.parametrize(
    ("value", "provider", "key"),
    [
        ("sk-your-openai-key", None, "sk-your-openai-key"),
        ("openai:sk-your-openai-key", "openai", "sk-your-openai-key"),
        ("anthropic:sk-ant-your-key", "anthropic", "sk-ant-your-key"),
        ("google:AIza-key", "gemini", "AIza-key"),
        ("Gemini: AIza-key ", "gemini", "AIza-key"),
        (" openai:sk:with:colons", "openai", "sk:with:colons"),
        ("together_ai:k", "together_ai", "k"),
    ],
)
def test_a_header_names_a_key_and_perhaps_a_provider(value: str, provider: str | None, key: str) -> None:
    sent = parse_header(Secret(value))
    assert (sent.provider, sent.key.reveal()) == (provider, key)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("openai:", "is empty"),
        ("openai: ", "is empty"),
        ("opnai:sk-hush", "Did you mean 'openai'?"),
        ("sk-hush:rest", "is not a provider that LiteLLM knows"),
        (":sk-hush", "is not a provider that LiteLLM knows"),
        ("Bearer sk-hush", "has a space"),
        ("sk-hush\x00", "another character that keys cannot have"),
        ("sk-hüsh-hush", "another character that keys cannot have"),
        ("hush" * 2000, "more than 4,096 characters"),
    ],
)
def test_what_cannot_be_a_key_is_refused_without_showing_it(value: str, reason: str) -> None:
    with pytest.raises(MalformedKey) as refused:
        parse_header(Secret(value))
    assert reason in refused.value.message
    assert "hush" not in refused.value.message


def test_a_provider_that_the_operator_has_given_an_address_is_known(settings: Settings) -> None:
    settings.APFLOW_LLM = replace(settings.APFLOW_LLM, api_base={"house": "http://10.0.0.1/v1"})
    assert parse_header(Secret("house:k")).provider == "house"
