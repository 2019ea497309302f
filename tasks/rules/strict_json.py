"""The strict JSON decoder for all request bodies.

It refuses what databases, browsers or other parsers cannot handle.

orjson parses, and refuses invalid UTF-8, NaN, lone surrogates and floats that overflow. A body that
orjson accepts is checked by a few cheap counts; only a suspect body is read again, token by token.
"""

import gc
import re
from typing import Any, Final

import orjson

Json = dict[str, Any]
TEXT: Final = "_text"
"""The end of the name of an attribute that contains the value of another one as JSON text."""
"""An object of JSON."""

INT64 = range(-(2**63), 2**63)
LONG_NUMBER = b"0" * 19  # the shortest that may exceed 64 bits, with every digit written as 0
DIGITS = bytes.maketrans(b"123456789", b"000000000")
NUL = b"\\u0000"
MOST_MARKS = 1_000_000  # commas and opening brackets; 10 MiB could contain ten times as many and take as many seconds
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")

# A token of valid JSON: a string (group 1), with the colon that makes it a key (group 2), a long
# number, or a bracket.
TOKEN = re.compile(rb'("(?:[^"\\]++|\\.)*+")([ \t\n\r]*:)?|(?<![0-9.eE+-])-?[0-9]{19}[0-9.eE+-]*|[\[\]{}]', re.DOTALL)


class MalformedJson(ValueError):
    """The body is not JSON that this server accepts. The message says where and why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def decode(body: bytes, *, nesting: int = 64) -> Any:
    """Decode a JSON text (RFC 8259) in UTF-8, at most `nesting` levels deep (`nesting` ≤ 200).

    Raises MalformedJson for anything else, and for duplicate keys, NUL characters, lone surrogates,
    NaN, infinities, integers beyond 64 bits, and more than about a million values.
    """
    gc.disable()  # otherwise the collector walks all that the parser has made so far, again and again, and finds no garbage
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(_why(body, error)) from None
    finally:
        gc.enable()
    if _count_marks(body) > MOST_MARKS:
        without_strings = b"".join(body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
        if _count_marks(without_strings) > MOST_MARKS:
            raise MalformedJson(f"The body has more than {MOST_MARKS:,} commas and opening brackets. Split it.")
    # orjson accepts a NUL, a long integer, and a duplicate key, which is missing from the value with two quotation marks.
    if (
        _is_deep(body, value, nesting)
        or NUL in body
        or LONG_NUMBER in body.translate(DIGITS)
        or _count_quotes(body) != _count_quotes(orjson.dumps(value))
    ):
        _scan(body, nesting)
    return value


def _count_marks(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _why(body: bytes, error: orjson.JSONDecodeError) -> str:
    if not body.strip():
        return "The body is empty: send a JSON text."
    if body.startswith(WIDE_MARKS) or b"\0" in body[:4]:
        return "The body is not JSON: it is not in UTF-8, but looks like UTF-16 or UTF-32 (byte 0)."
    try:
        body.decode()
    except UnicodeDecodeError as bad:
        return f"The body is not JSON: it is not in UTF-8 ({bad.reason}, byte {bad.start})."
    return f"The body is not JSON: {error}."


def _is_deep(body: bytes, value: Any, nesting: int) -> bool:
    """Return whether the value is nested deeper. orjson refuses more than 1,024 levels, so the loop is
    bounded.
    """
    if body.count(b"{") + body.count(b"[") <= nesting:
        return False
    level = [value]
    for _ in range(nesting + 1):
        level = [item for item in level if type(item) is dict or type(item) is list]
        if not level:
            return False
        level = [item for holder in level for item in (holder.values() if type(holder) is dict else holder)]
    return True


def _count_quotes(text: bytes) -> int:
    """Count the quotation marks that open or close a string: those not escaped by a backslash."""
    text = text.replace(rb"\\", b"")
    return text.count(b'"') - text.count(rb"\"")


def _scan(body: bytes, nesting: int) -> None:
    """Read valid JSON again, token by token; raise MalformedJson at the first refused token."""
    keys: list[set[str]] = []  # of each open object; an empty set for a list
    for token in TOKEN.finditer(body):
        text, start = token[0], token.start()
        if text in (b"{", b"["):
            keys.append(set())
            if len(keys) > nesting:
                raise MalformedJson(f"The body is nested deeper than {nesting} levels (byte {start}).")
        elif text in (b"}", b"]"):
            keys.pop()
        elif token[1]:
            string, is_key = orjson.loads(token[1]), token[2] is not None
            if "\0" in string:
                raise MalformedJson(
                    f"A {'key' if is_key else 'string'} holds the NUL character \\u0000 (byte {start})."
                )
            if is_key and string in keys[-1]:
                raise MalformedJson(f"The key '{_short(string)}' occurs twice in one object (byte {start}).")
            if is_key:
                keys[-1].add(string)
        elif text.lstrip(b"-").isdigit() and int(text) not in INT64:
            raise MalformedJson(f"The integer {_short(text.decode())} does not fit into 64 bits (byte {start}).")


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"
