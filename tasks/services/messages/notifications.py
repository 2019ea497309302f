"""Notifications: a message to a URL or an e-mail address when a run of a user fails, or a task asks a question.

The transaction that ends a failed run adds a webhook for each notification that fits, at the position
of the final event (`add_for_failure`); that of a question, or of its reminder, at the position of its
event (`add_for_question`), and that which stores scores below a limit adds those about them (`add_for_judge`). So none is lost or sent for what did not happen, and deliveries are
retried, limited by host and recorded as those of all webhooks. A test message is sent once, at once, with
its outcome (`send_test`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Action
from accounts.callers import LOCAL_USER, ROLE_PREFIX, Caller
from accounts.users import HAS_ROLE, USERS
from apflow_site.db import pools
from apflow_site.db.connections import IS_SQLITE
from apflow_site.db.turns import has_room, take_turns
from llmkeys.cipher import CannotUnseal, seal
from tasks.executors.email.mail import MAILTO, why_no_address, why_refused
from tasks.executors.http.safe_http import parse_url
from tasks.models import Flow, Judge, Notification, Run, Webhook
from tasks.queue import notify
from tasks.rules.exceptions import InvalidParams, LimitReached, NotificationNotFound
from tasks.rules.strict_json import Json
from tasks.services.flows import get_flow
from tasks.services.messages.failure_messages import test_message
from tasks.services.messages.slack import in_slack
from tasks.services.messages.webhook_requests import WebhookResponse, send_by_mail, send_one, unreadable, with_headers
from tasks.services.messages.webhooks import (
    ASSIGNED_BY_MAIL,
    ASSIGNED_TO_SLACK,
    ASSIGNED_TO_URL,
    BY_MAIL,
    JUDGE_BY_MAIL,
    JUDGE_TO_SLACK,
    JUDGE_TO_URL,
    QUESTION_BY_MAIL,
    QUESTION_TO_SLACK,
    QUESTION_TO_URL,
    TO_SLACK,
    TO_URL,
    context_of,
    new_signing_key,
    problems,
    secrets_of,
)

FAILURES: Final = "failures"
QUESTIONS: Final = "questions"
NEW_ID: Final = "lower(hex(randomblob(16)))" if IS_SQLITE else "replace(gen_random_uuid()::text, '-', '')"
COLUMNS: Final = (
    "id, run_id, config_id, kind, url, host, method, sealed, next_seq, next_at, attempt, failures, created_at"
)
SENT_TO: Final = "one.url, one.host, 'POST', one.sealed"
IS_MAIL: Final = f"one.url LIKE '{MAILTO}%%'"
OF_FLOW: Final = "(one.flow_id IS NULL OR one.flow_id = run.flow_id)"
MOST_OF_ROLES: Final = 100
"""The number of notifications that get a message because of a role that is an assignee: the ones that were stored first."""

IS_ROLE: Final = f"named.name LIKE '{ROLE_PREFIX}%%'"
OF_ROLES: Final = f"""
    SELECT one.id, one.created_at FROM tasks_assignee named
    JOIN tasks_notification one ON one.on_question AND one.flow_id IS NULL
    JOIN {USERS} person ON person.username = one.user_id AND {HAS_ROLE.format(role="named.name")}
    WHERE named.question_id = %s AND {IS_ROLE}
    GROUP BY one.id, one.created_at ORDER BY one.created_at, one.id LIMIT {MOST_OF_ROLES}
"""  # noqa: S608  (constants)
"""The notifications of the users who have one of the roles that are assignees of the question."""
USER_LOCK: Final = 0x6E_74_65_73
"""The first number of PostgreSQL's advisory locks of users who send test messages."""
SPARE_SECONDS: Final = 30
"""A test that has not ended this long after its timeout was lost with its process."""


def add_for_failure() -> str:
    """Return the statement that adds the webhooks for a run that has just ended. Its parameter is the id of the run.

    The rows of webhooks keep the encrypted texts of their notification.
    """
    return f"""
        INSERT INTO tasks_webhook ({COLUMNS})
        SELECT {NEW_ID}, run.id, one.id, CASE WHEN {IS_MAIL} THEN '{BY_MAIL}' WHEN one.is_slack THEN '{TO_SLACK}' ELSE '{TO_URL}' END,
            {SENT_TO}, run.last_seq, run.finished_at, 0, 0, run.finished_at
        FROM tasks_run run JOIN tasks_notification one ON {_is_own()}
        WHERE run.id = %s AND run.status = 'failed' AND one.on_failure AND {OF_FLOW}
        ON CONFLICT DO NOTHING
    """  # noqa: S608  (constants of this module)


def add_for_question() -> str:
    """Return the statement that queues the messages about a new question, or about its alarm.

    Its parameters are the run, the id of the question twice, the run again, and the number of the event.

    Assignees get a message, too, with their own notifications about all runs: those by name, and those that have a role.
    """
    return f"""
        INSERT INTO tasks_webhook ({COLUMNS})
        SELECT {NEW_ID}, run.id, one.id || ':' || event.seq,
            CASE WHEN {_is_own()}
                THEN CASE WHEN {IS_MAIL} THEN '{QUESTION_BY_MAIL}' WHEN one.is_slack THEN '{QUESTION_TO_SLACK}' ELSE '{QUESTION_TO_URL}' END
                ELSE CASE WHEN {IS_MAIL} THEN '{ASSIGNED_BY_MAIL}' WHEN one.is_slack THEN '{ASSIGNED_TO_SLACK}' ELSE '{ASSIGNED_TO_URL}' END END,
            {SENT_TO}, event.seq, event.created_at, 0, 0, event.created_at
        FROM (
            SELECT one.id FROM tasks_run run JOIN tasks_notification one ON {_is_own()} WHERE run.id = %s
            UNION
            SELECT one.id FROM tasks_assignee named JOIN tasks_notification one ON one.user_id = named.name
            WHERE named.question_id = %s AND NOT {IS_ROLE}
            UNION
            SELECT id FROM ({OF_ROLES}) holder
        ) wanted
        JOIN tasks_notification one ON one.id = wanted.id AND one.on_question
        JOIN tasks_taskevent event ON event.run_id = %s AND event.seq = %s
        JOIN tasks_run run ON run.id = event.run_id AND {OF_FLOW}
        WHERE TRUE
        ON CONFLICT DO NOTHING
    """  # noqa: S608  (constants of this module)


def add_for_judge(judge: Judge, run: Run) -> None:
    """Queue the messages about scores that have fallen, for notifications about failures. `run` is the run in which the last of them was given."""
    owners = [run.user_id, *([] if settings.APFLOW.auth.is_on else [LOCAL_USER])]
    wanted = Notification.objects.filter(
        Q(flow_id=None) | Q(flow_id=judge.flow_id), user_id__in=owners, on_failure=True
    )
    now = datetime.now(UTC)
    Webhook.objects.bulk_create(
        Webhook(
            run=run,
            config_id=f"{one.id}:{judge.id}",
            kind=JUDGE_BY_MAIL if one.url.startswith(MAILTO) else JUDGE_TO_SLACK if one.is_slack else JUDGE_TO_URL,
            url=one.url,
            host=one.host,
            sealed=one.sealed,
            next_seq=run.last_seq,
            next_at=now,
            created_at=now,
        )
        for one in wanted
    )
    notify.send(notify.RUNS)


def _is_own() -> str:
    """Return whether a notification is about the run. Without authentication, there is one user, whose runs may name others."""
    return (
        "one.user_id = run.user_id" if settings.APFLOW.auth.is_on else f"one.user_id IN (run.user_id, '{LOCAL_USER}')"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A stored notification with the name of its flow, and the signing key if the server has made one now."""

    notification: Notification
    flow: str | None
    signing_key: str | None = None


def set_notification(
    *,
    caller: Caller,
    name: str,
    about: Collection[str] = (FAILURES,),
    flow: str | None = None,
    url: str | None = None,
    email: str | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    is_slack: bool = False,
) -> Kept:
    """Store a notification of the caller, or replace the one with this name.

    It is `about` failures, questions or both, of the runs of the `flow` or, without it, of all runs. Requests to a `url` are signed with the
    `token`, by default with a new one; those of `is_slack` are messages in Slack's format, which are not signed. Raises InvalidParams, FlowNotFound or LimitReached.
    """
    if email is not None:
        target = MAILTO + email
        why = why_no_address(email) or why_refused(email)
        found = [("email", why)] if why else []
    else:
        target = str(url)
        found = list(problems(url=target, token=token, headers=headers))
    if found:
        raise InvalidParams(found)
    made = None if token is not None or email is not None or is_slack else new_signing_key()
    sealed = {"token": token or made, "headers": headers or {}, "authentication": None}
    with transaction.atomic():
        of = get_flow(caller=caller, name=flow) if flow is not None else None
        row = _held(caller.user_id, name)
        row.on_failure, row.on_question = FAILURES in about, QUESTIONS in about
        row.flow_id, row.is_slack = None if of is None else of.id, is_slack
        row.url = target  # deliveries to a host share a limit
        row.host = parse_url(target).host.rstrip(".") if email is None else str(settings.APFLOW.email.host)
        row.sealed = seal(orjson.dumps(sealed).decode(), context=context_of(row.id))
        row.updated_at = datetime.now(UTC)
        row.save()
        audit.record(Action.NOTIFICATION_SET, actor=caller.user_id, target=name, flow=flow, to=email or row.host)
    return Kept(notification=row, flow=flow, signing_key=made)


def list_notifications(*, caller: Caller) -> list[Kept]:
    """Return the caller's own notifications, by name."""
    rows = list(Notification.objects.filter(user_id=caller.user_id).order_by("name"))
    flows = Flow.objects.filter(id__in=[row.flow_id for row in rows if row.flow_id])
    names = dict(flows.values_list("id", "name"))
    return [Kept(notification=row, flow=names.get(row.flow_id or "")) for row in rows]


@transaction.atomic
def delete_notification(*, caller: Caller, name: str) -> bool:
    """Delete a notification of the caller. Messages about earlier events are still sent. False: there is none with that name."""
    deleted, _ = Notification.objects.filter(user_id=caller.user_id, name=name).delete()
    if deleted:
        audit.record(Action.NOTIFICATION_DELETED, actor=caller.user_id, target=name)
    return deleted > 0


def _held(user_id: str, name: str) -> Notification:
    """Return the notification with this name, or a new one. Raises LimitReached."""
    own = Notification.objects.filter(user_id=user_id)
    has_one_more = has_room(own.exclude(name=name), of=user_id, most=(most := settings.APFLOW.limits.notifications))
    row = own.filter(name=name).select_for_update().first()
    if row is not None:
        return row
    if not has_one_more:
        raise LimitReached(
            f"You have {most:,} notifications, which is the limit (limits.notifications). Delete one of them first."
        )
    return Notification(user_id=user_id, name=name, created_at=datetime.now(UTC))


def native_of(kept: Kept) -> Json:
    """Return a notification as every interface shows it: never its token and headers."""
    row = kept.notification
    is_mail = row.url.startswith(MAILTO)
    shown: dict[str, Any] = {
        "name": row.name,
        "about": [what for what, is_on in ((FAILURES, row.on_failure), (QUESTIONS, row.on_question)) if is_on],
        "flow": kept.flow,
        "format": "slack" if row.is_slack else "json",
        "url": None if is_mail else row.url,
        "email": row.url.removeprefix(MAILTO) if is_mail else None,
        "created_at": row.created_at.isoformat(),
        "updated_at": row.updated_at.isoformat(),
    }
    return shown if kept.signing_key is None else shown | {"signing_key": kept.signing_key}


async def send_test(*, caller: Caller, name: str) -> WebhookResponse:
    """Send the test message of one of the caller's notifications. Raises NotificationNotFound or LimitReached.

    It is not retried. One user sends one at a time.
    """
    found = await pools.write(_begin, caller=caller, name=name)
    is_mail = found.url.startswith(MAILTO)
    webhook = Webhook(
        kind=BY_MAIL if is_mail else TO_URL,
        config_id=found.id,
        url=found.url,
        sealed=found.sealed,
        method="POST",
    )
    try:
        secrets = secrets_of(webhook)
        flow = await pools.read(_flow_of, found)
        message = test_message(found, flow=flow, secrets=secrets)
        request = with_headers(in_slack(message) if found.is_slack else message, secrets.headers)
        if is_mail:
            return await send_by_mail(webhook, request, user_id=found.user_id)
        return await send_one(webhook, request)
    except CannotUnseal as error:
        return unreadable(error)
    finally:
        await pools.write(Notification.objects.filter(id=found.id).update, testing_since=None)


@transaction.atomic
def _begin(*, caller: Caller, name: str) -> Notification:
    take_turns(USER_LOCK, caller.user_id)
    own = Notification.objects.filter(user_id=caller.user_id)
    found = own.filter(name=name).first()
    if found is None:
        raise NotificationNotFound(name)
    longest = timedelta(seconds=settings.APFLOW.webhooks.timeout_seconds + SPARE_SECONDS)
    if own.filter(testing_since__gt=Now() - longest).exists():
        raise LimitReached("Another test message of yours is being sent. Wait until it has ended.")
    own.filter(id=found.id).update(testing_since=Now())
    return found


def _flow_of(notification: Notification) -> str | None:
    if notification.flow_id is None:
        return None
    return Flow.objects.filter(id=notification.flow_id).values_list("name", flat=True).first()
