"""Crews and flows of the operator's code: which a task names, and the inputs that it gives them.

Does not import CrewAI, nor the code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Any, Final

import yaml
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json
from tasks.rules.templates import CannotFill, Filler

FILES: Final = ("agents", "tasks")
FOLDERS: Final = ("config", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCrew:
    """A crew or flow of `executors.crewai.crews`. `path` is `module:Name`, or the package of two YAML files."""

    name: str
    path: str
    inputs: Json

    @property
    def is_package(self) -> bool:
        return ":" not in self.path


def own_crew_in(params: Mapping[str, Any], inputs: Json) -> OwnCrew | None:
    """Return the crew that `crew` in the params or the inputs names; None without it.

    Raises ExecutorError, permanent, if the operator does not offer it.
    """
    has_works = params.get("works") is not None
    if params.get("crew") is not None:
        if has_works or inputs.get("works") is not None:
            raise _refused("Give either params.crew, which names a crew of the operator's code, or works.")
        name, values = _name_of(params["crew"], "params.crew"), inputs
    elif inputs.get("crew") is None or has_works or "works" in inputs:
        return None  # with works, it is a value for their texts
    else:
        name = _name_of(inputs["crew"], "inputs.crew")
        values = {key: value for key, value in inputs.items() if key != "crew"}
    return OwnCrew(name=name, path=(settings.APFLOW_CREWAI.crews or {})[name], inputs=values)


def own_crew_of_batch(raw: object, place: str, *, inputs: Json, filler: Filler | None) -> OwnCrew | None:
    """Return the crew that `{crew, inputs}` names in a batch, with the task's inputs and its own; None if it names none.

    `filler` fills the places in its own inputs. Raises ExecutorError, permanent.
    """
    if not isinstance(raw, dict) or "crew" not in raw:
        return None
    if unknown := sorted(raw.keys() - {"crew", "inputs"}):
        raise _refused(
            f"{place}.{unknown[0]} is not known beside `crew`: a crew of the operator's code takes `inputs`."
        )
    own = raw.get("inputs", {})
    if not isinstance(own, dict):
        raise _refused(f"{place}.inputs must be an object.")
    name = _name_of(raw["crew"], f"{place}.crew")
    values = inputs | (own if filler is None else _filled(own, filler, place))
    return OwnCrew(name=name, path=(settings.APFLOW_CREWAI.crews or {})[name], inputs=values)


def _filled(value: Any, filler: Filler, place: str) -> Any:
    match value:
        case str():
            try:
                return filler.fill(value)
            except CannotFill as error:
                raise _refused(f"{place}.inputs cannot be filled: {error}.") from None
        case dict():
            return {name: _filled(each, filler, place) for name, each in value.items()}
        case list():
            return [_filled(each, filler, place) for each in value]
    return value


def works_in_package(own: OwnCrew) -> Json:
    """Return the works in a package's agents.yaml and tasks.yaml, which may be in its folder `config`.

    Imports the package. Raises ExecutorError, permanent.
    """
    try:
        package = files(own.path)
        folder = next(place for name in FOLDERS if (place := package / name).joinpath("agents.yaml").is_file())
        return {name: yaml.safe_load(folder.joinpath(f"{name}.yaml").read_text("utf-8")) for name in FILES}
    except (ImportError, OSError, StopIteration, TypeError, yaml.YAMLError) as error:
        why = "it has no agents.yaml" if isinstance(error, StopIteration) else str(error)
        raise _refused(
            f"The crew '{own.name}' cannot be loaded from the package {own.path}: {why}. The operator may correct "
            "executors.crewai.crews."
        ) from error


def _name_of(wanted: object, place: str) -> str:
    """Return the name of a crew that is given by its name or by its path."""
    offered = settings.APFLOW_CREWAI.crews or {}
    names = {path: name for name, path in offered.items()} | {name: name for name in offered}
    if isinstance(wanted, str) and wanted in names:
        return names[wanted]
    if not isinstance(wanted, str):
        raise _refused(f"{place} must be a text: the name of a crew of executors.crewai.crews.")
    close = get_close_matches(wanted[:100], names, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise _refused(
        f"{place} names '{wanted[:100]}', which the operator does not offer.{hint} executors.crewai.crews lists the crews "
        f"that tasks may run: {', '.join(offered) or 'none'}."
    )


def _refused(message: str) -> ExecutorError:
    return ExecutorError(message, permanent=True)
