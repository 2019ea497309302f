"""Read-only admin of what model calls used."""

from django.contrib import admin

from tasks.admin.base import Inspection
from tasks.models import Usage
from tasks.rules.token_usage import dollars


@admin.register(Usage)
class UsageAdmin(Inspection):
    """Calls of the last minutes have rows of their own; they are added up later."""

    list_display = (
        *("day", "user_id", "model", "executor_id", "flow", "calls", "prompt_tokens", "completion_tokens"),
        "cost_usd",
    )
    list_display_links = None
    list_filter = ("day",)
    search_fields = ("=user_id",)
    search_help_text = "Search by user"
    ordering = ("-day", "user_id", "model", "executor_id")

    @admin.display(description="Cost (USD)")
    def cost_usd(self, row: Usage) -> str:
        return "unknown" if row.unpriced == row.calls else f"{dollars(row.cost_nanos):,.4f}"
