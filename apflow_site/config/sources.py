"""The sources of values: flags, the environment, a file, and defaults that depend on other values."""

import os
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any, Final, Self

import yaml
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from apflow_site.config.known import sections_in
from apflow_site.config.sections import Config
from apflow_site.config.values import Section, absolute
from apflow_site.databases import is_postgresql, sqlite_url

MAX_BYTES: Final = 2**20
#: PyYAML raises its own errors for bad YAML, and Python's for a value that does not fit its tag.
YAML_ERRORS: Final = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)
CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


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


Values = dict[str, Any]
"""Nested by section."""


class Source(PydanticBaseSettingsSource):
    """Given values. `place` returns the name of the variable, the flag or the file that a key's value comes from."""

    def __init__(self, values: Values, *, place: Callable[[str], str]) -> None:
        super().__init__(Config)
        self._values = values
        self.place = place

    @classmethod
    def of_texts(cls, texts: Mapping[str, str], *, keys: Mapping[str, str]) -> Self:
        """Return a source of environment variables or flags. `keys` has the key of each name; other names are ignored."""
        places = {key: name for name, key in keys.items() if name in texts}
        return cls(_nested({key: texts[name] for key, name in places.items()}), place=places.__getitem__)

    @classmethod
    def of_file(cls, path: str) -> Self:
        """Return a source of a YAML file. Raises ValueError with the reason when it cannot be read."""
        return cls(_without_empty_sections(read_file(path), Config), place=lambda _: path)

    def __call__(self) -> Values:
        return self._values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Abstract in the base class. Only sources that read field by field use it."""
        return None, field_name, False

    def gives(self, key: str) -> bool:
        *sections, name = key.split(".")
        return name in reduce(lambda values, section: values.get(section, {}), sections, self._values)

    def raw(self, key: str) -> Any:
        return reduce(lambda values, name: values[name], key.split("."), self._values)


class Computed(Source):
    """The defaults that depend on other values; the last of the sources."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__({}, place=lambda _: "default")
        self._environ = environ

    def __call__(self) -> Values:
        data_dir = self._given("server.data_dir") or self._data_dir()
        url = self._given("database.url") or sqlite_url(Path(absolute(data_dir), "aipartnerupflow.sqlite3"))
        # SQLite allows one writer at a time: more processes only wait longer for each other.
        processes = min(4, os.cpu_count() or 1) if is_postgresql(url) else 1
        found: Values = {"server.data_dir": data_dir, "database.url": url, "worker.processes": processes}
        return _nested(found | _pools(_number(self._given("worker.processes")) or processes))

    def _given(self, key: str) -> Any:
        """Return the value in the sources before this one."""
        section, _, name = key.partition(".")
        return self.current_state.get(section, {}).get(name)

    def _data_dir(self) -> str:
        shared = self._environ.get("XDG_DATA_HOME", "")
        # The XDG specification: ignore a relative path.
        folder = shared if Path(shared).is_absolute() else "~/.local/share"
        return f"{folder}/aipartnerupflow"


def _number(raw: Any) -> int:
    """Return a whole number from 1, as a number or a text; 0 for others, which are reported elsewhere."""
    return int(raw) if str(raw).isascii() and str(raw).isdigit() else 0


def _pools(processes: int) -> Values:
    """Return the defaults of pools for so many worker processes."""
    available_mb = memory_mb()
    return {
        "pools.process.size": min(32, max(2, available_mb // 512 // processes)),
        "pools.process.cpus": cpus(),
        "pools.process.memory_mb": max(64, available_mb // 2),
    }


def _nested(values: Mapping[str, Any]) -> Values:
    """Values by dotted key, nested by section."""
    nested: Values = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        reduce(lambda inner, section: inner.setdefault(section, {}), sections, nested)[name] = value
    return nested


def _without_empty_sections(content: Mapping[Any, Any], section: type[Section]) -> Values:
    """Return the content of a file. A section without keys is null in YAML, and left out."""
    inner = sections_in(section)
    values: Values = {}
    for name, value in content.items():
        if name not in inner:
            values[str(name)] = value
        elif value is not None:
            values[name] = _without_empty_sections(value, inner[name]) if isinstance(value, dict) else value
    return values


def memory_mb() -> int:
    """Return the memory of the machine, or that of its container if that is less, in MiB."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            found.append(int(Path(path).read_text()))
    return max(1, min(found) // 2**20)


def cpus() -> int:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
