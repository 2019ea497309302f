"""A secret in memory: it shows its last characters at most, and leaves the process by `reveal()` only."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest

from llmkeys.providers import SentKey
from llmkeys.secret import Secret

KEY = "sk-ant-api03-canary-1234"


@pytest.mark.parametrize(
    ("text", "shown"),
    [(KEY, "sk-…1234"), ("AIzaSy-canary-5678", "…5678"), ("short", "…"), ("fifteen-letters", "…"), ("", "…")],
)
def test_a_secret_shows_its_last_four_characters_if_it_has_enough(text: str, shown: str) -> None:
    secret = Secret(text)
    assert str(secret) == f"{secret}" == shown
    assert repr(secret) == f"<{shown}>"
    assert secret.reveal() == text


@pytest.mark.parametrize(
    "whole", [f"{Secret(KEY):>20}", f"{Secret(KEY):s}", repr(SentKey(provider=None, key=Secret(KEY)))]
)
def test_no_way_to_print_shows_more(whole: str) -> None:
    assert "canary" not in whole


@pytest.mark.parametrize(
    "write", [pickle.dumps, json.dumps, orjson.dumps, msgspec.json.encode, copy.copy, copy.deepcopy]
)
def test_no_encoder_takes_it(write: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError) as refused:
        write(Secret(KEY))
    assert "canary" not in str(refused.value)


def test_secrets_of_the_same_text_are_equal_and_others_are_not() -> None:
    assert Secret(KEY) == Secret(KEY)
    assert Secret(KEY) != Secret(KEY + "5")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY)}) == 1
