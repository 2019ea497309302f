"""Validation of each field of an incoming task: a table of checks."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from tasks.rules import budgets, caching, conditions, maps, rounds, spawns
from tasks.rules.pools import POOLS
from tasks.rules.schema import TooCostly, check_cost, fault
from tasks.rules.task_schedules import COUNTED, WRITTEN
from tasks.rules.templates import LABEL
from tasks.status import OnInterrupt

Problem = tuple[str, str]
Check = Callable[[Any, str], Iterable[Problem]]
"""(value, its path) → problems as (path, reason) pairs; empty if the value is valid."""

MONTH_SECONDS = 86_400 * 30
MOST_LIMITS = 20
MOST_CHECKS = 20
MOST_RETRIES_OF_CHECK = 10
NO_HINTS: Mapping[str, str] = MappingProxyType({})
KINDS = MappingProxyType({type(None): "null", bool: "a boolean", str: "a string", list: "a list", dict: "an object"})


def _kind(value: object) -> str:
    return KINDS.get(type(value), "a number")


def _one_of(types: tuple[type, ...], wanted: str) -> Check:
    def check(value: object, path: str) -> Iterable[Problem]:
        return () if isinstance(value, types) else [(path, f"must be {wanted}, not {_kind(value)}")]

    return check


def _short_string(value: object, path: str) -> Iterable[Problem]:
    if not isinstance(value, str):
        return [(path, f"must be a string of 1 to 255 characters, not {_kind(value)}")]
    return () if 0 < len(value) <= 255 else [(path, f"must have 1 to 255 characters, not {len(value):,}")]


def _choice(names: Collection[str]) -> Check:
    def check(value: object, path: str) -> Iterable[Problem]:
        if isinstance(value, str) and value in names:
            return ()
        found = f"'{value[:100]}'" if isinstance(value, str) else _kind(value)
        return [(path, f"must be one of {', '.join(names)}, not {found}")]

    return check


def _number(low: int, high: int, *, types: tuple[type, ...] = (int, float), above: bool = False) -> Check:
    """Check for a number from `low` to `high`; `above` excludes `low` itself.

    Booleans are not numbers, and NaN is outside every range. Where only integers are allowed, 2.0
    is an integer, as in JSON Schema.
    """
    kind = "an integer" if types == (int,) else "a number"
    wanted = f"must be {kind} {'above' if above else 'from'} {low} {'and up ' if above else ''}to {high:,}"

    def check(value: Any, path: str) -> Iterable[Problem]:
        is_one = type(value) in types or (type(value) is float and value.is_integer())
        if is_one and low <= value <= high and not (above and value == low):
            return ()
        return [(path, f"{wanted}, not {value if type(value) in {int, float} else _kind(value)}")]

    return check


def _fields(known: Mapping[str, Check], *, is_open: bool = False, hints: Mapping[str, str] = NO_HINTS) -> Check:
    """Check for an object with these fields, each optional.

    Unknown fields are allowed if `is_open`; otherwise `hints` may explain why a field is refused.
    """

    def check(value: object, path: str) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield path, f"must be an object, not {_kind(value)}"
            return
        for field, item in value.items():
            rule = known.get(field)
            if rule is not None:
                yield from rule(item, f"{path}.{field}")
            elif not is_open:
                yield f"{path}.{field[:255]}", hints.get(field) or unknown_field(field[:255], known)

    return check


def unknown_field(field: str, known: Iterable[str]) -> str:
    """Say that there is no field of this name, and which one may be meant."""
    close = get_close_matches(field, known, n=1)
    return f"unknown field; did you mean '{close[0]}'?" if close else f"unknown field; known are {', '.join(known)}"


def _or_null(rule: Check) -> Check:
    def check(value: object, path: str) -> Iterable[Problem]:
        return () if value is None else rule(value, path)

    return check


def _dependencies(value: object, path: str) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield path, f"must be a list, not {_kind(value)}"
        return
    for index, item in enumerate(value):
        place = f"{path}[{index}]"
        if not isinstance(item, dict):
            yield from _short_string(item, place)
            continue
        yield from _dependency_object(item, place)
        if ("id" in item) == ("name" in item):
            yield place, "must have either 'id' or 'name'"


def _json_schema(value: object, path: str) -> Iterable[Problem]:
    if not isinstance(value, dict):
        return _any_object(value, path)
    try:
        check_cost(value)
    except TooCostly as error:
        return [(path, str(error))]
    problem = fault(value)
    return [(path, f"is not a valid JSON Schema: {problem}")] if problem else ()


_any_object = _one_of((dict,), "an object")


def _only(value: str) -> Check:
    def check(given: object, path: str) -> Iterable[Problem]:
        return () if given == value else [(path, f"must be '{value}' or absent")]

    return check


def _label(value: object, path: str) -> Iterable[Problem]:
    if isinstance(value, str) and LABEL.fullmatch(value):
        return ()
    return [(path, "must be a name of 1 to 255 letters, digits, '_' and '-'")]


_dependency_object = _fields(
    {
        "id": _short_string,
        "name": _short_string,
        "required": _one_of((bool,), "true or false"),
        "on_skip": _choice(("run", "skip")),
        "as": _label,
        "type": _only("result"),  # the predecessor adds it to each dependency
    }
)

_retry = _fields(
    {
        "max_attempts": _number(1, 100, types=(int,)),
        "backoff_seconds": _number(0, MONTH_SECONDS),
        "backoff_factor": _number(0, 100),
        "max_backoff_seconds": _number(0, MONTH_SECONDS),
    }
)

_resources = _fields(
    {
        "cpus": _number(1, 10_000, types=(int,)),
        "gpus": _number(1, 10_000, types=(int,)),
        "memory_mb": _number(16, 2**30, types=(int,)),
    },
)


def _limit_names(value: object, path: str) -> Iterator[Problem]:
    if not isinstance(value, list) or not 0 < len(value) <= MOST_LIMITS:
        yield path, f"must be a list of 1 to {MOST_LIMITS} names of limits"
        return
    for index, name in enumerate(value):
        yield from _short_string(name, f"{path}[{index}]")


def _checks(value: object, path: str) -> Iterable[Problem]:
    from tasks.rules import checks  # noqa: PLC0415  (few tasks have some)

    return checks.problems(value, path)


PARAMS: Mapping[str, Check] = MappingProxyType(
    {
        "executor_id": _short_string,
        "timeout_seconds": _number(0, MONTH_SECONDS, above=True),
        "retry": _retry,
        "pool": _choice(POOLS),
        "resources": _resources,
        "keep": _one_of((bool,), "true or false"),
        "allow_failure": _one_of((bool,), "true or false"),
        "when": conditions.problems,
        "for_each": maps.problems,
        "spawn": spawns.problems,
        "repeat": rounds.problems,
        "budget": budgets.problems,
        "on_interrupt": _choice(tuple(OnInterrupt)),
        "limits": _limit_names,
        "checks": _checks,
        "cache": caching.problems,
    }
)
"""The params of every task. The params of its executor are known only to the executor (`tasks.executors.admission`)."""

_params = _fields(PARAMS, is_open=True)

_schemas = _fields({"method": _short_string, "input_schema": _json_schema}, is_open=True)

RUN_FIELDS = (
    *("status", "result", "progress", "attempt", "token_usage", "checks", "started_at", "completed_at", "error"),
    "cached_from",
)
"""The fields of a task that a run sets."""
SET_BY_SERVER = (
    *RUN_FIELDS,
    "created_at",
    "updated_at",
    "root_task_id",
    "has_children",
    "has_copy",
    "original_task_id",
    "origin_type",
    "spawned_by",
    "not_run",
    "cause_id",
    *COUNTED,
)

HINTS = MappingProxyType(
    dict.fromkeys(SET_BY_SERVER, "read only: set by the server")
    | dict.fromkeys(WRITTEN, "a schedule is set with tasks.create, tasks.update or schedules.create")
    | {
        "children": "unknown field; list every task flat and give the children a 'parent_id'",
        "executor_id": "unknown field; write it as params.executor_id",
        "method": "unknown field; write it as schemas.method",
        "input_schema": "unknown field; write it as schemas.input_schema",
        "timeout_seconds": "unknown field; write it as params.timeout_seconds",
        "retry": "unknown field; write it as params.retry",
        "pool": "unknown field; write it as params.pool",
        "resources": "unknown field; write it as params.resources",
        "allow_failure": "unknown field; write it as params.allow_failure",
        "when": "unknown field; write it as params.when",
        "for_each": "unknown field; write it as params.for_each",
        "spawn": "unknown field; write it as params.spawn",
        "repeat": "unknown field; write it as params.repeat",
        "budget": "unknown field; write it as params.budget of the root",
        "on_interrupt": "unknown field; write it as params.on_interrupt",
        "limits": "unknown field; write it as params.limits",
        "checks": "read only: their results; a task's checks are params.checks",
        "cache": "unknown field; write it as params.cache",
    }
)

TASK_FIELDS: Mapping[str, Check] = MappingProxyType(
    {
        "id": _short_string,
        "name": _short_string,
        "parent_id": _short_string,
        "user_id": _short_string,
        "priority": _number(0, 3, types=(int,)),
        "dependencies": _dependencies,
        "inputs": _any_object,
        "schemas": _or_null(_schemas),
        "params": _or_null(_params),
    }
)

_task = _fields(TASK_FIELDS, hints=HINTS)


AS_NEW: Mapping[str, object] = MappingProxyType(
    {"status": "pending", "progress": 0, "result": None, "error": None}
    | dict.fromkeys((*WRITTEN, *COUNTED), "")
    | {"schedule_enabled": False, "run_count": 0}
)
"""Fields that the server sets, with the value that each new task has: sending it says nothing."""


def without_empty(raw: object) -> object:
    """Return the task without nulls, and without what each new task has.

    Clients of the predecessor send all fields of a task that they know.
    """
    if not isinstance(raw, dict):
        return raw
    kept = {}
    for name, value in raw.items():
        if value is None:
            says_nothing = name in TASK_FIELDS or name in AS_NEW
        else:
            says_nothing = (
                name in AS_NEW and value == AS_NEW[name] and isinstance(value, bool) == isinstance(AS_NEW[name], bool)
            )
        if not says_nothing:
            kept[name] = value
    return kept


def check_task(raw: object, path: str) -> Iterator[Problem]:
    """Yield every problem in the shape of one task."""
    yield from _task(raw, path)
    if isinstance(raw, dict) and "name" not in raw:
        yield f"{path}.name", "is required"
