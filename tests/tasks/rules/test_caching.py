"""`params.cache`: what it may be, what of the inputs tells calls apart, and the version of code."""

import sys
from pathlib import Path
from typing import Any

import pytest

from aipartnerupflow import __version__
from aipartnerupflow.executors import ExecutorError
from tasks.executors import get_executor
from tasks.executors.caching import _digest_of, version_of
from tasks.rules.caching import CacheSettings, NothingThere, cache_of, digest_of, parts_at, problems, seconds_of


def test_durations() -> None:
    table: dict[Any, int | None] = {
        "90s": 90,
        "15m": 900,
        "1h": 3_600,
        "366d": 366 * 86_400,
        "367d": None,
        "0s": None,
        "01s": None,
        "1.5h": None,
        "1w": None,
        "1 h": None,
        "": None,
        "٣s": None,
        3600: None,
        None: None,
    }
    assert {given: seconds_of(given) for given in table} == table


def test_what_is_wrong_is_named() -> None:
    table: list[tuple[Any, list[str]]] = [
        ("1h", []),
        ({"for": "1h", "key": ["inputs.a.b.0"], "scope": "shared", "refresh": True}, []),
        ({"for": "1h", "key": None}, []),
        ("soon", ["c"]),
        (True, ["c"]),
        ([], ["c"]),
        ({}, ["c.for"]),
        ({"for": 60}, ["c.for"]),
        ({"for": "1h", "scope": "all"}, ["c.scope"]),
        ({"for": "1h", "refresh": 1}, ["c.refresh"]),
        ({"for": "1h", "ttl": 1}, ["c.ttl"]),
        *(({"for": "1h", "key": key}, ["c.key"]) for key in ("inputs.a", [], ["prompt"], ["inputs"], ["inputs..a"])),
        *(({"for": "1h", "key": key}, ["c.key"]) for key in ([1], ["inputs.a"] * 21, ["inputs." + "a" * 250])),
    ]
    assert [(given, [place for place, _ in problems(given, "c")]) for given, _ in table] == table


def test_settings_are_read() -> None:
    assert cache_of(None) is None
    assert cache_of({"cache": None}) is None
    own = CacheSettings(seconds=3_600, key=None, is_shared=False, refreshes=False)
    assert cache_of({"cache": "1h"}) == own
    given = {"for": "1m", "key": ["inputs.a"], "scope": "shared", "refresh": True}
    assert cache_of({"cache": given}) == CacheSettings(seconds=60, key=("inputs.a",), is_shared=True, refreshes=True)


def test_parts_of_inputs() -> None:
    inputs = {"a": {"b": [1, {"c": None}]}, "d": "text"}
    assert parts_at(["inputs.a.b.1.c", "inputs.d"], inputs) == {"inputs.a.b.1.c": None, "inputs.d": "text"}
    for path in ("inputs.e", "inputs.a.b.2", "inputs.a.b.x", "inputs.d.0", "inputs.a.b.-1"):
        with pytest.raises(NothingThere, match=f"nothing at '{path}'"):
            parts_at([path], inputs)


def test_digests_tell_values_apart_and_not_the_order_of_names() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    values: list[Any] = [1, 1.5, "1", True, None, [1], [[1]], {"1": 1}, {}, []]
    assert len(set(map(digest_of, values))) == len(values)


def test_versions_are_those_of_the_server_or_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert version_of(get_executor("llm_executor"), {}) == __version__
    (tmp_path / "plugin_of_test_caching.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("plugin_of_test_caching")
    first = _digest_of("plugin_of_test_caching")
    _digest_of.cache_clear()
    (tmp_path / "plugin_of_test_caching.py").write_text("x = 2\n")
    assert _digest_of("plugin_of_test_caching") != first
    _digest_of.cache_clear()
    (tmp_path / "plugin_of_test_caching.py").unlink()
    with pytest.raises(ExecutorError, match="the version of the module 'plugin_of_test_caching' is not known"):
        _digest_of("plugin_of_test_caching")
    del sys.modules["plugin_of_test_caching"]
