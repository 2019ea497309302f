"""JWTs: validation of signed tokens, and the access and refresh tokens that this server issues."""

from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Any, Final, TypedDict
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, QuerySet
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError
from rest_framework_simplejwt.tokens import RefreshToken
from rest_framework_simplejwt.utils import get_md5_hash_password

from accounts import audit
from accounts.audit import Action
from accounts.models import SpentToken
from accounts.recent import announce_after_commit
from accounts.users import active_users
from apflow_site.db.prepared import Prepared

ISSUER: Final = "aipartnerupflow"  # `iss` of our own tokens; other issuers may share the secret
LOGIN: Final = "sid"  # the claim that all tokens of one login share, across refreshes
CLOCK_SKEW_SECONDS: Final = 10  # tolerated for tokens of other machines
#: A used token is remembered this much longer than it lives: the skew, and a minute for our clocks.
REMEMBERED_LONGER: Final = timedelta(seconds=CLOCK_SKEW_SECONDS + 60)
MAX_TOKEN_CHARACTERS: Final = 8192

Claims = dict[str, Any]


class InvalidToken(Exception):
    """The token is malformed, expired, used up or revoked."""


class TokenPair(TypedDict):
    """An access token, and a refresh token for the next pair. `token` repeats the access token."""

    access: str
    refresh: str
    token: str
    token_type: str
    expires_in: int  # seconds, of the access token


def _backend() -> TokenBackend:
    # Made each time: simplejwt's own tokens keep the first key.
    return _backend_with(str(settings.SIMPLE_JWT["SIGNING_KEY"]))


def _backend_with(secret: str) -> TokenBackend:
    return TokenBackend("HS256", signing_key=secret, leeway=CLOCK_SKEW_SECONDS)


def issue(user: User, *, login: str | None = None) -> TokenPair:
    """Issue a token pair for an authenticated user.

    `login` is the id of the login that is refreshed.
    """
    refresh = RefreshToken.for_user(user)
    refresh["iss"] = ISSUER
    refresh[LOGIN] = login or uuid4().hex
    access = _backend().encode(refresh.access_token.payload)
    return {
        "access": access,
        "refresh": _backend().encode(refresh.payload),
        "token": access,
        "token_type": "Bearer",
        "expires_in": settings.APFLOW.auth.access_minutes * 60,
    }


def rotate(refresh: str) -> TokenPair:
    """Exchange a refresh token for a new pair. Raises InvalidToken.

    A refresh token works once. One that is used again may have been stolen, so its login ends (RFC 9700, section 4.14.2).
    """
    claims = read_claims(refresh)
    if not is_own(claims) or claims.get("token_type") != "refresh":
        raise InvalidToken
    user = owner_of(claims)
    expires_at = datetime.fromtimestamp(claims["exp"], UTC)
    if not SpentToken.objects.spend(claims["jti"], expires_at=expires_at + REMEMBERED_LONGER):
        _end_login(claims, user)
        raise InvalidToken
    return issue(user, login=claims[LOGIN])


def log_out(token: str) -> None:
    """End the login of an access or refresh token of ours: all of its tokens stop working.

    Raises InvalidToken.
    """
    claims = read_claims(token)
    if not is_own(claims):
        raise InvalidToken
    _end_login(claims, owner_of(claims))


@transaction.atomic
def _end_login(claims: Claims, user: User) -> None:
    lifetime = timedelta(days=settings.APFLOW.auth.refresh_days)  # no token of the login expires later
    if SpentToken.objects.spend(claims[LOGIN], expires_at=datetime.now(UTC) + lifetime + REMEMBERED_LONGER):
        audit.record(Action.LOGOUT, actor=user.username)
        announce_after_commit(user.username)


def read_claims(token: str) -> Claims:
    """Verify the signature (HS256) and expiry of a token and return its claims.

    The secret is `auth.jwt_secret` or one of `auth.accepted_jwt_secrets`. Raises InvalidToken.
    """
    if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
        raise InvalidToken
    claims = _verified(token, _backend())
    for secret in settings.APFLOW.auth.accepted_jwt_secrets:
        claims = claims or _verified(token, _backend_with(secret))
    if claims is None or "exp" not in claims:
        raise InvalidToken
    return claims


def _verified(token: str, backend: TokenBackend) -> Claims | None:
    """Return the claims of a token; None if it has expired or another secret signed it."""
    try:
        claims: Claims = backend.decode(token)  # type: ignore[arg-type]  # its annotation is wrong: it takes the text
    except TokenBackendError:
        return None
    return claims


def is_own(claims: Claims) -> bool:
    """Return whether this server issued the token, and not another issuer with the shared secret."""
    return claims.get("iss") == ISSUER


def require_short_life_and_audience(claims: Claims) -> None:
    """Check a token of another issuer: its whole life, and whether it is meant for this server.

    `auth.foreign_token_days` limits the time from its issue, or without `iat` from now, to its
    expiry. With `auth.audience`, the claim `aud` must contain it. Raises InvalidToken.
    """
    auth, now = settings.APFLOW.auth, datetime.now(UTC).timestamp()
    issued_at = claims.get("iat", now)
    longest = timedelta(days=auth.foreign_token_days).total_seconds() + CLOCK_SKEW_SECONDS
    if not isinstance(issued_at, int | float) or float(claims["exp"]) - min(issued_at, now) > longest:
        raise InvalidToken
    audience = claims.get("aud")
    if auth.audience is not None and auth.audience not in (audience if isinstance(audience, list) else [audience]):
        raise InvalidToken


def owner_of(claims: Claims) -> User:
    """Return the user, with the role, to whom one of our own tokens belongs; by one query.

    Raises InvalidToken if the user is deleted or disabled, has logged out or has changed the
    password.
    """
    user = _owner.first(token_user=str(claims.get("user_id")), token_login=str(claims.get(LOGIN)))
    if user is None or not compare_digest(str(claims.get("hash_password")), get_md5_hash_password(user.password)):
        raise InvalidToken
    return user


@Prepared
def _owner(*, token_user: str, token_login: str) -> QuerySet[User]:
    logged_out = SpentToken.objects.filter(jti=token_login)
    return active_users().filter(~Exists(logged_out), username=token_user)
