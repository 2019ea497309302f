"""Write aipartnerupflow/client/types.py from the types of the methods' results.

    python scripts/client_types.py [--check]

`--check` writes nothing. The exit code is 1 if the file is not what the methods declare.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from inspect import getdoc
from keyword import iskeyword
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import django
from msgspec import NODEFAULT, Struct, UnsetType
from msgspec.structs import FieldInfo, fields

ROOT: Final = Path(__file__).resolve().parents[1]
FILE: Final = ROOT / "aipartnerupflow/client/types.py"
HEAD: Final = '''\
"""Types of the server's replies. `make reference` writes them.

The values are plain dicts, so fields of a newer server are present too.
"""

from typing import Any, Literal, NotRequired, TypedDict

Json = dict[str, Any]
Status = Literal["pending", "in_progress", "completed", "failed", "cancelled", "skipped"]
RunStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled"]
'''
AS_JSON: Final = {"NewTask"}
"""Types that a client gets as plain JSON: what it may send again."""
OF_SERVER: Final = {"Check", "Health", "Executor", "Examples"}
"""Results of methods that the client does not have."""


def types_of(answers: list[Any]) -> str:
    """Return the module with a type for each struct in the answers."""
    seen: set[Any] = set()
    return "\n\n".join([HEAD, *(_class(kind) for answer in answers for kind in _structs(answer, seen))])


def _structs(kind: Any, seen: set[Any]) -> Iterator[type[Struct]]:
    """Yield the structs in a type that were not seen before: those of which one is made come first."""
    if not isinstance(kind, type) or not issubclass(kind, Struct):
        for part in get_args(kind):
            yield from _structs(part, seen)
    elif kind not in seen and kind.__name__ not in AS_JSON | OF_SERVER and not _is_base(kind):
        seen.add(kind)
        for part in [kind.__base__, *(field.type for field in fields(kind))]:
            yield from _structs(part, seen)
        yield kind


def _is_base(kind: type) -> bool:
    return kind is Struct or not getattr(kind, "__struct_fields__", ())


def _class(kind: type[Struct]) -> str:
    base = kind.__base__
    own = [field for field in fields(kind) if _is_base(base) or field.name not in base.__struct_fields__]
    if any(iskeyword(field.encode_name) or not field.encode_name.isidentifier() for field in own):
        members = ", ".join(f'"{field.encode_name}": {_hint(field)}' for field in own)
        return f'{kind.__name__} = TypedDict("{kind.__name__}", {{{members}}})\n"""{_doc(kind)}"""\n'
    lines = [f"class {kind.__name__}({'TypedDict' if _is_base(base) else base.__name__}):", f'    """{_doc(kind)}"""']
    return (
        "\n".join([*lines, "", *(f"    {field.encode_name}: {_hint(field)}" for field in own)]).replace(
            f"[{kind.__name__}]", f'["{kind.__name__}"]'
        )
        + "\n"
    )


def _doc(kind: type[Struct]) -> str:
    text = (getdoc(kind) or "").replace("null", "None").replace("\n", "\n    ").replace("\n    \n", "\n\n")
    return f"{text}\n    " if "\n" in text else text


def _hint(field: FieldInfo) -> str:
    shown = _shown(field.type)
    return shown if field.default is NODEFAULT and field.default_factory is NODEFAULT else f"NotRequired[{shown}]"


def _shown(kind: Any) -> str:
    """Return the annotation of a value of this type."""
    if get_origin(kind) is Annotated:
        return _shown(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(dict.fromkeys(_shown(part) for part in get_args(kind) if part is not UnsetType))
    if get_origin(kind) is Literal:
        return _named(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _named(tuple(member.value for member in kind))
    if get_origin(kind) is list:
        return f"list[{_shown(get_args(kind)[0])}]"
    if get_origin(kind) is dict:
        key, value = map(_shown, get_args(kind))
        return "Json" if (key, value) == ("str", "Any") else f"dict[{key}, {value}]"
    if kind in (Any, NoneType):
        return {Any: "Any", NoneType: "None"}[kind]
    return "Json" if kind.__name__ in AS_JSON else str(kind.__name__)


def _named(values: tuple[Any, ...]) -> str:
    """Return the choice of values, by its name if it has one."""
    shown = (f'"{value}"' if isinstance(value, str) else str(value) for value in values)
    text = f"Literal[{', '.join(shown)}]"
    return next((line.partition(" = ")[0] for line in HEAD.splitlines() if line.endswith(f" = {text}")), text)


def _answers() -> Iterator[Any]:
    methods = import_module("a2a.methods")
    for method in [*methods.METHODS.values(), *methods.SYSTEM_METHODS.values()]:
        yield method.answer
    yield import_module("a2a.methods.responses").Event


def main() -> int:
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(AIPARTNERUPFLOW_DATA_DIR=folder, DJANGO_SETTINGS_MODULE="apflow_site.settings")
        django.setup()
        command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(FILE), "-"]
        types = types_of(list(_answers()))
        text = subprocess.run(command, input=types, capture_output=True, text=True, check=True).stdout
    if "--check" in sys.argv:
        return int(FILE.read_text() != text)
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
