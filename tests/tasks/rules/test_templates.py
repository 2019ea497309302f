"""Templates: paths are filled, nothing else happens, and what has no value is named."""

from typing import Any

import pytest

from tasks.rules.templates import ANY, DOUBLE, NoValue, fill, rename_placeholders

VALUES: dict[str, Any] = {
    "topic": "rivers",
    "n": 3,
    "none": None,
    "list": ["a", {"b": "c"}],
    "fetch": {"json": {"title": "T"}},
    "evil": "{{topic}} {topic} {0.__class__}",
    "dash-ed": "d",
}


@pytest.mark.parametrize(
    ("text", "double", "either"),
    [
        ("no place", "no place", "no place"),
        ("{{topic}}", "rivers", "rivers"),
        ("{{ topic }}", "rivers", "rivers"),
        ("{topic}", "{topic}", "rivers"),
        ("{{fetch.json.title}} {{list.1.b}}", "T c", "T c"),
        ("{{n}} {{none}} {{list}}", '3 null ["a",{"b":"c"}]', '3 null ["a",{"b":"c"}]'),
        ("{{dash-ed}}", "d", "d"),
        ('{"a": {"b": 1}} {} { topic } {1}', '{"a": {"b": 1}} {} { topic } {1}', '{"a": {"b": 1}} {} { topic } {1}'),
        ("{{evil}}", VALUES["evil"], VALUES["evil"]),
        (
            "{{topic!r}} {{topic:>9}} {{topic[0]}}",
            "{{topic!r}} {{topic:>9}} {{topic[0]}}",
            "{{topic!r}} {{topic:>9}} {{topic[0]}}",
        ),
        ("", "", ""),
    ],
)
def test_a_text_is_filled(text: str, double: str, either: str) -> None:
    assert fill(text, VALUES, places=DOUBLE) == double
    assert fill(text, VALUES, places=ANY) == either


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("{{a}}", ["a"]),
        ("{{a}} {{topic}} {{b}} {{a}}", ["a", "b"]),
        ("{{topic.__class__}}", ["topic.__class__"]),
        ("{{fetch.json.title.x}}", ["fetch.json.title.x"]),
        ("{{list.2}}", ["list.2"]),
        ("{{list.-1}}", ["list.-1"]),
        ("{{fetch.keys}}", ["fetch.keys"]),
    ],
)
def test_what_has_no_value_is_named(text: str, paths: list[str]) -> None:
    with pytest.raises(NoValue) as caught:
        fill(text, VALUES)
    assert str(caught.value).startswith(f"no value for {', '.join(map(repr, paths))}; the inputs have: 'topic', 'n'")


@pytest.mark.parametrize(
    ("value", "double", "either"),
    [
        ("{{page.body}} {{ page }}", "{{0-1.body}} {{0-1}}", "{{0-1.body}} {{0-1}}"),
        ("{page.body} {page}", "{page.body} {page}", "{{0-1.body}} {{0-1}}"),
        ("{{pages}} {{other.page}} page", "{{pages}} {{other.page}} page", "{{pages}} {{other.page}} page"),
        ({"page": ["{{page}}", 1, None]}, {"page": ["{{0-1}}", 1, None]}, {"page": ["{{0-1}}", 1, None]}),
        (None, None, None),
    ],
)
def test_places_follow_an_id_that_changes(value: Any, double: Any, either: Any) -> None:
    assert rename_placeholders(value, {"page": "0-1"}) == double
    assert rename_placeholders(value, {"page": "0-1"}, places=ANY) == either
    assert rename_placeholders(value, {}) == value
