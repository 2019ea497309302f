"""The calls of tools in the sessions of clients up to 2025-11-25. Rows, so that they outlive a connection and a process.

Such a client cancels a call by a notification. A cut connection means nothing: the client may open the stream again, at
any process, with the id of the last event that it has.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from django.db import transaction

from a2a.core.jsonrpc import INVALID_REQUEST, Id
from a2a.mcp.eras import Exchange
from a2a.mcp.messages import McpError
from a2a.mcp.sessions import LASTS, Session
from a2a.methods.dispatch import require
from a2a.models import SessionCall
from accounts.callers import Caller, Role
from tasks.models import Run
from tasks.services.runs import cancels
from tasks.services.trees import Execution

NOTIFICATION: Final = "notifications/cancelled"
CANCELLED: Final = "The MCP client cancelled its call."
UNKNOWN_EVENT: Final = "Last-Event-ID must be the id of an event of this session. Call the tool again, or get_run."
MOST_EARLY: Final = 100
"""The maximum number of calls that are not there (yet), and that the client of a session has cancelled."""
MOST_CHARACTERS: Final = 255
"""A call whose id is longer is neither cancelled nor resumed."""
OLD_ROWS: Final = 1_000
"""The maximum number of calls of expired sessions that one `initialize` deletes."""


def start(
    verb: Callable[[], Execution], *, exchange: Exchange, with_tree: bool
) -> tuple[Execution, SessionCall | None]:
    """Call a function that starts a run, and store the call with it. A call that was cancelled meanwhile ends its run."""
    if exchange.session is None:
        return verb(), None
    with transaction.atomic():
        execution = verb()
        call = store(exchange, execution.run, starts_run=True, with_tree=with_tree)
        if call is not None and call.is_cancelled:
            cancel_run(exchange.caller, execution.run, message=CANCELLED)
    return execution, call


@transaction.atomic
def store(exchange: Exchange, run: Run, **facts: Any) -> SessionCall | None:
    """Store a call and return it, cancelled if its cancellation came first; None if its id is no key."""
    request = _key_of(exchange.call_id)
    if request is None:
        return None
    facts |= {"run_id": run.id, "progress_token": exchange.progress_token, "created_at": datetime.now(UTC)}
    call, is_new = SessionCall.objects.get_or_create(session=exchange.session, request=request, defaults=facts)
    if not is_new:  # an early cancellation, or a client that uses an id twice
        facts["is_cancelled"] = call.run_id is None
        SessionCall.objects.filter(pk=call.pk).update(**facts)
        call.refresh_from_db()
    return call


@transaction.atomic
def cancel(*, caller: Caller, session: Session, params: object) -> None:
    """Cancel a call of the session, and the run that it has started. A notification that names no call means nothing."""
    request = _key_of(params.get("requestId")) if isinstance(params, dict) else None
    of_session = SessionCall.objects.filter(session=session.id)
    is_known = of_session.filter(request=request).exists()
    if request is None or (not is_known and of_session.filter(run_id=None).count() >= MOST_EARLY):
        return
    facts = {"is_cancelled": True, "created_at": datetime.now(UTC)}
    call, is_early = of_session.get_or_create(session=session.id, request=request, defaults=facts)
    if is_early or call.is_cancelled:
        return
    SessionCall.objects.filter(pk=call.pk).update(is_cancelled=True)
    if call.starts_run and (run := Run.objects.unfinished().filter(id=call.run_id).first()) is not None:
        require(caller, Role.OPERATOR, what=NOTIFICATION)
        cancel_run(caller, run, message=CANCELLED)


def cancel_run(caller: Caller, run: Run, *, message: str) -> None:
    """Request the end of a run."""
    cancels.ask(caller=caller, task_ids=[run.target_id], force=False, message=message)


def is_cancelled(call: SessionCall) -> bool:
    """Return whether the client has cancelled the call: it then gets no reply."""
    return SessionCall.objects.filter(pk=call.pk, is_cancelled=True).exists()


def event_id(call: SessionCall | None, seq: int) -> str | None:
    """Return the id of an event of the run in the stream of the call; None if that cannot be resumed."""
    return None if call is None else f"{seq}:{call.pk}"


def resumed(*, caller: Caller, session: Session, last_event_id: str) -> tuple[SessionCall, Run, int]:
    """Return the call of an event id, its run, and the number of the event. Raises McpError."""
    seq, _, key = last_event_id.partition(":")
    if all(part.isascii() and part.isdecimal() and len(part) < 19 for part in (seq, key)):
        call = SessionCall.objects.filter(pk=int(key), session=session.id).first()
        run = Run.objects.for_caller(caller).filter(id=call.run_id).first() if call is not None else None
        if call is not None and run is not None:
            return call, run, int(seq)
    raise McpError(INVALID_REQUEST, UNKNOWN_EVENT)


def call_id_of(call: SessionCall) -> Id:
    """Return the id of the client's request."""
    found: Id = orjson.loads(call.request)
    return found


def delete_expired() -> None:
    """Delete some calls of sessions that have expired."""
    expired = SessionCall.objects.filter(created_at__lt=datetime.now(UTC) - LASTS)
    if keys := list(expired.values_list("pk", flat=True)[:OLD_ROWS]):
        SessionCall.objects.filter(pk__in=keys).delete()


def _key_of(call_id: object) -> str | None:
    """Return the id of a request as the key of a row; None if it cannot be one."""
    if not isinstance(call_id, str | int | float) or isinstance(call_id, bool):
        return None
    key = orjson.dumps(call_id).decode()
    return key if len(key) <= MOST_CHARACTERS else None
