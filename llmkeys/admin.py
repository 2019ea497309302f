"""Admin of LLM keys. Shows the owner, the provider and the last four characters only."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from llmkeys.models import LLMKey


@admin.register(LLMKey)
class LLMKeyAdmin(ModelAdmin):
    list_display = ("user_id", "provider", "ends_in", "created_at", "used_at")
    list_filter = ("provider",)
    search_fields = ("=user_id",)
    ordering = ("user_id", "provider")
    list_per_page = 50
    fields = ("user_id", "provider", "ends_in", "created_at", "used_at")

    @admin.display(description="Key")
    def ends_in(self, key: LLMKey) -> str:
        return f"…{key.last_four}"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # users add their own keys, which only their own runs use

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Refuse filters on the encrypted key, which would allow guessing it bit by bit."""
        return not lookup.startswith("sealed") and bool(super().lookup_allowed(lookup, value, request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
