"""What is a form, and what fits one."""

from typing import Any

import pytest

from tasks.rules.forms import MAX_FIELDS, described_form, fault_of_form, filled_form
from tasks.rules.strict_json import Json

FORM: Json = {
    "type": "object",
    "title": "Budget",
    "properties": {
        "amount": {"type": "number", "title": "Amount", "minimum": 0},
        "seats": {"type": "integer", "default": 1},
        "plan": {"enum": ["small", "large"]},
        "note": {"type": "string", "maxLength": 20, "pattern": "^[A-Z]"},
        "urgent": {"type": "boolean"},
    },
    "required": ["amount", "plan"],
}


def of(**rule: Any) -> Json:
    return {"properties": {"x": rule}}


def test_a_flat_schema_is_a_form() -> None:
    assert fault_of_form(FORM) is None
    assert fault_of_form(of(type="string", enum=["a", "b"], default="a", description="One of both")) is None
    assert fault_of_form({"properties": {"x": {"type": "boolean"}}, "additionalProperties": False}) is None


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({}, "is not a flat JSON Schema. Write {"),
        ({"type": "string"}, "is not a flat JSON Schema"),
        ({"properties": {}}, "is not a flat JSON Schema"),
        ({"properties": {"x": True}}, "has no type at properties.x"),
        (of(type="object"), "is not flat at properties.x.type: it must be one of string, number, integer, boolean"),
        (of(type="array", items={"type": "string"}), "is not flat at properties.x.type"),
        (of(type=["string", "null"]), "is not flat at properties.x.type"),
        (of(title="Nothing else"), "has no type at properties.x"),
        (
            of(type="string", contentEncoding="base64"),
            "has the keyword 'contentEncoding' at properties.x. Allowed there: ",
        ),
        (of(type="integer", format="date"), "has the keyword 'format' at properties.x. Allowed there: "),
        (
            of(type="string", format="ipv4"),
            "has an unknown format at properties.x. Known are email, uri, date, date-time",
        ),
        (of(type="string", format="date", default="today"), "has a default at properties.x that does not fit"),
        (of(type="boolean", minimum=1), "has the keyword 'minimum' at properties.x"),
        (of(enum=[{"a": 1}]), "must have texts, numbers, true or false at properties.x.enum"),
        (of(enum=[None]), "must have texts, numbers, true or false at properties.x.enum"),
        (of(type="string", format="file"), 'has the format "file" at properties.x with another type'),
        (of(format="file", minLength=1), "has the keyword 'minLength' at properties.x. Allowed there: description"),
        (of(type="integer", enum=["one"]), "has a value at properties.x.enum that is not of the type integer"),
        (of(type="integer", default="one"), "has a default at properties.x that does not fit"),
        (of(type="string", pattern="("), "is not a valid JSON Schema"),
        (of(type="string", pattern="((a{1,99}){1,99}){1,99}"), "has patterns of "),
        (of(type="string", minLength=-1), "is not a valid JSON Schema"),
        (of(type="string") | {"required": ["y"]}, "requires 'y', which is not one of its properties"),
        (of(type="string") | {"required": "x"}, "is not a valid JSON Schema"),
        (of(type="string") | {"allOf": [{}]}, "has the keyword 'allOf', which a form does not have"),
        (of(type="string") | {"additionalProperties": True}, "allows fields that it does not describe"),
        ({"properties": {"": {"type": "string"}}}, "has the field ''"),
        ({"properties": {"a\nb": {"type": "string"}}}, "has the field 'a\\nb'"),
        ({"properties": {f"x{i}": {"type": "string"} for i in range(MAX_FIELDS + 1)}}, "has 51 fields; at most 50"),
    ],
)
def test_what_is_no_form_is_described(schema: Json, says: str) -> None:
    found = fault_of_form(schema)
    assert found is not None
    assert found.startswith(says)


def test_an_answer_gets_the_defaults_of_what_was_left_out() -> None:
    assert filled_form(FORM, {"amount": 5.5, "plan": "large"}) == ({"amount": 5.5, "plan": "large", "seats": 1}, [])
    assert filled_form(FORM, {"amount": 5, "plan": "small", "seats": 3, "urgent": False, "note": "Now"})[1] == []


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        ("yes", ["answer"]),
        ([1], ["answer"]),
        ({}, ["answer.amount", "answer.plan"]),
        ({"amount": "5", "plan": "small"}, ["answer.amount"]),
        ({"amount": True, "plan": "small"}, ["answer.amount"]),
        ({"amount": -1, "plan": "medium"}, ["answer.amount", "answer.plan"]),
        ({"amount": 1, "plan": "small", "seats": 1.5}, ["answer.seats"]),
        ({"amount": 1, "plan": "small", "note": "small letters"}, ["answer.note"]),
        ({"amount": 1, "plan": "small", "note": "A" * 21}, ["answer.note"]),
        ({"amount": 1, "plan": "small", "urgent": "true"}, ["answer.urgent"]),
        ({"amount": 1, "plan": "small", "color": "red"}, ["answer.color"]),
        ({"amount": None, "plan": "small"}, ["answer.amount"]),
    ],
)
def test_what_does_not_fit_is_named_field_by_field(answer: Any, fields: list[str]) -> None:
    assert [field for field, _ in filled_form(FORM, answer)[1]] == fields


def test_a_form_may_ask_for_files() -> None:
    form = {"properties": {"doc": {"format": "file"}, "pages": {"type": "array", "items": {"format": "file"}}}}
    assert fault_of_form(form) is None
    assert filled_form(form, {"doc": {"$file": "a"}, "pages": [{"$file": "b"}]})[1] == []
    wrong = filled_form(form, {"doc": "a.pdf", "pages": [1]})[1]
    assert wrong == [(f"answer.{name}", 'must be a file: {"$file": id}') for name in ("doc", "pages")]
    assert described_form(form) == "doc (file), pages (files)"


def test_a_text_that_a_pattern_would_take_long_for_is_refused() -> None:
    form = of(type="string", pattern="^(a|b|ab){1,500}$")
    assert fault_of_form(form) is None
    assert filled_form(form, {"x": "a" * 100})[1] == []
    assert filled_form(form, {"x": "a" * 1_000_000})[1] == [("answer.x", "is too long for the schema of its field")]


def test_a_form_is_described_in_one_line() -> None:
    assert described_form(FORM) == (
        "amount (number, required), seats (integer), plan (one of small, large, required), note (text), urgent (true or false)"
    )


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("email", ["ada@example.com"], ["ada", "a b@example.com", "@", "<ada@example.com>"]),
        (
            "uri",
            ["https://example.com/a?b=c", "mailto:ada@example.com"],
            ["example.com", "https://", "http://a b/", "http://["],
        ),
        ("date", ["2027-01-31"], ["2027-02-30", "20270131", "31.1.2027", "2027-01-31T09:00:00Z"]),
        ("date-time", ["2027-01-31T09:00:00Z", "2027-01-31T09:00:00.5+01:00"], ["2027-01-31T09:00:00", "2027-01-31"]),
    ],
)
def test_a_text_has_the_format_of_its_field(name: str, good: list[str], bad: list[str]) -> None:
    schema = of(type="string", format=name)
    assert fault_of_form(schema) is None
    assert [text for text in good if filled_form(schema, {"x": text})[1]] == []
    problems = [filled_form(schema, {"x": text})[1] for text in [*bad, "x" * 3000]]
    assert all(where == "answer.x" and why.startswith("must be a") for ((where, why),) in problems)
