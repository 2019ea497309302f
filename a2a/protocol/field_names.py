"""Both names of each field: the JSON of Protocol Buffers is written in camel case, and its parsers also accept the original names."""

from typing import Any, Final

from tasks.rules.strict_json import Json

OF_CLIENTS: Final = frozenset({"data", "metadata"})
"""Fields whose contents belong to the client."""


def in_camel_case(params: Any) -> Any:
    """Return parameters of A2A with `taskId` for `task_id`, and so on. A name that is there in both forms keeps its camel case value."""
    if isinstance(params, dict):
        return _renamed(params)
    if isinstance(params, list):
        return [in_camel_case(item) for item in params]
    return params


def _renamed(fields: Json) -> Json:
    named: Json = {}
    for name, value in fields.items():
        camel = _camel(name)
        if camel == name or camel not in fields:
            named[camel] = value if name in OF_CLIENTS else in_camel_case(value)
    return named


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest) if first and rest else name
