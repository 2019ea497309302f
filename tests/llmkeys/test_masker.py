"""A masker finds its secrets in the forms in which services return them, and nothing else."""

import base64
import html
import json
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlencode

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkeys.masker import MASK, Masker, TooManyLines

VALUE = 'a b+c/"d\\é'
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nshort\n-----END KEY-----\n"
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=8, max_size=40).filter(lambda text: len(text.strip()) >= 8)  # fmt: skip


@pytest.mark.parametrize(
    "form",
    [
        VALUE,
        json.dumps(VALUE, ensure_ascii=False)[1:-1],
        json.dumps(VALUE)[1:-1],
        html.escape(VALUE),
        quote(VALUE),
        quote(VALUE, safe=""),
        quote_plus(VALUE),
        urlencode({"": VALUE})[1:],
        VALUE.upper(),
        VALUE.lower(),
        VALUE[::-1],
        VALUE.encode().hex(),
        VALUE.encode().hex().upper(),
        "".join(f"&#{ord(each)};" for each in VALUE),
        "".join(f"&#x{ord(each):x};" for each in VALUE),
    ],
)
def test_it_is_found_in_each_form(form: str) -> None:
    assert Masker([VALUE]).text(f"<{form}>") == f"<{MASK}>"


@given(TEXTS, st.binary(max_size=8), st.binary(max_size=8))
def test_it_is_found_in_base64_wherever_it_stands(value: str, before: bytes, after: bytes) -> None:
    masker = Masker([value])
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + value.encode() + after).decode()
        assert MASK in masker.text(text)


@given(TEXTS, st.binary(max_size=8), st.binary(max_size=8))
def test_it_is_found_in_base32_wherever_it_stands(value: str, before: bytes, after: bytes) -> None:
    text = base64.b32encode(before + value.encode() + after).decode()
    assert MASK in Masker([value]).text(text) and MASK in Masker([value]).text(text.lower())


@given(TEXTS, st.sampled_from(["http://h/a/{}/b?c", "http://h/?a={}", "http://h/?a=1&{}=b#c"]))
def test_it_is_found_in_a_url_as_clients_write_it(value: str, url: str) -> None:
    for written in (httpx.URL(url.replace("{}", value)), httpx.URL("http://h/").copy_merge_params({"k": value})):
        masked = Masker([value]).text(str(written))
        assert value.strip() not in unquote(masked) and value.strip() not in unquote_plus(masked)


def test_a_text_with_percents_and_no_secret_stays() -> None:
    assert Masker([VALUE]).text("100 %41 %zz") == "100 %41 %zz"
    assert Masker([VALUE]).stored(b'{"a":  "100 %41"}') == b'{"a":  "100 %41"}'


def test_each_long_line_of_it_is_found() -> None:
    masker = Masker([KEY])
    assert masker.text("x MIIEvQIBADANBgkqhkiG9w0 y short") == f"x {MASK} y short"
    assert masker.text(KEY.strip()) == MASK


def test_a_line_with_quotes_is_found_in_a_result() -> None:
    masker = Masker(['{\n  "private_key": "abcdefgh",\n}'])
    result = orjson.dumps({"line": 'got "private_key": "abcdefgh", then', "within": orjson.dumps(['"private_key": "abcdefgh",']).decode()})  # fmt: skip
    assert b"abcdefgh" not in masker.stored(result)


def test_a_run_uses_a_hundred_lines_at_most() -> None:
    masker = Masker(["of one line"])
    with pytest.raises(TooManyLines):
        masker.add(["two\nlines\n" * 50])
    assert masker.text("of one line, two") == f"{MASK}, two"


def test_a_longer_one_goes_before_a_shorter_one_in_it() -> None:
    assert Masker(["token-of-a", "token-of-a-longer"]).text("token-of-a-longer token-of-a") == f"{MASK} {MASK}"


def test_numbers_and_names_are_found_and_the_rest_keeps_its_type() -> None:
    value = {"12345678": [12345678, 123456789.5, True, None, 1.5, "a 12345678"], "n": 5}
    assert Masker(["12345678"]).json(value) == {MASK: [MASK, f"{MASK}9.5", True, None, 1.5, f"a {MASK}"], "n": 5}


@given(TEXTS, st.recursive(st.none() | st.booleans() | st.text() | st.integers(-(2**53), 2**53), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_what_is_stored_stays_json_and_does_not_contain_it(value: str, result: object) -> None:
    masker = Masker([value])
    try:
        stored = orjson.dumps([result, value, {f"x{value}": value}])
    except TypeError:
        return  # a lone surrogate, which no result has
    masked = orjson.loads(masker.stored(stored))
    assert value.strip() not in json.dumps(masked, ensure_ascii=False)
    assert masker.stored(b'["nothing"]') == b'["nothing"]'


def test_texts_with_a_nul_are_masked_one_by_one() -> None:
    assert Masker(["12345678"]).json(["a\0b", "x12345678", "%00 12345678"]) == ["a\0b", f"x{MASK}", f"%00 {MASK}"]


def test_a_process_gets_only_what_its_task_has() -> None:
    masker = Masker(["of-the-first-task", 'of "another"'])
    assert masker.values_in({"x": ["a of-the-first-task"]}) == ["of-the-first-task"]
    assert masker.values_in({"x": 'of "another"'}) == ['of "another"']
    assert Masker().values_in({"x": object()}) == []
