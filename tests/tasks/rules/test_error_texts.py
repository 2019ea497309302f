"""Errors that differ only in ids, numbers, times, paths and addresses are one group; others are not."""

import pytest

from tasks.rules.error_texts import KEY_CHARACTERS, LONGEST_LINE, first_line, key_of, pattern_of

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
OF_CODE = 'Traceback (most recent call last):\n  File "/a/b.py", line 3, in run\nValueError: no row 12\n'
SAME = {
    "No connection within N s": ["No connection within 10 s", "No connection within 2.5 s\nat 02:10", " No connection within 1,000 s "],
    "GET URL answered N": ["GET https://shop.example.com/items/17?page=2 answered 503", "GET http://10.0.0.1:8000/ answered 500"],
    "'ID' has no 'number'": [f"'{ID}' has no 'number'", "'4f3c2a1b9d' has no 'number'", "'run_8sdf7s8d9x0a2b4c' has no 'number'"],
    "No file PATH": ["No file /var/data/a-1.csv", "No file ./a", "No file ~/out/b.txt", r"No file C:\Users\ada\b.txt"],
    "Due at TIME, and not done": ["Due at 2026-11-30, and not done", "Due at 2026-11-30T02:10:00.123+01:00, and not done"],
    "ValueError: no row N": ["ValueError: no row 7", OF_CODE],
    "Mail to ADDRESS was refused": ["Mail to ada@example.com was refused", "Mail to bob.b+x@mail.example.org was refused"],
    "object at ID": ["object at 0x7f3c", "object at 0x10"],
    "": ["", " \n\t"],
}  # fmt: skip
DIFFERENT = [
    "No connection within 10 s",
    "No answer within 10 s",
    "'{{fetch.rows}}' has no value",
    "'{{fetch.number}}' has no value",
    "Try this and/or that",
    "Unknown executor 'a_name_without_any_digits'",
    "Unknown executor 'another_name_without_digits'",
]


@pytest.mark.parametrize("pattern", SAME)
def test_what_differs_from_run_to_run_is_replaced(pattern: str) -> None:
    assert {pattern_of(error) for error in SAME[pattern]} == {pattern}
    assert len({key_of(error) for error in SAME[pattern]}) == 1


def test_other_errors_have_other_keys() -> None:
    keys = {key_of(error) for error in [*DIFFERENT, *SAME]}
    assert len(keys) == len(DIFFERENT) + len(SAME) - 1  # the connection is in both
    assert {len(key) for key in keys} == {KEY_CHARACTERS}


@pytest.mark.parametrize(
    "error", ["x" * 100_000, "1" * 100_000, "a@" * 50_000, "/a" * 50_000, "\udcff \0 {{", "http://" * 9_000]
)
def test_any_text_has_a_key(error: str) -> None:
    assert len(first_line(error)) <= LONGEST_LINE
    assert pattern_of(pattern_of(error)) == pattern_of(error)
    assert len(key_of(error)) == KEY_CHARACTERS
