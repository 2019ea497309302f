"""Requests that nobody would send: valid ones for every method, made from the tables of methods, and then spoilt."""

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from hypothesis import strategies as st
from msgspec import inspect

from a2a.core.parsing import Params
from a2a.methods import METHODS, SYSTEM_METHODS
from a2a.methods.method import Method
from tasks.rules.field_rules import TASK_FIELDS

Json = dict[str, Any]
Values = st.SearchStrategy[Any]
Step = str | int

DOORS: Final[Mapping[str, Mapping[str, Method]]] = MappingProxyType(
    {"/": METHODS, "/tasks": METHODS, "/system": SYSTEM_METHODS}
)
WAIT_SECONDS: Final = 0.2
KNOWN_IDS: Final = ("seed", "leaf", "other", "a", "b", "nothing")
ODD_TEXTS: Final = ("", "\0", chr(0xD800), "%s", "' OR 1=1 --", "../..", "{{7*7}}", "__proto__", "\u202e", "x" * 256)
ODD_NUMBERS: Final = (-1, 0, 1.5, 1e308, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, float("nan"), float("inf"))
"""Some of which no JSON may hold."""

TEXTS: Final = st.sampled_from(KNOWN_IDS) | st.text(min_size=1, max_size=20)
SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from([*ODD_TEXTS, *ODD_NUMBERS])
)
ANYTHING: Final = st.recursive(
    SCALARS,
    lambda items: st.lists(items, max_size=3) | st.dictionaries(TEXTS, items, max_size=3),
    max_leaves=6,
)


# --- valid requests ---

FIELDS: Final[Mapping[str, Values]] = MappingProxyType(
    {
        "id": TEXTS,
        "name": TEXTS | st.just("system_info_executor"),
        "parent_id": st.sampled_from(["a", None]),
        "priority": st.integers(0, 3),
        "dependencies": st.lists(TEXTS | st.fixed_dictionaries({"id": TEXTS, "required": st.booleans()}), max_size=2),
        "inputs": st.dictionaries(TEXTS, ANYTHING, max_size=3),
        "params": st.none() | st.fixed_dictionaries({"timeout_seconds": st.integers(1, 9)}),
        "schemas": st.none() | st.just({"input_schema": {"type": "object"}}) | st.just({"method": "system_info"}),
    }
)


def _some(draw: st.DrawFn, values: Mapping[str, Values], *, always: Iterable[str] = ()) -> Json:
    """A few of the fields: with many, some of them contradict each other."""
    chosen = draw(st.lists(st.sampled_from(sorted(values)), max_size=3)) if values else []
    return {name: draw(values[name]) for name in dict.fromkeys([*always, *chosen])}


@st.composite
def _task(draw: st.DrawFn) -> Json:
    return _some(draw, {name: FIELDS.get(name, ANYTHING) for name in TASK_FIELDS}, always=["name"])


@st.composite
def _tree(draw: st.DrawFn) -> list[Json]:
    return [{"id": "a", "name": "a"}, *({**task, "parent_id": "a"} for task in draw(st.lists(_task(), max_size=2)))]


@st.composite
def _params(draw: st.DrawFn, kind: type[Params]) -> Json:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    required = [field.name for field in info.fields if field.required]
    return _some(
        draw, {field.name: _field(field) for field in info.fields}, always=required or draw(_takes_tasks(kind))
    )


def _takes_tasks(kind: type[Params]) -> Values:
    """Where tasks are not required, they are what most often makes the others meaningful."""
    return st.sampled_from([["tasks"], []]) if "tasks" in kind.__struct_fields__ else st.just([])


def _field(field: inspect.Field) -> Values:
    if field.name == "tasks":
        return _tree() | _task()
    return FIELDS[field.name] if field.name in FIELDS else _values(field.type)


def _values(kind: inspect.Type) -> Values:
    """Values that a parameter of this type may have."""
    match kind:
        case inspect.Metadata(type=described):
            return _values(described)
        case inspect.ListType(item_type=item):
            return st.lists(_values(item), max_size=3)
        case inspect.UnionType(types=kinds):
            return st.one_of([_values(each) for each in kinds])
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.EnumType(cls=enum):
            return st.sampled_from([member.value for member in enum])
    return _scalars(kind)


def _scalars(kind: inspect.Type) -> Values:
    match kind:
        case inspect.StrType():
            return TEXTS
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType(ge=low, le=high):
            return st.integers(low, high)
        case inspect.FloatType(ge=low, le=high):
            return st.floats(low, high, allow_nan=False)
        case inspect.NoneType():
            return st.none()
    return ANYTHING


IDS: Final = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS


@st.composite
def _call(draw: st.DrawFn, methods: Mapping[str, Method]) -> Json:
    starting = [name for name, method in methods.items() if "tasks" in method.params.__struct_fields__]
    name = draw(st.sampled_from([*sorted(methods), *starting, *starting]))
    call = {"jsonrpc": "2.0", "method": name, "params": draw(_params(methods[name].params))}
    return call if draw(st.integers(0, 9)) == 0 else call | {"id": draw(IDS)}


# --- spoilt ---


@st.composite
def _spoilt(draw: st.DrawFn, value: Any) -> Any:
    """The value with a change in one place, at any depth."""
    path = draw(st.sampled_from(_paths(value)))
    return _changed(value, path, draw(st.sampled_from(CHANGES)), draw)


def _paths(value: Any) -> list[tuple[Step, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((step, *path) for step, item in items for path in _paths(item))]


Change = Callable[[Any, st.DrawFn], Any]
CHANGES: Final[tuple[Change, ...]] = (
    lambda value, draw: draw(ANYTHING),
    lambda value, draw: draw(SCALARS),
    lambda value, draw: [value],
    lambda value, draw: [value, value],
    lambda value, draw: {"value": value},
    lambda value, draw: str(value),
    lambda value, draw: value | {draw(TEXTS): draw(ANYTHING)} if isinstance(value, dict) else None,
    lambda value, draw: dict(list(value.items())[1:]) if isinstance(value, dict) else value,
    lambda value, draw: {key.upper(): item for key, item in value.items()} if isinstance(value, dict) else value,
    lambda value, draw: value * 2 if isinstance(value, str | list) else value,
)


def _changed(value: Any, path: tuple[Step, ...], change: Change, draw: st.DrawFn) -> Any:
    if not path:
        return change(value, draw)
    step, *rest = path
    copy = value.copy()
    copy[step] = _changed(value[step], tuple(rest), change, draw)
    return copy


def _brief(request: Any) -> Any:
    """Let nobody wait for long."""
    params = request.get("params") if isinstance(request, dict) else None
    if isinstance(params, dict) and params.get("wait") is True:
        params["wait_timeout_seconds"] = WAIT_SECONDS
    return request


@st.composite
def _request(draw: st.DrawFn, methods: Mapping[str, Method]) -> Any:
    """What is wrong is among the parameters, more often than not: behind the envelope there is more to break."""
    request = draw(_call(methods))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        request["params"] = draw(_spoilt(request["params"]))
    return _brief(draw(_spoilt(request)) if draw(st.integers(0, 4)) == 0 else request)


def _written(value: Any, *, ascii_only: bool) -> bytes:
    """As JSON, with what JSON may not hold."""
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


@st.composite
def _damaged(draw: st.DrawFn, body: bytes) -> bytes:
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, min(len(body), start + 8)))
    return body[:start] + draw(st.binary(max_size=4) | st.sampled_from([b",", b'"', b"}", b"[", b"\\"])) + body[end:]


@st.composite
def bodies(draw: st.DrawFn, door: str) -> bytes:
    """A body for the address: one request or a batch, mostly JSON."""
    one = _request(DOORS[door])
    value = draw(one if draw(st.integers(0, 4)) else st.lists(one, max_size=4))
    body = _written(value, ascii_only=draw(st.booleans()))
    return draw(_damaged(body)) if draw(st.integers(0, 5)) == 0 else body


def requests() -> st.SearchStrategy[tuple[str, bytes]]:
    """An address, and what is sent there."""
    return st.sampled_from(sorted(DOORS)).flatmap(lambda door: st.tuples(st.just(door), bodies(door)))
