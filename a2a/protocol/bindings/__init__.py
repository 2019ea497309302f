"""Shared by all bindings: check a request, call the operation, translate the result."""

from collections.abc import AsyncGenerator, Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Final

from a2a.core.http import Headers
from a2a.core.jsonrpc import Call
from a2a.core.metrics import note
from a2a.live import stream_limits
from a2a.methods.dispatch import encoded, require, token_of
from a2a.protocol.file_parts import with_links
from a2a.protocol.operations import OPERATIONS
from a2a.protocol.params import RequestContext
from a2a.protocol.parts import has_file_part
from a2a.protocol.versions import Version, check_extensions, check_version
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.events import FEW
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.storage.loads import charge

OF_CLIENTS: Final = frozenset({"data", "metadata"})
"""Fields whose contents belong to the client."""


def in_camel_case(params: Any) -> Any:
    """Return parameters of A2A with `taskId` for `task_id`, and so on. A name that is there in both forms keeps its camel case value."""
    if isinstance(params, dict):
        named: Json = {}
        for name, value in params.items():
            first, *rest = name.split("_")
            camel = first + "".join(word[:1].upper() + word[1:] for word in rest) if first and rest else name
            if camel == name or camel not in params:
                named[camel] = value if name in OF_CLIENTS else in_camel_case(value)
        return named
    if isinstance(params, list):
        return [in_camel_case(item) for item in params]
    return params


async def perform(
    name: str,
    params: Any,
    *,
    version: Version,
    caller: Caller,
    headers: Headers,
    is_text: bool = False,
    encode: Callable[[Any], Any] = encoded,
) -> Any:
    """Execute an operation. Returns its result, or a generator of lists of StreamResponses, as `encode` makes them.

    Results are made and encoded on a thread of the read pool, where users take turns. `is_text`: the parameters are
    strings, as in a query. Raises the errors of the request, and LimitReached.
    """
    operation = OPERATIONS[name]
    note(user=caller.user_id)
    charge(caller.user_id)
    if operation.streams:  # before the message is stored
        stream_limits.open_streams().refuse_if_full(caller)
    check_version(version, asked=headers.a2a_version)
    check_extensions(headers.a2a_extensions)
    require(caller, operation.role, what=name)
    if operation.require is not None:
        operation.require()
    if operation.streams and not headers.is_single:
        raise InvalidParams([("method", "not allowed in a batch: a stream is the reply to a single request")])
    is_repeatable = headers.idempotency_key is not None and operation.is_repeatable
    asked = RequestContext(
        caller=caller,
        url=headers.url,
        version=version.name,
        token=token_of(Call(method=name, params=params), dialect="a2a", headers=headers) if is_repeatable else None,
        llm_key=headers.sent_key(),
    )
    given = version.params(name, in_camel_case(params))
    call = partial(operation.function, asked, operation.params.parse(given, is_text=is_text))

    def sent(result: Any) -> Any:
        if isinstance(result, dict):
            note(run=result.get("task", result).get("id"))
            if has_file_part(result):
                result = with_links(result, caller=caller, url=headers.url())
        return encode(version.result(name, result))

    if not iscoroutinefunction(operation.function):
        return await pools.read(lambda: sent(call()))
    result = await call()
    return _sent(result, sent) if operation.streams else await pools.read(sent, result)


async def _sent(pages: AsyncGenerator[list[Json]], encode: Callable[[Json], Any]) -> AsyncGenerator[list[Any]]:
    def all_encoded(page: list[Json]) -> list[Any]:
        return [encode(response) for response in page]

    try:
        async for page in pages:
            is_small = len(page) <= FEW and "task" not in page[0] and not any(map(has_file_part, page))
            yield all_encoded(page) if is_small else await pools.read(all_encoded, page)
    finally:
        await pages.aclose()
