"""Token usage: add up what the model calls of a task used."""

import math
from typing import Any, Final, NamedTuple

from tasks.rules.strict_json import Json

COUNTED: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
MORE: Final = ("cached_tokens", "reasoning_tokens")
"""Parts of those, if they are known."""
NANOS: Final = 1_000_000_000
"""Costs are stored as integers of a billionth of a US dollar, whose sums are exact."""
MOST: Final = 2**53
"""More than this in one report is an error of the executor."""


def added(total: Json | None, usage: Json) -> Json:
    """Return the sum as `{prompt_tokens, completion_tokens, total_tokens, cost_usd}`.

    `cost_usd` is None if neither cost is known.
    """
    before = total or {}
    counts = {name: before.get(name, 0) + usage.get(name, 0) for name in COUNTED}
    costs = [cost for part in (before, usage) if (cost := part.get("cost_usd")) is not None]
    return {**counts, "cost_usd": round(sum(costs), 10) if costs else None}


class Spending(NamedTuple):
    """The usage of one call of a model. `unpriced` is 1 if its cost is unknown; then `cost_nanos` is 0."""

    model: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_nanos: int
    unpriced: int


def spending_of(usage: Json) -> Spending:
    """Read a report of an executor. Anything that is no number from 0 to MOST counts as 0."""
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    cost: Any = usage.get("cost_usd")
    is_priced = _is_amount(cost)
    model = usage.get("model")
    return Spending(
        model=model if isinstance(model, str) else "",
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=_count(usage.get("total_tokens")) or prompt + completion,
        cost_nanos=round(min(cost, MOST / NANOS) * NANOS) if is_priced else 0,
        unpriced=int(not is_priced),
    )


def more_counts(usage: Json) -> tuple[int | None, int | None]:
    """Return the prompt's tokens from a cache, and those of reasoning; None for what is not reported."""
    cached, reasoning = (usage.get(name) for name in MORE)
    return None if cached is None else _count(cached), None if reasoning is None else _count(reasoning)


def dollars(nanos: int) -> float:
    """Convert a stored cost to US dollars."""
    return nanos / NANOS


def _count(value: Any) -> int:
    return min(int(value), MOST) if _is_amount(value) else 0


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0
