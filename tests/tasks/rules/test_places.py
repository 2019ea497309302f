"""Places: what is filled in, with which type, what stays, and how one without a value is reported."""

from typing import Any

import pytest

from tasks.rules.places import filled, places_in
from tasks.rules.templates import CannotFill, rename_placeholders

RESULTS: dict[str, Any] = {
    "fetch": {"json": {"title": "Tea", "count": 3, "tags": ["a", "b"], "on": True, "none": None}, "text": "{{fetch.json.title}}"},
    "text": "plain",
}  # fmt: skip


def fill(value: Any, **options: Any) -> Any:
    usual: dict[str, Any] = {"known": {"fetch", "text", "late"}, "left": (), "max_characters": 10_000}
    return filled({"field": value}, RESULTS, **(usual | options))["field"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{{fetch.json.title}}", "Tea"),
        ("{{ fetch.json.count }}", 3),
        ("{{fetch.json.tags}}", ["a", "b"]),
        ("{{fetch.json.tags.1}}", "b"),
        ("{{fetch.json.on}}", True),
        ("{{fetch.json.none}}", None),
        ("{{fetch.json}}", RESULTS["fetch"]["json"]),
        ("{{text}}", "plain"),
        ("about {{fetch.json.title}}: {{fetch.json.count}} × {{fetch.json.tags}}", 'about Tea: 3 × ["a","b"]'),
        (" {{fetch.json.count}}", " 3"),
        ({"deep": [{"x": "{{text}}!"}, 1, None]}, {"deep": [{"x": "plain!"}, 1, None]}),
        ("{{{{fetch.json.title}}", "{{fetch.json.title}}"),
        ("{{{{ {{text}}", "{{ plain"),
        ("{{unknown.path}} and {{ .Names }} and {single}", "{{unknown.path}} and {{ .Names }} and {single}"),
        ("{{fetch.text}}", "{{fetch.json.title}}"),  # what is filled in is not filled again
        ("see {{fetch.text}}", "see {{fetch.json.title}}"),
        (7, 7),
    ],
)
def test_a_value_is_filled_in(value: Any, expected: Any) -> None:
    found = fill(value)
    assert (found, type(found)) == (expected, type(expected))


def test_fields_that_are_left_stay_as_they_are() -> None:
    assert fill("{{text}}", left={"field"}) == "{{text}}"


def test_four_braces_stay_for_a_later_filling() -> None:
    assert fill("{{{{text}} {{text}}", keeps_literals=True) == "{{{{text}} plain"
    once = fill({"a": "{{fetch.text}}", "b": "x{{fetch.text}}"}, keeps_literals=True)
    assert once == {"a": "{{{{fetch.json.title}}", "b": "x{{{{fetch.json.title}}"}
    assert fill(once) == {"a": "{{fetch.json.title}}", "b": "x{{fetch.json.title}}"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("{{fetch.json.titel}}", r"inputs\.field: '\{\{fetch\.json\.titel\}\}' has no value: the value at 'fetch\.json' has no 'titel'"),
        (["{{fetch.json.tags.2}}"], r"inputs\.field\[0\]: .* the value at 'fetch\.json\.tags' has no '2'"),
        ({"a": "x {{text.length}}"}, r"inputs\.field\.a: .* the value at 'text' has no 'length'"),
        (f"{{{{fetch.json.tags.{'9' * 5_000}}}}}", "has no value"),
        ("{{late.x}}", "'late' did not complete, so it has no result"),
    ],
)  # fmt: skip
def test_a_place_without_a_value_is_named(value: Any, reason: str) -> None:
    with pytest.raises(CannotFill, match=reason):
        fill(value)


def test_what_is_filled_in_is_limited_however_often_it_is_wanted() -> None:
    with pytest.raises(CannotFill, match=r"limits\.result_bytes"):
        filled({"x": ["{{big}}"] * 11}, {"big": "x" * 1_000}, known={"big"}, left=(), max_characters=10_000)


def test_places_are_found_with_where_they_are() -> None:
    value = {"a": ["{{x.y}} {{z}}", {"b": "{{{{no}}"}]}
    assert list(places_in(value, "inputs")) == [("inputs.a[0]", "x.y"), ("inputs.a[0]", "z")]


def test_a_copy_renames_places_but_not_what_four_braces_begin() -> None:
    assert rename_placeholders("{{a.x}} {{{{a.x}}", {"a": "b"}) == "{{b.x}} {{{{a.x}}"
