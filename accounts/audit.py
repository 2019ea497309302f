"""The audit log: who changed or deleted what, when and from where: accounts, keys, secrets, flows, schedules, webhooks, hooks.

An entry is stored in the transaction of what it records, so both happen or neither does. After the
commit it is also a log line of the logger `audit`. Neither has a password, key, token or secret.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import AuditEntry

logger = logging.getLogger("audit")

MOST_CHARACTERS: Final = 255
"""Longer names of users, addresses and targets are cut: foreign tokens and old rows may have any."""
Detail = str | int | bool | None


class Action(StrEnum):
    """The actions that entries record."""

    LOGIN = "login"
    LOGIN_FAILED = "login.failed"
    LOGOUT = "logout"
    API_KEY_CREATED = "api_key.created"
    API_KEY_REVOKED = "api_key.revoked"
    LLM_KEY_SET = "llm_key.set"
    LLM_KEY_DELETED = "llm_key.deleted"
    SECRET_SET = "secret.set"
    SECRET_DELETED = "secret.deleted"
    USER_CREATED = "user.created"
    USER_ROLE_SET = "user.role_set"
    USER_PASSWORD_SET = "user.password_set"
    USER_ENABLED = "user.enabled"
    USER_DISABLED = "user.disabled"
    MAINTENANCE_ON = "maintenance.on"
    MAINTENANCE_OFF = "maintenance.off"
    TREE_DELETED = "tree.deleted"
    TASK_DELETED = "task.deleted"
    FLOW_SAVED = "flow.saved"
    FLOW_DELETED = "flow.deleted"
    FLOW_LABELLED = "flow.labelled"
    FLOW_UNLABELLED = "flow.unlabelled"
    JUDGE_SET = "judge.set"
    JUDGE_DELETED = "judge.deleted"
    DATASET_SAVED = "dataset.saved"
    DATASET_DELETED = "dataset.deleted"
    SCHEDULE_CREATED = "schedule.created"
    SCHEDULE_UPDATED = "schedule.updated"
    SCHEDULE_PAUSED = "schedule.paused"
    SCHEDULE_RESUMED = "schedule.resumed"
    SCHEDULE_DELETED = "schedule.deleted"
    WEBHOOK_ADDED = "webhook.added"
    WEBHOOK_DELETED = "webhook.deleted"
    NOTIFICATION_SET = "notification.set"
    NOTIFICATION_DELETED = "notification.deleted"
    HOOK_SET = "hook.set"
    HOOK_DELETED = "hook.deleted"
    HOOK_REPLAYED = "hook.replayed"
    LIMIT_SET = "limit.set"
    LIMIT_DELETED = "limit.deleted"
    PAUSED = "pause.set"
    RESUMED = "pause.ended"


ACTIONS: Final = tuple(dict.fromkeys([*map(str, Action), *(each.partition(".")[0] for each in Action)]))
"""The actions, and the first part of several, such as `user`."""
ACTOR: Final[ContextVar[str]] = ContextVar("audit_actor", default="")
"""The user who acts; empty if unknown. Thread pools (`apflow_site.db.pools`, asgiref) take it over."""
ADDRESS: Final[ContextVar[str]] = ContextVar("audit_address", default="")
"""The origin of the change: the IP address of a client, or `cli:` and the user of the machine; empty if unknown."""


@contextmanager
def origin(*, actor: str = "", address: str | None = None) -> Iterator[None]:
    """Record what happens in the block as done by this user, and from this address if one is given."""
    actor_token = ACTOR.set(actor)
    address_token = ADDRESS.set(ADDRESS.get() if address is None else address)
    try:
        yield
    finally:
        ADDRESS.reset(address_token)
        ACTOR.reset(actor_token)


def record(
    action: Action, *, actor: str | None = None, target: str = "", address: str | None = None, **details: Detail
) -> None:
    """Store an entry in the current transaction, and log it after the commit.

    `target` is the user, task, flow or key that was changed. `actor` and `address` default to
    ACTOR and ADDRESS. Sync.
    """
    entry = AuditEntry.objects.create(
        action=action,
        actor=(ACTOR.get() if actor is None else actor)[:MOST_CHARACTERS],
        address=(ADDRESS.get() if address is None else address)[:MOST_CHARACTERS],
        target=target[:MOST_CHARACTERS],
        details=details,
    )
    transaction.on_commit(partial(_log, entry))


def entries(
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    actor: str | None = None,
    action: str | None = None,
) -> QuerySet[AuditEntry]:
    """Return the entries from `since` on and before `until`, the newest first.

    `action` is one, or the first part of several, such as `user`.
    """
    found = AuditEntry.objects.order_by("-at", "-id")
    if since is not None:
        found = found.filter(at__gte=since)
    if until is not None:
        found = found.filter(at__lt=until)
    if actor is not None:
        found = found.filter(actor=actor)
    if action is not None:
        found = found.filter(action__in=[str(each) for each in Action if f"{each}.".startswith(f"{action}.")])
    return found


def is_action(name: str) -> bool:
    """Return whether this is an action, or the first part of one."""
    return name in ACTIONS


def old_entries() -> "QuerySet[AuditEntry] | None":
    """Return the entries that are older than `retention.audit_days`; None if all are kept."""
    days = settings.APFLOW.retention.audit_days
    return AuditEntry.objects.filter(at__lt=timezone.now() - timedelta(days=days)) if days else None


def _log(entry: AuditEntry) -> None:
    # Names are quoted: those of other issuers' users may contain line breaks.
    logger.info(
        "%s user=%r address=%r target=%r%s",
        entry.action,
        entry.actor,
        entry.address,
        entry.target,
        "".join(f" {name}={value!r}" for name, value in entry.details.items()),
        extra={
            "event": f"audit.{entry.action}",
            "action": str(entry.action),
            "user": entry.actor,
            "address": entry.address,
            "target": entry.target,
            "details": entry.details,
        },
    )
