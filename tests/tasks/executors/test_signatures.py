"""What a model knows of a function: its docstring, and the schema of its arguments by their type hints."""

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import pytest
from django.core.exceptions import ImproperlyConfigured

from aipartnerupflow.executors import python_function
from tasks.executors.llm.tools import description_of, schema_of
from tasks.executors.plugins import plugins
from tests.tasks.executors.conftest import InstallModule


@dataclass
class Point:
    x: float
    y: float = 0.0


class Named(TypedDict):
    name: str


def test_type_hints_become_a_schema() -> None:
    def draw(point: Point, who: Named, *, color: Literal["red", "blue"] = "red", note: str | None = None) -> None:
        """Draw a point."""

    schema = schema_of(draw)
    assert description_of(draw) == "Draw a point."
    assert schema["required"] == ["point", "who"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["point"] == {"$ref": "#/$defs/Point"}
    assert schema["$defs"]["Point"]["required"] == ["x"]
    assert schema["properties"]["color"] == {"enum": ["blue", "red"], "default": "red"}
    assert schema["properties"]["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}


def test_what_no_hint_describes_takes_any_value() -> None:
    def odd(a, b: "Unknown", c: complex = 1j, *args: Any, **more: Any) -> None:  # type: ignore[no-untyped-def,name-defined]  # noqa: F821
        pass

    assert description_of(odd) == "odd"
    assert schema_of(odd)["properties"] == {"a": {}, "b": {}, "c": {}}
    assert schema_of(odd)["additionalProperties"] is True


def test_a_schema_may_be_given() -> None:
    given = {"type": "object", "properties": {"n": {"maximum": 3}}}

    @python_function(schema=given)
    def f(n: int) -> int:
        return n

    assert (schema_of(f), f(4)) == (given, 4)


def test_a_schema_that_is_none_stops_the_start(install_module: InstallModule) -> None:
    source = "from aipartnerupflow.executors import python_function\n@python_function(schema={'type': 'no'})\ndef f(): pass\n"
    install_module("functions_with_a_wrong_schema", source)
    with pytest.raises(ImproperlyConfigured, match=r"f: its schema is not a valid JSON Schema"):
        plugins()
