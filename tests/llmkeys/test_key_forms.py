"""The provider of a key, by the key's form."""

import pytest

from llmkeys.providers import BEGINNINGS, PROVIDERS, UnknownForm, provider_of_key
from llmkeys.secret import Secret


def test_each_form_belongs_to_a_known_provider() -> None:
    assert set(BEGINNINGS.values()) <= PROVIDERS


@pytest.mark.parametrize(
    ("key", "provider"),
    [
        ("sk-proj-1234", "openai"),
        ("sk-ant-api03-1234", "anthropic"),
        ("sk-or-v1-1234", "openrouter"),
        ("AIzaSy1234", "gemini"),
        ("gsk_1234", "groq"),
    ],
)
def test_the_longest_beginning_decides(key: str, provider: str) -> None:
    assert provider_of_key(Secret(key)) == provider


@pytest.mark.parametrize("key", ["", "1234567890", "SK-1234", "my-sk-1234"])
def test_another_form_is_refused_without_the_key(key: str) -> None:
    with pytest.raises(UnknownForm) as refused:
        provider_of_key(Secret(key))
    assert refused.value.message.startswith("required:")
    assert not key or key not in refused.value.message
