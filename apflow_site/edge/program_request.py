"""The request of a program: Django's, but what few views ask for is made when they do.

Django copies every header into `META` under another name and back under its own, which takes longer
than to find a task.
"""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final, TypeVar, cast, overload

from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.http import QueryDict
from django.utils.functional import cached_property

from apflow_site.edge.bodies import Body, Scope

JSON: Final = "application/json"
T = TypeVar("T")


class SentHeaders(Mapping[str, str]):
    """The headers of a request, by their names in any case. Values of the same name are joined with commas.

    Names with an underscore are left out: a proxy may take one for the name with a hyphen.
    """

    __slots__ = ("_values",)

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, str] = {}
        for sent_name, sent_value in headers:
            name, value = sent_name.decode("latin-1").lower(), sent_value.decode("latin-1")
            if "_" not in name:
                self._values[name] = f"{self._values[name]},{value}" if name in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str) -> str: ...
    @overload
    def get(self, name: str, /, default: T) -> str | T: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """The value, or the default. Most headers are not there, and Mapping raises an exception for each of them."""
        return self._values.get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class ProgramRequest(ASGIRequest):
    """A request as the views know it. Raises UnicodeDecodeError for a query that is not UTF-8."""

    def __init__(self, scope: Scope, body: Body) -> None:
        """Set what Django's own constructor sets, but for `META` and what comes of it."""
        self.scope = scope
        self.script_name = get_script_prefix(scope)
        self.path = scope["path"]
        self.path_info = self.path.removeprefix(self.script_name)
        self.method = scope["method"].upper()
        self.resolver_match = None
        self._query = scope["query_string"].decode()
        self._stream = cast("BinaryIO", body)
        self._post_parse_error = False
        self._read_started = False
        sent_type = self.headers.get("Content-Type", "")
        if sent_type == JSON:
            self.content_type, self.content_params = JSON, {}
        else:
            self._set_content_type_params({"CONTENT_TYPE": sent_type})  # type: ignore[attr-defined]

    @cached_property
    def headers(self) -> SentHeaders:  # type: ignore[override]
        """With all that views use of Django's class."""
        return SentHeaders(self.scope["headers"])

    @cached_property
    def GET(self) -> QueryDict:  # type: ignore[override]
        return QueryDict(self._query) if self._query else EMPTY

    @cached_property
    def META(self) -> dict[str, Any]:  # type: ignore[override]
        return ASGIRequest(self.scope, self._stream).META


EMPTY: Final = QueryDict("")
"""It cannot be changed, so all requests without a query share it."""
