"""Converts the path, query and body of a REST request to the parameters of the JSON-RPC method."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, get_type_hints

from django.http import HttpRequest, QueryDict

from a2a.core.http import decoded
from a2a.core.parsing import MOST_SHOWN, Params, unknown_reason
from a2a.rest.operations import Operation
from accounts.callers import Caller
from tasks.rules.exceptions import InvalidParams

BOOLEANS: Final = MappingProxyType({"true": True, "false": False})
WHOLE_NUMBER: Final = re.compile("-?[0-9]{1,18}")


async def params_of(request: HttpRequest, operation: Operation, path: Mapping[str, str], *, caller: Caller) -> Any:
    """Return the parameters of the method. Raises InvalidParams, and the errors of `decoded`."""
    query, kind, rest = request.GET, operation.method.params, operation.rest
    _refuse_unknown(query, [*operation.query, *rest.also])
    _refuse_nul([*path.items(), *((name, text) for name, texts in query.lists() for text in texts)])
    given = {**path, **{name: _typed(name, query, kind) for name in query if name not in rest.also}}
    if not operation.body:
        return {**rest.always, **given}
    body = await _body(request, operation, caller)
    if not path:  # creation: the body has all parameters
        return body
    named = kind.named(body)
    _refuse_unknown(named, operation.body, hints=kind.HINTS)
    return {**named, **given}


async def _body(request: HttpRequest, operation: Operation, caller: Caller) -> Any:
    if not operation.rest.rules and not _has_body(request):
        return {}
    return await decoded(request, caller)


def _has_body(request: HttpRequest) -> bool:
    return request.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in request.headers


def _refuse_unknown(
    names: Mapping[str, Any], known: Sequence[str], *, hints: Mapping[str, str] = MappingProxyType({})
) -> None:
    unknown = [name[:MOST_SHOWN] for name in names if name not in known][:MOST_SHOWN]
    if unknown:
        raise InvalidParams([(name, hints.get(name) or unknown_reason(name, known)) for name in unknown])


def _refuse_nul(texts: Iterable[tuple[str, str]]) -> None:
    """Reject NUL characters in the URL, which PostgreSQL cannot store.

    The JSON decoder checks bodies.
    """
    problems = [(name, "contains a NUL character") for name, text in texts if "\0" in text]
    if problems:
        raise InvalidParams(problems)


def _typed(name: str, query: QueryDict, kind: type[Params]) -> Any:
    """Return a query parameter as a JSON value; a list if it occurs more than once."""
    wanted = get_type_hints(kind)[name]
    values = [_value(text, wanted) for text in query.getlist(name)]
    return values[0] if len(values) == 1 else values


def _value(text: str, wanted: Any) -> Any:
    """Convert the text to the wanted type.

    Text that does not fit stays text, and validation rejects it.
    """
    if wanted in (bool, bool | None):
        return BOOLEANS.get(text, text)
    is_number = wanted in (int, int | None)
    return int(text) if is_number and WHOLE_NUMBER.fullmatch(text) else text
