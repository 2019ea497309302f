"""Logins by password, with rate limits, and by one-time links.

Failed logins are counted in the database, so all processes share the limits. An attempt is counted
before the password is checked and deleted if it was correct: concurrent guesses cannot exceed the
limit, and correct logins do not count.

Each limit is of one client address. A limit per user alone would let anyone lock a user out, from
everywhere, with a few wrong passwords a minute.
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
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.audit import Action
from accounts.models import LoginLink, LoginTry
from accounts.users import active_users

WINDOW: Final = timedelta(minutes=1)
TRIES: Final[Mapping[str, int]] = MappingProxyType({"user": 5, "address": 20})
"""The maximum number of failed logins within the window from one client address: for one user name, and for all."""
LINK_LIFETIME: Final = timedelta(minutes=15)


class WrongCredentials(Exception):
    """Wrong username or password."""


class TooManyTries(Exception):
    """Too many failed logins. `retry_after_seconds` is the time until the next attempt is allowed."""

    def __init__(self, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        self.message = f"Too many failed logins. Try again in {retry_after_seconds} seconds."
        super().__init__(self.message)


def log_in(username: str, password: str, *, address: str) -> User:
    """Return the user with this name and password. `address` is the IP address of the client.

    Raises TooManyTries, or WrongCredentials after the same time for every cause.
    """
    username = User.normalize_username(username)
    network = _network(address)
    tries = _count_try({"user": f"{username}\0{network}", "address": network})
    # Django also hashes the password for unknown and disabled users, so the time reveals nothing.
    user = auth.authenticate(username=username, password=password)
    if not isinstance(user, User):
        # A name that no user has is left out: it may be a password in the wrong field.
        is_known = User.objects.filter(username=username).exists()
        audit.record(Action.LOGIN_FAILED, actor="", address=address, target=username if is_known else "")
        raise WrongCredentials
    with transaction.atomic():
        LoginTry.objects.filter(pk__in=tries).delete()
        audit.record(Action.LOGIN, actor=user.username, address=address, by="password")
    return user


def make_link(user: User) -> str:
    """Create a one-time login link and return its secret part. It expires after `LINK_LIFETIME`."""
    LoginLink.objects.filter(expires_at__lt=timezone.now()).delete()
    secret = secrets.token_urlsafe(16)  # short enough for one line of a terminal
    LoginLink.objects.create(hash=_hash(secret), user=user, expires_at=timezone.now() + LINK_LIFETIME)
    return secret


@transaction.atomic
def use_link(secret: str) -> User | None:
    """Use up a login link and return its user; None if it was used, has expired or does not exist."""
    links = LoginLink.objects.filter(hash=_hash(secret), expires_at__gt=timezone.now())
    user = active_users().filter(pk__in=links.values("user")).first()
    was_first = links.delete()[0] == 1
    if user is None or not was_first:
        return None
    audit.record(Action.LOGIN, actor=user.username, by="link")
    return user


def _count_try(names: Mapping[str, str]) -> list[int]:
    """Record an attempt per kind of name and return the ids of the rows.

    Raises TooManyTries; the attempt is then not recorded. The rows are committed before they are
    counted, so concurrent attempts see each other.
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
    """Seconds until the next attempt is allowed; 0 if no more than `limit` are recorded."""
    times = list(LoginTry.objects.filter(scope=scope, at__gt=now - WINDOW).order_by("at").values_list("at", flat=True))
    if len(times) <= limit:
        return 0
    return max(1, math.ceil((times[len(times) - 1 - limit] + WINDOW - now).total_seconds()))


def _network(address: str) -> str:
    """Return the address for rate limiting: an IPv4 address, or the /64 prefix of an IPv6 address.

    One customer usually has a whole /64, so single addresses of it are not counted apart.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # a Unix socket has none
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
