"""The named limits for people: who waits for which since when, and changes by administrators while workers run."""

from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Final

from django.db import transaction
from django.db.models import Count, Min, Q
from django.utils import timezone

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller
from tasks.models import NamedLimit, Question, QuestionQuerySet
from tasks.rules.exceptions import InvalidParams, LimitNotFound
from tasks.rules.limits import AT_ONCE, PER_USER, name_of, read_limits
from tasks.rules.strict_json import Json
from tasks.services.waits.limit_waits import places
from tasks.status import WaitKind

MOST_SHOWN: Final = 100
"""The waiting tasks of a limit that are listed."""
MOST_LIMITS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInUse:
    """A named limit, and the waits for it that the caller may see."""

    name: str
    given: Json
    stored: NamedLimit | None
    """None for a limit of the configuration."""
    waiting: int
    since: datetime | None
    """When the first of them began to wait."""
    at_work: int | None
    """The tasks that have a place, of all users; None without `at_once`."""


def list_limits(caller: Caller) -> list[LimitInUse]:
    """Return all named limits, by name."""
    stored = NamedLimit.objects.in_bulk()
    waits = _waits(caller).values_list("event").annotate(Count("id"), Min("asked_at"))
    waiting, since = dict[str, int](), dict[str, datetime]()
    for key, count, first in waits:
        name = name_of(str(key))
        waiting[name] = waiting.get(name, 0) + count
        since[name] = min(first, since.get(name, first))
    held = dict[str, int]()
    for key, count in places().values_list("key").annotate(Count("id")):
        held[name_of(key)] = held.get(name_of(key), 0) + count
    return [
        LimitInUse(
            name=name,
            given=given,
            stored=stored.get(name),
            waiting=waiting.get(name, 0),
            since=since.get(name),
            at_work=held.get(name, 0) if AT_ONCE in given else None,
        )
        for name, given in sorted(NamedLimit.objects.given().items())
    ]


def get_limit(caller: Caller, *, name: str) -> tuple[LimitInUse, list[Question]]:
    """Return a limit, and the first of the caller's tasks that wait for it, the next first. Raises LimitNotFound."""
    found = {each.name: each for each in list_limits(caller)}
    if name not in found:
        raise LimitNotFound(name, close_matches=get_close_matches(name, found, n=1))
    of_limit = Q(event=name) | Q(event__startswith=f"{name}{PER_USER}")
    in_turn = _waits(caller).filter(of_limit).order_by("turn", "asked_at", "id").select_related("run")
    return found[name], list(in_turn[:MOST_SHOWN])


@transaction.atomic
def set_limit(caller: Caller, *, name: str, given: Json) -> LimitInUse:
    """Store a limit, which workers know within seconds. It replaces one of the same name. Raises InvalidParams."""
    try:
        read_limits({name: given})
    except ValueError as error:
        raise InvalidParams([("limit", str(error))]) from None
    if NamedLimit.objects.exclude(name=name).count() >= MOST_LIMITS:
        raise InvalidParams([("name", f"would be one of more than {MOST_LIMITS:,} limits; delete some")])
    NamedLimit.objects.update_or_create(
        name=name, defaults={"given": given, "set_by": caller.user_id, "set_at": timezone.now()}
    )
    audit.record(Action.LIMIT_SET, actor=caller.user_id, target=name)
    return next(each for each in list_limits(caller) if each.name == name)


@transaction.atomic
def delete_limit(caller: Caller, *, name: str) -> bool:
    """Delete a limit that was set; one of the configuration with its name applies again. False: there was none."""
    is_deleted = bool(NamedLimit.objects.filter(name=name).delete()[0])
    if is_deleted:
        audit.record(Action.LIMIT_DELETED, actor=caller.user_id, target=name)
    return is_deleted


def _waits(caller: Caller) -> QuestionQuerySet:
    found = Question.objects.for_caller(caller).filter(kind=WaitKind.LIMIT, closed_at=None, answered_at=None)
    return found.in_open_runs().order_by()
