"""Schemas of users: what of them is refused, because it could cause work without an end, and what is not."""

from typing import Any

import pytest

from tasks.rules.exceptions import InvalidParams, InvalidTree
from tasks.rules.schema import TooCostly, check_cost, fault, is_light, mismatch
from tasks.rules.specs import MAX_PATTERNS_SIZE, parse_tree
from tests.work import calls_of

Json = dict[str, Any]


def doubled(levels: int) -> Json:
    """A schema with twice as many paths at each level."""
    parts: Json = {
        f"a{level}": {"allOf": [{"$ref": f"#/$defs/a{level + 1}"}, {"$ref": f"#/$defs/a{level + 1}"}]}
        for level in range(levels)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**parts, f"a{levels}": {"type": "object"}}}


def chained(levels: int) -> Json:
    schema: Json = {"type": "object"}
    for _ in range(levels):
        schema = {"properties": {"x": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (doubled(13), "follows 16,383 references"),
        (doubled(50), "more than 32 levels"),
        (chained(32), "more than 32 levels"),
        ({"description": "x" * 65_536}, "has 65,554 bytes; at most 65,536"),
        ({"$ref": "https://example.com/schema"}, "refers to 'https://example.com/schema'. Only parts"),
        ({"$ref": "#/$defs/missing"}, "refers to '#/$defs/missing'"),
        ({"$ref": "#missing"}, "refers to '#missing'"),
        ({"$dynamicRef": "#node"}, "uses $dynamicRef"),
        ({"$defs": {"a": {"$id": "https://example.com/a", "$ref": "#/$defs/b"}}}, "with its own $id"),
        ({"pattern": "(a{100}){101}"}, "patterns of 131,300 characters"),
        ({"patternProperties": {"é{700}": True}}, "patterns of 67,200 characters"),
        ({"properties": {f"p{n}": {"pattern": "a{1000}"} for n in range(2)}}, "patterns of 14,000 characters"),
    ],
)
def test_a_schema_that_could_cause_endless_work_is_refused(schema: Json, reason: str) -> None:
    with pytest.raises(TooCostly) as refused:
        check_cost(schema)
    assert reason in str(refused.value)
    with pytest.raises(InvalidParams) as invalid:
        parse_tree({"name": "a", "schemas": {"input_schema": schema}}, executors=())
    assert "tasks[0].schemas.input_schema" in str(invalid.value.problems)


TREE_OF_NODES: Json = {
    "$defs": {"node": {"type": "object", "properties": {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#node"}}}},
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        chained(30),
        {"properties": {f"p{n}": {"type": "string", "description": "a field"} for n in range(1000)}},
        {"enum": [f"value {n}" for n in range(4000)]},
        {"pattern": r"^[\w.+-]+@[\w-]+\.[\w.-]+$", "maxLength": 254},
        {"$id": "https://example.com/root", "$anchor": "me", "properties": {"again": {"$ref": "#me"}}},
        {"$defs": {"a/b%": {"type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/a~1b%25"}}},
    ],
)
def test_ordinary_schemas_are_accepted(schema: Json) -> None:
    check_cost(schema)
    assert fault(schema) is None


def test_a_recursive_schema_is_accepted_and_its_validation_leaves_the_loop() -> None:
    schema = {**TREE_OF_NODES, "$defs": {"node": {**TREE_OF_NODES["$defs"]["node"], "$anchor": "node"}}}
    assert fault(schema) is None
    assert check_cost(schema).is_open_ended
    assert not is_light(schema, {"left": {}})
    assert mismatch(schema, {"left": {"right": 1}}) == 'left.right: the value is not of type "object"'


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"properties": {"a": {"$ref": "#/properties/a"}}},
        {"allOf": [{"$ref": "#"}]},
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}},
        },
        {
            "properties": {"x": {"$ref": "#/$defs/b"}},
            "allOf": [{"$ref": "#/$defs/b"}],
            "$defs": {"b": {"if": {"$ref": "#"}}},
        },
    ],
)
def test_a_schema_that_refers_to_itself_for_the_same_value_is_refused(schema: Json) -> None:
    with pytest.raises(TooCostly, match="refers to itself"):
        check_cost(schema)


def test_counting_takes_no_longer_for_twice_as_many_paths() -> None:
    few, many = calls_of(lambda: check_cost(doubled(6))), calls_of(lambda: check_cost(doubled(12)))
    assert check_cost(doubled(12)).references > 60 * check_cost(doubled(6)).references
    assert many < 3 * few


@pytest.mark.parametrize(
    ("schema", "inputs", "is_quick"),
    [
        ({"required": ["city"]}, {"city": "Rome", "days": list(range(10_000))}, True),
        ({"properties": {"email": {"pattern": r"^[\w.+-]+@[\w-]+\.[\w.-]+$"}}}, {"email": "a@b.c"}, True),
        ({"additionalProperties": {"anyOf": [{"const": n} for n in range(4000)]}}, {"a": 1, "b": 2}, True),
        (
            {"properties": {"all": {"items": {"anyOf": [{"const": n} for n in range(4000)]}}}},
            {"all": [5000] * 10_000},
            False,
        ),
        ({"allOf": [{"uniqueItems": True, "maxLength": n} for n in range(2000)]}, {"text": "é" * 500_000}, False),
        ({"properties": {"a": {"pattern": "[01]*1[01]{500}x"}}}, {"a": "01" * 50_000}, False),
        ({"unevaluatedProperties": False}, {"a": 1}, False),
        (doubled(50), {}, False),  # stored before there were limits
    ],
)
def test_only_quick_validations_stay_on_the_loop(schema: Json, inputs: Json, is_quick: bool) -> None:
    assert is_light(schema, inputs) is is_quick


def test_a_mismatch_is_found_without_looking_for_more_of_them() -> None:
    """The library collects all errors before it returns the first one: a minute for a few thousand of them."""
    schema = {"properties": {"all": {"items": {"anyOf": [{"const": n} for n in range(300)]}}}}
    reason = mismatch(schema, {"all": [500] * 100_000})
    assert reason is not None
    assert reason.startswith("all[0]: the value is not valid under any of the schemas")


def test_a_description_of_a_mismatch_is_short() -> None:
    reason = mismatch({"required": ["x" * 60_000]}, {})
    assert reason is not None
    assert len(reason) < 1100


def test_the_patterns_of_a_request_are_limited_together() -> None:
    patterns = [f"a{{{1000 + n}}}b" for n in range(30)]
    tasks = [{"name": "t", "schemas": {"input_schema": {"pattern": pattern}}} for pattern in patterns]
    with pytest.raises(InvalidTree, match=f"at most {MAX_PATTERNS_SIZE:,} are allowed"):
        parse_tree(tasks, executors=())
    same = [{"name": "t", "parent_id": "root", "schemas": {"input_schema": {"pattern": "a{1000}"}}} for _ in range(100)]
    assert len(parse_tree([{"id": "root", "name": "root"}, *same], executors=()).tasks) == 101
