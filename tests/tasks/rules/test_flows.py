"""The inputs of a run by the schema of its flow, and what changed between two versions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.flows import Content, changes, closed_names, digest_of, fault_of_schema, filled_inputs, with_defaults

Json = dict[str, Any]
NESTED: Json = {
    "type": "object",
    "properties": {
        "topic": {"type": "string"},
        "n": {"type": "integer", "default": 3},
        "box": {"type": "object", "properties": {"deep": {"default": [1]}}, "required": ["deep"]},
    },
    "required": ["topic"],
}
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("schema", "sent", "filled", "field"),
    [
        (None, {"any": 1}, {"any": 1}, None),
        (NESTED, {"topic": "x"}, {"topic": "x", "n": 3}, None),
        (NESTED, {"topic": "x", "box": {}}, {"topic": "x", "n": 3, "box": {"deep": [1]}}, None),
        (NESTED, {"topic": "x", "n": None}, {"topic": "x", "n": None}, "inputs"),
        (NESTED, {}, {"n": 3}, "inputs.topic"),
        (NESTED, {"topic": "x", "m": 1}, {"topic": "x", "m": 1, "n": 3}, "inputs.m"),
        (NESTED | {"additionalProperties": True}, {"topic": "x", "m": 1}, {"topic": "x", "m": 1, "n": 3}, None),
        ({"required": ["a"]}, {"b": 1}, {"b": 1}, "inputs.a"),
        ({"additionalProperties": False}, {"b": 1}, {"b": 1}, "inputs.b"),
        ({"properties": {"a": True}}, {"a": 1}, {"a": 1}, None),
        ({"properties": {}}, {"a": 1}, {"a": 1}, "inputs.a"),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"a": {}}}}}, {"b": 1}, {"b": 1}, None),
    ],
)
def test_inputs_are_filled_and_checked(schema: Json | None, sent: Json, filled: Json, field: str | None) -> None:
    given_back, problems = filled_inputs(schema, sent)
    assert given_back == filled
    assert [each for each, _ in problems] == ([] if field is None else [field])


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        ({"doc": {"$file": "a"}, "pages": [{"$file": "b"}], "box": {"cover": {"$file": "c"}}, "none": None}, []),
        ({"doc": "report.pdf"}, ["inputs.doc"]),
        ({"doc": {"$file": 7}}, ["inputs.doc"]),
        ({"doc": None}, ["inputs.doc"]),
        ({"pages": [{"$file": "b"}, "x", {}]}, ["inputs.pages[1]", "inputs.pages[2]"]),
        ({"pages": {"$file": "b"}}, ["inputs"]),
        ({"box": {"cover": 1}}, ["inputs.box.cover"]),
        ({"none": 1}, ["inputs.none"]),
    ],
)
def test_what_must_be_a_file_is_named(sent: Json, fields: list[str]) -> None:
    schema: Json = {
        "properties": {
            "doc": {"format": "file"},
            "pages": {"type": "array", "items": {"format": "file"}},
            "box": {"type": "object", "properties": {"cover": {"format": "file"}}},
            "none": {"type": ["object", "null"], "format": "file"},
        }
    }
    assert fault_of_schema(schema) is None
    assert [field for field, _ in filled_inputs(schema, sent)[1]] == fields


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "string"}, "must describe an object"),
        ({"properties": {"a": {"type": "string", "format": "file"}}}, 'the format "file" at properties.a'),
        ({"properties": {"a": {"type": "nothing"}}}, "not a valid JSON Schema"),
        ({"properties": {"a": {"type": "integer", "default": "x"}}}, "default at properties.a"),
        ({"properties": {"a": {"$ref": "https://a.example/b"}}}, "Only parts of the schema itself"),
        ({"properties": {"a": {"pattern": "(a{500}){500}"}}}, "patterns"),
        ({"$defs": {"a": {"enum": ["x" * 70_000]}}}, "bytes"),
    ],
)
def test_what_is_no_schema_for_inputs_is_said(schema: Json, reason: str) -> None:
    assert reason in (fault_of_schema(schema) or "")


@given(st.dictionaries(st.sampled_from("abcd"), values), st.dictionaries(st.sampled_from("abcd"), values))
def test_defaults_never_replace_what_was_sent(defaults: Json, sent: Json) -> None:
    schema = {"properties": {name: {"default": value} for name, value in defaults.items()}}
    filled = with_defaults(schema, sent)
    assert filled == {**defaults, **sent}
    assert with_defaults(schema, filled) == filled
    known = closed_names(schema) or ()
    _, problems = filled_inputs(schema, sent)
    assert {field for field, _ in problems} <= {f"inputs.{name}" for name in sent if name not in known}


@given(st.dictionaries(st.text(max_size=3), values))
def test_the_order_of_fields_makes_no_other_content(schema: Json) -> None:
    turned = dict(reversed(schema.items()))
    assert digest_of([{"id": "a"}], schema, "") == digest_of([{"id": "a"}], turned, "")
    assert digest_of([{"id": "a"}], schema, "") != digest_of([{"id": "a"}], schema, "x")


def test_what_changed_is_said_by_name() -> None:
    old = Content(
        tasks=[{"id": "a", "name": "A"}, {"id": "b", "name": "B", "inputs": {"x": 1}}],
        inputs_schema={"properties": {"n": {"default": 1}, "m": {}}, "required": ["m"]},
        description="Old.",
    )
    new = Content(
        tasks=[{"id": "b", "name": "B", "inputs": {"x": 2}, "priority": 1}, {"id": "c", "name": "C"}],
        inputs_schema={"properties": {"n": {"default": 2}, "k": {}}, "required": []},
        description="New.",
    )
    assert [str(change) for change in changes(old, new)] == [
        "task c added",
        "task a removed",
        "task b changed (inputs, priority)",
        "input k added",
        "input m removed",
        "input n changed (default)",
        "schema changed (required)",
        "description changed",
    ]
    turned = Content(tasks=old.tasks[::-1], inputs_schema=old.inputs_schema, description=old.description)
    assert [str(change) for change in changes(old, turned)] == ["order of the tasks changed"]
    assert changes(old, old) == []
