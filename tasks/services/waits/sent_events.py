"""Events from outside: `events.send`, and the address of a single wait.

An event wakes every wait of its owner that it fits, a thousand of them in one transaction. It is
stored first, so that sending it again, or a sweep, completes what a crash interrupted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from accounts.callers import Caller
from apflow_site.db import pools
from tasks.ids import new_id
from tasks.models import Question, SentEvent
from tasks.queue import notify, suspension
from tasks.rules.exceptions import InvalidParams
from tasks.rules.waits import digest_at
from tasks.services.files.references import EVENT, named_in, refer, release
from tasks.services.waits.event_waits import take_turns
from tasks.status import WaitKind

MOST_AT_ONCE: Final = 1_000
"""The number of waits that one transaction wakes."""
FORGOTTEN: Final = timedelta(seconds=10)
"""The age from which on a sweep completes an event that has not woken its waits."""
USED_TWICE: Final = "was used for another event: use a new id for each"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The position in the waits with the name of an event: `shape` is the last set of pointers that was looked through."""

    shape: str = ""
    is_done: bool = True


async def send(*, caller: Caller, event: str, payload: Any, event_id: str | None = None) -> SentEvent:
    """Store an event of the caller, and wake the waits that it fits. An event with the same id is sent only once.

    Raises InvalidParams if the id was used for another event.
    """
    sent = await pools.write(store, caller.user_id, event, payload, event_id or new_id())
    await wake(sent)
    return sent


async def wake(sent: SentEvent) -> None:
    """Wake the waits that a stored event fits."""
    place: Place | None = Place() if sent.woken is None else None
    while place is not None:
        place = await pools.write(_wake_next, sent, place)


@transaction.atomic
def store(user_id: str, event: str, payload: Any, event_id: str) -> SentEvent:
    """Store an event that is to `wake` waits; a sweep does it if this process dies before. It refers to the files in its payload.

    Raises InvalidParams.
    """
    take_turns(user_id, event)
    received_at = datetime.now(UTC)  # as Run.created_at: a wait compares them, and SQLite's own clock has milliseconds
    row = SentEvent(user_id=user_id, event_id=event_id, event=event, payload=payload, received_at=received_at)
    SentEvent.objects.bulk_create([row], ignore_conflicts=True)
    sent = SentEvent.objects.get(user_id=user_id, event_id=event_id, wait_id=None)
    if (sent.event, sent.payload) != (event, payload):
        raise InvalidParams([("id", USED_TWICE)])
    _refer(sent)
    # Delete the oldest events of a user who has too many, but for those that a task has yet to read.
    of_user = SentEvent.objects.filter(user_id=user_id).order_by("-id")
    most = settings.APFLOW.limits.events_per_user
    oldest = of_user.values_list("id", flat=True)[most : most + 1].first()
    if oldest is not None:
        forget(list(_unread(of_user.order_by().filter(id__lte=oldest)).values_list("id", flat=True)))
    return sent


def _refer(sent: SentEvent) -> None:
    files = named_in(sent.payload)
    refer(f"{EVENT}{sent.id}", files, owner=sent.user_id, may_be_missing=True)  # any JSON may be sent


@transaction.atomic
def forget(event_ids: Sequence[int]) -> None:
    """Delete these events, and their references to files."""
    SentEvent.objects.filter(id__in=event_ids).delete()
    release([f"{EVENT}{event_id}" for event_id in event_ids])


def _unread(events: "QuerySet[SentEvent]") -> "QuerySet[SentEvent]":
    """Leave out the events that a task has yet to read."""
    return events.exclude(Exists(Question.objects.filter(closed_at=None, taken_id=OuterRef("id"))))


@transaction.atomic
def _wake_next(sent: SentEvent, place: Place) -> Place | None:
    """Wake some of the waits that the event fits. Returns where to go on; None after the last one."""
    waits = Question.objects.unanswered().filter(kind=WaitKind.EVENT, user_id=sent.user_id, event=sent.event)
    rest = waits.filter(shape__gt=place.shape) if place.is_done else waits.filter(shape__gte=place.shape)
    found = rest.order_by("shape").values_list("shape", "match").first()
    if found is None:
        sent.woken = Question.objects.filter(taken_id=sent.id).count()
        SentEvent.objects.filter(id=sent.id).update(woken=sent.woken)
        return None
    shape, match = found
    digest = digest_at(match or {}, sent.payload)
    if digest is None:
        return Place(shape=str(shape), is_done=True)
    fitting = waits.filter(shape=shape, digest=digest).order_by("id").select_for_update()
    some = dict(fitting.values_list("id", "run_id")[:MOST_AT_ONCE])
    Question.objects.filter(id__in=some).update(taken_id=sent.id, answered_at=Now())
    _tell(set(some.values()))
    return Place(shape=str(shape), is_done=len(some) < MOST_AT_ONCE)


def _tell(run_ids: set[str]) -> None:
    notify.send(notify.RUNS)
    transaction.on_commit(partial(suspension.resume, sorted(run_ids)), robust=True)


@transaction.atomic
def take(wait: Question, payload: Any) -> bool:
    """End this wait with an event of its own. False: something has ended it before."""
    taken = Question.objects.unanswered().in_open_runs().filter(id=wait.id)
    event = SentEvent.objects.create(
        user_id=str(wait.user_id),
        event_id=new_id(),
        event=str(wait.event),
        payload=payload,
        received_at=datetime.now(UTC),
        woken=1,
        wait_id=wait.id,
    )
    if not taken.update(taken_id=event.id, answered_at=Now()):
        event.delete()
        return False
    _refer(event)
    _tell({wait.run_id})
    return True


def wake_forgotten() -> None:
    """Wake the waits of events whose request was interrupted."""
    before = datetime.now(UTC) - FORGOTTEN
    for sent in SentEvent.objects.filter(woken=None, received_at__lt=before).order_by("id")[:100]:
        place: Place | None = Place()
        while place is not None:
            place = _wake_next(sent, place)


def old_events() -> "QuerySet[SentEvent]":
    """Return the events that no wait can take any more."""
    before = datetime.now(UTC) - timedelta(days=settings.APFLOW.events.sent_days)
    return _unread(SentEvent.objects.filter(received_at__lt=before))
