"""The beginning of waits for an event: they take one that came before them, or begin to listen.

A wait for an event takes the first one that fits. The choice is a row, `Question.taken_id`, so that
it is made once, even if a process dies. A new wait first looks for events that came before it. Only then it
is open to new ones: until then it has no `digest`, by which they find it. Between the last look and
that moment no event of this name is stored, so that none is missed and none overtakes another.

A thousand waits may begin together, so all functions are for many waits of one user.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import groupby
from typing import Any, Final

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.db.models.functions import Length, Now

from accounts.users import is_disabled
from apflow_site.db import turns
from tasks.models import Question, SentEvent
from tasks.rules.waits import digest_at, digest_of, shape_of
from tasks.services.waits.questions import OpenQuestion, questions_by_id
from tasks.status import WaitKind

MOST_EARLIER: Final = 1_000
"""The number of earlier events of that name that a wait looks at."""
EARLIER_BYTES: Final = 2**20
"""The bytes of all their payloads together."""
LOCK: Final = 0x61706666


class _Bytes(Length):
    """The length of a text in bytes, which PostgreSQL knows without reading it."""

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, function="OCTET_LENGTH", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="LENGTH(CAST(%(expressions)s AS BLOB))", **context)


@dataclass(frozen=True, slots=True)
class Look:
    """The events before a wait that it has looked at: the first that fits, if any, and the last of all."""

    wait_id: str
    found_id: int | None
    last_id: int


def look_back(user_id: str, wait_ids: Sequence[str]) -> dict[str, Look]:
    """Look for the first event that fits each wait, came before it, and was taken by no other wait of its run."""
    return {look.wait_id: look for look in _look(_waits(user_id, wait_ids), after={})}


@transaction.atomic
def take_or_open(user_id: str, looks: Sequence[Look]) -> dict[Look, OpenQuestion]:
    """Let the waits take the events that they have found. The others begin to listen, unless an event came meanwhile.

    Waits whose tasks no longer wait are left out.
    """
    missed = {look.wait_id: look.last_id for look in looks if look.found_id is None}
    listening = _waits(user_id, list(missed))
    take_turns(user_id, *{str(wait.event) for wait in listening})
    found = {look.wait_id: look.found_id for look in (*looks, *_look(listening, after=missed))}
    still_listening = [wait for wait in listening if found[wait.id] is None]
    for wait in still_listening:
        match = wait.match or {}
        wait.shape, wait.digest = shape_of(match), digest_of(match)
    Question.objects.bulk_update(still_listening, ["shape", "digest"])
    for event_id in sorted({event_id for event_id in found.values() if event_id is not None}):
        wait_ids = [wait_id for wait_id, found_id in found.items() if found_id == event_id]
        still_open = Question.objects.filter(id__in=wait_ids, closed_at=None, answered_at=None)
        still_open.update(answered_at=Now(), taken_id=event_id)
    questions = questions_by_id([look.wait_id for look in looks])
    return {look: questions[look.wait_id] for look in looks if look.wait_id in questions}


def take_turns(user_id: str, *events: str) -> None:
    """Wait for other transactions with events of this user and these names."""
    turns.take_turns(LOCK, *(f"{user_id}\n{event}" for event in events))


def _waits(user_id: str, wait_ids: Sequence[str]) -> list[Question]:
    return list(Question.objects.filter(id__in=wait_ids, user_id=user_id).select_related("run").order_by("id"))


def _look(waits: Sequence[Question], *, after: Mapping[str, int]) -> Iterator[Look]:
    def name_of(wait: Question) -> tuple[str, str]:
        return wait.run_id, str(wait.event)

    for _, group in groupby(sorted(waits, key=name_of), name_of):
        together = list(group)
        past = _Past(together, after=min(after.get(wait.id, 0) for wait in together))
        yield from (past.look(wait, after.get(wait.id, 0)) for wait in together)


class _Past:
    """The events that waits of one run for the same event may take, read once for all of them."""

    def __init__(self, waits: Sequence[Question], *, after: int) -> None:
        self._events = _newest(waits[0], after, since=min(map(_since, waits)))
        self._digests: dict[tuple[str, ...], dict[int, str | None]] = {}

    def look(self, wait: Question, after: int) -> Look:
        since, match = _since(wait), wait.match or {}
        seen = [event_id for event_id, received_at in self._events if event_id > after and received_at >= since]
        pointers, wanted = tuple(sorted(match)), digest_of(match)
        if pointers not in self._digests:
            self._digests[pointers] = {
                event_id: digest_at(pointers, payload) for event_id, payload in self._payloads.items()
            }
        digests = self._digests[pointers]
        found_id = next((event_id for event_id in seen if digests[event_id] == wanted), None)
        return Look(wait.id, found_id, max(seen, default=after))

    @cached_property
    def _payloads(self) -> dict[int, Any]:
        event_ids = [event_id for event_id, _ in self._events]
        return dict(SentEvent.objects.filter(id__in=event_ids).values_list("id", "payload")) if event_ids else {}


def _since(wait: Question) -> datetime:
    since: datetime = wait.since or wait.run.created_at
    return since


def _newest(wait: Question, after: int, *, since: datetime) -> list[tuple[int, datetime]]:
    """Return ids and times of the newest events of that name, as many as a wait may look at, oldest first."""
    taken = Question.objects.filter(run_id=wait.run_id, taken_id__isnull=False).values("taken_id")
    events = SentEvent.objects.filter(
        user_id=wait.user_id, event=wait.event, wait_id=None, received_at__gte=since, id__gt=after
    ).exclude(id__in=taken)
    found, size = list[tuple[int, datetime]](), 0
    rows = events.order_by("-id").values_list("id", "received_at", _Bytes("payload"))[:MOST_EARLIER]
    for event_id, received_at, length in rows:
        size += length or 0
        if size > EARLIER_BYTES:
            break
        found.append((event_id, received_at))
    return found[::-1]


SALT: Final = "tasks.hooks"  # part of every signature: another salt invalidates all existing addresses
PATH: Final = "/hooks/"


def hook_url(wait: Question) -> str | None:
    """Return the address: absolute if `server.public_url` is set, else a path. None for a wait for a time."""
    if wait.kind != WaitKind.EVENT:
        return None
    return f"{(settings.APFLOW.server.public_url or '').rstrip('/')}{PATH}{_signer().sign(wait.id)}"


def wait_of(token: str) -> Question | None:
    """Return the wait of this token. None: it is none, or the wait is over, or its owner is disabled."""
    try:
        wait_id = _signer().unsign(token)
    except signing.BadSignature:
        return None
    waits = Question.objects.filter(kind=WaitKind.EVENT).unanswered().in_open_runs()
    wait = waits.filter(id=wait_id).first()
    return None if wait is None or is_disabled(str(wait.user_id)) else wait


def _signer() -> signing.Signer:
    return signing.Signer(salt=SALT, sep=".")
