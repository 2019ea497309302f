"""Deliveries to inbound hooks: verify them, and do once what the hook says.

A stranger costs one look-up by key. Whoever has the address costs one more, for the secret, and no write before the
signature is valid. The row of the delivery and the run, event or answer that it leads to are one transaction: a process that dies in
between has done nothing, and a sender that repeats the delivery does not start it twice. Two constraints say what is a repetition: the id by
which the sender knows the delivery, and the digest of the signed bytes.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs, unquote_plus

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction

from accounts import audit, users
from accounts.audit import Action
from accounts.callers import Caller, Role
from apflow_site.db import pools
from llmkeys import named_secrets
from llmkeys.models import NamedSecret
from tasks.ids import new_id
from tasks.models import Hook, HookDelivery, SentEvent
from tasks.rules.conditions import TooMuchToCompare
from tasks.rules.exceptions import InvalidParams, LimitReached, RoleTooLow, StatusConflict, TasksError
from tasks.rules.hooks import ANSWERED, BODY, FAILED, FILTERED, HEADERS, SENT, STARTED, mapped, passes
from tasks.rules.signatures import GITHUB, MOST_CHARACTERS, SLACK, delivery_id, key_of, proof_of, readable
from tasks.rules.strict_json import Json, decode
from tasks.rules.templates import CannotFill
from tasks.services.flows import run_flow
from tasks.services.hooks import delivery_of
from tasks.services.messages.slack import Answered, Pressed, answer_pressed, pressed_in, show_answer
from tasks.services.waits import sent_events

FORM: Final = "application/x-www-form-urlencoded"
MOST_FIELDS: Final = 10_000
WINDOW: Final = timedelta(minutes=1)
PRUNED_EACH: Final = 32
"""Each of so many deliveries deletes the oldest ones of a user who has too many."""
PING: Final = "GitHub's ping says only that the address is known."
NOT_PASSED: Final = "The filter of the hook does not let it pass."
MAY_NOT: Final = "The owner of the hook may no longer start runs: the role is viewer."
NO_BUTTON: Final = "The payload is not of a button of a question: only those answer."
TOO_LONG: Final = "The payload of the event has {:,} bytes as JSON, and at most {:,} are allowed (limits.event_bytes)."


class Replayed(StatusConflict):
    """These signed bytes came before with another delivery id, so they are not taken again."""


class TooManyDeliveries(LimitReached):
    """The hook has had as many deliveries within a minute as limits.hook_deliveries_per_minute allows. Send it again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A delivery whose signature is valid. `challenge` is what Slack wants back, and `earlier` the same delivery from before."""

    hook: Hook
    delivery_id: str
    digest: str
    headers: dict[str, str]
    body: Any
    secrets: list[NamedSecret]
    challenge: str | None = None
    earlier: HookDelivery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The row of a delivery, and what is to be done after its transaction."""

    row: HookDelivery
    is_repeated: bool = False
    event: SentEvent | None = None
    pressed: Pressed | None = None
    answer: Answered | None = None


def verified(address: str, *, headers: Mapping[str, str], content_type: str, body: bytes) -> Verified | None:
    """Return the delivery; None for an unknown address and for a signature that is wrong or too old. `headers` are in lower case.

    Raises MalformedJson or InvalidParams for a signed body that cannot be read.
    """
    hook = Hook.objects.filter(id=address).first()
    proof = hook and proof_of(hook.verifier, hook.scheme, headers, body)
    if hook is None or not proof or not proof.is_recent(time.time(), tolerance_seconds=hook.tolerance_seconds):
        return None
    secrets = named_secrets.verifying(user_id=hook.user_id, names=hook.secrets)
    if not proof.is_by([key_of(hook.verifier, secret.reveal()) for _, secret in secrets.values()]):
        return None
    if users.is_disabled(hook.user_id):
        return None
    value = _value_of(body, content_type, verifier=hook.verifier)
    found = delivery_id(hook.verifier, hook.scheme, headers, value) or proof.digest
    is_challenge = hook.verifier == SLACK and isinstance(value, dict) and value.get("type") == "url_verification"
    return Verified(
        hook=hook,
        delivery_id=found,
        digest=proof.digest,
        headers=readable(hook.verifier, hook.scheme, headers),
        body=value,
        secrets=[row for row, _ in secrets.values()],
        challenge=str(value.get("challenge")) if is_challenge else None,
        earlier=_earlier(hook, found),
    )


@transaction.atomic
def receive(given: Verified) -> Received:
    """Store a delivery and do what its hook says, or return the row from before. One that failed before is tried again.

    Raises Replayed or TooManyDeliveries.
    """
    hook = given.hook
    since = datetime.now(UTC) - WINDOW
    most = settings.APFLOW.limits.hook_deliveries_per_minute
    if HookDelivery.objects.filter(hook_id=hook.id, received_at__gt=since)[:most].count() >= most:
        raise TooManyDeliveries
    pressed = pressed_in(given.body) if hook.answers else None
    row = HookDelivery(
        hook=hook,
        user_id=hook.user_id,
        delivery_id=given.delivery_id,
        digest=given.digest,
        headers=given.headers,
        body=pressed.facts if pressed else given.body,
        received_at=datetime.now(UTC),
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        earlier = _earlier(hook, given.delivery_id, for_update=True)
        if earlier is None:
            raise Replayed from None
        if earlier.outcome != FAILED:
            return Received(row=earlier, is_repeated=True)
        row = earlier
    named_secrets.record_use(given.secrets)
    if row.pk % PRUNED_EACH == 0:
        _prune(hook.user_id)
    return _process(hook, row, pressed)


@transaction.atomic
def replay(*, caller: Caller, name: str, delivery: int) -> Received:
    """Do again what a delivery did, with the hook as it is now. Raises HookNotFound or DeliveryNotFound."""
    first = delivery_of(caller=caller, name=name, delivery=delivery)
    row = HookDelivery.objects.create(
        hook=first.hook,
        user_id=first.user_id,
        delivery_id=first.delivery_id,
        headers=first.headers,
        body=first.body,
        replay_of=first.pk,
        received_at=datetime.now(UTC),
    )
    audit.record(Action.HOOK_REPLAYED, actor=caller.user_id, target=name, delivery=first.pk)
    return _process(first.hook, row, pressed_in(first.body) if first.hook.answers else None)


async def follow_up(received: Received) -> None:
    """Do what follows the transaction: wake the tasks that wait for the event, and replace the message in Slack.

    A sweep wakes them if this process dies before. The message is replaced once: if that fails, the row says so.
    """
    if received.event is not None:
        await sent_events.wake(received.event)
    if received.pressed is not None and not received.is_repeated:
        row = received.row
        problem = await show_answer(received.pressed, answer=received.answer, problem=row.reason)
        if problem is not None:
            row.reason = f"{row.reason or 'The question was answered.'} {problem}"
            await pools.write(HookDelivery.objects.filter(id=row.pk).update, reason=row.reason)


def _process(hook: Hook, row: HookDelivery, pressed: Pressed | None) -> Received:
    """Do what the hook says, and store the outcome in the row. A refusal undoes all but the row."""
    done: SentEvent | Answered | None = None
    row.reason = None
    try:
        with transaction.atomic():
            done = _carry_out(hook, row, pressed)
    except (TasksError, CannotFill, TooMuchToCompare) as error:
        row.outcome = FAILED
        row.reason = error.message if isinstance(error, TasksError) else str(error)
        row.run_id = row.task_id = row.event_id = None
    row.save(update_fields=["outcome", "reason", "run_id", "task_id", "event_id"])
    return Received(
        row=row,
        event=done if isinstance(done, SentEvent) else None,
        pressed=pressed,
        answer=done if isinstance(done, Answered) else None,
    )


def _carry_out(hook: Hook, row: HookDelivery, pressed: Pressed | None) -> SentEvent | Answered | None:
    delivery: Json = {BODY: row.body, HEADERS: row.headers}
    if hook.verifier == GITHUB and row.headers.get("x-github-event") == "ping":
        row.outcome, row.reason = FILTERED, PING
        return None
    if not passes(hook.filter, delivery):
        row.outcome, row.reason = FILTERED, NOT_PASSED
        return None
    caller = users.caller_for(hook.user_id)
    if not caller.may(Role.OPERATOR):
        raise RoleTooLow(MAY_NOT)
    limits = settings.APFLOW.limits
    if hook.answers:
        if pressed is None:
            raise InvalidParams([("body", NO_BUTTON)])
        answered = answer_pressed(pressed, caller=caller)
        row.outcome, row.task_id = ANSWERED, answered.task_id
        return answered
    if hook.flow is not None:
        inputs = None if hook.inputs is None else mapped(hook.inputs, delivery, max_characters=limits.result_bytes)
        offered = delivery if inputs is None else None
        start = partial(run_flow, caller=caller, name=hook.flow, user_id=hook.user_id, key=row.delivery_id)
        run = start(inputs=inputs, offered=offered).run
        row.outcome, row.run_id, row.task_id = STARTED, run.id, run.root_id
        return None
    given = {"event": hook.event, "payload": hook.payload}
    filled = mapped(given, delivery, max_characters=limits.event_bytes)
    payload = row.body if hook.payload is None else filled["payload"]
    if (size := len(orjson.dumps(payload))) > limits.event_bytes:
        raise InvalidParams([("payload", TOO_LONG.format(size, limits.event_bytes))])
    name = filled["event"]
    if not isinstance(name, str) or not 0 < len(name) <= MOST_CHARACTERS:
        raise InvalidParams([("event", f"must become a text of 1 to {MOST_CHARACTERS} characters")])
    row.outcome, row.event_id = SENT, new_id()
    return sent_events.store(hook.user_id, name, payload, row.event_id)


def _earlier(hook: Hook, found: str, *, for_update: bool = False) -> HookDelivery | None:
    rows = HookDelivery.objects.filter(hook_id=hook.id, delivery_id=found, replay_of=None)
    return (rows.select_for_update() if for_update else rows).first()


def _prune(user_id: str) -> None:
    """Delete the oldest deliveries of a user who has more than limits.hook_deliveries."""
    most = settings.APFLOW.limits.hook_deliveries
    own = HookDelivery.objects.filter(user_id=user_id)
    oldest = own.order_by("-id").values_list("id", flat=True)[most : most + 1].first()
    if oldest is not None:
        own.filter(id__lte=oldest).delete()


def _value_of(body: bytes, content_type: str, *, verifier: str) -> Any:
    """Return the body as a JSON value. A form of GitHub or Slack has the JSON in its field `payload`.

    Raises MalformedJson or InvalidParams.
    """
    nesting = settings.APFLOW.limits.nesting
    if content_type != FORM:
        value = decode(body, nesting=nesting) if body else None
    else:
        try:
            fields = parse_qs(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
        except ValueError:
            raise InvalidParams(
                [("body", f"must be UTF-8, and a form may have at most {MOST_FIELDS:,} fields")]
            ) from None
        if verifier in (GITHUB, SLACK) and fields.keys() == {"payload"}:
            value = decode(fields["payload"][0].encode(), nesting=nesting)
        else:
            value = {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
            if "\0" in unquote_plus(body.decode()):
                raise InvalidParams([("body", "contains a NUL character")])
    if verifier == SLACK and isinstance(value, dict):
        value.pop("token", None)  # a secret of the time before signatures
    return value
