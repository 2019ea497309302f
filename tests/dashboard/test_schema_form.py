"""Forms from JSON Schemas: which field takes what, and what was filled in as JSON."""

from typing import Any

import pytest

from tasks.dashboard.new import misfits
from tasks.dashboard.schema_form import fields_of, kind_of, read_inputs, takes_more, texts_of

Json = dict[str, Any]
SCHEMA: Json = {
    "properties": {
        "url": {"type": "string", "description": "http or https"},
        "prompt": {"type": "string"},
        "count": {"type": "integer", "default": 3},
        "verify": {"type": "boolean", "default": True},
        "method": {"enum": ["GET", "POST", 7], "default": "GET"},
        "headers": {"type": "object"},
        "either": {"anyOf": [{"type": "string"}, {"type": "object"}]},
    },
    "required": ["url"],
}


@pytest.mark.parametrize(
    ("rule", "name", "kind"),
    [
        ({"type": "string"}, "url", "text"),
        ({"type": "string"}, "prompt", "long_text"),
        ({"type": "integer"}, "n", "number"),
        ({"type": "number"}, "n", "number"),
        ({"type": "boolean"}, "n", "flag"),
        ({"enum": [1, "a"]}, "n", "choice"),
        ({"type": ["string", "null"]}, "n", "json"),
        ({"format": "file"}, "n", "file"),
        ({"type": "object", "format": "file"}, "n", "file"),
        ({"type": "array", "items": {"format": "file"}}, "n", "files"),
        ({"type": "array", "items": {"format": "date"}}, "n", "json"),
        ({"type": "array"}, "n", "json"),
        ({}, "n", "json"),
    ],
)
def test_the_kind_of_a_field_follows_the_schema(rule: Json, name: str, kind: str) -> None:
    assert kind_of(rule, name) == kind


@pytest.mark.parametrize(
    ("texts", "inputs"),
    [
        ({}, {}),
        ({"url": "  "}, {}),
        ({"url": "123"}, {"url": "123"}),
        ({"url": "a\r\nb"}, {"url": "a\nb"}),
        ({"count": "5"}, {"count": 5}),
        ({"count": "1.5"}, {"count": 1.5}),
        ({"verify": "false"}, {"verify": False}),
        ({"method": "7"}, {"method": 7}),
        ({"method": "POST"}, {"method": "POST"}),
        ({"headers": '{"a": "b"}'}, {"headers": {"a": "b"}}),
        ({"either": '{"a": 1}'}, {"either": {"a": 1}}),
        ({"either": "plain words"}, {"either": "plain words"}),
        ({"": '{"more": [1]}', "count": "1"}, {"more": [1], "count": 1}),
        ({"unknown": "x"}, {}),
    ],
)
def test_what_is_filled_in_becomes_json(texts: dict[str, str], inputs: Json) -> None:
    assert read_inputs(SCHEMA, texts) == (inputs, {})


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        ("count", "many", "a number"),
        ("verify", "perhaps", "true or false"),
        ("headers", "{", "line 1"),
        ("", "[1]", "must be an object"),
        ("", "{", "not JSON"),
        ("headers", '{"a": 1, "a": 2}', "occurs twice"),
        ("headers", '{"a": "\\u0000"}', "NUL"),
    ],
)
def test_what_cannot_be_is_named_by_field(field: str, text: str, problem: str) -> None:
    inputs, problems = read_inputs(SCHEMA, {field: text})
    assert inputs == {}
    assert list(problems) == [field]
    assert problem in problems[field]


@pytest.mark.parametrize(
    "inputs",
    [
        {"url": "x", "count": 2, "verify": True, "method": "POST", "headers": {"a": "b"}},
        {"either": "words", "other": {"deep": [1, None]}},
        {"either": {"a": 1}},
        {},
    ],
)
def test_inputs_survive_the_form(inputs: Json) -> None:
    assert read_inputs(SCHEMA, texts_of(SCHEMA, inputs)) == (inputs, {})


def test_a_field_knows_its_hint_default_choices_and_problem() -> None:
    fields = {field.name: field for field in fields_of(SCHEMA, {"count": "x"}, {"count": "This must be a number"})}
    assert fields["url"].is_required
    assert fields["url"].hint == "http or https"
    assert (fields["count"].value, fields["count"].problem, fields["count"].default) == (
        "x",
        "This must be a number",
        "3",
    )
    assert fields["method"].choices == ["GET", "POST", "7"]
    assert fields["verify"].default == "true"


def test_only_an_open_schema_takes_more() -> None:
    assert takes_more({})
    assert not takes_more({"additionalProperties": False})


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({"url": "x"}, None),
        ({}, "in.url"),
        ({"url": 1}, "in.url"),
        ({"url": "x", "headers": [1]}, "in.headers"),
        ({"url": "x", "a": {"b": [1]}}, "in.a"),
        ({"url": "x", "c.d": 1}, "in.c.d"),
        ({"url": "x", "other": 1}, ""),
    ],
)
def test_what_does_not_fit_the_schema_is_said_at_its_field(inputs: Json, field: str | None) -> None:
    text = {"type": "string"}
    deep = {"type": "object", "properties": {"b": {"type": "array", "items": text}}}
    own = {"url": text, "headers": {"type": "object"}, "a": deep, "c.d": text}
    problems = misfits(
        {"type": "object", "properties": own, "required": ["url"], "additionalProperties": False}, inputs
    )
    assert list(problems) == ([] if field is None else [field])
