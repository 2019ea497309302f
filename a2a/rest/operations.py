"""The operations of the REST API, as the methods declare them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from a2a.core.exceptions import BodyTooLarge, UnsupportedMediaType
from a2a.methods.dispatch import REST
from a2a.methods.method import Method, Rest
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import MalformedJson

BODY_ERRORS: Final = (MalformedJson, BodyTooLarge, UnsupportedMediaType)
MISSING: Final[Mapping[str | None, type[Exception]]] = {
    "task_id": errors.TaskNotFound,
    "run_id": errors.RunNotFound,
    "call_id": errors.CallNotFound,
    "schedule_id": errors.ScheduleNotFound,
    "file_id": errors.FileNotFound,
    "experiment_id": errors.ExperimentNotFound,
}
"""Parameter in a URL → the error if there is nothing with this id."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A method under a URL, for one HTTP method."""

    method: Method
    rest: Rest

    @property
    def query(self) -> Sequence[str]:
        """The names of the parameters in the query."""
        return () if self._has_body else self._names

    @property
    def body(self) -> Sequence[str]:
        """The names of the parameters in the body."""
        return self._names if self._has_body else ()

    @property
    def _has_body(self) -> bool:
        return self.rest.http_method not in ("GET", "DELETE")

    @property
    def _names(self) -> Sequence[str]:
        elsewhere = {self.rest.in_path, *self.rest.without}
        return [name for name in self.method.params.__struct_fields__ if name not in elsewhere]

    @property
    def answers(self) -> Mapping[int, Any]:
        """HTTP status → type of the body."""
        return self.rest.answers or {200: self.method.answer}

    @property
    def errors(self) -> Sequence[type[Exception]]:
        """The errors of this operation, without those that every operation may have."""
        missing = MISSING.get(self.rest.in_path)
        return [*([missing] if missing else []), *self.rest.errors, *(BODY_ERRORS if self.body else [])]

    def answer(self, native: Any) -> tuple[int, Any]:
        """Return the HTTP status and the body for a result. Raises the errors of `Rest.answered`."""
        return self.rest.answered(native) if self.rest.answered else (next(iter(self.answers)), native)


_OPERATIONS: Final = [Operation(method, rest) for method in REST.methods.values() for rest in method.rest]
ROUTES: Final[Mapping[str, Mapping[str, Operation]]] = {
    url: {each.rest.http_method: each for each in _OPERATIONS if each.rest.url == url}
    for url in sorted({each.rest.url for each in _OPERATIONS}, reverse=True)  # `<` is less than a letter
}
"""URL → HTTP method → operation. URLs with a word come before those that have a parameter in its place."""
