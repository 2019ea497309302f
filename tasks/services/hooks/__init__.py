"""Inbound hooks of a user: set, list and delete them, and list and replay what was delivered to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller
from apflow_site.db.turns import has_room
from llmkeys import named_secrets
from tasks.executors.input_places import not_there
from tasks.models import Hook, HookDelivery
from tasks.rules.exceptions import DeliveryNotFound, HookNotFound, InvalidParams, LimitReached
from tasks.rules.hooks import problems_of_filter, problems_of_mapping
from tasks.rules.signatures import key_of
from tasks.rules.strict_json import Json
from tasks.services.flows import get_version
from tasks.storage import loads

PATH: Final = "/hooks/in/"
BATCH: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The deed of a delivery: it starts a flow with inputs, sends an event with a payload, or answers a question."""

    flow: str | None = None
    inputs: Json | None = None
    event: str | None = None
    payload: Json | None = None
    answers: bool = False


@transaction.atomic
def set_hook(
    *,
    caller: Caller,
    name: str,
    verifier: str,
    secrets: Sequence[str],
    target: Target,
    scheme: Json | None = None,
    tolerance_seconds: int = 300,
    filter: Json | None = None,
) -> Hook:
    """Store an inbound hook of the caller, or replace the one with this name, which keeps its address.

    Raises InvalidParams for a filter or mapping that is malformed and a secret that the caller does not have, FlowNotFound or
    LimitReached.
    """
    found = [
        *(problems_of_filter(filter) if filter is not None else ()),
        *problems_of_mapping(target.inputs or {}, "inputs"),
        *problems_of_mapping(target.event or "", "event"),
        *problems_of_mapping(target.payload or {}, "payload"),
        *_problems_of_secrets(caller.user_id, verifier, secrets),
    ]
    if found:
        raise InvalidParams(found)
    if target.flow is not None:
        get_version(caller=caller, name=target.flow, user_id=caller.user_id)
    now = datetime.now(UTC)
    hook = _held(caller.user_id, name) or Hook(user_id=caller.user_id, name=name, created_at=now)
    hook.verifier, hook.scheme, hook.secrets = verifier, scheme, list(secrets)
    hook.tolerance_seconds, hook.filter = tolerance_seconds, filter
    hook.flow, hook.inputs = target.flow, target.inputs
    hook.event, hook.payload, hook.answers = target.event, target.payload, target.answers
    hook.updated_at = now
    hook.save()
    audit.record(Action.HOOK_SET, actor=caller.user_id, target=name, verifier=verifier, flow=target.flow)
    return hook


def get_hook(*, caller: Caller, name: str) -> Hook:
    """Return one of the caller's own inbound hooks. Raises HookNotFound."""
    hook = Hook.objects.for_caller(caller).filter(name=name).first()
    if hook is None:
        raise HookNotFound(name)
    return hook


def list_hooks(*, caller: Caller) -> list[Hook]:
    """Return the caller's own inbound hooks, by name."""
    return list(Hook.objects.for_caller(caller).order_by("name"))


@transaction.atomic
def delete_hook(*, caller: Caller, name: str) -> bool:
    """Delete an inbound hook with its deliveries; what they started stays. False: there is none with that name."""
    hook = Hook.objects.for_caller(caller).filter(name=name).select_for_update().first()
    if hook is None:
        return False
    HookDelivery.objects.filter(hook_id=hook.id).delete()
    hook.delete()
    audit.record(Action.HOOK_DELETED, actor=caller.user_id, target=name)
    return True


def deliveries_of(
    *, caller: Caller, name: str, before: int | None = None, limit: int = 100, with_body: bool = False
) -> list[HookDelivery]:
    """Return the deliveries to a hook, the newest first; `before` is the id after which the next page begins. Raises HookNotFound."""
    found = HookDelivery.objects.filter(hook_id=get_hook(caller=caller, name=name).id).order_by("-id")
    rows = (found if before is None else found.filter(id__lt=before))[:limit]
    if not with_body:
        return list(rows.defer("headers", "body"))
    page = found.filter(id__in=list(rows.values_list("id", flat=True)))
    loads.spend_on(page, "headers", "body")
    return list(page)


def delivery_of(*, caller: Caller, name: str, delivery: int) -> HookDelivery:
    """Return a delivery to one of the caller's own hooks. Raises HookNotFound or DeliveryNotFound."""
    hook = get_hook(caller=caller, name=name)
    found = HookDelivery.objects.filter(hook_id=hook.id, id=delivery).first()
    if found is None:
        raise DeliveryNotFound(name, delivery)
    found.hook = hook
    return found


def old_deliveries() -> "QuerySet[HookDelivery]":
    """Return the oldest deliveries that need not be kept any longer. Ids are in the order of their times."""
    before = datetime.now(UTC) - timedelta(days=settings.APFLOW.retention.hook_delivery_days)
    oldest = HookDelivery.objects.order_by("id").values_list("id", flat=True)[:BATCH]
    return HookDelivery.objects.filter(id__in=list(oldest), received_at__lt=before)


def native_of(hook: Hook, *, base: str) -> Json:
    """Return a hook as every interface shows it, with its address below the base URL of the server; secrets by their names."""
    return {
        "name": hook.name,
        "url": f"{base.rstrip('/')}{PATH}{hook.id}",
        "verifier": hook.verifier,
        "secrets": hook.secrets,
        "hmac": hook.scheme,
        "tolerance_seconds": hook.tolerance_seconds,
        "filter": hook.filter,
        "flow": hook.flow,
        "inputs": hook.inputs,
        "event": hook.event,
        "payload": hook.payload,
        "answers": hook.answers,
        "created_at": hook.created_at.isoformat(),
        "updated_at": hook.updated_at.isoformat(),
    }


def native_delivery(row: HookDelivery, *, with_body: bool = False) -> Json:
    """Return a delivery as every interface shows it."""
    shown = {
        "delivery": row.pk,
        "delivery_id": row.delivery_id,
        "outcome": row.outcome,
        "reason": row.reason,
        "run_id": row.run_id,
        "task_id": row.task_id,
        "event_id": row.event_id,
        "replay_of": row.replay_of,
        "received_at": row.received_at.astimezone(UTC).isoformat(),
    }
    return shown | {"headers": row.headers, "body": row.body} if with_body else shown


def _held(user_id: str, name: str) -> Hook | None:
    """Return the hook with this name. Raises LimitReached if there is none, and no room for one more."""
    own = Hook.objects.filter(user_id=user_id)
    has_one_more = has_room(own.exclude(name=name), of=user_id, most=(most := settings.APFLOW.limits.hooks))
    hook = own.filter(name=name).select_for_update().first()
    if hook is None and not has_one_more:
        raise LimitReached(
            f"You have {most:,} inbound hooks, which is the limit (limits.hooks). Delete one of them first."
        )
    return hook


def _problems_of_secrets(user_id: str, verifier: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return what is wrong with the secrets; the same for one of another user and for one that does not exist."""
    usable = named_secrets.verifying(user_id=user_id, names=names)
    found = []
    for index, name in enumerate(names):
        if name not in usable:
            found.append((f"secrets[{index}]", not_there(name, what="hook")))
            continue
        try:
            key_of(verifier, usable[name][1].reveal())
        except ValueError as error:
            found.append((f"secrets[{index}]", f"'{name}' {error}"))
    return found
