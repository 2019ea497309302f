"""Requests that are safe to repeat: what the first one came to is stored with it, and answers the others (contract, section 1, "Ids")."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, cast

import orjson
from django.db import transaction
from django.db.models import QuerySet

from accounts.callers import Caller
from llmkeys.cipher import CannotUnseal, seal, unseal
from tasks.models import IdempotencyKey, Run, Task, Webhook
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services.queries import get_task, get_tree
from tasks.services.trees import Created, Execution

T = TypeVar("T", bound=Created | Execution)

HEADER: Final = "Idempotency-Key"
KEPT_HOURS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a client says that a request is the same by. `request_hash` tells whether it really is."""

    key: str
    request_hash: str


def once(verb: Callable[..., T], *, caller: Caller, token: Token | None, **arguments: Any) -> T:
    """Carry out a verb of `tasks.services.trees`, or, with a token, return what it came to the first time, when that has ended.

    Raises InvalidParams for another request under the same key, and what the verb raises; then nothing is kept.
    """
    if token is None:
        return verb(caller=caller, **arguments)
    with transaction.atomic():
        row = _own_row(caller, token)
        if row.outcome is not None:
            return cast(T, _recalled(caller, row.outcome))  # the hash stands for the verb, too
        result = verb(caller=caller, **arguments)
        _keys(caller, token).update(outcome=_outcome(result))
        return result


def known_response(*, caller: Caller, token: Token) -> Any:
    """The reply that this request got before; None where there is none yet. Raises InvalidParams for another request."""
    row = _keys(caller, token).filter(created_at__gte=_oldest()).first()
    if row is None:
        return None
    _check_same(row, token)
    return _opened(row)


def keep_response(*, caller: Caller, token: Token, response: Any) -> Any:
    """Keep the reply for repetitions, sealed: it may tell a secret once. Returns the one that was kept first."""
    kept = seal(orjson.dumps(response).decode(), context=_context(caller.user_id, token.key))
    _keys(caller, token).filter(response=None).update(response=kept)
    row = _keys(caller, token).first()
    return (_opened(row) if row else None) or response


def forget_old() -> None:
    """Delete what is older than a client may count on."""
    old = IdempotencyKey.objects.filter(created_at__lt=_oldest())
    if old.exists():  # asked every few seconds; a DELETE would take the write lock
        old.delete()


def _opened(row: IdempotencyKey) -> Any:
    """The reply that was kept. None: there is none, or none that can be read any more; then it is made again of the outcome."""
    if row.response is None:
        return None
    with suppress(CannotUnseal):
        return orjson.loads(unseal(row.response, context=_context(row.user_id, row.key)))
    return None


def _context(user_id: str, key: str) -> str:
    return f"reply:{user_id}:{key}"


def _keys(caller: Caller, token: Token) -> "QuerySet[IdempotencyKey]":
    return IdempotencyKey.objects.filter(user_id=caller.user_id, key=token.key)


def _own_row(caller: Caller, token: Token) -> IdempotencyKey:
    """The row of this key, ours or an earlier one: who comes second waits here for the first one's commit."""
    _keys(caller, token).filter(created_at__lt=_oldest()).delete()
    row = IdempotencyKey(
        user_id=caller.user_id, key=token.key, request_hash=token.request_hash, created_at=datetime.now(UTC)
    )
    IdempotencyKey.objects.bulk_create([row], ignore_conflicts=True)
    row = _keys(caller, token).get()
    _check_same(row, token)
    return row


def _oldest() -> datetime:
    return datetime.now(UTC) - timedelta(hours=KEPT_HOURS)


def _check_same(row: IdempotencyKey, token: Token) -> None:
    if row.request_hash != token.request_hash:
        raise InvalidParams([(HEADER, "was used for another request within the last 24 hours: choose a new one")])


def _outcome(result: Created | Execution) -> Json:
    outcome: Json = {
        "ids": result.ids,
        "warnings": result.warnings,
        "run_id": result.run.id if result.run else None,
        "webhook_id": result.webhook.id if result.webhook else None,
    }
    if isinstance(result, Created):
        return outcome | {"created": result.root.id}
    return outcome | {
        "executed": result.task.id,
        "started": result.started,
        "original_task_id": result.original_task_id,
    }


def _recalled(caller: Caller, outcome: Json) -> Created | Execution:
    """Raises TaskNotFound when the tree has been deleted since."""
    common: Json = {
        "run": Run.objects.filter(id=outcome["run_id"]).first(),
        "webhook": Webhook.objects.filter(id=outcome.get("webhook_id")).first(),
        "ids": outcome["ids"],
        "warnings": outcome["warnings"],
    }
    if "created" in outcome:
        tasks = get_tree(caller=caller, task_id=outcome["created"])
        return Created(tasks=tasks, root=next(task for task in tasks if task.is_root), **common)
    task: Task = get_task(caller=caller, task_id=outcome["executed"])
    return Execution(task=task, started=outcome["started"], original_task_id=outcome["original_task_id"], **common)
