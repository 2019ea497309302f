"""Reads YAML as what JSON can say: texts, numbers, true, false, null, lists, and objects with texts as keys.

By the core schema of YAML 1.2: `yes`, `on`, `12:30` and `2026-11-26` are texts.
"""

import re
from collections.abc import Hashable
from typing import Any, ClassVar, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

MOST_VALUES: Final = 1_000_000
"""A file with aliases may stand for far more than it has."""
NULL: Final = re.compile("~|null|Null|NULL|")
BOOLEAN: Final = re.compile("true|True|TRUE|false|False|FALSE")
INTEGER: Final = re.compile("[-+]?(0|[1-9][0-9]*)")
NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
PREFIX: Final = "tag:yaml.org,2002:"


class NotYaml(ValueError):
    """The text is not YAML, or says more than JSON can. The message says where."""

    def __init__(self, problem: str, node: Node | None = None) -> None:
        super().__init__(f"line {node.start_mark.line + 1}: {problem}" if node else problem)


class _Loader(yaml.SafeLoader):
    """The safe loader, by the core schema of YAML 1.2, without keys that are no texts or appear twice."""

    yaml_implicit_resolvers: ClassVar[dict[str | None, list[Any]]] = {  # type: ignore[misc]  # a class variable there too
        None: [
            (f"{PREFIX}{name}", re.compile(f"^(?:{rule.pattern})$"))
            for name, rule in (("null", NULL), ("bool", BOOLEAN), ("int", INTEGER), ("float", NUMBER))
        ]
    }

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode) or key.tag != f"{PREFIX}str":
                raise NotYaml("this key is no text; put it in quotes", key)
            if key.value in seen:
                raise NotYaml(f"the key '{key.value}' appears twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _refused(loader: _Loader, node: Node) -> Any:
    raise NotYaml(f"a value of the type {node.tag.removeprefix(PREFIX)} has no place in JSON; write it as a text", node)


for _kind in ("timestamp", "binary", "set", "omap", "pairs"):
    _Loader.add_constructor(f"{PREFIX}{_kind}", _refused)


def read_yaml(content: bytes) -> Any:
    """Return the value of the only document. Raises NotYaml."""
    try:
        value = _Loader(content).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise NotYaml(f"{place}{error.problem or error.context or 'this is not YAML'}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise NotYaml(str(error).splitlines()[0]) from None
    except RecursionError:
        raise NotYaml("it is nested too deep") from None
    # Aliases may make a value that contains itself, or one that is too large.
    try:
        if _Sizes().of(value) > MOST_VALUES:
            raise NotYaml(f"its aliases stand for more than {MOST_VALUES:,} values")
    except RecursionError:
        raise NotYaml("it is nested too deep") from None
    return value


class _Sizes:
    """Counts the values that JSON would have, each alias as often as it is used."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def of(self, value: Any) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) in self._open:
            raise NotYaml("an alias stands for a value that contains it")
        if id(value) not in self._known:
            self._open.add(id(value))
            parts = value.values() if isinstance(value, dict) else value
            self._known[id(value)] = 1 + sum(map(self.of, parts))
            self._open.discard(id(value))
        return self._known[id(value)]
