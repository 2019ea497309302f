"""API keys for programs: `apf_…`. They are accepted like tokens, until they expire or are revoked."""

import secrets
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller, Role
from accounts.models import APIKey
from accounts.users import Refused, role_in_sql, role_of
from apflow_site.db.prepared import Prepared

START: Final = "apf_"
RANDOM_BYTES: Final = 40  # the prefix shows 48 of the 320 bits
PREFIX_CHARACTERS: Final = 12
USE_SECONDS: Final = 60
"""The least interval between two updates of `last_used_at`: not every request causes a write."""


@transaction.atomic
def create_key(
    user: User,
    *,
    name: str,
    role: Role | None = None,
    is_read_only: bool = False,
    lifetime: timedelta | None = None,
    actor: str | None = None,
) -> tuple[APIKey, str]:
    """Create a key and return it with its text, of which only a hash is stored.

    `user` comes from `users.with_role`. Without `role`, the key has the user's role; without
    `lifetime`, it does not expire. `actor` is the user who creates it. Raises Refused for a malformed name or a role above the user's.
    """
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise Refused("The name of a key must have 1 to 100 printable characters.")
    if role is not None and role > role_of(user):
        raise Refused(
            f"The role of a key cannot exceed that of its owner: '{user.username}' has the role {role_of(user)}."
        )
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
    audit.record(
        Action.API_KEY_CREATED,
        actor=actor,
        target=f"{key.prefix}…",
        owner=user.username,
        name=name,
        role=str(Role(key.role_limit)),
        is_read_only=is_read_only,
    )
    return key, text


def keys_of(user: User | None = None) -> QuerySet[APIKey]:
    """Active keys of a user, or of all users, the newest first."""
    mine = Q(user=user) if user else Q()
    is_live = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    return APIKey.objects.filter(mine, is_live, revoked_at=None).select_related("user").order_by("-created_at")


@transaction.atomic
def revoke_key(prefix: str, *, user: User | None = None, actor: str | None = None) -> APIKey:
    """Revoke an active key by its prefix or its whole text. With `user`, only a key of that user.

    `actor` is the user who revokes it. Raises Refused if there is none.
    """
    key = keys_of(user).filter(prefix=prefix[:PREFIX_CHARACTERS]).first()
    if key is None:
        raise Refused(
            f"No active API key starts with '{prefix[:PREFIX_CHARACTERS]}'. List them: aipartnerupflow tokens list"
        )
    key.revoked_at = timezone.now()
    key.save(update_fields=["revoked_at"])
    owner, name = key.user.username, key.name
    audit.record(Action.API_KEY_REVOKED, actor=actor, target=f"{key.prefix}…", owner=owner, name=name)
    return key


def caller_of_key(text: str) -> Caller | None:
    """Return the caller that a key authenticates, by one query; None if the key is not active."""
    now = timezone.now()
    key: Any = _key.first(key_hash=_hash(text))  # annotated
    if key is None or (key.expires_at is not None and key.expires_at <= now):
        return None
    if key.last_used_at is None or now - key.last_used_at >= timedelta(seconds=USE_SECONDS):
        APIKey.objects.filter(pk=key.pk, last_used_at=key.last_used_at).update(last_used_at=now)
    role = Role(min(key.role_limit, key.owner_role))
    return Caller(user_id=key.owner, role=role, is_read_only=key.is_read_only)


@Prepared
def _key(*, key_hash: str) -> QuerySet[APIKey]:
    keys = APIKey.objects.filter(hash=key_hash, revoked_at=None, user__is_active=True)
    return keys.annotate(owner=F("user__username"), owner_role=role_in_sql("user__"))


def _hash(text: str) -> str:
    # A fast hash is safe here: the keys are random, so they cannot be guessed from a dictionary.
    return sha256(text.encode(errors="replace")).hexdigest()
