"""REST operations: a URL and an HTTP method in front of a JSON-RPC method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from a2a.core.parsing import Params
from a2a.methods.dispatch import REST
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json

TASK_ID: Final = "task_id"
TREE_ERRORS: Final = (
    errors.InvalidTree,
    errors.InvalidParent,
    errors.InvalidDependency,
    errors.CircularDependency,
    errors.ExecutorNotFound,
    errors.SchemaMismatch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The operation of a URL for one HTTP method.

    The path may have the parameter `in_path`. The other parameters of the JSON-RPC `method`, except those in
    `without`, come from the query or the body, as `takes` says; `always` has fixed ones. `answers`
    maps each HTTP status to the type of the body; if there are several, `answered` chooses.
    """

    name: str
    method: str
    answers: Mapping[int, Any]
    in_path: str = TASK_ID
    answered: Callable[[Any], tuple[int, Any]] | None = None
    takes: Literal["query", "body"] = "query"
    without: frozenset[str] = frozenset()
    instead: Sequence[Json] = ()
    """JSON Schemas that the body may match instead of an object with these parameters."""
    is_body_required: bool = False
    rules: Json = field(default_factory=dict)
    """JSON Schema keywords for rules of the body, beyond those of the parameters."""
    is_stream: bool = False
    also: Mapping[str, Json] = field(default_factory=dict)
    """The JSON Schemas of query parameters that the method does not have."""
    summary: str = ""
    """Summary in the OpenAPI document; default: the first line of the method's docstring."""
    always: Json = field(default_factory=dict)
    errors: Sequence[type[Exception]] = ()

    @property
    def params(self) -> type[Params]:
        """The parameters of the method."""
        return REST.methods[self.method].params

    @property
    def query(self) -> Sequence[str]:
        """The names of the parameters in the query."""
        return self._names if self.takes == "query" else ()

    @property
    def body(self) -> Sequence[str]:
        """The names of the parameters in the body."""
        return self._names if self.takes == "body" else ()

    @property
    def _names(self) -> Sequence[str]:
        return [name for name in self.params.__struct_fields__ if name != self.in_path and name not in self.without]

    def answer(self, native: Any) -> tuple[int, Any]:
        """Return the HTTP status and body for the result of the method. Raises the errors of `answered`."""
        return self.answered(native) if self.answered else (next(iter(self.answers)), native)


def given(name: str) -> Json:
    """Return the rule that the body has this parameter, and not as null."""
    return {"required": [name], "properties": {name: {"not": {"const": None}}}}


def has_one_of(*names: str) -> list[Json]:
    """JSON Schemas for an object that has one of the parameters."""
    return [given(name) for name in names]
