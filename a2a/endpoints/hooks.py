"""`POST /hooks/{token}`: the address of one wait for an event. The token is the right to end it, so nothing else is asked for.

An unknown token, and one that was used, get the same bytes.
"""

from typing import Any, Final
from urllib.parse import parse_qs, unquote_plus

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from a2a.core.errors import as_rest
from a2a.core.exceptions import BodyTooLarge, UnsupportedMediaType
from a2a.core.http import json_response, refusal, require_method
from apflow_site.db import pools
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json, decode
from tasks.services.waits import event_waits, sent_events

FORM: Final = "application/x-www-form-urlencoded"
MOST_FIELDS: Final = 10_000
NOT_THERE: Final = {"error": {"code": "not_found", "message": "There is no such hook, or it has been used."}}


@csrf_exempt  # the token in the URL is the right; no cookie is used
async def hook(request: HttpRequest, token: str) -> HttpResponseBase:
    """Let the wait of the token take the body as its event."""
    try:
        require_method(request, "POST")
        wait = await pools.read(event_waits.wait_of, token)
        if wait is None or not await pools.write(sent_events.take, wait, _payload(request)):
            return json_response(NOT_THERE, status=404)
        return json_response({"success": True})
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error, shape=as_rest)


def _payload(request: HttpRequest) -> Any:
    """Return the body as a JSON value: JSON as it is, a form as an object, text as a string, and no body as null.

    Raises MalformedJson, InvalidParams, BodyTooLarge or UnsupportedMediaType.
    """
    kind = request.content_type or ""
    body = _body(request)
    if not body:
        return None
    if kind == "application/json" or kind.endswith("+json"):
        return decode(body, nesting=settings.APFLOW.limits.nesting)
    if kind != FORM and not kind.startswith("text/"):
        raise UnsupportedMediaType(f"Send application/json, {FORM} or text, not {kind[:100] or 'none'}.")
    try:
        text = body.decode()
        value = _fields(text) if kind == FORM else text
    except ValueError:
        raise InvalidParams([("body", f"must be UTF-8, and a form may have at most {MOST_FIELDS:,} fields")]) from None
    if "\0" in unquote_plus(text):
        raise InvalidParams([("body", "contains a NUL character")])
    return value


def _body(request: HttpRequest) -> bytes:
    """Raise BodyTooLarge or UnsupportedMediaType."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType("Content-Encoding is not supported here. Send the body unencoded.")
    limit = min(settings.APFLOW.limits.event_bytes, settings.APFLOW.limits.body_bytes)
    if int(request.headers.get("Content-Length") or 0) <= limit:
        body = request.read(limit + 1)
        if len(body) <= limit:
            return body
    raise BodyTooLarge(f"The body has more than {limit} bytes (limits.event_bytes).")


def _fields(form: str) -> Json:
    """Return a field that occurs more than once has a list. Raises ValueError."""
    found = parse_qs(form, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
