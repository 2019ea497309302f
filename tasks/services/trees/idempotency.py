"""Idempotent requests: a repetition gets the outcome of the first."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar, cast

import orjson
from django.db import transaction
from django.db.models import QuerySet

from accounts.callers import Caller
from llmkeys.cipher import CannotUnseal, seal, unseal
from tasks.models import IdempotencyKey, Run, Task, Webhook
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services.trees import Created, Execution
from tasks.services.trees.queries import get_task, get_tree

T = TypeVar("T", bound=Created | Execution)
Outcome = TypeVar("Outcome")

HEADER: Final = "Idempotency-Key"
KEPT_HOURS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The client's Idempotency-Key and a SHA-256 of the request that it came with."""

    key: str
    request_hash: str


class KeyReused(InvalidParams):
    """The key came with another request within the last KEPT_HOURS."""

    def __init__(self) -> None:
        super().__init__([(HEADER, "was used for another request within the last 24 hours: use a new key")])


def once(verb: Callable[..., T], *, caller: Caller, token: Token | None, **arguments: Any) -> T:
    """Call a function of `tasks.services.trees`, or return the outcome of the first call by the
    token.

    A repetition waits until the first call has committed. Raises InvalidParams for a different
    request with the same key, and what the function raises; then nothing is stored.
    """
    call = partial(verb, caller=caller, **arguments)
    if token is None:
        return call()
    # The hash also identifies the function.
    restore = partial(_restored, caller)
    return cast(T, remembered(call, caller=caller, token=token, outcome_of=_outcome, restore=restore))


@transaction.atomic
def remembered(
    call: Callable[[], Outcome],
    *,
    caller: Caller,
    token: Token,
    outcome_of: Callable[[Outcome], Json],
    restore: Callable[[Json], Outcome],
) -> Outcome:
    """Call the function, or restore the outcome of the first call by the token.

    A repetition waits until the first call has committed. Raises InvalidParams for a different
    request with the same key, and what the function raises; then nothing is stored.
    """
    _keys(caller, token).filter(created_at__lt=_oldest()).delete()
    row = IdempotencyKey(
        user_id=caller.user_id, key=token.key, request_hash=token.request_hash, created_at=datetime.now(UTC)
    )
    IdempotencyKey.objects.bulk_create([row], ignore_conflicts=True)  # waits for the first commit
    row = _keys(caller, token).get()
    _check_same(row, token)
    if row.outcome is not None:
        return restore(row.outcome)
    result = call()
    _keys(caller, token).update(outcome=outcome_of(result))
    return result


def known_response(*, caller: Caller, token: Token) -> Any:
    """Return the stored reply to this request, or None.

    Raises InvalidParams for a different request.
    """
    row = _keys(caller, token).filter(created_at__gte=_oldest()).first()
    if row is None:
        return None
    _check_same(row, token)
    return _decrypted(row)


def keep_response(*, caller: Caller, token: Token, response: Any) -> Any:
    """Store the reply for repetitions, encrypted: it may contain a secret that is shown once.

    Returns the reply that was stored first.
    """
    kept = seal(orjson.dumps(response).decode(), context=_context(caller.user_id, token.key))
    _keys(caller, token).filter(response=None).update(response=kept)
    row = _keys(caller, token).first()
    return (_decrypted(row) if row else None) or response


def old_keys() -> "QuerySet[IdempotencyKey]":
    """Return the keys older than `KEPT_HOURS`."""
    return IdempotencyKey.objects.filter(created_at__lt=_oldest())


def _decrypted(row: IdempotencyKey) -> Any:
    """Return the stored reply; None if there is none, or if it cannot be decrypted any more.

    The caller then builds the reply again from the outcome.
    """
    if row.response is None:
        return None
    with suppress(CannotUnseal):
        return orjson.loads(unseal(row.response, context=_context(row.user_id, row.key)))
    return None


def _context(user_id: str, key: str) -> str:
    return f"reply:{user_id}:{key}"


def _keys(caller: Caller, token: Token) -> "QuerySet[IdempotencyKey]":
    return IdempotencyKey.objects.filter(user_id=caller.user_id, key=token.key)


def _oldest() -> datetime:
    return datetime.now(UTC) - timedelta(hours=KEPT_HOURS)


def _check_same(row: IdempotencyKey, token: Token) -> None:
    if row.request_hash != token.request_hash:
        raise KeyReused


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


def _restored(caller: Caller, outcome: Json) -> Created | Execution:
    """Return the stored outcome with its current rows.

    Raises TaskNotFound if the tree has been deleted.
    """
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
