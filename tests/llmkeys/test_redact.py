"""Masking: what looks like a key, and whatever this process holds as a secret, however it looks."""

import io
import logging

import pytest

from llmkeys.redact import MAX_CHARACTERS, Redaction, mask, mask_start
from llmkeys.secret import Secret
from tests.work import cpu_seconds_of


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key sk-proj-abcDEF_1234567890 was refused", "key sk-… was refused"),
        ("sk-ant-api03-abcdefgh", "sk-…"),
        ("?key=AIzaSyA1234567890abcdefghij&x=1", "?key=AIza…&x=1"),
        ("gsk_abcdefgh12 apf_abcdefgh12 hf_abcdefgh12", "gsk_… apf_… hf_…"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer …"),
        ("{'X-LLM-API-KEY': 'openai:secret'}", "{'X-LLM-API-KEY': '…'}"),
        ("x-llm-api-key: anything", "x-llm-api-key: …"),
        ("token eyJhbGciOiJI.eyJzdWIiOiJh.c2lnbmF0dXJl end", "token eyJ… end"),
        ("postgresql://apflow:hunter2@db:5432/x", "postgresql://apflow:…@db:5432/x"),
        ("redis://:hunter2@cache/0", "redis://:…@cache/0"),
        ("eyJhbGciOiJI-sk-abcdefgh12.", "eyJhbGciOiJI-sk-…."),
        ("eyJhbGciOiJI.eyJhbGciOiJI.eyJzdWIiOiJh.c2ln", "eyJ….c2ln"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "task-12345678 of the disk-usage tree failed",
        "A risk-based-approach-to-it",
        "sk-short",
        "Send the header 'X-LLM-API-KEY: groq:<key>' with the request",
        "The bearer of bad news, and bearer authentication",
        "http://localhost:8000/tasks",
        "eyJhbGciOiJI.eyJzdWIiOiJh without a signature",
        "0198f2b4-7c1e-7a53-b1f0-3a1f0c9d8e7f",
    ],
)
def test_what_only_looks_a_little_like_one_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        "x",
        "a1",
        "-eyJ",
        "eyJaaaaaaaa.",
        "-eyJ.",
        "x-llm-api-key:",
        "x-llm-api-key: ",
        "bearer ",
        "://",
        "://a:",
        " ",
        "-sk-",
        "AIza-",
    ],
)
def test_masking_a_text_takes_time_in_proportion_to_its_length(piece: str) -> None:
    """Texts come from users, models and web pages: a worker and a page must not stop for any of them."""
    short, long = piece * (20_000 // len(piece)), piece * (160_000 // len(piece))
    assert cpu_seconds_of(lambda: mask(long)) < 24 * cpu_seconds_of(
        lambda: mask(short)
    )  # 8 times as long; its square is 64


def test_a_longer_text_is_cut_and_a_secret_at_the_cut_is_masked() -> None:
    key = "sk-canary-12345678"
    text = "." * (MAX_CHARACTERS - 5) + key + "." * 5000
    shown = mask_start(text)
    assert len(shown) < MAX_CHARACTERS + 100
    assert shown.endswith(f".sk-….… ({len(text) - MAX_CHARACTERS:,} more characters)")
    assert mask_start("." * MAX_CHARACTERS) == "." * MAX_CHARACTERS


def test_a_secret_that_looks_like_nothing_is_masked_while_somebody_holds_it() -> None:
    text = "4f9aJ27LmQx8canaryW2"
    line = f"the provider says that {text} is wrong"
    assert mask(line) == line
    held, again = Secret(text), Secret(text)
    assert mask(line) == "the provider says that … is wrong"
    del held
    assert mask(line) == "the provider says that … is wrong"
    del again
    assert mask(line) == line


def test_a_handler_with_the_filter_writes_neither_messages_nor_tracebacks_with_keys() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(Redaction())
    logger = logging.getLogger("of this test")
    logger.addHandler(handler)
    try:
        try:
            raise ValueError("cause sk-canary-12345678")
        except ValueError as error:
            raise RuntimeError("Bearer canary-12345678") from error
    except RuntimeError:
        logger.exception("%s broke", "sk-canary-12345678")
    logger.removeHandler(handler)
    assert "canary" not in written.getvalue()
    assert "sk-… broke" in written.getvalue()
    assert "RuntimeError: Bearer …" in written.getvalue()
    assert "ValueError: cause sk-…" in written.getvalue()
