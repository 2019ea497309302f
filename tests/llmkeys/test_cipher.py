"""Sealing: only the same purpose, with a key that is still there, gets the text back."""

import pytest
from pytest_django.fixtures import Settings

from llmkeys.cipher import CannotUnseal, is_newest, seal, unseal

TEXT = "sk-ant-ünïcode-1234"
OLD, NEW = "an old key, long enough to be one", "a new key, long enough to be one."


def test_what_was_sealed_opens_for_the_same_purpose() -> None:
    assert unseal(seal(TEXT, context="llm_key:alice:openai"), context="llm_key:alice:openai") == TEXT


def test_the_same_text_is_sealed_differently_each_time_and_never_shows() -> None:
    sealed = {seal(TEXT, context="a") for _ in range(3)}
    assert len(sealed) == 3
    assert not any("1234" in each for each in sealed)


@pytest.mark.parametrize("context", ["llm_key:bob:openai", "llm_key:alice:anthropic", "run_secret:alice", ""])
def test_a_ciphertext_that_was_moved_elsewhere_does_not_open(context: str) -> None:
    with pytest.raises(CannotUnseal, match="another purpose"):
        unseal(seal(TEXT, context="llm_key:alice:openai"), context=context)


def test_a_damaged_ciphertext_does_not_open() -> None:
    sealed = seal(TEXT, context="a")
    with pytest.raises(CannotUnseal, match="damaged"):
        unseal(sealed[:-8] + "AAAAAAA=", context="a")


def test_an_old_key_opens_what_it_sealed_until_it_is_taken_away(settings: Settings) -> None:
    settings.APFLOW_ENCRYPTION_KEYS = (OLD,)
    sealed = seal(TEXT, context="a")
    settings.APFLOW_ENCRYPTION_KEYS = (NEW, OLD)
    assert unseal(sealed, context="a") == TEXT
    assert not is_newest(sealed)
    assert is_newest(seal(TEXT, context="a"))
    settings.APFLOW_ENCRYPTION_KEYS = (NEW,)
    with pytest.raises(CannotUnseal, match=r"llm\.encryption_keys") as refused:
        unseal(sealed, context="a")
    assert OLD not in str(refused.value)
