"""Templates: paths are filled, nothing else happens, and what has no value is named."""

from typing import Any

import pytest

from tasks.rules.templates import ANY, PLACE, Filler, NoValue, TooLong, rename_placeholders
from tests.work import calls_of

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
        ("{{{{topic}} {{topic}} {{{{", "{{topic}} rivers {{", "{{topic}} rivers {{"),
        ("", "", ""),
    ],
)
def test_a_text_is_filled(text: str, double: str, either: str) -> None:
    assert Filler(VALUES, places=PLACE, max_characters=1000).fill(text) == double
    assert Filler(VALUES, places=ANY, max_characters=1000).fill(text) == either


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
        Filler(VALUES, max_characters=1000).fill(text)
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


def test_all_texts_of_a_task_are_limited_together() -> None:
    filler = Filler({"ten": "x" * 10, "list": [1, 2]}, max_characters=25)
    assert filler.fill("{{ten}}{{list}}") == "xxxxxxxxxx[1,2]"
    assert filler.fill("{{ten}}") == "x" * 10
    with pytest.raises(TooLong, match=r"more than the 25 characters that limits\.result_bytes allows"):
        filler.fill("1")


def test_the_length_is_checked_while_a_text_is_filled() -> None:
    """A megabyte in a thousand places is a gigabyte: nothing of it is made."""

    def fill(places: int) -> None:
        with pytest.raises(TooLong):
            Filler({"x": ["y" * 100_000]}, max_characters=1_000_000).fill("{{x}}" * places)

    few, many = calls_of(lambda: fill(20)), calls_of(lambda: fill(20_000))
    assert many == few


def test_a_number_of_thousands_of_digits_is_no_index() -> None:
    with pytest.raises(NoValue):
        Filler({"list": [1]}, max_characters=100_000).fill(f"{{{{list.{'9' * 5_000}}}}}")


def test_names_of_missing_values_are_listed_up_to_a_number() -> None:
    with pytest.raises(NoValue, match=r"no value for 'a0', .* and 80 more; the inputs have: none$"):
        Filler({}, max_characters=1000).fill("".join(f"{{{{a{number}}}}}" for number in range(100)))
