"""Logging in: by a password, as often as is allowed, or once by a link.

Tries are counted in the database, so that all processes count together. A try is counted before the password is looked at, and taken back
when it was right: who guesses is limited, however many try at once, and who knows is not.
"""

import math
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from types import MappingProxyType
from typing import Final

from django.contrib import auth
from django.contrib.auth.models import User
from django.utils import timezone

from accounts.models import LoginLink, LoginTry
from accounts.users import active_users

WINDOW: Final = timedelta(minutes=1)
TRIES: Final[Mapping[str, int]] = MappingProxyType({"user": 5, "address": 20})
"""How many wrong passwords there may be in the window."""
LINK_LIFETIME: Final = timedelta(minutes=15)


class WrongCredentials(Exception):
    """Wrong username or password."""


class TooManyTries(Exception):
    """Whoever asks must wait."""

    def __init__(self, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        self.message = f"Too many tries to log in. Try again in {retry_after_seconds} seconds."
        super().__init__(self.message)


def log_in(username: str, password: str, *, address: str) -> User:
    """The user whose name and password these are. `address` is the client's.

    Raises TooManyTries, or WrongCredentials, which takes the same time whatever was wrong.
    """
    username = User.normalize_username(username)
    tries = _count_try({"user": username, "address": _network(address)})
    # Django hashes the password of an unknown and of a disabled user too: the time tells nothing.
    user = auth.authenticate(username=username, password=password)
    if not isinstance(user, User):
        raise WrongCredentials
    LoginTry.objects.filter(pk__in=tries).delete()
    return user


def make_link(user: User) -> str:
    """The secret part of a link that logs the user in, once, within `LINK_LIFETIME`."""
    LoginLink.objects.filter(expires_at__lt=timezone.now()).delete()
    secret = secrets.token_urlsafe(16)  # short enough to stand on one line of a terminal
    LoginLink.objects.create(hash=_hash(secret), user=user, expires_at=timezone.now() + LINK_LIFETIME)
    return secret


def use_link(secret: str) -> User | None:
    """Whose link it is. None: it was used, is too old, or was never made."""
    links = LoginLink.objects.filter(hash=_hash(secret), expires_at__gt=timezone.now())
    user = active_users().filter(pk__in=links.values("user")).first()
    was_first = links.delete()[0] == 1
    return user if was_first else None


def _count_try(names: Mapping[str, str]) -> list[int]:
    """Count a try for each kind of name. Raises TooManyTries, and then it does not count.

    The rows are committed before they are counted: of those who try at the same time nobody can miss all the others.
    """
    now = timezone.now()
    LoginTry.objects.filter(at__lte=now - WINDOW).delete()
    scopes = {kind: _hash(f"{kind}:{name}") for kind, name in names.items()}
    rows = LoginTry.objects.bulk_create(LoginTry(scope=scope, at=now) for scope in scopes.values())
    mine = [row.pk for row in rows]
    waits = [_seconds_to_wait(scope, TRIES[kind], now=now) for kind, scope in scopes.items()]
    if any(waits):
        LoginTry.objects.filter(pk__in=mine).delete()
        raise TooManyTries(max(waits))
    return mine


def _seconds_to_wait(scope: str, limit: int, *, now: datetime) -> int:
    """0 while the tries of a scope, this one among them, are not more than the limit."""
    times = list(LoginTry.objects.filter(scope=scope, at__gt=now - WINDOW).order_by("at").values_list("at", flat=True))
    if len(times) <= limit:
        return 0
    return max(1, math.ceil((times[len(times) - 1 - limit] + WINDOW - now).total_seconds()))


def _network(address: str) -> str:
    """An address as it counts: of IPv6 its first half, for whoever has one has them all."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # a Unix socket has none
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
