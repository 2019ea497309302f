"""Reads the configuration file: strict YAML, of limited size."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml

MAX_BYTES: Final = 2**20
#: PyYAML raises its own errors for bad YAML, and Python's for a value that does not fit its tag.
YAML_ERRORS: Final = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)


class DuplicateKey(Exception):
    """A mapping has a key twice."""


class UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, but a repeated key is an error; PyYAML takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise DuplicateKey(
                    f"the key {key.value!r} appears twice; the second is in line {key.start_mark.line + 1}"
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def read_file(path: str) -> dict[Any, Any]:
    """Return the mapping in the file, empty for an empty file. Raises ValueError with the reason, which never quotes a value."""
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"the file is larger than {MAX_BYTES} bytes")
    found = parse(content)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError("the file must be a mapping of sections, such as 'server:', to their keys")
    return found


def parse(content: bytes) -> Any:
    try:
        return UniqueKeyLoader(content).get_single_data()
    except DuplicateKey as error:
        raise ValueError(str(error)) from error
    except YAML_ERRORS as error:
        # Not chained: PyYAML quotes the text, which may be a secret.
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"the file is not valid YAML{place}; put text with special characters in quotes") from None
