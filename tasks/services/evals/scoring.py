"""Evaluators that are flows, workflows and functions: whether they are there, and which values they take."""

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Final

from accounts.callers import Caller
from tasks.executors import get_executor
from tasks.executors.evaluate import kind_of
from tasks.executors.judging import GIVEN, named
from tasks.executors.plugins import plugins
from tasks.executors.workflows import WorkflowTask
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.rules.tree import WORKFLOW
from tasks.services import flows

NO_RESULT: Final = (
    "'{name}' does not take `result`, which is what it is to score; it may also take `inputs` and `expected`"
)


def scoring_code(caller: Caller, evaluators: Sequence[Json]) -> list[Json]:
    """Return the evaluators with the version of each flow, and with the values that a flow, a workflow or a function takes.

    Raises FlowNotFound, ExecutorNotFound or InvalidParams.
    """
    found = []
    for number, each in enumerate(evaluators):
        kind, given = kind_of(each["with"])
        if kind not in ("flow", "workflow", "function"):
            found.append(each)
            continue
        given = named(kind, given)
        name, place = given["name"], f"evaluators[{number}].with.{kind}"
        if kind == "flow":
            _, version = flows.get_version(
                caller=caller, name=name, version=given.get("version"), user_id=caller.user_id
            )
            takes, given = flows.names_taken(version), given | {"version": version.number}
        else:
            takes = _parameters(name, place) if kind == "function" else _arguments(name, place)
        taken = [value for value in given.get("inputs", GIVEN) if takes is None or value in takes]
        if "result" not in taken:
            raise InvalidParams([(place, NO_RESULT.format(name=name))])
        found.append(each | {"with": {kind: given | {"inputs": taken}}})
    return found


def _parameters(name: str, place: str) -> Collection[str] | None:
    """Return the parameters of a function; None for any."""
    functions = plugins().functions
    if name not in functions:
        close = get_close_matches(name, functions, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "the operator registers functions"
        raise InvalidParams([(place, f"'{name}' is no registered function; {hint}")])
    parameters = signature(functions[name]).parameters
    return None if any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values()) else parameters


def _arguments(name: str, place: str) -> Collection[str] | None:
    """Return the arguments of a workflow; None for any."""
    executor = get_executor(f"{WORKFLOW}{name}")
    if not isinstance(executor, WorkflowTask):
        raise InvalidParams([(place, f"'{name}' is no workflow")])
    return None if executor.takes_more else executor.input_schema["properties"]
