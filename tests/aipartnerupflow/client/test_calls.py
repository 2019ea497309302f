"""The client's calls are written by hand, and fit the methods that the server declares."""

from collections.abc import Callable, Iterator
from inspect import Parameter, getmembers, isfunction, signature
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from msgspec.structs import fields

from a2a.methods import METHODS, SYSTEM_METHODS
from aipartnerupflow.client import calls, run_calls

STREAMING = {"last_event_id", "use_streaming", "webhook_config"}
"""Parameters of the predecessor: the client has `events` instead."""
TIMING = {"at", "cron", "ends_at", "every_seconds", "starts_at", "timezone"}
OTHERWISE = {
    "cancel": {"context_ids", "task_id"},
    "copy": {"origin_type", "save"},
    "count": {"statuses"},
    "create": {"webhook_config"},
    "execute": STREAMING,
    "fork": STREAMING | {"use_demo"},
    "llm_keys": {"provider"},
    "page": {"offset", *calls.Filters.__annotations__} - {"page_size"},
    "preview_copy": {"origin_type"},
    "preview_schedule": TIMING,
    "run_flow": STREAMING,
    "status": {"context_ids", "task_id"},
    "update": {f"schedule_{name}" for name in ("enabled", "end_at", "expression", "start_at", "type")} | {"max_runs"},
}
"""Call → the parameters of its method that it passes without an argument of its own, or has another way for."""


def every_call() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in (calls, run_calls):
        for name, function in getmembers(module, isfunction):
            if (
                get_origin(get_type_hints(function).get("return")) is calls.Call
                and function.__module__ == module.__name__
            ):
                yield name, function


def with_everything(function: Callable[..., Any]) -> Any:
    """The call with a value for each of its arguments, for one with two names only by the first. No value is looked at before it is sent."""
    hints = get_type_hints(function)
    given: dict[str, Any] = {}
    for name, parameter in signature(function).parameters.items():
        if name == "run_inputs" and function in (calls.execute, run_calls.run_flow):  # `inputs` again
            continue
        if parameter.kind is Parameter.VAR_KEYWORD:
            given |= {key: [key] for options in get_args(hints[name]) for key in options.__annotations__}
        else:
            kind = str(hints[name])
            given[name] = {name: {}} if "Mapping" in kind or "dict" in kind else 1 if "float" in kind else name
    return function(**given)


def shown(kind: Any) -> set[str]:
    """The names of the types in a union."""
    if isinstance(kind, UnionType):
        return {name for part in get_args(kind) for name in shown(part)}
    inner = f"[{', '.join(name for part in get_args(kind) for name in shown(part))}]" if get_args(kind) else ""
    return {
        f"{kind.__name__}{inner}".replace("NewTask", "dict[str, Any]")
    }  # a task that may be sent again is plain JSON


def test_each_call_has_the_parameters_and_the_result_of_its_method() -> None:
    left_out, wrong = {}, []
    for name, function in every_call():
        call = with_everything(function)
        method = {"/tasks": METHODS, "/system": SYSTEM_METHODS}[call.path][call.method]
        parameters = {field.encode_name for field in fields(method.params)}
        (result,) = get_args(get_type_hints(function)["return"])
        if call.params.keys() - parameters or not shown(result) <= shown(method.answer):
            wrong.append((name, call.params.keys() - parameters, shown(result), shown(method.answer)))
        if more := parameters - call.params.keys():
            left_out[name] = more
    assert wrong == []
    assert left_out == OTHERWISE
