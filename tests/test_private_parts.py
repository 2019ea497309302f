"""The page on private parts of libraries names all of them, and for each a test that exists."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tests.servers import ROOT

PAGE: Final = "docs/contributing/private-parts.md"
ROOMS: Final = ("aipartnerupflow", "apflow_site", "a2a", "tasks", "accounts", "llmkeys")
ROW: Final = re.compile(r"^\|[^|]+\|(?P<places>[^|]+)\|(?P<why>[^|]+)\|(?P<tests>[^|]+)\|$", re.MULTILINE)
CODE: Final = re.compile(r"`([^`]+)`")
MOST_PLACES: Final = 25
DOCUMENTED: Final = frozenset(
    {"_meta", "_asdict", "_replace", "_fields"}  # of Django's models, and of named tuples
    | {"os._exit", "sys._current_frames"}
    | {"os.environ", "connection.connection.autocommit"}
    | {f"litellm.{name}" for name in ("suppress_debug_info", "telemetry", "disable_streaming_logging")}
)
"""Names with an underscore that their library documents, and attributes of a library that are there to be set."""


@cache
def modules() -> dict[str, ast.Module]:
    """Our modules, by their dotted names."""
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py")) if "migrations" not in file.parts]
    return {name_of(file): ast.parse(file.read_text()) for file in files}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def rows() -> Iterator[tuple[list[str], list[str]]]:
    for row in list(ROW.finditer((ROOT / PAGE).read_text()))[2:]:  # after the head of the table
        yield CODE.findall(row["places"]), CODE.findall(row["tests"])


def names_of_our_own() -> set[str]:
    names = set[str]()
    for module in modules().values():
        for node in ast.walk(module):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    names.add(node.name)
                case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                    names.add(node.attr)
                case ast.Name(ctx=ast.Store()):
                    names.add(node.id)
    return names


def imported(module: ast.Module) -> set[str]:
    """The names of libraries, and of what is in them."""
    names = set[str]()
    for node in ast.walk(module):
        match node:
            case ast.Import():
                names |= {(each.asname or each.name).partition(".")[0] for each in node.names}
            case ast.ImportFrom(module=str(source)) if source.partition(".")[0] not in ROOMS:
                names |= {each.asname or each.name for each in node.names}
    return names - set(ROOMS)


def private_uses(module: ast.Module, own: set[str]) -> Iterator[str]:
    libraries = imported(module)
    for node in ast.walk(module):
        if not isinstance(node, ast.Attribute):
            continue
        text = ast.unparse(node)
        is_private = node.attr.startswith("_") and not node.attr.endswith("__")
        is_set = isinstance(node.ctx, ast.Store) and text.partition(".")[0] in libraries
        if ((is_private and node.attr not in own) or is_set) and not DOCUMENTED & {node.attr, text}:
            yield text


def test_each_private_part_is_in_a_module_that_the_page_names() -> None:
    named = {place.partition("::")[0] for places, _ in rows() for place in places}
    own = names_of_our_own()
    used = {name: found for name, module in modules().items() if (found := sorted(set(private_uses(module, own))))}
    assert not {name: found for name, found in used.items() if name not in named}, f"add them to {PAGE}, or remove them"


def test_each_place_exists_and_they_become_no_more() -> None:
    places = [place for places, _ in rows() for place in places]
    for place in places:
        name, _, item = place.partition("::")
        assert item in {getattr(node, "name", None) for node in modules()[name].body}, place
    assert 0 < len(places) <= MOST_PLACES


def test_each_place_has_a_test_that_exists() -> None:
    for places, tests in rows():
        assert tests, places
        for path, _, name in (each.partition("::") for each in tests):
            assert (ROOT / path).exists(), path
            assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"
