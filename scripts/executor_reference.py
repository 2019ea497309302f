"""Write docs/reference/executors.md from what the executors declare.

    python scripts/executor_reference.py [--check]

`--check` writes nothing. The exit code is 1 if the page is not what the executors declare.
"""

import json
import os
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import django

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs/reference/executors.md"
HEAD: Final = """\
# Executors

The executors that come with the server: their inputs, their results, and an example of each. The
method `system.executors`, the forms of the dashboard and the agent card have the same. This page is
generated from the code.

- Inputs are optional unless they are marked as required. Every input may contain
  [places](../how-to/pass-results.md), which stand for results of dependencies.
- Options that all executors share, such as `retry`, `timeout_seconds` and `pool`, are
  [params](tasks.md).
- After a crash of the worker, a task that is safe to repeat runs again. Any other runs again if its
  work had not begun; else [`params.on_interrupt`](tasks.md#after-a-crash) decides.
- Your own executors are described in [Write an executor](../how-to/write-an-executor.md).
"""
TABLE: Final = "|---|---|---|"
BOUNDS: Final = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}
TRIVIAL: Final = {("minLength", 1), ("minItems", 1)}
"""Bounds that only exclude what is empty."""


def page(executors: Iterable[Mapping[str, Any]], *, off: Mapping[str, str]) -> str:
    """Return the page about these executors. `off` maps those that are off by default to the setting that enables them."""
    sections = ("\n".join(_section(each, off.get(each["id"]))) + "\n" for each in executors)
    return _wrapped("\n".join([HEAD, *sections]))


def _section(executor: Mapping[str, Any], setting: str | None) -> Iterator[str]:
    yield f"## {executor['id']}\n"
    yield f"{executor['description']}\n"
    yield from (f"- {fact}" for fact in _facts(executor, setting))
    yield ""
    yield from _table("input", executor["input_schema"], is_marked=True)
    yield from _table("result", executor["result_schema"], is_marked=False)
    yield "```json"
    yield json.dumps({"name": executor["id"], "inputs": executor["example"]}, indent=2, ensure_ascii=False)
    yield "```\n"
    yield "The result:\n"
    yield "```json"
    yield json.dumps(executor["example_result"], indent=2, ensure_ascii=False)
    yield "```"


def _facts(executor: Mapping[str, Any], setting: str | None) -> Iterator[str]:
    if setting is not None:
        yield f"Off by default. This setting enables it: `{setting}`."
    if executor["extra"] is not None:
        yield f"Needs the [extra](../how-to/deploy.md#install) `{executor['extra']}`."
    yield f"After a crash: {'safe to repeat' if executor['idempotent'] else 'not repeated'}."
    if executor["pool"] != "loop":
        yield f"Runs in the [pool](../how-to/pools.md) `{executor['pool']}`."
    if not executor["cancelable"]:
        yield "A cancel does not stop it; its result is discarded."


def _table(head: str, schema: Mapping[str, Any], *, is_marked: bool) -> Iterator[str]:
    properties = schema.get("properties", {})
    if not properties:
        return
    yield f"| {head} | type | meaning |"
    yield TABLE
    required = schema.get("required", ())
    for name, rules in sorted(properties.items(), key=lambda each: each[0] not in required):
        marked = "Required. " if is_marked and name in required else ""
        yield f"| `{name}` | {_type(rules)} | {_cell(marked + _meaning(rules))} |"
    yield ""


def _type(rules: Mapping[str, Any]) -> str:
    if "enum" in rules:
        return " or ".join(f"`{value}`" for value in rules["enum"])
    if "anyOf" in rules:
        return " or ".join(dict.fromkeys(_type(each) for each in rules["anyOf"]))
    kind = rules.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array" and (items := _type(rules.get("items", {}))) != "any":
        return f"array of {items}"
    return str(kind)


def _meaning(rules: Mapping[str, Any]) -> str:
    text = str(rules.get("description", ""))
    inner = ", ".join(f"`{name}`" for name in rules.get("properties", ()))
    bounds = [
        words.format(f"{rules[name]:,}")
        for name, words in BOUNDS.items()
        if name in rules and (name, rules[name]) not in TRIVIAL
    ]
    default = [f"default `{json.dumps(rules['default'])}`"] if rules.get("default") not in (None, {}, []) else []
    facts = ", ".join([*bounds, *default])
    parts = [text, inner and f"Fields: {inner}", facts and facts[0].upper() + facts[1:]]
    return " ".join(part.rstrip(".") + "." for part in parts if part)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _wrapped(text: str) -> str:
    """Return the text with its prose in lines of at most 100 columns."""
    is_prose, lines = True, []
    for line in text.split("\n"):
        is_prose ^= line.startswith("```")
        if len(line) > 100 and is_prose and line[0] != "|":
            indent = "  " if line.startswith("- ") else ""
            lines += textwrap.wrap(line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        else:
            lines.append(line)
    return "\n".join(lines)


def main() -> int:
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(AIPARTNERUPFLOW_DATA_DIR=folder, DJANGO_SETTINGS_MODULE="apflow_site.settings")
        django.setup()
        executors = import_module("tasks.executors")
        described = [executors.describe(name) for name in sorted(executors.EXECUTORS)]
        text = page(described, off=executors.disabled_executors())
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        sys.stderr.write("docs/reference/executors.md is not what the executors declare. Run `make reference`.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
