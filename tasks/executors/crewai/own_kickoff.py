"""Load a crew or a flow of the operator's code, and run it.

Imported only in worker processes, by `tasks.executors.llm.loading`.
"""

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

import crewai
from crewai.flow import Flow
from crewai.project.wrappers import CrewMethod
from pydantic_core import PydanticSerializationError, to_jsonable_python

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.crewai.crew_model import models_of
from tasks.executors.crewai.outputs import parsed
from tasks.executors.crewai.own_crews import OwnCrew
from tasks.executors.crewai.preparing import prepared
from tasks.executors.crewai.unrecorded import unrecord

if TYPE_CHECKING:
    from tasks.executors.crewai.running import Crew

unrecord()


def kickoff_own(crew: "Crew", own: OwnCrew) -> Json:
    """Run the crew or the flow, and return its result. Blocks.

    Raises CrewOver, ExecutorError, or what the code raises.
    """
    with models_of(crew), prepared(crew, own.name):
        made = _made(_loaded(own), own)
        output = made.kickoff(inputs=own.inputs)
        return _result_of_flow(made, output) if isinstance(made, Flow) else {"result": str(output.raw)} | parsed(output)


def _result_of_flow(flow: Any, output: Any) -> Json:
    """Return what its last method returned, and its state."""
    shown = output.raw if isinstance(output, crewai.CrewOutput) else output
    state = {name: value for name, value in _json(flow.state, "state").items() if name != "id"}  # made up by CrewAI
    return {"result": _json(shown, "result"), "state": state}


def _json(value: Any, what: str) -> Any:
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError as error:
        raise ExecutorError(f"The {what} of the flow is not JSON: {error}.", permanent=True) from None


def _loaded(own: OwnCrew) -> Any:
    """Import what the operator's path names. Raises ExecutorError."""
    module, _, name = own.path.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ExecutorError(
            f"The crew '{own.name}' cannot be loaded: {error}. The operator may correct executors.crewai.crews.",
            permanent=True,
        ) from error


def _made(found: Any, own: OwnCrew) -> Any:
    """Return a Crew or a Flow of this run's own. Raises ExecutorError."""
    if isinstance(found, crewai.Crew):
        made: Any = found.copy()  # a crew keeps what its last run filled in
    elif getattr(found, "is_crew_class", False):
        made = _crew_of(found())
    else:
        made = found() if callable(found) else found
    if isinstance(found, Flow) or not isinstance(made, crewai.Crew | Flow):
        raise ExecutorError(
            f"The crew '{own.name}' is invalid: {own.path} must be a class with @CrewBase, a Crew, a Flow class, or a "
            "function that returns a Crew or a Flow. The operator may correct executors.crewai.crews.",
            permanent=True,
        )
    return made


def _crew_of(instance: Any) -> Any:
    """Call the method with @crew of a class with @CrewBase."""
    members = inspect.getmembers_static(type(instance))
    names = [
        name for name, value in members if isinstance(value, CrewMethod) or getattr(value, "is_crew", False) is True
    ]
    return getattr(instance, names[0] if names else "crew")()
