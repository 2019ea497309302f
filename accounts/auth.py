"""Who asks: from a request, or from a token alone, to a Caller."""

from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import api_keys
from accounts.callers import LOCAL, Caller, Role
from accounts.prepared_query import Prepared
from accounts.tokens import Claims, InvalidToken, is_own, owner_of, read_claims
from accounts.users import role_of
from apflow_db import pools

MAX_USER_ID_CHARACTERS = 255  # what the owner of a task may have


class AuthenticationFailed(Exception):
    """Authentication required: send 'Authorization: Bearer' with a token of POST /auth/login or an API key."""

    def __init__(self) -> None:
        # One message for every cause: which one it was is of use only to somebody who guesses.
        self.message = self.__class__.__doc__ or ""
        super().__init__(self.message)


async def authenticate(request: HttpRequest) -> Caller:
    """Who sent a request. Raises AuthenticationFailed."""
    if not settings.APFLOW.auth.is_on:
        return LOCAL
    return await pools.auth(caller_from_token, token_in(request.headers))


def token_in(headers: Mapping[str, str]) -> str:
    """The token of the header `Authorization`, or the key of `X-API-Key`. Raises AuthenticationFailed."""
    authorization, key = headers.get("Authorization", ""), headers.get("X-API-Key")
    if key and not authorization:
        return key.strip()
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise AuthenticationFailed
    return token.strip()


def session_caller(request: HttpRequest) -> Caller | None:
    """Who looks at a page, by the cookie of their session. None: nobody has logged in.

    For pages only: what programs speak to takes no cookie.
    """
    if not settings.APFLOW.auth.is_on:
        return LOCAL
    user = request.user
    return Caller(user_id=user.username, role=role_of(user)) if isinstance(user, User) else None


def still_in_session(request: HttpRequest) -> Caller:
    """Who looks at a page by now, while it stays open: a session ends, a user is disabled. Raises AuthenticationFailed."""
    if settings.APFLOW.auth.is_on:
        request.session = type(request.session)(request.session.session_key)  # what it knows was read long ago
        request.user = get_user(request)
    caller = session_caller(request)
    if caller is None:
        raise AuthenticationFailed
    return caller


def caller_from_token(token: str) -> Caller:
    """Whose token or API key it is, by the database's latest word: one query. Raises AuthenticationFailed."""
    if token.startswith(api_keys.START):
        caller = api_keys.caller_of_key(token)
        if caller is None:
            raise AuthenticationFailed
        return caller
    try:
        claims = read_claims(token)
        if not _is_access(claims):
            raise InvalidToken
        return _own_caller(claims) if is_own(claims) else _foreign_caller(claims)
    except InvalidToken:
        raise AuthenticationFailed from None


def _is_access(claims: Claims) -> bool:
    # Ours and every simplejwt's say `token_type`; others who mark their refresh tokens call it `type` or `typ`.
    marks = {str(claims.get(name)).lower() for name in ("type", "typ")}
    return claims.get("token_type", "access") == "access" and "refresh" not in marks


def _own_caller(claims: Claims) -> Caller:
    user = owner_of(claims)
    return Caller(user_id=user.username, role=role_of(user))


def _foreign_caller(claims: Claims) -> Caller:
    user_id = _identity(claims)
    # Whom we disabled stays out, whoever minted the token.
    if _disabled.first(named=user_id) is not None:
        raise InvalidToken
    return Caller(user_id=user_id, role=_claimed_role(claims.get("roles")))


def _disabled_user(named: str) -> QuerySet[User]:
    return User.objects.filter(username=named, is_active=False)


_disabled: Final = Prepared(_disabled_user)


def _claimed_role(roles: Any) -> Role:
    """The highest one of ours that a foreign token names."""
    named = [role for role in Role if isinstance(roles, list) and str(role) in roles]
    return max(named, default=Role.OPERATOR)


def _identity(claims: Claims) -> str:
    value = claims.get("sub", claims.get("user_id"))
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # `user_id` is a number wherever it is a database's key
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        raise InvalidToken
    if not 1 <= len(value) <= MAX_USER_ID_CHARACTERS:
        raise InvalidToken
    return value
