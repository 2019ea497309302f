"""Named limits (`limits.shared`): the tasks that they match, and the rates that say when the next of them may start. Pure.

A rate is a bucket as in GCRA: what has been taken is a debt in seconds, which passes with time. One more
unit fits as long as the debt stays within the burst. So a rate of 600 a minute lets one start every 0.1 s, and
in no minute more than 600 and the burst.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tasks.rules.pools import POOLS

BURSTS: Final[Mapping[float, float]] = MappingProxyType({1.0: 0.1, 60.0: 0.01})
"""The part of a rate that may start at once, by its seconds."""
LATE_CALLS: Final = 4
"""The calls that may have their turn and not have begun yet, if only their tokens are limited."""
LATE_SECONDS: Final = 0.5
"""So much of a rate may have its turn and not have started yet. With the burst, a minute has at most 1.02 of a rate of 120 and more."""
PARTS_AHEAD: Final = 32
"""A worker takes in advance one of so many parts of what is left."""
MOST_AHEAD: Final = 256
MOST: Final = 10**9
NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
REQUESTS: Final = "requests_per_minute"
TOKENS: Final = "tokens_per_minute"
MEASURES: Final[Mapping[str, float]] = MappingProxyType(
    {"requests_per_second": 1.0, "requests_per_minute": 60.0, TOKENS: 60.0}
)
"""The seconds of each measure."""
OF_BOTH: Final = ("executor", "flow", "tag", "user")
OF_CALLS: Final = ("provider", "model", "key")
MATCHED: Final = ("executor", "pool", "host", "flow", "tag", "user", *OF_CALLS)
"""The facts that a limit may match; those of OF_CALLS are facts of calls of models alone."""
APART: Final = ("user", "key", "flow")
"""The facts by which a limit may count apart (`per`), besides a place."""
PLACE: Final = re.compile(r"\{\{\s*((?:inputs|params|run\.inputs)(?:\.[\w-]+)+)\s*\}\}")
"""A value of the task or of its run: a fact whose name is the path in the braces."""
KEY_DIGEST: Final = re.compile(r"[0-9a-f]{16}")
AT_ONCE: Final = "at_once"
KEYS: Final = (*MEASURES, AT_ONCE, "match", "per", "cost")
ROUNDING: Final = 1e-6
BETWEEN: Final = "|"
"""The character between the id of a limit and what it counts apart; no id contains it."""
Debts = Mapping[str, float]
"""The debt of each measure, in seconds."""
Facts = Mapping[str, Collection[Any]]
"""The values that a task or a call has of each of MATCHED, and of places; a run may have several tags."""


class Report(NamedTuple):
    """The units of a measure that a service says are left, and in how many seconds there is one more if none is."""

    measure: str
    left: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rate:
    """So many units per so many seconds."""

    units: float
    seconds: float

    @property
    def interval(self) -> float:
        """The seconds after which one unit has been paid back."""
        return self.seconds / self.units

    @property
    def burst(self) -> int:
        """The units that may be taken at once."""
        return max(1, math.floor(BURSTS[self.seconds] * self.units))

    @property
    def late(self) -> int:
        """The units that may have been taken, but not used yet."""
        return max(1, math.floor(LATE_SECONDS / self.interval))

    def room(self, debt: float) -> int:
        """Return how many units fit now."""
        return max(0, math.floor(self.burst - debt / self.interval + ROUNDING))

    def wait(self, debt: float, *, units: float = 1.0, ahead: float = 0.0) -> float:
        """Return in how many seconds the units fit, after those `ahead`. More than the burst fit once nothing is owed."""
        seconds = debt + (ahead + min(units, self.burst) - self.burst) * self.interval
        return seconds if seconds > ROUNDING * self.interval else 0.0

    def held(self, debt: float, seconds: float) -> float:
        """Return the debt with which nothing fits for so many seconds."""
        return max(debt, seconds + (self.burst - 1) * self.interval)

    def left(self, debt: float, units: int, *, seconds: float) -> float:
        """Return the debt with which no more than these units fit, and without any, nothing for so many seconds."""
        return max(debt, (self.burst - units) * self.interval) if units else self.held(debt, seconds)

    def taken(self, debt: float, units: float) -> float:
        """Return the debt with these units."""
        return debt + units * self.interval

    def settled(self, debt: float, *, reserved: float, used: float, seconds_ago: float) -> float:
        """Return the debt after units that were taken `seconds_ago` by an estimate have turned out to be others.

        Only what has not passed of too many is given back: the time since then may have paid for them.
        """
        more = (used - reserved) * self.interval
        return debt + more if more >= 0 else max(0.0, debt - max(0.0, -more - seconds_ago))


def passed(since: datetime, now: datetime, *, looked_at: datetime, seconds_ago: float) -> float:
    """Return the seconds between two times of the database's clock, which may have been set meanwhile.

    The caller has seen the clock show `looked_at`, so many seconds ago by a steady clock, and not after `since`. A clock that
    was set ahead pays no debt. One that was set back pays nothing: when it was, is not known.
    """
    expected = looked_at + timedelta(seconds=seconds_ago)
    return 0.0 if since < looked_at else max(0.0, (min(now, expected) - since).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The pause of a flow, an executor, a provider or a user, until it is resumed: a limit that lets nothing start."""

    kind: str
    by: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A named limit of tasks, or of their calls of models. Without `match` it is for the tasks that name it in `params.limits`.

    `per` is the fact by which it counts apart. `cost` is what a start takes, or the fact that says it. With an `owner`, who has set
    it, it is for the owner's tasks alone.
    """

    name: str
    rates: Mapping[str, Rate] = field(default_factory=dict)
    at_once: int | None = None
    match: Mapping[str, str] = field(default_factory=dict)
    per: str | None = None
    cost: int | str = 1
    owner: str = ""
    pause: Pause | None = None

    @cached_property
    def id(self) -> str:
        """The name of its rows, which no other limit has: users choose the names of their own."""
        if self.pause is None and not self.owner:
            return self.name
        kind = self.pause.kind if self.pause else ""
        return f"@{_digest(kind, self.owner, self.name)}"

    @property
    def metric(self) -> str:
        """The label of its metrics: users choose the names of their own, and of flows."""
        if self.pause:
            return f"(pause of a {self.pause.kind})"
        return "(of a user)" if self.owner else self.name

    @cached_property
    def is_for_calls(self) -> bool:
        """Whether it limits calls of models, and not attempts at tasks."""
        return TOKENS in self.rates or self.per == "key" or not self.match.keys().isdisjoint(OF_CALLS)

    @cached_property
    def facts(self) -> frozenset[str]:
        """The names of the facts that it asks for."""
        others = (self.per, self.cost if isinstance(self.cost, str) else None)
        return frozenset(self.match) | {name for name in others if name is not None}

    @property
    def is_paused(self) -> bool:
        """Whether nothing that it matches may start."""
        return self.at_once == 0

    def matches(self, facts: Facts) -> bool:
        """Return whether it is for a task or a call with these facts."""
        return bool(self.match) and all(value in facts.get(name, ()) for name, value in self.match.items())

    def key_of(self, facts: Facts) -> str:
        """Return the name of the row that counts these facts, which has at most 100 characters. Without the fact of `per`, all share one."""
        return self.id if self.per is None else f"{self.id}{BETWEEN}{_digest(*map(str, facts.get(self.per, ())))}"

    def cost_of(self, facts: Facts) -> int:
        """Return what a start takes: 1 if its place has no value. Raises ValueError if that is no number, or more than there ever is."""
        if isinstance(self.cost, int):
            return self.cost
        cost = next(iter(facts.get(self.cost, ())), 1)
        problem = f"the limit '{self.name}' takes {{{{{self.cost}}}}} places or units for this task"
        if isinstance(cost, bool) or not isinstance(cost, int) or not 1 <= cost <= MOST:
            raise ValueError(f"{problem}, which must be a whole number from 1 to {MOST:,}.")
        if self.at_once and cost > self.at_once:
            raise ValueError(f"{problem}, which is {cost:,}: more than its {AT_ONCE} of {self.at_once:,} ever allows.")
        return cost

    @property
    def late(self) -> int:
        """The tasks that may have their turn, but not have started yet."""
        rates = (rate.late for measure, rate in self.rates.items() if measure != TOKENS)
        return min(rates, default=LATE_CALLS if self.is_for_calls else MOST)

    def after(self, debts: Debts, seconds: float) -> Debts:
        """Return the debts after this time."""
        return {measure: max(0.0, debts.get(measure, 0.0) - seconds) for measure in self.rates}

    def fits(self, debts: Debts, *, tokens: int = 1, cost: int = 1, held: int = 0) -> bool:
        """Return whether one more may start now, while so many places are taken."""
        return self.wait(debts, tokens=tokens, cost=cost) == 0 and (self.at_once is None or held + cost <= self.at_once)

    def wait(self, debts: Debts, *, tokens: int = 1, cost: int = 1, ahead: int = 0) -> float:
        """Return in how many seconds the rates let the next one start, after so many like it. When a place is free is not known."""
        seconds = 0.0
        for measure, rate in self.rates.items():
            units = tokens if measure == TOKENS else cost
            seconds = max(seconds, rate.wait(debts.get(measure, 0.0), units=units, ahead=ahead * units))
        return seconds

    def room(self, debts: Debts, *, held: int = 0) -> int:
        """Return how many units, and places, there are now; 0 if that is different for each call of a model."""
        if TOKENS in self.rates:
            return 0
        rooms = [rate.room(debts.get(measure, 0.0)) for measure, rate in self.rates.items()]
        return max(0, min(*rooms, MOST, MOST if self.at_once is None else self.at_once - held))

    def ahead(self, debts: Debts, *, held: int = 0) -> int:
        """Return how many units a worker may take in advance: few of those that are left, so that a limit that never bites costs little."""
        return min(MOST_AHEAD, self.room(debts, held=held) // PARTS_AHEAD)

    def taken(self, debts: Debts, *, tokens: int = 1, cost: int = 1) -> Debts:
        """Return the debts after one more has started."""
        return {
            measure: rate.taken(debts.get(measure, 0.0), tokens if measure == TOKENS else cost)
            for measure, rate in self.rates.items()
        }


def id_of(key: str) -> str:
    """Return the id of the limit of a row."""
    return key.partition(BETWEEN)[0]


def waiting_for(limit: Limit, seconds: float, *, user_id: str = "") -> str:
    """Return the reason of a wait, as this user sees it. Without seconds a place has to become free."""
    if limit.pause:
        by = limit.pause.by if limit.pause.by == user_id else "an administrator"
        return f"for the {limit.pause.kind} {limit.name}: paused by {by} since {limit.pause.since:%Y-%m-%d %H:%M} UTC"
    if limit.is_paused:
        return f"for limit {limit.name}, which lets nothing start (at_once: 0)"
    if not seconds:
        return f"for limit {limit.name}"
    about = f"about {math.ceil(seconds):,} s" if seconds < 100 else f"about {math.ceil(seconds / 60):,} min"
    return f"for limit {limit.name}, {about}"


def read_limits(raw: Mapping[str, Any], *, owner: str = "") -> dict[str, Limit]:
    """Return the limits of a configuration, or those that a user has set for themselves, by name. Raises ValueError, which names the fault."""
    return {_name(name): _limit(name, given, owner=owner) for name, given in raw.items()}


def paused(kind: str, name: str, *, owner: str, by: str, since: datetime) -> Limit:
    """Return the limit that is the pause of a flow, executor, provider or user. That of a flow is for its owner's tasks alone."""
    pause = Pause(kind=kind, by=by, since=since)
    return Limit(name=name, at_once=0, match={kind: name}, owner=owner, pause=pause)


def problems(names: object, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the names in the `params.limits` of a task that are no limits."""
    for name in names if isinstance(names, list) else ():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(sorted(known)) or 'none'}."
            yield (
                "limits",
                f"names '{name}', which is no limit of this installation (limits.shared, limits.set). {hint}",
            )


def _name(name: object) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of a limit: it begins with a letter, and has up to 64 letters, digits, '_' and '-', "
            "without spaces, such as crm-api"
        )
    return name


def _limit(name: str, given: object, *, owner: str) -> Limit:
    if not isinstance(given, dict):
        raise ValueError(f"'{name}' is not a mapping")
    _refuse_unknown(f"'{name}'", given, KEYS)
    rates = {
        measure: Rate(_units(name, measure, given[measure]), MEASURES[measure])
        for measure in MEASURES
        if measure in given
    }
    if not rates and AT_ONCE not in given:
        raise ValueError(f"'{name}' limits nothing: it needs {', '.join(MEASURES)} or {AT_ONCE}")
    match = given.get("match", {})
    if not isinstance(match, dict) or not all(isinstance(value, str) and value for value in match.values()):
        raise ValueError(f"match of '{name}' must be a mapping of {', '.join(MATCHED)} and texts")
    _refuse_unknown(f"match of '{name}'", match, MATCHED)
    if "pool" in match and match["pool"] not in POOLS:
        raise ValueError(f"pool in match of '{name}' must be {', '.join(POOLS)}")
    if owner and "user" in match:
        raise ValueError(f"match of '{name}' has a user: a limit of your own is for your tasks alone")
    if "key" in match and not KEY_DIGEST.fullmatch(match["key"]):
        raise ValueError(
            f"key in match of '{name}' must be the first 16 digits of the SHA-256 of an LLM key, and never the key"
        )
    limit = Limit(
        name=name,
        rates=rates,
        match=match,
        per=_per(name, given["per"]) if "per" in given else None,
        cost=_cost(name, given["cost"]) if "cost" in given else 1,
        owner=owner,
        at_once=_units(name, AT_ONCE, given[AT_ONCE], least=0) if AT_ONCE in given else None,
    )
    if limit.is_for_calls:
        if limit.at_once:
            raise ValueError(f"'{name}' limits calls of models, whose {AT_ONCE} can only be 0: nothing starts")
        _refuse_unknown(f"match of '{name}', a limit of calls of models,", match, (*OF_BOTH, *OF_CALLS))
    if isinstance(limit.cost, int) and limit.at_once and limit.cost > limit.at_once:
        raise ValueError(
            f"cost of '{name}' is {limit.cost:,}, more than its {AT_ONCE} of {limit.at_once:,}: nothing could ever start"
        )
    return limit


def _per(name: str, given: object) -> str:
    if given in APART:
        return str(given)
    place = PLACE.fullmatch(given) if isinstance(given, str) else None
    if place is None:
        raise ValueError(f"per of '{name}' must be {', '.join(APART)} or a place, such as {{{{inputs.customer}}}}")
    return place[1]


def _cost(name: str, given: object) -> int | str:
    if not isinstance(given, str):
        return _units(name, "cost", given)
    if (place := PLACE.fullmatch(given)) is None:
        raise ValueError(f"cost of '{name}' must be a whole number or a place, such as {{{{params.resources.gpus}}}}")
    return place[1]


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def _units(name: str, measure: str, given: object, *, least: int = 1) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= MOST:
        raise ValueError(f"{measure} of '{name}' must be a whole number from {least} to {MOST:,}")
    return given


def _refuse_unknown(place: str, given: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"it may have {', '.join(known)}"
            raise ValueError(f"{place} has the key '{key}', which is unknown; {hint}")
