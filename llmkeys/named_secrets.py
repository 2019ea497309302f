"""Manage named secrets: those of a user, and those that the operator shares with users.

They are encrypted before they are stored. Workers decrypt them for the run of a user who may use them, and the server to verify
the signature of a delivery to an inbound hook of such a user.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from apflow_site.db.turns import has_room
from llmkeys.cipher import is_newest, seal, unseal
from llmkeys.models import NamedSecret
from llmkeys.secret import Secret
from llmkeys.secret_forms import MOST_USERS, MalformedSecret, checked_hosts, checked_inputs, checked_name, checked_value

Scope = Literal["own", "shared"]
SHARED: Final = ""
"""The `user_id` of secrets that the operator shares; no user has it."""
MOST_NAMES: Final = 1_000
"""The number of names that one query may have; a request may have more."""
USED_STEP: Final = timedelta(minutes=1)
"""The precision of `used_at`: of many uses within it only one is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A decrypted secret. It may only be sent to `allow_hosts`, and used in `inputs_allowed`, if there are any."""

    name: str
    value: Secret
    allow_hosts: Sequence[str]
    inputs_allowed: Sequence[str]


@transaction.atomic
def set_secret(
    *,
    user_id: str,
    name: str,
    value: Secret,
    scope: Scope = "own",
    allow_hosts: Iterable[str] | None = None,
    allow_in: Iterable[str] | None = None,
    users: Iterable[str] | None = None,
) -> NamedSecret:
    """Store a secret, replacing an earlier one of that name and scope.

    `allow_hosts` and, for a shared secret, `users` restrict its use; empty ones do not, and None
    leaves those of the secret that is replaced. So does `allow_in`, the inputs in which tasks may use it:
    without it, a secret with hosts may only be used in credentials. Raises MalformedSecret.
    """
    owner = SHARED if scope == "shared" else user_id
    of_owner, most = NamedSecret.objects.filter(user_id=owner), settings.APFLOW.limits.secrets_per_user
    has_one_more = has_room(of_owner.exclude(name=checked_name(name)), of=owner, most=most)
    present = of_owner.filter(name=name).first()
    if present is None and not has_one_more:
        whose = "shared secrets" if owner == SHARED else "secrets of yours"
        raise MalformedSecret(
            "name", f"there are {most} {whose} already, as many as limits.secrets_per_user allows. Delete one first"
        )
    kept = present or NamedSecret(user_id=owner, name=name, allow_hosts=[], users=[])
    if allow_hosts is not None:
        kept.allow_hosts = checked_hosts(allow_hosts)
    if allow_in is not None:
        kept.allow_in = checked_inputs(allow_in)
    if users is not None:
        kept.users = list(dict.fromkeys(users))
        if kept.users and scope != "shared":
            raise MalformedSecret("users", "only for a shared secret: set scope to 'shared'")
        if len(kept.users) > MOST_USERS:
            raise MalformedSecret("users", f"names more than {MOST_USERS:,} users")
    text = checked_value(value.reveal(), max_bytes=settings.APFLOW.limits.secret_bytes)
    fields = {
        "sealed": seal(text, context=_context(owner, name)),
        "allow_hosts": kept.allow_hosts,
        "allow_in": kept.allow_in,
        "users": kept.users,
        "created_at": datetime.now(UTC),
        "used_at": None,
    }
    stored, _ = NamedSecret.objects.update_or_create(user_id=owner, name=name, defaults=fields)
    return stored


def list_secrets(*, user_id: str, sees_all: bool = False) -> list[NamedSecret]:
    """Return the user's own secrets and those that are shared with the user, by name, the own ones first.

    With `sees_all`, all shared ones.
    """
    rows = NamedSecret.objects.filter(Q(user_id=user_id) | Q(user_id=SHARED)).order_by("name", "-user_id")
    return [row for row in rows if sees_all or _may_use(row, user_id)]


def delete_secret(*, user_id: str, name: str, scope: Scope = "own") -> bool:
    """Delete a secret. False: there was none."""
    owner = SHARED if scope == "shared" else user_id
    return NamedSecret.objects.filter(user_id=owner, name=name).delete()[0] == 1


def usable(*, user_id: str, names: Collection[str]) -> dict[str, NamedSecret]:
    """Map those of the names to their secrets that the user may use. An own secret goes before a shared one."""
    rows = NamedSecret.objects.filter(Q(user_id=user_id) | Q(user_id=SHARED)).order_by("user_id")
    if len(names) <= MOST_NAMES:
        rows = rows.filter(name__in=names)
    return {row.name: row for row in rows if row.name in names and _may_use(row, user_id)}


def usable_names(*, user_id: str) -> list[str]:
    """Return the names of all secrets that the user may use."""
    return list(dict.fromkeys(row.name for row in list_secrets(user_id=user_id)))


def opened(*, user_id: str, names: Collection[str]) -> dict[str, Opened]:
    """Decrypt those of the named secrets that the user may use, and record the use.

    Only in worker processes. Sync. Raises CannotUnseal.
    """
    rows = usable(user_id=user_id, names=names)
    found = {
        name: Opened(
            name=row.name, value=_decrypted(row), allow_hosts=row.allow_hosts, inputs_allowed=row.inputs_allowed
        )
        for name, row in rows.items()
    }
    record_use(rows.values())
    return found


def verifying(*, user_id: str, names: Collection[str]) -> dict[str, tuple[NamedSecret, Secret]]:
    """Decrypt those of the named secrets that the user may use, to verify a signature with them. They leave the process with nothing.

    The use is to be recorded (`record_use`) once the signature is valid. Sync. Raises CannotUnseal.
    """
    return {name: (row, _decrypted(row)) for name, row in usable(user_id=user_id, names=names).items()}


def record_use(rows: Iterable[NamedSecret]) -> None:
    """Record that the secrets have been used now."""
    now = datetime.now(UTC)
    stale = [row.id for row in rows if row.used_at is None or now - row.used_at >= USED_STEP]
    if stale:
        NamedSecret.objects.filter(id__in=stale).update(used_at=now)


def open_all() -> int:
    """Decrypt every secret, as a check. Returns their number. Raises CannotUnseal."""
    return len([_decrypted(row) for row in NamedSecret.objects.iterator()])


def rotate() -> int:
    """Encrypt secrets again that an older encryption key encrypted. Returns their number. Raises CannotUnseal."""
    count = 0
    for row in NamedSecret.objects.iterator():
        if not is_newest(row.sealed):
            context = _context(row.user_id, row.name)
            same = NamedSecret.objects.filter(id=row.id, sealed=row.sealed)
            count += same.update(sealed=seal(unseal(row.sealed, context=context), context=context))
    return count


def _may_use(row: NamedSecret, user_id: str) -> bool:
    return row.user_id == user_id or not row.users or user_id in row.users


def _decrypted(row: NamedSecret) -> Secret:
    return Secret(unseal(row.sealed, context=_context(row.user_id, row.name)))


def _context(owner: str, name: str) -> str:
    return json.dumps(["named_secret", owner, name])
