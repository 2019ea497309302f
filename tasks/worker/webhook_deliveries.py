"""Claim due webhooks under a lease and record each delivery. Timestamps use the database clock.

A worker claims a webhook for one attempt at a time. Its writes count only while it still has the
claim and the webhook's position is unchanged: two workers may send an event twice, but they never
advance the position twice.
"""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from apflow_site.db import pools
from apflow_site.db.prepared import Prepared
from llmkeys.cipher import CannotUnseal
from tasks import events
from tasks.models import Webhook, WebhookDelivery
from tasks.models.webhooks import WebhookQuerySet
from tasks.queue import leases, maintenance, notify
from tasks.queue.notify import Listener
from tasks.rules.retry import Retry
from tasks.rules.strict_json import Json
from tasks.services.messages.webhook_requests import WebhookResponse, request_of, send, unreadable
from tasks.services.messages.webhooks import OF_NOTIFICATIONS
from tasks.telemetry import metrics

logger = logging.getLogger(__name__)

MAX_AT_ONCE: Final = 50
"""The number of webhooks that one process serves at once."""
MAX_PER_HOST: Final = MAX_AT_ONCE // 4
"""The number of them that may have one host: a host that hangs leaves capacity for others."""
MAX_FAILURES: Final = 10
"""A webhook is disabled after this many consecutive events that could not be delivered."""
MOST_REQUESTS: Final = 2
"""The maximum number of requests in one attempt (`Request.then`)."""
SPARE_SECONDS: Final = 20
"""The seconds that a claim outlives its attempt: time for the database and for a busy host."""
BACKOFF: Final = Retry(backoff_seconds=1.0, backoff_factor=2.0, max_backoff_seconds=900.0)
MOST_DOUBLINGS: Final = 20
MAX_ERROR_CHARACTERS: Final = 255
FREE: Final[Json] = {"lease_owner": None, "lease_expires_at": None}


def seconds_until_due(*, served: Collection[Webhook] = ()) -> float | None:
    """Return the seconds until a webhook has something to send, as far as known; 0 for now.

    Ignored are those that this process is serving, and hosts without free capacity. None: no
    webhook is open. During maintenance nothing is due; its end is a notification.
    """
    if not Webhook.objects.open().exists():
        return None
    if maintenance.is_on():
        return float("inf")
    waiting = _not_served(served).exclude(host__in=_full(_places(served)))
    if waiting.due().exists():
        return 0.0
    later = waiting.open().filter(next_at__gt=Now()).order_by("next_at").values_list("next_at", Now()).first()
    if later is not None:
        next_at, now = later
        seconds: float = (next_at - now).total_seconds()
        return max(0.001, seconds)
    return float("inf")


@transaction.atomic
def claim(*, owner: str, limit: int, served: Collection[Webhook] = ()) -> Sequence[Webhook]:
    """Take up to `limit` webhooks that have something to send, longest waiting first.

    None of those that this process is serving: it may have released one whose service has yet to
    end, and would leave it claimed and unserved. No host gets more than `MAX_PER_HOST`, `served`
    included.
    """
    if maintenance.is_on():
        return []
    ids, places = list[str](), _places(served)
    while wanted := limit - len(ids):
        due = _not_served(served).due().exclude(id__in=ids).exclude(host__in=_full(places))
        due = due.select_for_update(skip_locked=True, of=("self",)).order_by("next_at")
        found = list(due.values_list("id", "host")[:wanted])
        for webhook_id, host in found:
            if places[host] < MAX_PER_HOST:
                ids.append(webhook_id)
                places[host] += 1
        if len(found) < wanted:
            break
    Webhook.objects.filter(id__in=ids).update(lease_owner=owner, lease_expires_at=_lease_end())
    return list(Webhook.objects.filter(id__in=ids).select_related("run").order_by("next_at"))


def release(webhook: Webhook, *, owner: str) -> None:
    """Release the webhook: there may be more to send."""
    _held(webhook, owner).update(**FREE)


def close(webhook: Webhook, *, owner: str) -> None:
    """Close the webhook: there is nothing more to send."""
    _held(webhook, owner).update(closed_at=Now(), **FREE)


@transaction.atomic
def record(webhook: Webhook, event: Json, answer: WebhookResponse | None, *, owner: str) -> bool:
    """Record the outcome for the event. `answer` is None if the event was not for this webhook.

    Returns whether this owner may send the next event now. False: it has to be retried later, the
    claim is lost, or nothing more will be sent.
    """
    status, changes = _outcome(webhook, event, answer)
    if not _held(webhook, owner).update(**changes):
        return False
    if answer is not None:
        transaction.on_commit(lambda: metrics.delivered(status))
        _store_delivery(webhook, event, answer, status)
        _log(webhook, event, answer, status, is_disabled="disabled_at" in changes)
    webhook.next_seq, webhook.attempt = event["seq"] + 1, 0
    webhook.failures = changes.get("failures", webhook.failures)
    return "lease_owner" not in changes


#: Asked every few seconds by each server and each idle worker.
ANY_OPEN: Final = Prepared(lambda: Webhook.objects.open().values_list("id")[:1])


def is_any_open() -> bool:
    """Return whether there may be something to deliver."""
    return ANY_OPEN.first() is not None


def sweep() -> None:
    """Release claims of dead processes of this host; close webhooks whose run has no more events."""
    if not is_any_open():
        return
    claimed = Webhook.objects.open().exclude(lease_owner=None)
    if dead := leases.dead_owners(claimed.values_list("lease_owner", flat=True).distinct()):
        claimed.filter(lease_owner__in=dead).update(**FREE)
        notify.send(notify.EVENTS)
    is_past = Q(run__finished_at__isnull=False, next_seq__gt=F("run__last_seq"))
    if past := list(Webhook.objects.open().filter(is_past).values_list("id", flat=True)[:1000]):
        Webhook.objects.filter(id__in=past).update(closed_at=Now())


def _not_served(served: Collection[Webhook]) -> WebhookQuerySet:
    return Webhook.objects.exclude(id__in=[webhook.id for webhook in served])


def _places(served: Collection[Webhook]) -> Counter[str]:
    """Count the webhooks by host."""
    return Counter(webhook.host for webhook in served)


def _full(places: Mapping[str, int]) -> list[str]:
    """Return the hosts without free capacity."""
    return [host for host, taken in places.items() if taken >= MAX_PER_HOST]


def _held(webhook: Webhook, owner: str) -> Any:
    """Select the row if it is still as it was claimed."""
    return Webhook.objects.open().filter(id=webhook.id, lease_owner=owner, next_seq=webhook.next_seq)


def _lease_end() -> Any:
    return Now() + timedelta(seconds=MOST_REQUESTS * settings.APFLOW.webhooks.timeout_seconds + SPARE_SECONDS)


def _outcome(webhook: Webhook, event: Json, answer: WebhookResponse | None) -> tuple[str, Json]:
    """Return the event's status, and the changes to the webhook."""
    if answer is not None and answer.may_retry and not _is_old(event):
        delay = timedelta(seconds=_delay_seconds(webhook.attempt + 1, answer.retry_after_seconds))
        return "retrying", {"attempt": webhook.attempt + 1, "next_at": Now() + delay, **FREE}
    status = "delivered" if answer is None or answer.error is None else "failed"
    changes: Json = {"next_seq": event["seq"] + 1, "attempt": 0, "next_at": Now(), "lease_expires_at": _lease_end()}
    if answer is not None:
        changes["failures"] = 0 if answer.error is None else webhook.failures + 1
        if answer.is_gone or changes["failures"] >= MAX_FAILURES:
            return status, {**changes, "closed_at": Now(), "disabled_at": Now(), **FREE}
    is_last = event["type"] == "final" or webhook.kind in OF_NOTIFICATIONS
    return status, {**changes, "closed_at": Now(), **FREE} if is_last else changes


def _is_old(event: Json) -> bool:
    """Return whether the event is too old to be retried."""
    happened = datetime.fromisoformat(event["timestamp"])
    return datetime.now(UTC) - happened > timedelta(hours=settings.APFLOW.webhooks.keep_hours)


def _delay_seconds(attempt: int, asked_for: float | None) -> float:
    """Return the delay before the next attempt.

    The receiver may ask for more, up to `webhooks.keep_hours`.
    """
    most = settings.APFLOW.webhooks.keep_hours * 3600.0
    return BACKOFF.delay(min(attempt, MOST_DOUBLINGS), None if asked_for is None else min(asked_for, most))


def _store_delivery(webhook: Webhook, event: Json, answer: WebhookResponse, status: str) -> None:
    row = WebhookDelivery(
        webhook=webhook,
        seq=event["seq"],
        status=status,
        attempts=webhook.attempt + 1,
        status_code=answer.status_code,
        error=answer.error and answer.error[:MAX_ERROR_CHARACTERS],
        updated_at=datetime.now(UTC),
    )
    WebhookDelivery.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["webhook", "seq"],
        update_fields=["status", "attempts", "status_code", "error", "updated_at"],
    )


def _log(webhook: Webhook, event: Json, answer: WebhookResponse, status: str, *, is_disabled: bool) -> None:
    """Log a failed delivery, without the path of the URL: it may be a secret."""
    facts = {"event": f"webhook.{status}", "webhook": webhook.id, "run": webhook.run_id, "seq": event["seq"]}
    host, why = urlsplit(webhook.url).hostname, answer.status_code or "no response"
    if status == "failed":
        logger.warning("Event %s of run %s did not reach %s: %s", event["seq"], webhook.run_id, host, why, extra=facts)
    if is_disabled:
        logger.warning(
            "The webhook to %s of run %s is disabled", host, webhook.run_id, extra=facts | {"event": "webhook.disabled"}
        )


PAGE: Final = 100
"""The number of events of one webhook that are delivered before another webhook has its turn."""
LOOK_SECONDS: Final = 5.0
"""The seconds after which the courier reads the rows without a notification, in case one was lost."""
REST_SECONDS: Final = 0.01
"""The pause after each poll: notifications that arrive meanwhile share the next poll."""


class Courier:
    """Delivers the webhooks that this process has claimed."""

    def __init__(self) -> None:
        self._owner = leases.process_name()
        self._loop = asyncio.new_event_loop()
        self._wake_up = asyncio.Event()
        self._served: dict[Webhook, asyncio.Task[None]] = {}
        self._is_draining = False
        self._listener = Listener(notify.EVENTS, self.wake)
        threading.Thread(target=self._run, name="courier", daemon=True).start()

    def wake(self) -> None:
        """Check for deliveries. Callable from any thread; returns at once."""
        self._loop.call_soon_threadsafe(self._wake_up.set)

    def drain(self) -> None:
        """Begin no new delivery, and release each webhook after its current attempt.

        Callable from any thread.
        """
        self._is_draining = True
        self.wake()

    def _run(self) -> None:
        self._loop.run_until_complete(self._work())

    async def _work(self) -> None:
        while not self._is_draining:
            await self._wake_up.wait()
            with (
                suppress(DatabaseError),
                self._listener.attentive(),
            ):  # the database is unavailable: the next wake-up tries again
                await self._work_until_idle()
            await asyncio.sleep(REST_SECONDS)
        if self._served:
            await asyncio.wait(self._served.values())

    async def _work_until_idle(self) -> None:
        while not self._is_draining:
            self._wake_up.clear()  # before reading, so that a notification during the read is not missed
            seconds = await pools.read(seconds_until_due, served=list(self._served))
            if seconds is None and not self._served:
                return
            room = MAX_AT_ONCE - len(self._served)
            if seconds == 0 and room:
                await self._claim(room)
            else:
                await self._woken_within(min(seconds or LOOK_SECONDS, LOOK_SECONDS))
            await asyncio.sleep(REST_SECONDS)

    async def _claim(self, room: int) -> None:
        served = list(self._served)
        for webhook in await pools.write(claim, owner=self._owner, limit=room, served=served):
            self._start(webhook)

    async def _woken_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake_up.wait()

    def _start(self, webhook: Webhook) -> None:
        serving = self._served[webhook] = asyncio.create_task(self._serve(webhook))
        serving.add_done_callback(partial(self._ended, webhook))

    def _ended(self, webhook: Webhook, serving: asyncio.Task[None]) -> None:
        del self._served[webhook]
        self._wake_up.set()
        if not serving.cancelled() and (error := serving.exception()):
            # The database is unavailable, or there is a bug: the claim expires, and the event is
            # sent again.
            logger.error(
                "Delivery to webhook %s failed unexpectedly",
                webhook.id,
                exc_info=error,
                extra={"event": "webhook.broken"},
            )

    async def _serve(self, webhook: Webhook) -> None:
        """Deliver the webhook's events, one after the other."""
        log = await pools.read(events.read, run_id=webhook.run_id, after=webhook.next_seq - 1, limit=PAGE)
        if not log:  # its events have been deleted
            await pools.write(close, webhook, owner=self._owner)
        for event in log:
            if self._is_draining:
                break
            answer = await self._deliver(webhook, event)
            if not await pools.write(record, webhook, event, answer, owner=self._owner):
                return
        await pools.write(release, webhook, owner=self._owner)

    async def _deliver(self, webhook: Webhook, event: Json) -> WebhookResponse | None:
        """Deliver one event. None: the event is not for this webhook."""
        try:
            request = await pools.read(request_of, webhook, event)
        except CannotUnseal as error:
            return unreadable(error)
        return None if request is None else await send(webhook, request)
