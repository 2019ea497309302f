"""A key's way from the request to the worker: sealed in a row that is written, handed over and erased by the transactions of its run."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import connection
from django.db.models import QuerySet

from llmkeys.cipher import is_newest, seal, unseal
from llmkeys.header import SentKey
from llmkeys.models import RunSecret
from llmkeys.secret import Secret

WAITING: Final = timedelta(hours=24)
"""How long a key waits for the next run of its tree."""
RUNNING: Final = timedelta(days=7)
"""A key is erased when its run ends; this is for runs that never do."""


def keep(sent: SentKey, *, tree_id: str, run_id: str | None, user_id: str, model_names: Iterable[str]) -> None:
    """Keep a key for a run, or, without one, for the tree's next. The user's last word replaces what waits."""
    _waiting(tree_id, user_id).delete()
    RunSecret.objects.create(
        tree_id=tree_id,
        run_id=run_id,
        user_id=user_id,
        provider=sent.provider,
        model_names=list(model_names),
        sealed=_sealed(sent.key, tree_id, user_id),
        expires_at=datetime.now(UTC) + (RUNNING if run_id else WAITING),
    )


def is_any_waiting(*, tree_id: str, user_id: str) -> bool:
    """Whether the user has sent a key for the tree's next run."""
    return _waiting(tree_id, user_id).exists()


def hand_over(*, tree_id: str, run_id: str, user_id: str, model_names: Iterable[str]) -> None:
    """Give a run the key that its user sent for it. Another user's stays where it is."""
    _waiting(tree_id, user_id).update(
        run_id=run_id, model_names=list(model_names), expires_at=datetime.now(UTC) + RUNNING
    )


def find(run_id: str) -> RunSecret | None:
    """The row of a run, unless it has expired."""
    return RunSecret.objects.filter(run_id=run_id, expires_at__gt=datetime.now(UTC)).first()


def opened(row: RunSecret) -> Secret:
    """The key itself. Raises CannotUnseal."""
    return Secret(unseal(row.sealed, context=_context(row.tree_id, row.user_id)))


def erase(run_ids: Sequence[str]) -> None:
    """Forget the keys of runs that have ended; called in the transaction that ends them."""
    with connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(run_ids))
        cursor.execute(f"DELETE FROM llmkeys_runsecret WHERE run_id IN ({marks})", run_ids)  # noqa: S608  (only marks)


def erase_of_tree(tree_id: str) -> None:
    """Forget what waits for a tree that is no more."""
    RunSecret.objects.filter(tree_id=tree_id).delete()


def erase_expired() -> None:
    """Forget the keys whose time is up."""
    expired = RunSecret.objects.filter(expires_at__lte=datetime.now(UTC))
    if expired.exists():  # asked every few seconds; a DELETE would take the write lock
        expired.delete()


def open_all() -> int:
    """How many keys there are. Raises CannotUnseal when one does not open."""
    return len([opened(row) for row in RunSecret.objects.all()])


def rotate() -> int:
    """Seal anew, with the newest key, what an older one sealed. Returns how much that was. Raises CannotUnseal."""
    return len([row for row in RunSecret.objects.all() if _rotate(row)])


def _rotate(row: RunSecret) -> bool:
    if is_newest(row.sealed):
        return False
    return RunSecret.objects.filter(id=row.id).update(sealed=_sealed(opened(row), row.tree_id, row.user_id)) == 1


def _sealed(key: Secret, tree_id: str, user_id: str) -> str:
    return seal(key.reveal(), context=_context(tree_id, user_id))


def _waiting(tree_id: str, user_id: str) -> "QuerySet[RunSecret]":
    return RunSecret.objects.filter(tree_id=tree_id, run_id=None, user_id=user_id, expires_at__gt=datetime.now(UTC))


def _context(tree_id: str, user_id: str) -> str:
    return json.dumps(["run_secret", tree_id, user_id])
