"""How pages write JSON, durations and marked names."""

import shlex
from typing import Any

import orjson
import pytest

from tasks.dashboard.json_text import format_json, on_one_line, pretty
from tasks.dashboard.views import as_code
from tasks.dashboard.words import duration, path_of
from tasks.templatetags.dashboard import schema_type, ticks
from tests.work import calls_of


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0 ms"),
        (0.0404, "40 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (245, "4 m 05 s"),
        (7800, "2 h 10 m"),
        (200_000, "2 d 7 h"),
    ],
)
def test_a_duration_is_as_short_as_it_stays_clear(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


VALUES: list[Any] = [
    None,
    "é\u2028<&>",
    [],
    {},
    {"a": [1, 2.5, None, True], "b": {"c": "x" * 200}},
    [{"id": str(number), "inputs": {"n": number}} for number in range(50)],
    {"k" * 120: {"deep": [[[["x" * 90]]]]}},
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("width", [20, 96])
def test_what_is_written_is_the_same_json(value: Any, width: int) -> None:
    assert orjson.loads(format_json(value, width=width)) == value
    assert orjson.loads(on_one_line(value)) == value


def test_only_the_beginning_of_a_large_value_is_written() -> None:
    """A page shows 20,000 characters of a result that may have a megabyte: wide, or deep."""
    wide, wider = list(range(20_000)), list(range(200_000))
    assert calls_of(lambda: pretty(wider)) <= calls_of(lambda: pretty(wide)) + 10
    assert pretty(wider).endswith("The rest is left out. Use tasks.get to read all.")

    def nested(levels: int) -> Any:
        value: Any = list(range(1000))
        for _ in range(levels):
            value = {"a": value}
        return value

    assert calls_of(lambda: pretty(nested(60))) < 3 * calls_of(lambda: pretty(nested(30)))


def test_what_is_short_stays_on_one_line() -> None:
    assert format_json({"a": 1, "b": [1, 2]}) == '{"a": 1, "b": [1, 2]}'
    assert format_json({"a": "x" * 30, "b": [1, 2]}, width=30).splitlines() == [
        "{",
        f'  "a": "{"x" * 30}",',
        '  "b": [1, 2]',
        "}",
    ]


def test_what_is_very_long_is_cut_and_says_so() -> None:
    text = pretty("x" * 30_000)
    assert len(text) < 21_000
    assert text.endswith("… The rest is left out. Use tasks.get to read all.")


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "plain"),
        ("say `a<b` and `c`", "say <code>a&lt;b</code> and <code>c</code>"),
        ("one ` alone <i>", "one ` alone &lt;i&gt;"),
    ],
)
def test_marked_names_are_code_and_all_is_escaped(text: str, html: str) -> None:
    assert ticks(text) == html


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["string", "null"]}, "string or null"),
        ({"type": "array", "items": {"type": "number"}}, "list of number"),
        ({"enum": ["a", 1]}, '"a" | 1'),
        ({}, "any"),
        (True, "any"),
    ],
)
def test_a_schema_in_few_words(schema: Any, words: str) -> None:
    assert schema_type(schema) == words


def test_the_page_of_a_task_is_found_whatever_its_id_holds() -> None:
    assert path_of("a/b?c#d%2F'\n") == "/ui/tasks/a%2Fb%3Fc%23d%252F%27%0A"


ODD = 'it\'s "x"; rm -rf /'
SHELL_ODD = "'it'\"'\"'s \"x\"; rm -rf /'"


def code_of(*, of_copy: bool = False, with_token: bool = False) -> dict[str, str]:
    return as_code(ODD, base_url="http://localhost:8000", of_copy=of_copy, with_token=with_token)


def sent(code: dict[str, str]) -> Any:
    """The parameters that curl sends."""
    return orjson.loads(shlex.split(code["curl"].replace("\\\n", ""))[-1])["params"]


def test_code_quotes_the_id_for_each_language() -> None:
    code = code_of()
    assert sent(code) == {"task_id": ODD}
    assert f"run {SHELL_ODD} --watch" in code["CLI"]
    assert 'task_id="it\'s \\"x\\"; rm -rf /"' in code["Python"]
    assert '{"task_id":"it\'s \\"x\\"; rm -rf /"}' in code["JavaScript"]
    compile(code["Python"], "code", "exec")
    assert not any("TOKEN" in text for text in code.values())


def test_code_runs_a_copy_of_what_has_completed() -> None:
    code = code_of(of_copy=True)
    assert sent(code) == {"task_id": ODD, "copy_execution": True, "copy_children": True}
    assert f"copy {SHELL_ODD} --mode full" in code["CLI"]
    assert "copy_execution=True, copy_children=True" in code["Python"]
    assert '"copy_execution":true,"copy_children":true' in code["JavaScript"]


@pytest.mark.parametrize("of_copy", [False, True])
def test_code_for_a_server_that_asks_who_is_there_has_a_token(of_copy: bool) -> None:
    code = code_of(of_copy=of_copy, with_token=True)
    assert "Authorization: Bearer $TOKEN" in shlex.split(code["curl"].replace("\\\n", ""))
    assert all('--token "$TOKEN"' in line for line in code["CLI"].splitlines())
    assert 'token=os.environ["TOKEN"]' in code["Python"]
    assert "Bearer ${process.env.TOKEN}" in code["JavaScript"]
    compile(code["Python"], "code", "exec")
