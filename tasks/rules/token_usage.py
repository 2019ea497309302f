"""What models used for a task: how its calls are added up."""

from typing import Final

from tasks.rules.strict_json import Json

COUNTED: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


def added(total: Json | None, usage: Json) -> Json:
    """Both together: `{prompt_tokens, completion_tokens, total_tokens, cost_usd}`. A cost that nobody knows is None."""
    before = total or {}
    counts = {name: before.get(name, 0) + usage.get(name, 0) for name in COUNTED}
    costs = [cost for each in (before, usage) if (cost := each.get("cost_usd")) is not None]
    return {**counts, "cost_usd": round(sum(costs), 10) if costs else None}
