"""Places: `{{id.path}}` in the inputs of a task stands for a value in the result of a dependency.

A string that is nothing but one place becomes the value, of any type. In a longer text the value is
written as it is if it is a string, else as JSON. `{{{{` stands for `{{`. Other double braces, whose
first part is not the id of a dependency, stay as they are. A value that is filled in is not filled again.

`{{secret.NAME}}` stands for a named secret, unless the task depends on a task with the id `secret`, and
`{{run.inputs.path}}` for a value in the inputs of the run, unless it depends on one with the id `run`.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from tasks.rules.conditions import is_index
from tasks.rules.files import is_moved, part_of
from tasks.rules.strict_json import Json
from tasks.rules.templates import DOUBLE, LITERAL, PLACE, TOO_LONG, CannotFill

OPENING: Final = "{{"
SECRET: Final = "secret"
RUN: Final = "run"
INPUTS_OF_RUN: Final = f"{RUN}.inputs"


LARGE: Final = (
    "{place}: '{{{{{path}}}}}' is a large value, which is stored as a file, and cannot be part of a text here. Give it as a whole "
    "input, or fill it in where the executor does: in a prompt"
)


class NothingThere(CannotFill):
    """The result of the dependency has no such value, or there is no result. The message says where."""

    def __init__(self, place: str, path: str, why: str) -> None:
        super().__init__(f"{place}: '{{{{{path}}}}}' has no value: {why}")


def has_places(text: str) -> bool:
    """Return whether inputs, as JSON text, may have places or `{{{{`."""
    return OPENING in text


def filled(
    inputs: Json,
    results: Mapping[str, Any],
    *,
    known: Collection[str],
    left: Collection[str],
    max_characters: int,
    keeps_literals: bool = False,
    secrets: Mapping[str, str] = MappingProxyType({}),
    run_inputs: Json | None = None,
) -> Json:
    """Return the inputs with their places filled, but for the fields named in `left`.

    `results` maps the ids of the completed dependencies to their results, `known` are the ids of all
    dependencies. All values filled in have at most `max_characters` together. With `keeps_literals`
    the inputs will be filled again: `{{{{` stays, and values are escaped. `secrets` maps names to
    values; the places of other secrets stay, and without `run_inputs` those of the inputs of the run. Raises CannotFill.
    """
    opening = LITERAL if keeps_literals else OPENING
    named = {} if SECRET in known else {f"{SECRET}.{name}": value for name, value in secrets.items()}
    if run_inputs is not None and RUN not in known:
        results = {**results, RUN: {"inputs": run_inputs}}
    filler = _Filler(results, known=known, max_characters=max_characters, opening=opening, secrets=named)
    return {name: value if name in left else filler.fill(value, f"inputs.{name}") for name, value in inputs.items()}


def places_in(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield each place in a JSON value: where it is, and the path that it names."""
    for where, text in texts_in(value, path):
        yield from ((where, found["path"]) for found in PLACE.finditer(text) if found["path"])


def texts_in(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield each text in a JSON value that may have places: where it is, and the text."""
    match value:
        case str():
            if OPENING in value:
                yield path, value
        case list():
            for index, item in enumerate(value):
                yield from texts_in(item, f"{path}[{index}]")
        case dict():
            for name, item in value.items():
                yield from texts_in(item, f"{path}.{name}")


def secret_in(path: str) -> str | None:
    """Return the name of the secret for which a place with this path stands; None for another place."""
    source, dot, name = path.partition(".")
    return name if source == SECRET and dot else None


def is_run_input(path: str) -> bool:
    """Return whether a place with this path stands for a value in the inputs of the run, or for all of them."""
    return path == INPUTS_OF_RUN or path.startswith(f"{INPUTS_OF_RUN}.")


def is_run_place(value: Any) -> bool:
    """Return whether the value is a text that is nothing but the place of an input of the run."""
    whole = DOUBLE.fullmatch(value) if isinstance(value, str) else None
    return whole is not None and is_run_input(whole["path"])


def is_secret_place(value: Any) -> bool:
    """Return whether the value is a text that is nothing but the place of a secret."""
    whole = DOUBLE.fullmatch(value) if isinstance(value, str) else None
    return whole is not None and secret_in(whole["path"]) is not None


def escaped(value: Any) -> Any:
    """Return the JSON value with four braces for each two that open: nothing in it is a place."""
    match value:
        case str():
            return value.replace(OPENING, LITERAL)
        case list():
            return [escaped(item) for item in value]
        case dict():
            return {name: escaped(item) for name, item in value.items()}
        case _:
            return value


def source_of(path: str) -> str:
    """Return the first part of the path of a place: the id of a task."""
    return path.partition(".")[0]


class _Filler:
    """Fills the inputs of one task. The size of a value counts before it is filled in."""

    def __init__(
        self,
        results: Mapping[str, Any],
        *,
        known: Collection[str],
        max_characters: int,
        opening: str,
        secrets: Mapping[str, str],
    ) -> None:
        self._results = results
        self._secrets = secrets  # by path
        self._opening = opening
        self._known = known
        self._max_characters = max_characters
        self._characters = 0
        self._found: dict[str, tuple[Any, str]] = {}  # by path: the value and its text

    def fill(self, value: Any, place: str) -> Any:
        match value:
            case str():
                if OPENING not in value:
                    return value
                whole = DOUBLE.fullmatch(value)
                if whole and self._has_value(whole["path"]):
                    return self._counted(whole["path"], place)[0]
                return PLACE.sub(lambda found: self._replacement(found, place), value)
            case list():
                return [self.fill(item, f"{place}[{index}]") for index, item in enumerate(value)]
            case dict():
                return {name: self.fill(item, f"{place}.{name}") for name, item in value.items()}
            case _:
                return value

    def _replacement(self, found: re.Match[str], place: str) -> str:
        if found["literal"]:
            return self._opening
        if not self._has_value(found["path"]):
            return found[0]
        value, text = self._counted(found["path"], place)
        if is_moved(value):
            raise CannotFill(LARGE.format(place=place, path=found["path"]))
        return text

    def _has_value(self, path: str) -> bool:
        is_given = is_run_input(path) and RUN in self._results
        return is_given or path in self._secrets or source_of(path) in self._known

    def _counted(self, path: str, place: str) -> tuple[Any, str]:
        if path not in self._found:
            value = self._value_at(path, place)
            value = escaped(value) if self._opening == LITERAL else value
            self._found[path] = value, value if isinstance(value, str) else orjson.dumps(value).decode()
        found = self._found[path]
        self._characters += len(found[1])
        if self._characters > self._max_characters:
            raise CannotFill(TOO_LONG.format(self._max_characters))
        return found

    def _value_at(self, path: str, place: str) -> Any:
        if path in self._secrets:
            return self._secrets[path]
        source, *steps = path.split(".")
        if source not in self._results:
            raise NothingThere(place, path, f"'{source}' did not complete, so it has no result")
        found = self._results[source]
        for number, step in enumerate(steps):
            if is_moved(found):
                return part_of(found, steps[number:])
            try:
                found = found[int(step)] if isinstance(found, list) and is_index(step) else found[step]
            except (LookupError, TypeError):
                at = ".".join([source, *steps[:number]])
                raise NothingThere(place, path, f"the value at '{at}' has no '{step}'") from None
        return found
