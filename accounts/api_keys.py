"""API keys: `apf_…`, for programs. They work wherever a token does, until they expire or are revoked."""

import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from django.contrib.auth.models import User
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts.callers import Caller, Role
from accounts.models import APIKey
from accounts.prepared_query import Prepared
from accounts.users import Refused, role_in_sql, role_of

START: Final = "apf_"
RANDOM_BYTES: Final = 40  # the prefix shows 48 of the 320 bits
PREFIX_CHARACTERS: Final = 12
USE_SECONDS: Final = 60
"""`last_used_at` is written at most so often: a key that is used all the time must not cost a write each time."""


def create_key(
    user: User,
    *,
    name: str,
    role: Role | None = None,
    is_read_only: bool = False,
    lifetime: timedelta | None = None,
) -> tuple[APIKey, str]:
    """A new key of a user of `users.with_role`, and its text, which nobody can read again. Raises Refused."""
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise Refused("The name of a key has 1 to 100 printable characters. It says what the key is for.")
    if role is not None and role > role_of(user):
        raise Refused(f"A key has at most the role of its owner: '{user.username}' is {role_of(user)}.")
    text = START + secrets.token_urlsafe(RANDOM_BYTES)
    key = APIKey.objects.create(
        user=user,
        name=name,
        prefix=text[:PREFIX_CHARACTERS],
        hash=_hash(text),
        role_limit=role or role_of(user),
        is_read_only=is_read_only,
        expires_at=timezone.now() + lifetime if lifetime else None,
    )
    return key, text


def keys_of(user: User | None = None) -> QuerySet[APIKey]:
    """The keys that work, of a user or of all, the newest first."""
    mine = Q(user=user) if user else Q()
    is_live = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    return APIKey.objects.filter(mine, is_live, revoked_at=None).select_related("user").order_by("-created_at")


def revoke_key(prefix: str, *, user: User | None = None) -> APIKey:
    """End a key by its prefix, or by its whole text; with a user only one of theirs. Raises Refused."""
    key = keys_of(user).filter(prefix=prefix[:PREFIX_CHARACTERS]).first()
    if key is None:
        raise Refused(f"There is no key '{prefix[:PREFIX_CHARACTERS]}'. See: aipartnerupflow tokens list")
    APIKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
    return key


def caller_of_key(text: str) -> Caller | None:
    """Whom a key speaks for, by one query. None: it does not work, or not any more."""
    now = timezone.now()
    key: Any = _key.first(key_hash=_hash(text))  # annotated
    if key is None or (key.expires_at is not None and key.expires_at <= now):
        return None
    _note_use(key, now=now)
    role = Role(min(key.role_limit, key.owner_role))
    return Caller(user_id=key.owner, role=role, is_read_only=key.is_read_only)


def _key_of_active_user(key_hash: str) -> QuerySet[APIKey]:
    keys = APIKey.objects.filter(hash=key_hash, revoked_at=None, user__is_active=True)
    return keys.annotate(owner=F("user__username"), owner_role=role_in_sql("user__"))


_key: Final = Prepared(_key_of_active_user)


def _note_use(key: APIKey, *, now: datetime) -> None:
    if key.last_used_at is None or now - key.last_used_at >= timedelta(seconds=USE_SECONDS):
        APIKey.objects.filter(pk=key.pk, last_used_at=key.last_used_at).update(last_used_at=now)


def _hash(text: str) -> str:
    # Fast on purpose: there is nothing to guess in random bits.
    return sha256(text.encode(errors="replace")).hexdigest()
