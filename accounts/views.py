"""`/auth/…`: JSON requests and responses without cookies or sessions, hence without CSRF."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from accounts import logins, tokens
from accounts.auth import AuthenticationFailed, authenticate, token_in
from apflow_site.db import pools

MAX_BODY_BYTES = 16 * 1024

View = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]]


class Refused(Exception):
    """A request is refused with an error response."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        """`more`: additional members of the error, such as `field` and `data`."""
        self.status = status
        self.error = {"code": code, "message": message, **more}
        super().__init__(message)


def answers_errors(view: View) -> View:
    """Convert exceptions of a view to error responses. No response is cached: most contain a token."""

    @wraps(view)
    async def answer(request: HttpRequest) -> HttpResponse:
        try:
            response = await view(request)
        except AuthenticationFailed as failure:
            response = _error(Refused(401, "authentication_required", failure.message))
        except Refused as refusal:
            response = _error(refusal)
        response["Cache-Control"] = "no-store"
        return response

    return answer


@csrf_exempt
@require_POST
@answers_errors
async def login(request: HttpRequest) -> JsonResponse:
    """POST {username, password} → access and refresh tokens."""
    _require_auth()
    body = _read_body(request, "username", "password")
    address = request.META.get("REMOTE_ADDR") or ""
    return JsonResponse(await pools.login(_log_in, body["username"], body["password"], address))


@csrf_exempt
@require_POST
@answers_errors
async def refresh(request: HttpRequest) -> JsonResponse:
    """POST {refresh} → new tokens. The old refresh token stops working."""
    _require_auth()
    body = _read_body(request, "refresh")
    try:
        return JsonResponse(await pools.auth(tokens.rotate, body["refresh"]))
    except tokens.InvalidToken:
        message = "The refresh token is invalid, expired or already used. Log in again with POST /auth/login."
        raise Refused(401, "invalid_token", message) from None


@require_GET
@answers_errors
async def me(request: HttpRequest) -> JsonResponse:
    """GET → the user and role of the token."""
    caller = await authenticate(request)
    return JsonResponse(
        {
            "user_id": caller.user_id,
            "role": str(caller.role),
            "is_read_only": caller.is_read_only,
            "is_admin": caller.sees_all,
            "auth_enabled": settings.APFLOW.auth.is_on,
        }
    )


@csrf_exempt
@require_POST
@answers_errors
async def logout(request: HttpRequest) -> HttpResponse:
    """POST with the access token, an empty body or {}, or with {refresh} → 204. Revokes all tokens of that login."""
    _require_auth()
    body = _read_body(request, optional="refresh") if request.body else {}
    token = body["refresh"] if "refresh" in body else token_in(request.headers)
    try:
        await pools.auth(tokens.log_out, token)
    except tokens.InvalidToken:
        message = "Logout needs a valid token from POST /auth/login. An API key cannot log out; revoke it instead."
        raise Refused(401, "invalid_token", message) from None
    return HttpResponse(status=204)


def _log_in(username: str, password: str, address: str) -> tokens.TokenPair:
    try:
        return tokens.issue(logins.log_in(username, password, address=address))
    except logins.WrongCredentials as error:
        raise Refused(401, "invalid_credentials", error.__doc__ or "") from None
    except logins.TooManyTries as error:
        data = {"retry_after_seconds": error.retry_after_seconds}
        raise Refused(429, "limit_reached", error.message, data=data) from None


def _require_auth() -> None:
    if not settings.APFLOW.auth.is_on:
        raise Refused(
            400,
            "auth_disabled",
            "Authentication is off, so no token is needed. To turn it on, put 'auth: {enabled: true, jwt_secret: …}' "
            "into config.yaml or set AIPARTNERUPFLOW_JWT_SECRET, and restart the server.",
        )


def _read_body(request: HttpRequest, *fields: str, optional: str = "") -> dict[str, str]:
    """Read a JSON object with these fields, all strings, and no others but the optional one. Raises Refused."""
    if request.content_type != "application/json":
        raise Refused(415, "unsupported_media_type", "Send JSON with 'Content-Type: application/json'.")
    if len(request.body) > MAX_BODY_BYTES:
        raise Refused(413, "too_large", f"The body exceeds {MAX_BODY_BYTES} bytes.")
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        raise Refused(400, "invalid_json", "The body is not JSON.") from None
    if not isinstance(body, dict):
        named = " and ".join(fields or [optional])
        raise Refused(400, "invalid_request", f"The body must be an object with {named}.")
    for field in [*fields, *body]:
        if reason := _why_wrong(body, field, known=(*fields, optional)):
            raise Refused(400, "invalid_request", f"{field}: {reason}", field=field)
    return body


def _why_wrong(body: dict[str, Any], field: str, *, known: tuple[str, ...]) -> str | None:
    if field not in known:
        return f"Unknown field. Send exactly {' and '.join(known)}."
    if field not in body:
        return "Required."
    value = body[field]
    if not isinstance(value, str) or not value or "\0" in value:
        return "Must be a non-empty string without NUL characters."
    return None


def _error(refusal: Refused) -> JsonResponse:
    response = JsonResponse({"error": refusal.error}, status=refusal.status)
    if refusal.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if refusal.status == 429:
        response["Retry-After"] = str(refusal.error["data"]["retry_after_seconds"])
    return response
