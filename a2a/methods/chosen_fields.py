"""`fields` of lists: the names of the fields that a client wants of each item. All others are left out."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import fields

from a2a.core.conditions import Problem
from a2a.core.parsing import MOST_SHOWN, Texts, texts, unknown_reason
from tasks.rules.strict_json import Json


def names_of(kind: type[Struct]) -> list[str]:
    """Return the names of the fields of an item."""
    return [each.encode_name for each in fields(kind)]


def one_of(kind: type[Struct]) -> Json:
    """Return the JSON Schema of the name of a field."""
    return {"enum": names_of(kind)}


def several_of(kind: type[Struct]) -> Json:
    """Return the JSON Schema of names with commas between them."""
    name = f"({'|'.join(names_of(kind))})"
    return {"pattern": f"^{name}(,{name})*$"}


def chosen(given: Texts | None) -> list[str] | None:
    """Return the names, each once. None: all fields."""
    return None if given is None else list(dict.fromkeys(texts(given)))


def problems(given: Texts | None, kind: type[Struct]) -> list[Problem]:
    """Return a problem for each unknown name, or for a list without any."""
    names = chosen(given)
    if names is None:
        return []
    if not names:
        return [("fields", "names no field: omit it to get all")]
    known = names_of(kind)
    unknown = [name[:MOST_SHOWN] for name in names if name not in known][:MOST_SHOWN]
    return [("fields", f"'{name}': {_reason(name, known)}") for name in unknown]


def _reason(name: str, known: Sequence[str]) -> str:
    return unknown_reason(name, known).replace("unknown parameter", "unknown field", 1)


def picked(item: Json, names: Sequence[str] | None) -> Json:
    """Return the item with these fields only; without those that it does not have."""
    return item if names is None else {name: item[name] for name in names if name in item}
