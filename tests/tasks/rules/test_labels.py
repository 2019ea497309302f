"""Shares of labels: which keys get which version is always the same."""

from typing import Any

import pytest

from tasks.rules.flows import Label, chosen, place_of, problems_of_shares


def label(version: int, **shares: float) -> Label:
    return {"moves": [{"version": version, "at": "", "by": "alice", "reason": ""}], "shares": shares}


LABELS = {"production": label(1, candidate=10), "candidate": label(2), "canary": label(3)}
KEYS = [f"user-{number}" for number in range(10_000)]


def taken(labels: Any = LABELS) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key in KEYS:
        found.setdefault(chosen("greet", labels, "production", key=key), set()).add(key)
    return found


def test_a_share_takes_its_part_of_the_keys_and_always_the_same_ones() -> None:
    first = taken()
    assert {name: len(keys) for name, keys in first.items()} == {"production": 8_992, "candidate": 1_008}
    assert taken() == first
    more = taken(LABELS | {"production": label(1, candidate=20)})
    assert len(more["candidate"]) == 1_987
    assert first["candidate"] < more["candidate"]


def test_several_shares_do_not_overlap_and_may_be_all() -> None:
    found = taken(LABELS | {"production": label(1, candidate=60, canary=40)})
    assert {name: len(keys) for name, keys in found.items()} == {"candidate": 6_014, "canary": 3_986}


def test_labels_divide_their_callers_independently() -> None:
    assert place_of("greet", "production", "alice") != place_of("greet", "staging", "alice")
    assert place_of("greet", "production", "alice") != place_of("other", "production", "alice")


def test_without_a_key_or_a_share_a_label_keeps_its_callers() -> None:
    assert chosen("greet", LABELS, "production", key=None) == "production"
    assert {chosen("greet", LABELS, "candidate", key=key) for key in KEYS[:100]} == {"candidate"}


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        ({"candidate": 101}, ("shares.candidate", "must be above 0 and at most 100 percent")),
        ({"candidate": 0}, ("shares.candidate", "must be above 0 and at most 100 percent")),
        ({"candidate": 60, "canary": 41}, ("shares", "have 101 % together, and at most 100 % are possible")),
        ({"canery": 10}, ("shares.canery", "is no label of this flow; its other labels: canary, candidate")),
        (
            {"production": 10},
            ("shares.production", "is the label itself: give the others' shares, and it keeps the rest"),
        ),
    ],
)
def test_shares_that_cannot_be_are_refused_by_name(shares: dict[str, float], problem: tuple[str, str]) -> None:
    assert problem in list(problems_of_shares(LABELS, "production", shares))
