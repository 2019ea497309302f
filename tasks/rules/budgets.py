"""Budgets: `params.budget` of a root limits what a run of its tree may use. Pure.

`{"tokens": 50000, "cost_usd": 5, "seconds": 600, "tasks": 100, "on_exceeded": "fail" or "ask"}`; each field is optional, but one
limit is required.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from tasks.rules.strict_json import Json
from tasks.rules.token_usage import Spending, dollars

TOKENS: Final = "tokens"
COST_USD: Final = "cost_usd"
SECONDS: Final = "seconds"
TASKS: Final = "tasks"
MEASURES: Final = (TOKENS, COST_USD, SECONDS, TASKS)
WHOLE: Final = frozenset({TOKENS, TASKS})
"""The measures that are counted in whole numbers."""
FIELDS: Final = (*MEASURES, "on_exceeded")
ON_EXCEEDED: Final = ("fail", "ask")
STOP: Final = "stop"
"""The answer that raises no budget."""
MARK: Final = "$budget"
"""The field of a question's memo by which it is known as one about the budget."""
DAY_MARK: Final = "$budget_of_day"
"""The field of a question about a limit of a user and day."""
MOST: Final = 10**12
DAY_SETTINGS: Final = {
    TOKENS: "tokens_per_user_day",
    COST_USD: "usd_per_user_day",
    SECONDS: "seconds_per_user_day",
    TASKS: "tasks_per_user_day",
}
"""The settings that limit each user and day."""

Problem = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The use of a run so far. `seconds` are those in which a worker had the run."""

    tokens: int = 0
    cost_nanos: int = 0
    seconds: float = 0.0
    tasks: int = 0

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `stored` returned."""
        return cls(**{name: stored[name] for name in cls.__dataclass_fields__ if name in stored})

    def stored(self) -> Json:
        return asdict(self)

    def with_call(self, call: Spending) -> Self:
        """Add what a call of a model used."""
        return replace(self, tokens=self.tokens + call.total_tokens, cost_nanos=self.cost_nanos + call.cost_nanos)

    def plus(self, other: Self) -> Self:
        """Add what another run used."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    def of(self, measure: str) -> float:
        return dollars(self.cost_nanos) if measure == COST_USD else float(getattr(self, measure))


def budget_of(params: Mapping[str, Any] | None) -> dict[str, float]:
    """Read `params.budget`, which has been checked, as limits by measure; empty if there is none."""
    given = (params or {}).get("budget") or {}
    return {measure: given[measure] for measure in MEASURES if given.get(measure) is not None}


def without_budget(params: Json) -> Json | None:
    """Return the params of a task that is no root any more."""
    return {name: value for name, value in params.items() if name != "budget"} or None


def asks(params: Mapping[str, Any] | None) -> bool:
    """Return whether the owner is asked when the budget is used up."""
    return ((params or {}).get("budget") or {}).get("on_exceeded") == "ask"


def used_up(limits: Mapping[str, float], spent: Spent) -> str | None:
    """Return the first measure of which nothing is left; None if something is left of each."""
    return next((measure for measure, limit in limits.items() if spent.of(measure) >= limit), None)


def described(measure: str, spent: float, allowed: float) -> str:
    """Return what was spent of what is allowed in words, such as `5.02 of 5.00 USD`."""
    if measure == COST_USD:
        digits = 2 if spent >= 0.01 or not spent else 6
        return f"{spent:,.{digits}f} of {allowed:,.2f} USD" if allowed >= 0.01 else f"{spent:.6f} of {allowed:.6f} USD"
    digits = 0 if measure in WHOLE else 1
    return f"{spent:,.{digits}f} of {allowed:,.{digits}f} {measure}"


def refusal(measure: str, limits: Mapping[str, float], spent: Spent) -> str:
    """Return the error of a task or of a model call that no longer fits the budget."""
    return (
        f"The budget of this run is used up: spent {described(measure, spent.of(measure), limits[measure])}. "
        f"Execute it again, with the whole budget, or a copy of the tree (tasks.copy) with a higher params.budget.{measure} "
        "of its root (tasks.update)."
    )


def rest_used_up(measure: str, limits: Mapping[str, float], spent: Spent) -> str:
    """Return the error of what no longer fits the rest of a budget that a run has from the one that started its tree."""
    used = described(measure, spent.of(measure), max(0.0, limits[measure]))
    return f"The budget of the run that started this tree is used up: spent {used} that were left of it."


def stopped(measure: str, spent: float, allowed: float) -> str:
    """Return the error of a task after the owner did not raise the budget."""
    return f"The budget of this run is used up: spent {described(measure, spent, allowed)}. Its owner chose to stop."


def question(measure: str, spent: float, allowed: float) -> str:
    """Return what the owner is asked."""
    return (
        f"Spent {described(measure, spent, allowed)}. Raise the budget to how much? "
        f"Answer with a number above {_number(spent)}, or '{STOP}'."
    )


def memo_of(measure: str, spent: float) -> Json:
    """Return the memo of the question, by which its answer is checked."""
    return {MARK: {"measure": measure, "spent": spent}}


def asked_in(memo: object) -> tuple[str, float] | None:
    """Return the measure and what was spent of it; None if the memo is not that of a question about a budget."""
    asked = _marked(memo, MARK, fields={"measure", "spent"}) or _marked(memo, DAY_MARK, fields=DAY_FIELDS)
    return None if asked is None else (asked["measure"], asked["spent"])


def day_asked_in(memo: object) -> tuple[str, str] | None:
    """Return the measure and the day; None if the memo is not that of a question about the limit of a day."""
    asked = _marked(memo, DAY_MARK, fields=DAY_FIELDS)
    return None if asked is None else (asked["measure"], asked["day"])


def _marked(memo: object, mark: str, *, fields: Set[str]) -> Json | None:
    asked = memo.get(mark) if isinstance(memo, dict) else None
    return asked if isinstance(asked, dict) and asked.keys() == fields else None


# --- the limits of a user and day ---

DAY_FIELDS: Final = frozenset({"measure", "day", "spent"})


def memo_of_day(measure: str, spent: float, *, day: str) -> Json:
    """Return the memo of a question about the limit of a day."""
    return {DAY_MARK: {"measure": measure, "day": day, "spent": spent}}


def memo_prefix(measure: str, *, day: str) -> str:
    """Return what all memos about the limit begin with, as JSON."""
    return f'{{"{DAY_MARK}":{{"measure":"{measure}","day":"{day}",'


def day_is_over(user: str, measure: str, spent: float, allowed: float) -> str:
    """Return the error of a task that no longer fits what its owner may use on a day."""
    return (
        f"The limit of user '{user}' for a day is used up: spent {described(measure, spent, allowed)} today. It begins "
        f"again at 00:00 UTC; the operator may raise limits.{DAY_SETTINGS[measure]}."
    )


def day_was_stopped(user: str, measure: str, spent: float, allowed: float) -> str:
    """Return the error after an administrator did not raise the limit."""
    return (
        f"The limit of user '{user}' for a day is used up: spent {described(measure, spent, allowed)} today. An "
        "administrator chose not to raise the limit; it begins again at 00:00 UTC."
    )


def day_question(user: str, measure: str, spent: float, allowed: float) -> str:
    """Return what the administrators are asked."""
    return (
        f"User '{user}' has spent {described(measure, spent, allowed)} today. Raise the limit of today to how much? "
        f"Answer with a number above {_number(spent)}, or '{STOP}'. The tasks continue at 00:00 UTC in any case."
    )


def read_answer(measure: str, spent: float, answer: object) -> float | None:
    """Return the new limit; None to stop. A text with a number is as good. Raises ValueError with the reason."""
    if answer == STOP:
        return None
    try:
        limit = float(answer) if isinstance(answer, str) else answer
    except ValueError:
        limit = None
    is_good = isinstance(limit, int | float) and _is_limit(limit, is_whole=measure in WHOLE)
    if not is_good or limit <= spent:  # type: ignore[operator]
        kind = "a whole number" if measure in WHOLE else "a number"
        raise ValueError(f"must be {kind} above {_number(spent)}, which is spent already, or '{STOP}'")
    return limit  # type: ignore[return-value]


def _number(amount: float) -> str:
    return f"{amount:.10f}".rstrip("0").rstrip(".")


def problems(value: object, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the shape of `params.budget`."""
    if not isinstance(value, dict):
        yield path, f"must be an object with {', '.join(FIELDS)}"
        return
    for field in sorted(value.keys() - set(FIELDS)):
        yield f"{path}.{field[:255]}", f"is not known; a budget has {', '.join(FIELDS)}"
    for measure in MEASURES:
        if measure in value and not _is_limit(value[measure], is_whole=measure in WHOLE):
            kind = "a whole number" if measure in WHOLE else "a number"
            yield f"{path}.{measure}", f"must be {kind} above 0 and up to {MOST:,}"
    if value.get("on_exceeded", "fail") not in ON_EXCEEDED:
        yield f"{path}.on_exceeded", f"must be {' or '.join(map(repr, ON_EXCEEDED))}"
    if not value.keys() & set(MEASURES):
        yield path, f"must have at least one limit: {', '.join(MEASURES)}"


def _is_limit(value: object, *, is_whole: bool) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= MOST:
        return False
    return not is_whole or value == int(value)
