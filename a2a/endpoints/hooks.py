"""URLs that programs outside call: `POST /hooks/{token}`, `POST /hooks/in/{address}` and `POST /webhook/trigger/{task_id}`.

The first is the address of one wait for an event. The token is the right to end it, so nothing else is asked for.
An unknown token, and one that was used, get the same bytes.

The second is the address of an inbound hook, whose deliveries are signed as their sender does it
(`tasks.services.hooks.receiving`). An unknown address and a wrong signature get the same bytes.

By the third, another scheduler, such as cron, runs a task now. It authenticates as on the other interfaces or, if
`auth.trigger_secret` is set, signs the request: `X-Webhook-Timestamp` has the seconds since 1970, and
`X-Webhook-Signature` the hexadecimal HMAC-SHA256 of four lines: the method, the path with its query, the timestamp, and
the body. The task then runs as its owner, with the owner's role. A signature is valid once.
"""

import hmac
import time
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote_plus

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from a2a.core.errors import as_rest
from a2a.core.exceptions import BodyTooLarge, UnsupportedMediaType
from a2a.core.http import headers_of, json_response, refusal, require_method
from a2a.core.jsonrpc import Call
from a2a.methods.dispatch import REST, perform
from accounts import users
from accounts.auth import authenticate
from accounts.callers import Caller
from accounts.models import SpentToken
from accounts.tokens import REMEMBERED_LONGER
from apflow_site.db import pools
from apflow_site.db.calls import working_for
from tasks.models import Task
from tasks.rules.exceptions import InvalidParams, TaskNotFound, TasksError
from tasks.rules.hooks import FAILED
from tasks.rules.signatures import SLACK
from tasks.rules.strict_json import decode
from tasks.services.hooks import receiving
from tasks.services.waits import event_waits, sent_events

FORM: Final = "application/x-www-form-urlencoded"
MOST_FIELDS: Final = 10_000
NOT_THERE: Final = {"error": {"code": "not_found", "message": "There is no such hook, or it has been used."}}
NOT_ACCEPTED: Final = {
    "error": {"code": "not_accepted", "message": "There is no such hook, or the signature is not valid."}
}
NOT_DONE: Final = {
    "error": {
        "code": "failed",
        "message": "The delivery is stored, but led to nothing. Its owner sees why: hooks.deliveries.",
    }
}
UNVERIFIED: Final = "deliveries of hooks"
"""All requests to inbound hooks take one turn among the users together until their signature is verified."""
METHOD: Final = "tasks.webhook.trigger"
VALID_SECONDS: Final = 300
"""The seconds that the timestamp of a signature may differ from the server's clock."""
BODY_BYTES: Final = 65_536
TRUE_OR_FALSE: Final = {"true": True, "1": True, "false": False, "0": False}
OFF: Final = "The server takes no signed requests: auth.trigger_secret is not set. Send a token instead."
WRONG: Final = (
    "Invalid signature. X-Webhook-Signature must be the hexadecimal HMAC-SHA256 of four lines: POST, the path with its "
    f"query, the timestamp, and the body; and X-Webhook-Timestamp the seconds since 1970, at most {VALID_SECONDS} from now."
)
USED: Final = "The signature has been used. Sign each request anew, with a timestamp of its own."


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
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType("Content-Encoding is not supported here. Send the body unencoded.")
    body = _body(request, settings.APFLOW.limits.event_bytes, "limits.event_bytes")
    if not body:
        return None
    kind = request.content_type or ""
    if kind == "application/json" or kind.endswith("+json"):
        return decode(body, nesting=settings.APFLOW.limits.nesting)
    if kind != FORM and not kind.startswith("text/"):
        raise UnsupportedMediaType(f"Send application/json, {FORM} or text, not {kind[:100] or 'none'}.")
    try:
        text = body.decode()
        value: Any = text
        if kind == FORM:  # a field that occurs more than once has a list
            found = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
            value = {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    except ValueError:
        raise InvalidParams([("body", f"must be UTF-8, and a form may have at most {MOST_FIELDS:,} fields")]) from None
    if "\0" in unquote_plus(text):
        raise InvalidParams([("body", "contains a NUL character")])
    return value


def _body(request: HttpRequest, most: int, setting: str) -> bytes:
    """Read the body. Raises BodyTooLarge; one whose Content-Length is too large is not read."""
    limit = min(most, settings.APFLOW.limits.body_bytes)
    is_short = int(request.headers.get("Content-Length") or 0) <= limit
    body = request.read(limit + 1) if is_short else b""
    if not is_short or len(body) > limit:
        raise BodyTooLarge(f"The body has more than {limit} bytes ({setting}).")
    return body


@csrf_exempt  # the signature is the right; no cookie is used
async def inbound(request: HttpRequest, address: str) -> HttpResponseBase:
    """Take a delivery to an inbound hook: 200 once it is stored and done, also when it is repeated, and 422 if it failed."""
    try:
        require_method(request, "POST")
        working_for.set(UNVERIFIED)
        given = await pools.read(
            receiving.verified,
            address,
            headers={name.lower(): value for name, value in request.headers.items()},
            content_type=request.content_type or "",
            body=_body(request, settings.APFLOW.limits.hook_bytes, "limits.hook_bytes"),
        )
        if given is None:
            return json_response(NOT_ACCEPTED, status=403)
        if given.challenge is not None:
            return json_response({"challenge": given.challenge})
        working_for.set(given.hook.user_id)
        if given.earlier is not None and given.earlier.outcome != FAILED:
            received = receiving.Received(row=given.earlier, is_repeated=True)
        else:
            received = await pools.write(receiving.receive, given)
        await receiving.follow_up(received)
        if given.hook.verifier == SLACK:  # it shows people what is in the body
            return HttpResponse()
        if received.row.outcome == FAILED:
            return json_response(NOT_DONE, status=422)
        return json_response({"success": True, "outcome": received.row.outcome, "is_repeated": received.is_repeated})
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error, shape=as_rest)


class WrongSignature(TasksError):
    """The signature is not valid."""


@csrf_exempt  # a browser sends neither a token nor a signature by itself
async def trigger(request: HttpRequest, task_id: str) -> HttpResponseBase:
    """Run the task. 200 if it has been started, 400 if not; both with `success` and `task_id`."""
    try:
        require_method(request, "POST")
        text = request.GET.get("async", "true").lower()
        if text not in TRUE_OR_FALSE:
            raise InvalidParams([("async", "must be true or false")])
        call = Call(method=METHOD, params={"task_id": task_id, "async_execution": TRUE_OR_FALSE[text]})
        signature = request.headers.get("X-Webhook-Signature")
        caller = await authenticate(request) if signature is None else await _signer(request, task_id, signature)
        reply, _ = await perform(call, caller=caller, dialect=REST, headers=headers_of(request))
        answer = reply.result
    except (TaskNotFound, WrongSignature) as error:
        answer = {"success": False, "error": error.message, "task_id": task_id}
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error, shape=as_rest)
    return json_response(answer, status=200 if answer["success"] or "status" in answer else 400)


async def _signer(request: HttpRequest, task_id: str, signature: str) -> Caller:
    """Return the owner of the task, for a valid signature. Raises WrongSignature or TaskNotFound."""
    secret = settings.APFLOW.auth.trigger_secret
    if secret is None:
        raise WrongSignature(OFF)
    stamp = request.headers.get("X-Webhook-Timestamp", "")
    body = request.read(BODY_BYTES + 1)
    if len(body) > BODY_BYTES:
        raise BodyTooLarge(f"The body has more than {BODY_BYTES:,} bytes.")
    scope = request.scope  # type: ignore[attr-defined]  # of ASGI
    path = scope.get("raw_path") or quote(scope["path"]).encode()  # optional in ASGI
    target = b"?".join(filter(None, (path, scope["query_string"]))).decode("latin-1")  # as in the request line
    signed = f"{request.method}\n{target}\n{stamp}\n".encode() + body
    expected = hmac.new(secret.encode(), signed, "sha256").hexdigest()
    is_recent = stamp.isascii() and stamp[:20].isdecimal() and abs(time.time() - int(stamp[:20])) <= VALID_SECONDS
    if not (hmac.compare_digest(expected.encode(), signature.encode()) and is_recent):
        raise WrongSignature(WRONG)
    return await pools.write(_spend, task_id, signature, valid_until=int(stamp[:20]) + VALID_SECONDS)


def _spend(task_id: str, signature: str, *, valid_until: int) -> Caller:
    """Mark the signature as used and return the owner of the task. Raises WrongSignature or TaskNotFound.

    Only this server's users have a role here; an owner whom another issuer names is an operator.
    """
    expires_at = datetime.fromtimestamp(valid_until, UTC) + REMEMBERED_LONGER
    if not SpentToken.objects.spend(f"trigger:{signature}", expires_at=expires_at):
        raise WrongSignature(USED)
    owner = Task.objects.filter(id=task_id).values_list("user_id", flat=True).first()
    if owner is None or users.disabled_among({owner}):
        raise TaskNotFound(task_id)
    return users.caller_for(owner)
