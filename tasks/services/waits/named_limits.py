"""The named limits and pauses for people: what waits for which since when, and changes while workers run.

Administrators set limits for all, and pause executors, providers and users. Users set limits for their own tasks, and pause their flows.
"""

from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Min, Q, Sum
from django.utils import timezone

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller
from llmkeys.providers import UnknownProvider, provider_named
from tasks.executors import missing_executor
from tasks.models import NamedLimit, Question, QuestionQuerySet
from tasks.models.waits import new_stamp
from tasks.rules.exceptions import InvalidParams, LimitNotFound, RoleTooLow
from tasks.rules.limits import AT_ONCE, BETWEEN, Limit, id_of, paused, read_limits
from tasks.rules.strict_json import Json
from tasks.services.waits.limit_waits import limit_in, places
from tasks.status import WaitKind

MOST_SHOWN: Final = 100
"""The waiting tasks of a limit that are listed."""
MOST_LIMITS: Final = 1_000
MOST_OWN: Final = 20
"""The limits that a user may set for themselves, and the pauses of their flows."""
DEMO: Final = "demo"
"""The provider of the demo model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInUse:
    """A named limit or a pause, and the waits for it that the caller may see."""

    limit: Limit
    given: Json
    stored: NamedLimit | None
    """None for a limit of the configuration."""
    waiting: int
    since: datetime | None
    """When the first of them began to wait."""
    at_work: int | None
    """The places that tasks have, of all users; None without `at_once`."""

    @property
    def name(self) -> str:
        return self.limit.name

    def paused_by(self, caller: Caller) -> str | None:
        """Return who has paused it, as the caller may see; None for an administrator."""
        by = self.limit.pause.by if self.limit.pause else None
        return by if caller.sees_all or by == caller.user_id else None


def list_limits(caller: Caller, *, user_id: str | None = None) -> list[LimitInUse]:
    """Return the limits of all users and those of the caller, by name; with `user_id` those of this user alone. Raises RoleTooLow."""
    return [each for each in _in_use(caller, user_id=user_id) if each.limit.pause is None]


def list_pauses(caller: Caller, *, user_id: str | None = None) -> list[LimitInUse]:
    """Return the pauses that apply to the caller's tasks, for administrators all of them. Raises RoleTooLow."""
    return [each for each in _in_use(caller, user_id=user_id) if each.limit.pause is not None]


def _in_use(caller: Caller, *, user_id: str | None) -> list[LimitInUse]:
    owner = _owner(caller, user_id) if user_id else caller.user_id
    of_owner = Q(user_id=owner) if user_id else Q(user_id__in=["", owner])
    others = Q(kind__gt="") if caller.sees_all and not user_id else Q(pk__in=[])
    stored = list(NamedLimit.objects.filter(of_owner | others).order_by("id")[: 2 * MOST_LIMITS])
    # A user sees neither that others are paused nor that they have limits.
    stored = [each for each in stored if caller.sees_all or each.kind != "user" or each.name == caller.user_id]
    configured = {} if user_id else settings.APFLOW.limits.shared or {}
    of_all = {limit.id: (limit, configured[limit.name], None) for limit in read_limits(configured).values()}
    found = of_all | {each.id: (limit_in(each), each.given, each) for each in stored}
    waits = _waits(caller).values_list("event").annotate(Count("id"), Min("asked_at"))
    waiting, since = dict[str, int](), dict[str, datetime]()
    for key, count, first in waits:
        limit_id = id_of(str(key))
        waiting[limit_id] = waiting.get(limit_id, 0) + count
        since[limit_id] = min(first, since.get(limit_id, first))
    held = dict[str, int]()
    for key, count in places().values_list("key").annotate(Sum("places")):
        held[id_of(key)] = held.get(id_of(key), 0) + count
    in_use = (
        LimitInUse(
            limit=limit,
            given=given,
            stored=row,
            waiting=waiting.get(limit_id, 0),
            since=since.get(limit_id),
            at_work=held.get(limit_id, 0) if AT_ONCE in given else None,
        )
        for limit_id, (limit, given, row) in found.items()
    )
    return sorted(in_use, key=lambda each: (each.name, each.limit.owner))


def get_limit(caller: Caller, *, name: str, user_id: str | None = None) -> tuple[LimitInUse, list[Question]]:
    """Return a limit, and the first of the caller's tasks that wait for it, the next first. Raises LimitNotFound and RoleTooLow.

    One of the caller's own comes before one of all users with the same name.
    """
    found = {each.name: each for each in list_limits(caller, user_id=user_id)}
    if name not in found:
        raise LimitNotFound(name, close_matches=get_close_matches(name, found, n=1))
    limit_id = found[name].limit.id
    of_limit = Q(event=limit_id) | Q(event__startswith=f"{limit_id}{BETWEEN}")
    in_turn = _waits(caller).filter(of_limit).order_by("turn", "asked_at", "id").select_related("run")
    return found[name], list(in_turn[:MOST_SHOWN])


@transaction.atomic
def set_limit(caller: Caller, *, name: str, given: Json, user_id: str | None = None) -> LimitInUse:
    """Store a limit, which workers know within seconds. It replaces one of the same name and owner. Raises InvalidParams and RoleTooLow.

    That of an administrator is for all users, that of others, or with `user_id`, for the tasks of one user.
    """
    owner = _owner(caller, user_id)
    try:
        (limit,) = read_limits({name: given}, owner=owner).values()
    except ValueError as error:
        field = "name" if "is no name of a limit" in str(error) else "limit"
        raise InvalidParams([(field, str(error))]) from None
    if problem := missing_executor([limit.match["executor"]] if "executor" in limit.match else ()):
        raise InvalidParams([("limit.match.executor", problem)])
    if provider := limit.match.get("provider"):  # as calls name it: `google` is `gemini`
        given = given | {"match": given["match"] | {"provider": known_provider(provider, "limit.match.provider")}}
        (limit,) = read_limits({name: given}, owner=owner).values()
    _store(caller, limit, given)
    audit.record(Action.LIMIT_SET, actor=caller.user_id, target=name, owner=owner or None)
    return next(each for each in _in_use(caller, user_id=owner or None) if each.limit.id == limit.id)


@transaction.atomic
def delete_limit(caller: Caller, *, name: str, user_id: str | None = None) -> bool:
    """Delete a limit that was set; one of the configuration with its name applies again. False: there was none. Raises RoleTooLow."""
    owner = _owner(caller, user_id)
    is_deleted = bool(NamedLimit.objects.filter(name=name, user_id=owner, kind="").delete()[0])
    if is_deleted:
        audit.record(Action.LIMIT_DELETED, actor=caller.user_id, target=name, owner=owner or None)
    return is_deleted


@transaction.atomic
def pause(caller: Caller, kind: str, name: str, *, owner: str = "") -> LimitInUse:
    """Let no task of a flow, an executor, a provider or a user start until it is resumed. One that is paused already stays as it is."""
    limit = paused(kind, name, owner=owner, by=caller.user_id, since=timezone.now())
    if not NamedLimit.objects.filter(id=limit.id).exists():
        _store(caller, limit, {"match": dict(limit.match), AT_ONCE: 0})
        audit.record(Action.PAUSED, actor=caller.user_id, target=f"{kind} {name}", owner=owner or None)
    return next(each for each in _in_use(caller, user_id=owner or None) if each.limit.id == limit.id)


def pause_of(caller: Caller, kind: str, name: str, *, owner: str = "") -> LimitInUse | None:
    """Return the pause of a flow, an executor, a provider or a user; None without one."""
    limit_id = paused(kind, name, owner=owner, by="", since=timezone.now()).id
    if not NamedLimit.objects.filter(id=limit_id).exists():
        return None
    return next((each for each in _in_use(caller, user_id=owner or None) if each.limit.id == limit_id), None)


@transaction.atomic
def resume(caller: Caller, kind: str, name: str, *, owner: str = "") -> bool:
    """Let the tasks start that wait because of a pause, in their order. False: there was none. Raises RoleTooLow."""
    found = NamedLimit.objects.filter(kind=kind, name=name, user_id=owner).first()
    if found is None:
        return False
    if not caller.sees_all and found.set_by != caller.user_id:
        raise RoleTooLow(f"An administrator has paused the {kind} '{name}'. Only administrators may resume it.")
    found.delete()
    audit.record(Action.RESUMED, actor=caller.user_id, target=f"{kind} {name}", owner=owner or None)
    return True


def known_provider(name: str, field: str) -> str:
    """Return the name of a provider. Raises InvalidParams if there is none of this name."""
    try:
        return DEMO if name == DEMO else provider_named(name)
    except UnknownProvider as error:
        raise InvalidParams([(field, error.message)]) from None


def _owner(caller: Caller, user_id: str | None) -> str:
    """Return the user whose tasks alone a limit is for; "" for those of all. Raises RoleTooLow for another user, there or not."""
    if caller.sees_all:
        return user_id or ""
    if user_id not in (None, caller.user_id):
        raise RoleTooLow("Only administrators may manage the limits of other users. Omit user_id for your own.")
    return caller.user_id


def _store(caller: Caller, limit: Limit, given: Json) -> None:
    others = NamedLimit.objects.exclude(id=limit.id).filter(user_id=limit.owner)
    most = MOST_OWN if limit.owner else MOST_LIMITS
    if others.count() >= most:
        raise InvalidParams([("name", f"would be one of more than {most:,} limits and pauses; delete some")])
    facts = {"name": limit.name, "kind": limit.pause.kind if limit.pause else "", "user_id": limit.owner}
    changed = {"given": given, "set_by": caller.user_id, "set_at": timezone.now(), "stamp": new_stamp()}
    NamedLimit.objects.update_or_create(id=limit.id, defaults=facts | changed)


def _waits(caller: Caller) -> QuestionQuerySet:
    found = Question.objects.for_caller(caller).filter(kind=WaitKind.LIMIT, closed_at=None, answered_at=None)
    return found.in_open_runs().order_by()
