"""Values of functions as JSON, by their type hints: dataclasses, msgspec Structs, Pydantic models, dates, and all that msgspec converts.

A value that a workflow passes on is what the stored JSON says, in the first run and in every replay.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, cast, get_type_hints
from uuid import uuid4

import msgspec
import orjson

from aipartnerupflow.executors import File, Json
from aipartnerupflow.executors.files import FILE_SCHEMA

REFS: Final = "#/$defs/{name}"
MANY_BITS: Final = "Integer exceeds 64-bit range"


class Secret:
    """A named secret as an argument of a call. Only the name is stored, and only the step, or the executor, gets the value."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"secret({self.name!r})"

    def __str__(self) -> str:
        raise TypeError(f"{self!r} has no text in a workflow: pass it, whole, as an argument of a step or an executor.")


def encoded(value: Any) -> Any:
    """Return the value as JSON. Raises TypeError with the reason if it is none."""
    return encoded_with_secrets(value, allowed=False)[0]


def encoded_with_secrets(value: Any, *, allowed: bool = True) -> tuple[Any, dict[str, str]]:
    """Return the value as JSON, with None for each secret, and the names of the secrets by JSON Pointer. Raises TypeError."""
    found: dict[str, str] = {}

    def custom(value: Any) -> Any:
        if isinstance(value, Secret) and allowed:
            token = uuid4().hex
            found[token] = value.name
            return token
        if _is_model(type(value)):
            return value.model_dump(mode="json")
        if isinstance(value, File):
            if value.value is None:
                raise TypeError(
                    f"{value!r} is not saved: a step on a server saves one that it returns, alone or in a list or a dict"
                )
            return value.value
        raise TypeError(f"a value of type {type(value).__qualname__} is no JSON")

    try:
        plain = msgspec.to_builtins(value, enc_hook=custom, str_keys=True)
        text = orjson.dumps(plain)
    except (TypeError, ValueError, RecursionError) as error:
        reason = "an integer has more than 64 bits" if str(error) == MANY_BITS else str(error)
        raise TypeError(reason) from None
    if b"null" in text and not _is_finite(plain):
        raise TypeError("NaN and infinity are no JSON")
    if not found:
        return plain, {}
    secrets: dict[str, str] = {}
    return _without(plain, found, "", secrets), secrets


def _without(value: Any, tokens: Mapping[str, str], pointer: str, secrets: dict[str, str]) -> Any:
    if isinstance(value, str) and value in tokens:
        secrets[pointer] = tokens[value]
        return None
    if isinstance(value, dict):
        return {name: _without(each, tokens, f"{pointer}/{_escaped(name)}", secrets) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without(each, tokens, f"{pointer}/{number}", secrets) for number, each in enumerate(value)]
    return value


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def with_secrets(inputs: Any, secrets: Mapping[str, str]) -> Any:
    """Return the inputs with a value at each of these JSON Pointers."""
    inputs = orjson.loads(orjson.dumps(inputs))
    for pointer, value in secrets.items():
        *way, last = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
        place = inputs
        for part in way:
            place = place[int(part) if isinstance(place, list) else part]
        place[int(last) if isinstance(place, list) else last] = value
    return inputs


def literal(value: Any) -> Any:
    """Return the JSON value with four braces for each two that open: the server takes none of its texts for a place."""
    if isinstance(value, str):
        return value.replace("{{", "{{{{")
    if isinstance(value, dict):
        return {name: literal(each) for name, each in value.items()}
    return [literal(each) for each in value] if isinstance(value, list | tuple) else value


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return value - value == 0.0
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))


def decoded(value: Any, kind: Any) -> Any:
    """Return the value of this type that the JSON says. Raises ValueError with the reason."""
    if kind is Any or kind is None:
        return value
    try:
        return msgspec.convert(value, kind, dec_hook=_model_of)
    except (msgspec.ValidationError, TypeError) as error:
        raise ValueError(str(error)) from None


def _model_of(kind: Any, value: Any) -> Any:
    if _is_model(kind):
        return kind.model_validate(value)
    if kind is File:
        return value if isinstance(value, File) else File.of(value)
    if kind is object:
        return value
    raise TypeError(f"{kind} has no JSON form")


def _is_model(kind: Any) -> bool:
    """Return whether it is a Pydantic model. There are none before Pydantic is imported."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def schema_of(kind: Any) -> Json:
    """Return the JSON Schema (2020-12) of a type. Raises TypeError if it has none."""
    (schema,), defs = _components([kind])
    return schema | ({"$defs": defs} if defs else {})


def inlined(schema: Json) -> Json:
    """Return the schema with each reference replaced by what it refers to. One that refers to itself stays as it is."""
    defs: Json = schema.get("$defs", {})

    def of(value: Any, within: frozenset[str]) -> Any:
        if isinstance(value, list):
            return [of(each, within) for each in value]
        if not isinstance(value, dict):
            return value
        if not isinstance(reference := value.get("$ref"), str):
            return {name: of(each, within) for name, each in value.items() if name != "$defs"}
        name = reference.rpartition("/")[2]
        if name in within:
            raise RecursionError
        return of(defs[name] | {key: each for key, each in value.items() if key != "$ref"}, within | {name})

    try:
        whole: Json = of(schema, frozenset())
    except RecursionError:
        return schema
    return whole


def _components(kinds: list[Any]) -> tuple[tuple[Json, ...], Json]:
    inner: Json = {}

    def custom(kind: Any) -> Json:
        if kind is object:
            return {"title": "Any"}
        if kind is File:
            return FILE_SCHEMA
        if not _is_model(kind):
            raise TypeError(f"{kind} has no JSON Schema")
        schema: Json = kind.model_json_schema(ref_template=REFS.format(name="{model}"))
        inner.update(schema.pop("$defs", {}))
        return schema

    schemas, defs = msgspec.json.schema_components(kinds, schema_hook=custom, ref_template=REFS)
    return schemas, defs | inner


def arguments_schema(function: Callable[..., Any]) -> Json:
    """Return the JSON Schema of the keyword arguments of a function, made of its signature and type hints.

    A parameter without a hint, or with one that is no JSON type, takes any value.
    """
    parameters = inspect.signature(function).parameters.values()
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a name that exists only for the type checker
        hints = {}
    properties, defs = dict[str, Any](), dict[str, Any]()
    for each in named:
        try:
            (schema,), more = _components([hints.get(each.name, Any)])
        except TypeError:
            schema, more = {}, {}
        if each.default is not each.empty:
            with suppress(TypeError):
                schema = schema | {"default": encoded(each.default)}
        properties[each.name] = schema
        defs |= more
    of_all: Json = {
        "type": "object",
        "properties": properties,
        "required": [each.name for each in named if each.default is each.empty],
        "additionalProperties": any(each.kind is each.VAR_KEYWORD for each in parameters),
    }
    return of_all | ({"$defs": defs} if defs else {})


def secret(name: str) -> str:
    """Return a named secret, to be passed as an argument of a step or an executor: `fetch(url, token=secret("crm"))`.

    The workflow has no value of it, so that none is stored.
    """
    return cast(str, Secret(name))
