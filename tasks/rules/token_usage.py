"""Token usage: add up what the model calls of a task used."""

from typing import Final

from tasks.rules.strict_json import Json

COUNTED: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


def added(total: Json | None, usage: Json) -> Json:
    """Return the sum as `{prompt_tokens, completion_tokens, total_tokens, cost_usd}`.

    `cost_usd` is None if neither cost is known.
    """
    before = total or {}
    counts = {name: before.get(name, 0) + usage.get(name, 0) for name in COUNTED}
    costs = [cost for part in (before, usage) if (cost := part.get("cost_usd")) is not None]
    return {**counts, "cost_usd": round(sum(costs), 10) if costs else None}
