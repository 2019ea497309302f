"""What Python 3.11 refuses, and later versions accept. `make release-check` starts the server with each version."""

import ast
from collections.abc import Iterator
from typing import Final

import pytest

from tests.servers import ROOT

FOLDERS: Final = ("a2a", "accounts", "aipartnerupflow", "apflow_site", "llmkeys", "tasks")
PROXY: Final = "MappingProxyType("
MODULES: Final = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def names_of_proxies(tree: ast.Module) -> set[str]:
    """The constants of a module that are a MappingProxyType."""
    assigned = [(node.targets[0], node.value) for node in tree.body if isinstance(node, ast.Assign)]
    assigned += [(node.target, node.value) for node in tree.body if isinstance(node, ast.AnnAssign) and node.value]
    return {target.id for target, value in assigned if isinstance(target, ast.Name) and PROXY in ast.unparse(value)}


def refused_defaults(source: str) -> Iterator[str]:
    """The fields of dataclasses whose default is a MappingProxyType: Python 3.11 cannot hash it, and takes it for mutable."""
    tree = ast.parse(source)
    names = names_of_proxies(tree)
    for found in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        if any("dataclass" in ast.unparse(mark) for mark in found.decorator_list):
            for field in found.body:
                if isinstance(field, ast.AnnAssign) and field.value and is_refused(field.value, names):
                    yield f"{found.name}.{ast.unparse(field.target)}"


def is_refused(default: ast.expr, names: set[str]) -> bool:
    text = ast.unparse(default)
    used = {node.id for node in ast.walk(default) if isinstance(node, ast.Name)}
    return "default_factory" not in text and (PROXY in text or bool(used & names))


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        ("MappingProxyType({})", True),
        ("NOTHING", True),
        ("field(default=NOTHING, repr=False)", True),
        ("field(default_factory=lambda: NOTHING)", False),
        ("None", False),
    ],
)
def test_a_refused_default_is_found(default: str, expected: bool) -> None:
    source = f"NOTHING = MappingProxyType({{}})\n@dataclass(frozen=True)\nclass Some:\n    headers: dict = {default}\n"
    assert bool(list(refused_defaults(source))) == expected


def test_no_dataclass_has_a_default_that_python_3_11_refuses() -> None:
    found = {str(path.relative_to(ROOT)): list(refused_defaults(path.read_text())) for path in MODULES}
    assert {file: fields for file, fields in found.items() if fields} == {}
