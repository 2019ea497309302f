"""The fields of the works of a crew: what each may be, and why others are refused."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.llm.parameters import PARAMETERS
from tasks.rules.schema import fault, mismatch
from tasks.rules.schema_cost import TooCostly, check_cost
from tasks.rules.templates import CannotFill, Filler

_EMBEDDINGS: Final = "it calls a model of embeddings with a key of its own"
_CODE: Final = "works are data, and run no code. The operator may offer a crew in executors.crewai.crews"
_FILES: Final = "a crew has no files. Its output is the result of the task"
REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(("memory", "knowledge", "knowledge_sources", "embedder", "short_term_memory"), _EMBEDDINGS)
    | dict.fromkeys(("callback", "callbacks", "step_callback", "task_callback", "converter_cls", "config"), _CODE)
    | dict.fromkeys(("before_kickoff_callbacks", "after_kickoff_callbacks", "guardrails"), _CODE)
    | dict.fromkeys(("output_file", "output_log_file", "create_directory", "prompt_file", "input_files"), _FILES)
    | {
        "human_input": "no person reads a worker's terminal. Ask with approval_executor",
        "mcps": "an agent names the tools of configured servers in `tools`: mcp:server.tool",
        "apps": "they are services of CrewAI's platform",
        "a2a": "other agents are called by a2a_executor",
        "from_repository": "it is a service of CrewAI's platform",
        "function_calling_llm": "the agent's llm calls the tools",
        "manager_agent": "use manager_llm",
        "max_execution_time": "use params.timeout_seconds of the task",
        "max_retry_limit": "use params.retry of the task",
        "stream": "calls are streamed in any case",
    }
)
"""Field of CrewAI that works cannot have → the reason."""


class Fields:
    """The fields of one object of the works.

    Each method raises ExecutorError if the value is invalid.
    """

    def __init__(self, raw: object, place: str, *, known: Sequence[str], filler: Filler | None = None) -> None:
        if not isinstance(raw, dict):
            raise refused(place, "must be an object")
        if unknown := [name for name in raw if name not in known]:
            why = REFUSED.get(unknown[0])
            raise refused(
                f"{place}.{unknown[0]}", f"is refused: {why}" if why else f"is not known{_hint(unknown[0], known)}"
            )
        self.given: Json = raw
        self.place = place
        self._filler = filler

    def mapping(self, name: str) -> list[tuple[str, object]]:
        value = self.given.get(name)
        if value is not None and not isinstance(value, dict):
            raise refused(f"{self.place}.{name}", "must be an object that maps names to definitions")
        return list((value or {}).items())

    def text(self, name: str, *, default: str | None = None) -> str:
        value = self.given.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value.strip():
            raise refused(f"{self.place}.{name}", "must be a non-empty text")
        return value

    def template(self, name: str, *, default: str | None = None) -> str:
        text = self.text(name, default=default)
        if name not in self.given or self._filler is None:  # our own default is not a template
            return text
        try:
            return self._filler.fill(text)
        except CannotFill as error:
            raise refused(f"{self.place}.{name}", f"has a template that cannot be filled: {error}") from None

    def flag(self, name: str) -> bool:
        value = self.given.get(name)
        if value is not None and not isinstance(value, bool):
            raise refused(f"{self.place}.{name}", "must be true or false")
        return bool(value)

    def whole(self, name: str, *, least: int, most: int, default: int) -> int:
        value = self.given.get(name, default)
        if type(value) is not int or not least <= value <= most:
            raise refused(f"{self.place}.{name}", f"must be a whole number from {least} to {most}")
        return value

    def maybe_whole(self, name: str, *, most: int) -> int | None:
        return None if self.given.get(name) is None else self.whole(name, least=1, most=most, default=1)

    def choice(self, name: str, *, among: Sequence[str]) -> str:
        """Return one of these texts; the first is the default."""
        value = self.text(name, default=among[0])
        if value not in among:
            raise refused(f"{self.place}.{name}", f"must be one of {', '.join(among)}")
        return value

    def parameters(self, *names: str) -> Json:
        """Return those parameters of a model that are given."""
        given = {name: self.given[name] for name in names if self.given.get(name) is not None}
        rules = {"properties": {name: PARAMETERS[name] for name in names}}
        if problem := mismatch(rules, given):
            raise refused(self.place, f"has a parameter of the model that does not fit: {problem.rstrip('.')}")
        return given

    def schema(self, *names: str) -> Json | None:
        """Return the JSON Schema of an object, which at most one of these fields has."""
        given = [name for name in names if self.given.get(name) is not None]
        if not given:
            return None
        place, schema = f"{self.place}.{given[0]}", self.given[given[0]]
        if len(given) > 1:
            raise refused(place, f"and {given[1]} mean the same here. Give one of them")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            raise refused(place, 'must be the JSON Schema of an object, {"type": "object", "properties": {…}}')
        if problem := fault(schema):
            raise refused(place, f"is no JSON Schema: {problem.rstrip('.')}")
        try:
            check_cost(schema)
        except TooCostly as error:
            raise refused(place, str(error)) from None
        return schema

    def names(self, name: str, *, among: Collection[str], what: str) -> tuple[str, ...]:
        value = self.given.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise refused(f"{self.place}.{name}", "must be a list of names")
        for each in value:
            self.check(each, name, among=among, what=what)
        return tuple(dict.fromkeys(value))

    def check(self, value: str, name: str, *, among: Collection[str], what: str) -> None:
        if value not in among:
            raise refused(
                f"{self.place}.{name}", f"names '{value[:100]}', but there is no such {what}{_hint(value, among)}"
            )


def _hint(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name[:100], known, n=1)
    if close:
        return f". Did you mean '{close[0]}'?"
    return f". Known: {', '.join(known)}" if known else ""


def refused(place: str, why: str) -> ExecutorError:
    return ExecutorError(f"{place} {why}.".replace("?.", "?"), permanent=True)
