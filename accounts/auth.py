"""Authentication: turns a request, a session, a token or an API key into a Caller."""

from collections.abc import Callable, Mapping

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.http import HttpRequest

from accounts import api_keys
from accounts.callers import LOCAL, MAX_USER_ID_CHARACTERS, Caller, Role
from accounts.recent import recent_callers
from accounts.tokens import (
    Claims,
    InvalidToken,
    is_own,
    owner_of,
    read_claims,
    require_short_life_and_audience,
)
from accounts.users import is_disabled, role_of
from apflow_site.db import pools
from apflow_site.db.calls import working_for

Check = Callable[[str], Caller]


class AuthenticationFailed(Exception):
    """Authentication required: send 'Authorization: Bearer' with a token from POST /auth/login or an API key."""

    def __init__(self) -> None:
        # One message for all causes: naming the cause would help only an attacker.
        self.message = self.__class__.__doc__ or ""
        super().__init__(self.message)


async def authenticate(request: HttpRequest, check: Check | None = None) -> Caller:
    """Return the caller of a request; LOCAL if authentication is off. Raises AuthenticationFailed."""
    return await authenticate_by(request.headers.get("Authorization", ""), request.headers.get("X-API-Key", ""), check)


async def authenticate_by(authorization: str, key: str, check: Check | None = None) -> Caller:
    """Do the same for the values of the headers `Authorization` and `X-API-Key`, which are empty if they were not sent."""
    if not settings.APFLOW.auth.is_on:
        return LOCAL
    return await caller_of(token_of(authorization, key), check)


async def caller_of(token: str, check: Check | None = None) -> Caller:
    """Return the caller that a token or API key authenticates; up to a second ago. Raises AuthenticationFailed.

    `check` reads the caller from the database, on a thread; by default `caller_from_token`.
    """
    recent = recent_callers()
    known = recent.known(token)
    caller = known if known is not None else await pools.auth(recent.caller, token, check or caller_from_token)
    working_for.set(caller.user_id)
    return caller


async def caller_now(token: str) -> Caller:
    """Return the caller that a token or API key authenticates at this moment. Raises AuthenticationFailed."""
    caller = await pools.auth(caller_from_token, token)
    working_for.set(caller.user_id)
    return caller


def token_in(headers: Mapping[str, str]) -> str:
    """Return the bearer token in the header `Authorization`, or the API key in `X-API-Key`.

    `Authorization` wins if both are present. Raises AuthenticationFailed if there is neither.
    """
    return token_of(headers.get("Authorization", ""), headers.get("X-API-Key", ""))


def token_of(authorization: str, key: str) -> str:
    """Return the token in the values of these headers, which are empty if they were not sent. Raises AuthenticationFailed."""
    if key and not authorization:
        return key.strip()
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise AuthenticationFailed
    return token.strip()


def session_caller(request: HttpRequest) -> Caller | None:
    """Return the caller of a page, from the session cookie; None without a login.

    For pages only: the endpoints for programs accept no cookies.
    """
    if not settings.APFLOW.auth.is_on:
        return LOCAL
    user = request.user
    return Caller(user_id=user.username, role=role_of(user)) if isinstance(user, User) else None


def still_in_session(request: HttpRequest) -> Caller:
    """Reload the session and the user from the database and return the caller.

    For streams that stay open. Raises AuthenticationFailed if the session has ended or the user is
    disabled.
    """
    if settings.APFLOW.auth.is_on:
        request.session = type(request.session)(request.session.session_key)  # its data is cached since the page loaded
        request.user = get_user(request)
    caller = session_caller(request)
    if caller is None:
        raise AuthenticationFailed
    return caller


def caller_from_token(token: str) -> Caller:
    """Return the caller that a token or API key authenticates, checked by one database query.

    Raises AuthenticationFailed.
    """
    if token.startswith(api_keys.START):
        caller = api_keys.caller_of_key(token)
        if caller is None:
            raise AuthenticationFailed
        return caller
    try:
        claims = read_claims(token)
        # Tokens of simplejwt, ours too, have the claim `token_type`; other issuers use `type` or `typ`.
        marks = {str(claims.get(name)).lower() for name in ("type", "typ")}
        if claims.get("token_type", "access") != "access" or "refresh" in marks:
            raise InvalidToken
        return _own_caller(claims) if is_own(claims) else _foreign_caller(claims)
    except InvalidToken:
        raise AuthenticationFailed from None


def _own_caller(claims: Claims) -> Caller:
    user = owner_of(claims)
    return Caller(user_id=user.username, role=role_of(user))


def _foreign_caller(claims: Claims) -> Caller:
    require_short_life_and_audience(claims)
    user_id = claims.get("sub", claims.get("user_id"))
    if isinstance(user_id, int) and not isinstance(user_id, bool):
        user_id = str(user_id)  # issuers that use a database key as `user_id` send a number
    if not isinstance(user_id, str) or not user_id.isprintable() or user_id != user_id.strip():
        raise InvalidToken
    if not 1 <= len(user_id) <= MAX_USER_ID_CHARACTERS:
        raise InvalidToken
    # A user who is disabled here is rejected, even with a valid token of another issuer.
    if is_disabled(user_id):
        raise InvalidToken
    # The highest of our roles in the claim counts.
    roles = claims.get("roles")
    named = [role for role in Role if isinstance(roles, list) and str(role) in roles]
    return Caller(user_id=user_id, role=max(named, default=Role.OPERATOR))
