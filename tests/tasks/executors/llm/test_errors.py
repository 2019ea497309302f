"""Errors of providers: which are final, how long to wait, and that no part of a key is quoted."""

import pytest

from aipartnerupflow.executors import ExecutorError
from tasks.executors.llm.errors import problem

KEY = "sk-abcdefghijklmnop"


def error_of(status: int | None, said: str = "", retry_after: str = "", key: str | None = KEY) -> ExecutorError:
    headers = {"retry-after": retry_after} if retry_after else {}
    return problem(status, provider="openai", model="openai/gpt-4", headers=headers, said=said, key=key)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_what_another_attempt_cannot_mend_is_final(status: int) -> None:
    error = error_of(status)
    assert error.permanent
    assert f"({status})" in str(error)
    assert "openai" in str(error)


@pytest.mark.parametrize("status", [None, 408, 429, 500, 502, 503, 529])
def test_what_passes_may_be_tried_again(status: int | None) -> None:
    assert not error_of(status).permanent


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"), [(429, "7", 7.0), (503, "2", 2.0), (429, "soon", None), (400, "7", None)]
)
def test_the_wait_that_the_provider_wants_is_passed_on(status: int, retry_after: str, seconds: float | None) -> None:
    assert error_of(status, retry_after=retry_after).retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("The schema\n is  odd.", True),
        ("", False),
        (f"Wrong: {KEY}", False),
        ("Wrong: sk-abcdef****", False),
        ("Wrong: ****klmnop", False),
        ("Wrong: sk-a****", True),
    ],
)
def test_a_provider_is_quoted_unless_it_quotes_the_key(said: str, quoted: bool) -> None:
    assert (" ".join(said.split()) in str(error_of(400, said)) and bool(said)) is quoted
    assert said not in str(error_of(401, said)) or not said


def test_a_long_complaint_is_cut() -> None:
    assert len(str(error_of(400, "x" * 5000))) < 500


def test_without_a_key_everything_may_be_quoted() -> None:
    assert str(error_of(422, "No.", key=None)).endswith("(422): No.")
