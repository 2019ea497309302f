"""A2A over JSON-RPC, in both versions, next to our dotted methods at `POST /` (A2A 1.0, section 9)."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from difflib import get_close_matches

from a2a.core.exceptions import UnknownMethod
from a2a.core.http import Headers
from a2a.core.jsonrpc import Call, Failure, Reply
from a2a.core.metrics import metered
from a2a.live import sse
from a2a.methods import METHODS, dispatch
from a2a.methods.dispatch import Dialect, Outcome, encoded
from a2a.protocol.bindings import perform
from a2a.protocol.errors import as_failure
from a2a.protocol.operations import OPERATIONS
from a2a.protocol.versions import V0_3, VERSIONS, Version
from accounts.callers import Caller
from tasks.rules.strict_json import Json


async def carry_out(call: Call, *, caller: Caller, headers: Headers) -> Outcome:
    """Execute one request. Does not raise: errors become failures."""

    def frame(update: Json) -> bytes:  # a JSON-RPC response for each update (section 9.4.2)
        return sse.frame(Reply(id=call.id, result=update).to_json())

    try:
        with metered(call.method):
            version = _version_of(call.method)
            name = version.methods[call.method]
            encode = frame if OPERATIONS[name].streams else encoded
            result = await perform(name, call.params, version=version, caller=caller, headers=headers, encode=encode)
            if isinstance(result, AsyncGenerator):
                outcome = Outcome(answer=None, replies=result)
            else:
                outcome = Outcome(answer=Reply(id=call.id, result=result))
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        outcome = _failed(as_failure(error, call_id=call.id), call, is_single=headers.is_single)
    return Outcome(answer=None) if call.is_notification else outcome


def _failed(failure: Failure, call: Call, *, is_single: bool) -> Outcome:
    """Return the outcome of a call that failed.

    In 0.3 it is a stream where a stream was asked for: its clients read nothing else, unless the
    HTTP status is that of an error.
    """

    async def stream() -> AsyncGenerator[list[bytes]]:
        yield [sse.frame(failure.to_json())]

    operation = V0_3.methods.get(call.method)
    if failure.http_status == 200 and is_single and operation is not None and OPERATIONS[operation].streams:
        return Outcome(answer=None, replies=stream())
    return Outcome(answer=failure)


def _version_of(method: str) -> Version:
    """Return the version that has this method. Raises UnknownMethod, with similar names."""
    found = next((version for version in VERSIONS if method in version.methods), None)
    if found is not None:
        return found
    known = [*METHODS, *(name for version in VERSIONS for name in version.methods)]
    close = get_close_matches(method[:100], known)  # longer names match nothing and are expensive to compare
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Known methods: {', '.join(known)}."
    raise UnknownMethod(f"Method '{method[:100]}' not found. {hint}")


#: The methods of `POST /`: ours with A2A objects as results, and those of A2A.
A2A: Dialect = replace(dispatch.A2A, other=carry_out, failure=as_failure)
