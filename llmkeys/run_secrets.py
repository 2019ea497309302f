"""Keys sent with a request: encrypted rows, written and erased by the transactions of their run."""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import connection
from django.db.models import QuerySet

from llmkeys.cipher import is_newest, seal, unseal
from llmkeys.models import RunSecret
from llmkeys.providers import SentKey
from llmkeys.secret import Secret

WAITING: Final = timedelta(hours=24)
"""The time for which a key waits for the next run of its tree."""
RUNNING: Final = timedelta(days=7)
"""A key is erased when its run ends; this limit is for runs that never end."""


def keep(sent: SentKey, *, tree_id: str, run_id: str | None, user_id: str, model_names: Iterable[str]) -> None:
    """Store a key for a run or, without `run_id`, for the tree's next run.

    It replaces the user's waiting key.
    """
    _waiting(tree_id, user_id).delete()
    _store(sent, tree_id=tree_id, run_id=run_id, user_id=user_id, model_names=model_names)


def _store(sent: SentKey, *, tree_id: str, run_id: str | None, user_id: str, model_names: Iterable[str]) -> None:
    RunSecret.objects.create(
        tree_id=tree_id,
        run_id=run_id,
        user_id=user_id,
        provider=sent.provider,
        model_names=list(model_names),
        sealed=_encrypted(sent.key, tree_id, user_id),
        expires_at=datetime.now(UTC) + (RUNNING if run_id else WAITING),
    )


def is_any_waiting(*, tree_id: str, user_id: str) -> bool:
    """Return whether the user has sent a key for the tree's next run."""
    return _waiting(tree_id, user_id).exists()


def hand_over(*, tree_id: str, run_id: str, user_id: str, model_names: Iterable[str]) -> None:
    """Assign the key that the user sent for it to the run. Keys of other users are not touched."""
    _waiting(tree_id, user_id).update(
        run_id=run_id, model_names=list(model_names), expires_at=datetime.now(UTC) + RUNNING
    )


def pass_on(*, from_run_id: str, tree_id: str, run_id: str, model_names: Iterable[str]) -> None:
    """Give a run the key of another run of the same user, if that has one. Raises CannotUnseal."""
    row = find(from_run_id)
    if row is not None:
        key = SentKey(provider=row.provider, key=opened(row))
        _store(key, tree_id=tree_id, run_id=run_id, user_id=row.user_id, model_names=model_names)


def find(run_id: str) -> RunSecret | None:
    """Return the row of a run, unless it has expired."""
    return RunSecret.objects.filter(run_id=run_id, expires_at__gt=datetime.now(UTC)).first()


def opened(row: RunSecret) -> Secret:
    """Return the decrypted key. Raises CannotUnseal."""
    return Secret(unseal(row.sealed, context=_context(row.tree_id, row.user_id)))


def erase(run_ids: Sequence[str]) -> None:
    """Delete the keys of runs that have ended, in the transaction that ends them."""
    with connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(run_ids))
        cursor.execute(f"DELETE FROM llmkeys_runsecret WHERE run_id IN ({marks})", run_ids)  # noqa: S608  (only marks)


def erase_of_trees(tree_ids: Collection[str]) -> None:
    """Delete the keys of deleted trees."""
    RunSecret.objects.filter(tree_id__in=tree_ids).delete()


def erase_expired() -> None:
    """Delete the expired keys."""
    expired = RunSecret.objects.filter(expires_at__lte=datetime.now(UTC))
    if expired.exists():  # checked every few seconds; a DELETE would take the write lock
        expired.delete()


def open_all() -> int:
    """Decrypt every key, as a check. Returns their number. Raises CannotUnseal."""
    return len([opened(row) for row in RunSecret.objects.all()])


def rotate() -> int:
    """Encrypt keys again that an older encryption key encrypted.

    Returns their number. Raises CannotUnseal.
    """
    count = 0
    for row in RunSecret.objects.all():
        if not is_newest(row.sealed):
            sealed = _encrypted(opened(row), row.tree_id, row.user_id)
            count += RunSecret.objects.filter(id=row.id).update(sealed=sealed)
    return count


def _encrypted(key: Secret, tree_id: str, user_id: str) -> str:
    return seal(key.reveal(), context=_context(tree_id, user_id))


def _waiting(tree_id: str, user_id: str) -> "QuerySet[RunSecret]":
    return RunSecret.objects.filter(tree_id=tree_id, run_id=None, user_id=user_id, expires_at__gt=datetime.now(UTC))


def _context(tree_id: str, user_id: str) -> str:
    return json.dumps(["run_secret", tree_id, user_id])
