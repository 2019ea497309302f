"""The callers of the last second: their next requests are authenticated without a query."""

import time
from collections.abc import Callable
from functools import cache, partial
from hashlib import sha256
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.dispatch import Signal

from accounts.callers import Caller
from accounts.models import APIKey, SpentToken

TRUSTED_SECONDS: Final = 0.9
"""The seconds for which an answer of the database counts, from the moment of the question.

So a user who is disabled, demoted or logged out in another process is shut out within one second, whether or not that
process can tell this one.
"""
MOST_CALLERS: Final = 10_000


class RecentCallers:
    """Callers by token or API key, of which only a hash is in memory."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._callers: dict[bytes, tuple[Caller, float]] = {}

    def caller(self, token: str, check: Callable[[str], Caller]) -> Caller:
        """Return the caller as `check` finds it, which may raise; it is remembered for TRUSTED_SECONDS."""
        callers, asked_at = self._callers, self._clock()
        found = check(token)
        if len(callers) >= MOST_CALLERS:
            callers.clear()
        callers[_hash(token)] = (found, asked_at)  # in vain if they have been forgotten since the question
        return found

    def known(self, token: str) -> Caller | None:
        """Return the remembered caller, or None."""
        found = self._callers.get(_hash(token))
        return found[0] if found is not None and self._clock() - found[1] < TRUSTED_SECONDS else None

    def forget(self) -> None:
        """Forget all callers, as one of them may have changed."""
        self._callers = {}


def _hash(token: str) -> bytes:
    return sha256(token.encode(errors="replace")).digest()


@cache
def recent_callers() -> RecentCallers:
    """Return the recent callers of this process."""
    return RecentCallers()


user_changed: Final = Signal()
"""Sent after the commit with `user_id`, the name of a user whose rights or logins may have changed."""
LAST_LOGIN: Final = frozenset({"last_login"})


def forget_on_changes() -> None:
    """Forget the callers when this process changes a user, a key or a login, from the commit on."""
    for signal, sender in (
        *((signal, model) for signal in (post_save, post_delete) for model in (User, APIKey, SpentToken)),
        (m2m_changed, User.groups.through),
    ):
        signal.connect(_forget_after_commit, sender=sender)


def _forget_after_commit(*, instance: Any, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    transaction.on_commit(recent_callers().forget)
    owner = instance if isinstance(instance, User) else getattr(instance, "user", None)
    if isinstance(owner, User) and update_fields != LAST_LOGIN:
        announce_after_commit(owner.username)


def announce_after_commit(user_id: str) -> None:
    """Send `user_changed` once the transaction has committed."""
    transaction.on_commit(partial(user_changed.send, None, user_id=user_id))
