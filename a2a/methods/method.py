"""Declarations of methods.

A method is declared once, with `@method` in front of its function. The tables, the OpenRPC and OpenAPI documents, the
REST API and the tools of MCP derive from it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction, signature
from types import MappingProxyType
from typing import Any, Final, TypeVar

from msgspec import Struct

from a2a.core.parsing import Params
from accounts.callers import Role
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json

VIEWER, OPERATOR, ADMIN = Role
TASKS: Final = "/tasks"
"""The path of methods that also answer at `/`, with A2A objects as results."""
SYSTEM: Final = "/system"
TREE_ERRORS: Final = (
    errors.InvalidTree,
    errors.InvalidParent,
    errors.InvalidDependency,
    errors.CircularDependency,
    errors.ExecutorNotFound,
    errors.SchemaMismatch,
)
Function = TypeVar("Function", bound=Callable[..., Any])


class Response(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Base class of all responses. A field with a default may be absent."""


@dataclass(frozen=True, slots=True)
class Rest:
    """An operation of the REST API: an HTTP method and a URL below `/api/`, such as `GET runs/<run_id>/`, in front of a method.

    The other parameters of the method, except those in `without`, come from the query or, unless the HTTP method is GET
    or DELETE, from the body; `always` has fixed ones.
    """

    name: str
    place: str
    answers: Mapping[int, Any] | None = None
    """HTTP status → type of the body. Default: 200 with the answer of the method."""
    answered: Callable[[Any], tuple[int, Any]] | None = None
    """Return the HTTP status and the body for a result, if there are several. May raise the errors of a method."""
    errors: Sequence[type[Exception]] = ()
    """The errors of this operation. Errors of every operation, of bodies and of an id in the URL are added."""
    rules: Json = field(default_factory=dict)
    """JSON Schema keywords for rules of the body, beyond those of the parameters. A body with rules is required."""
    without: frozenset[str] = frozenset()
    instead: Sequence[Json] = ()
    """JSON Schemas that the body may match instead of an object with these parameters."""
    also: Mapping[str, Json] = field(default_factory=dict)
    """The JSON Schemas of query parameters that the method does not have."""
    always: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    """Summary in the OpenAPI document. Default: the first line of the method's docstring."""
    is_stream: bool = False
    """Whether the reply is a stream of events. The method then only defines the parameters."""

    @property
    def http_method(self) -> str:
        return self.place.partition(" ")[0]

    @property
    def url(self) -> str:
        return self.place.partition(" ")[2]

    @property
    def in_path(self) -> str | None:
        """The name of the parameter in the URL."""
        found = re.search("<(.+)>", self.place)
        return found and found[1]


@dataclass(frozen=True, slots=True)
class Tool:
    """The method as a tool of MCP.

    `without` are parameters that the tool does not have, each with what to do instead.
    """

    name: str
    title: str
    description: str
    destroys: bool = False
    is_idempotent: bool = False
    reaches_out: bool = False
    without: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A JSON-RPC method, as `method` declares it.

    The function also gets `token` (of the Idempotency-Key) if it `is_repeatable`, `llm_key` if it `takes_llm_key`, and
    `url`, which returns the base URL of the server as the caller knows it, if it `takes_url`. Unless it `is_async`, it only
    reads, and runs on a thread of the read pool, where users take turns; its reply is made and encoded there, too.
    """

    name: str
    function: Callable[..., Any]
    params: type[Params]
    answer: Any
    role: Role
    rest: Sequence[Rest]
    tool: Tool | None
    is_async: bool
    is_repeatable: bool
    takes_llm_key: bool
    takes_url: bool


_declared: Final[dict[str, dict[str, Method]]] = {TASKS: {}, SYSTEM: {}}


def method(
    *names: str,
    role: Role,
    answer: Any,
    given: type[Params] | None = None,
    rest: Iterable[Rest] = (),
    tool: Tool | None = None,
    paths: Iterable[str] = (TASKS,),
) -> Callable[[Function], Function]:
    """Declare a function `(caller, given) -> result` as a method. Further names are aliases, without REST and tool.

    `role` is the lowest one that may call it, and `answer` the type of the native result. `given` is the class of the
    parameters; default: the annotation of the function's.
    """

    def declare(function: Function) -> Function:
        known = signature(function).parameters
        for name in names:
            declared = Method(
                name=name,
                function=function,
                params=given or known["given"].annotation,
                answer=answer,
                role=role,
                rest=tuple(rest) if name == names[0] else (),
                tool=tool if name == names[0] else None,
                is_async=iscoroutinefunction(function),
                is_repeatable="token" in known,
                takes_llm_key="llm_key" in known,
                takes_url="url" in known,
            )
            for path in paths:
                _declared[path][name] = declared
        return function

    return declare


def declared(path: str) -> Mapping[str, Method]:
    """Return the methods of a path by name, in the order of the alphabet."""
    return MappingProxyType(dict(sorted(_declared[path].items())))


def has_one_of(*names: str) -> list[Json]:
    """Return JSON Schemas for an object that has one of the parameters, and not as null."""
    return [{"required": [name], "properties": {name: {"not": {"const": None}}}} for name in names]
