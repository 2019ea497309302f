"""The strict decoder: a table of hostile bodies, and any value at all against the standard library."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.strict_json import MalformedJson, decode
from tests.work import cpu_seconds_of

ORJSON = "The body is not JSON: "

HOSTILE: list[tuple[bytes, str]] = [
    # nothing, or not in UTF-8
    (b"", "is empty"),
    (b" \r\n\t", "is empty"),
    (b"\xef\xbb\xbf{}", "byte order mark"),
    (b"\xff\xfe{\x00}\x00", "UTF-16 or UTF-32"),
    (b"\xfe\xff\x00{\x00}", "UTF-16 or UTF-32"),
    ('{"a":1}'.encode("utf-16-le"), "UTF-16 or UTF-32"),
    ('{"a":1}'.encode("utf-16-be"), "UTF-16 or UTF-32"),
    ('{"a":1}'.encode("utf-32"), "UTF-16 or UTF-32"),
    ('{"a":1}'.encode("utf-32-be"), "UTF-16 or UTF-32"),
    (b"\x00", "UTF-16 or UTF-32"),
    (b'{"a":"\xff"}', "not in UTF-8 (invalid start byte, byte 6)"),
    (b'{"a":"\xe9t\xe9"}', "not in UTF-8 (invalid continuation byte, byte 6)"),
    (b'{"a":"\xc3', "not in UTF-8 (unexpected end of data, byte 6)"),
    (b'["\xed\xa0\x80"]', "not in UTF-8 (invalid continuation byte, byte 2)"),
    (b'["\xc0\xaf"]', "not in UTF-8 (invalid start byte, byte 2)"),
    (b'["\xf5\x80\x80\x80"]', "not in UTF-8 (invalid start byte, byte 2)"),
    # not JSON
    (b"hello", ORJSON),
    (b"{", ORJSON),
    (b"[1,]", ORJSON),
    (b'{"a":1,}', ORJSON),
    (b"{a:1}", ORJSON),
    (b"{'a':1}", ORJSON),
    (b'{"a"}', ORJSON),
    (b'{"a":}', ORJSON),
    (b'{1:"a"}', ORJSON),
    (b'{"a":1 "b":2}', ORJSON),
    (b"[1}", ORJSON),
    (b'"open', ORJSON),
    (b'"\\', ORJSON),
    (b'"\\x41"', ORJSON),
    (b'"\\u12g4"', ORJSON),
    (b'"a\nb"', ORJSON),
    (b'"a\tb"', ORJSON),
    (b'"a\x00b"', "UTF-16 or UTF-32"),
    (b'{"key":"a\x00b"}', ORJSON),
    (b"{} {}", ORJSON),
    (b"{}\x00", "UTF-16 or UTF-32"),
    (b'{"a":true}\x00', ORJSON),
    (b"[1]//comment", ORJSON),
    (b"/*comment*/[1]", ORJSON),
    (b"True", ORJSON),
    (b"undefined", ORJSON),
    # numbers
    (b"NaN", ORJSON),
    (b"[Infinity]", ORJSON),
    (b"[-Infinity]", ORJSON),
    (b"1e400", ORJSON),
    (b'{"a":-1e309}', ORJSON),
    (b"1" * 400, ORJSON),
    (b"01", ORJSON),
    (b"+1", ORJSON),
    (b".5", ORJSON),
    (b"5.", ORJSON),
    (b"1e", ORJSON),
    (b"0x10", ORJSON),
    (b"9223372036854775808", "The integer 9223372036854775808 does not fit into 64 bits (byte 0)."),
    (b'{"a": -9223372036854775809}', "does not fit into 64 bits (byte 6)."),
    (b"[1, 18446744073709551615]", "does not fit into 64 bits (byte 4)."),
    (b'["12345678901234567890", 12345678901234567890]', "does not fit into 64 bits (byte 25)."),
    (b"[" + b"9" * 300 + b"]", "9… does not fit into 64 bits (byte 1)."),
    # strings
    (b'"\\u0000"', "A string holds the NUL character \\u0000 (byte 0)."),
    (b'["ok", "a\\u0000b"]', "A string holds the NUL character \\u0000 (byte 7)."),
    (b'{"a\\u0000": 1}', "A key holds the NUL character \\u0000 (byte 1)."),
    (b'["\\\\\\u0000"]', "A string holds the NUL character \\u0000 (byte 1)."),
    (b'"\\ud800"', ORJSON),
    (b'"\\udc00"', ORJSON),
    (b'"\\ud83d\\ud83d"', ORJSON),
    (b'{"\\udfff":1}', ORJSON),
    # keys that occur twice
    (b'{"a":1,"a":2}', "The key 'a' occurs twice in one object (byte 7)."),
    (b'{"a":1,"a":1}', "The key 'a' occurs twice"),
    (b'{"":1,"":2}', "The key '' occurs twice"),
    (b'{"a":1,"\\u0061":2}', "The key 'a' occurs twice"),
    (b'{"\xc3\xa9":1,"\\u00e9":2}', "The key 'é' occurs twice"),
    (b'{"a" : 1, "b" : {}, "a"\n: 2}', "The key 'a' occurs twice in one object (byte 20)."),
    (b'[{"x":{"id":1,"name":"id","id":{}}}]', "The key 'id' occurs twice in one object (byte 26)."),
    (b'{"a":{"a":{"b":1}},"b":[{"a":1}],"a":0}', "The key 'a' occurs twice"),
    (b'{"a\\"":1,"a\\"":2}', "The key 'a\"' occurs twice"),
    (b'{"a\\\\":1,"a\\\\":"\\""}', "The key 'a\\' occurs twice"),
    (b'{"a":"x","b":"\\"","a":"\\"\\""}', "The key 'a' occurs twice"),
    (b'{"%s":1,"%s":2}' % (b"k" * 500, b"k" * 500), "kk…' occurs twice"),
    # nesting
    (b"[" * 65 + b"]" * 65, "nested deeper than 64 levels (byte 64)."),
    (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64 levels (byte 320)."),
    (b'["[",' * 64 + b"{}" + b"]" * 64, "nested deeper than 64 levels (byte 320)."),
    (b"[[1],[2]," + b"[" * 64 + b"]" * 65, "nested deeper than 64 levels (byte 72)."),
    (b"[" * 1000 + b"]" * 1000, "nested deeper than 64 levels (byte 64)."),
    (b"[" * 100_000 + b"]" * 100_000, ORJSON),
    (b'{"a":' * 100_000, ORJSON),
    # more than can be looked at in time
    (b"[" + b"0," * 1_000_000 + b"0]", "more than 1,000,000 commas and opening brackets"),
    (b"[" + b"[]," * 3_000_000 + b"[]]", "more than 1,000,000 commas and opening brackets"),
]


@pytest.mark.parametrize(("body", "part"), HOSTILE, ids=[str(body[:30]) for body, _ in HOSTILE])
def test_a_hostile_body_is_refused_with_the_place_and_the_reason(body: bytes, part: str) -> None:
    with pytest.raises(MalformedJson) as caught:
        decode(body)
    message = caught.value.message
    assert part in message
    assert part == "is empty" or part.startswith("more than") or "byte " in message or "(char " in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"null", None),
        (b" {} \n", {}),
        (b"[" * 64 + b"]" * 64, json.loads("[" * 64 + "]" * 64)),
        (b"[" + b"{}," * 100 + b"[[[]]]]", [{}] * 100 + [[[[]]]]),
        (b'["%s"]' % (b"[{" * 200), ["[{" * 200]),
        (b'[{"a":1},{"a":2}]', [{"a": 1}, {"a": 2}]),
        (b'{"a":{"a":{"a":"a"}}}', {"a": {"a": {"a": "a"}}}),
        (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
        (b'"a\\"b\\\\"', 'a"b\\'),
        (b'{"\\u0022":"\\u005c"}', {'"': "\\"}),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b"[9223372036854775807,-9223372036854775808]", [2**63 - 1, -(2**63)]),
        (b'"12345678901234567890123"', "12345678901234567890123"),
        (b"0.12345678901234567890123", 0.12345678901234568),
        (b"[-0.12345678901234567890123,1e-12345678901234567890]", [-0.12345678901234568, 0.0]),
        (b"12345678901234567890.0", 12345678901234567890.0),
        (b"1e308", 1e308),
        (b"1e-400", 0.0),
    ],
    ids=repr,
)
def test_what_looks_hostile_and_is_not_is_decoded(body: bytes, value: Any) -> None:
    assert decode(body) == value


def test_a_text_may_hold_any_number_of_commas_and_brackets() -> None:
    text = ',[{"\\' * 300_000
    assert decode(json.dumps([text]).encode()) == [text]


def test_the_nesting_allowed_is_a_setting() -> None:
    assert decode(b"[[1]]", nesting=2) == [[1]]
    with pytest.raises(MalformedJson, match=r"deeper than 2 levels \(byte 2\)"):
        decode(b"[[[]]]", nesting=2)


# Few letters, so that keys repeat; and those that escaping makes difficult.
TEXTS = st.text(st.sampled_from('ab"\\/:{}[],\n\u00e9\U0001f600 0'), max_size=4)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)


class Pairs(list[tuple[str, Any]]):
    """An object as it is written: its keys may repeat."""


VALUES = st.recursive(
    SCALARS | TEXTS,
    lambda items: st.lists(items, max_size=4) | st.lists(st.tuples(TEXTS, items), max_size=4).map(Pairs),
    max_leaves=20,
)


def written(value: Any, *, ascii_only: bool, space: str) -> str:
    if isinstance(value, Pairs):
        return f"{{{','.join(space + written_pair(pair, ascii_only, space) for pair in value)}{space}}}"
    if isinstance(value, list):
        return f"[{','.join(space + written(item, ascii_only=ascii_only, space=space) for item in value)}{space}]"
    return json.dumps(value, ensure_ascii=ascii_only)


def written_pair(pair: tuple[str, Any], ascii_only: bool, space: str) -> str:
    key, value = pair
    return (
        f"{json.dumps(key, ensure_ascii=ascii_only)}{space}:{space}{written(value, ascii_only=ascii_only, space=space)}"
    )


def has_repeated_key(value: Any) -> bool:
    if isinstance(value, Pairs):
        return len({key for key, _ in value}) != len(value) or any(has_repeated_key(item) for _, item in value)
    return isinstance(value, list) and any(has_repeated_key(item) for item in value)


@given(VALUES, st.booleans(), st.sampled_from(["", " ", "\n\t"]))
def test_any_value_is_decoded_unless_a_key_repeats(value: Any, ascii_only: bool, space: str) -> None:
    text = written(value, ascii_only=ascii_only, space=space)
    if has_repeated_key(value):
        with pytest.raises(MalformedJson, match="occurs twice in one object"):
            decode(text.encode())
    else:
        assert decode(text.encode()) == json.loads(text)


@given(st.binary(max_size=40) | st.text(st.sampled_from('{}[]",:\\u0 1e-.tn'), max_size=30).map(str.encode))
def test_any_bytes_are_decoded_or_refused_and_nothing_else(body: bytes) -> None:
    try:
        value = decode(body)
    except MalformedJson:
        return
    assert value == json.loads(body)


def test_the_work_grows_as_the_body_does() -> None:
    def body_of(tasks: int) -> bytes:
        items = [{"id": f"task {index}", "inputs": {"text": 'a "b" é', "n": [1, 2.5]}} for index in range(tasks)]
        return json.dumps(items).encode()

    small, large = body_of(1_750), body_of(14_000)
    assert len(large) > 1_000_000
    ratio = cpu_seconds_of(lambda: decode(large)) / cpu_seconds_of(lambda: decode(small))
    assert ratio < 32  # 8 if the work is linear, 64 if it is quadratic
