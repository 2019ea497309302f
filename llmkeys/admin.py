"""Admin of LLM keys: their owners and last characters, never the keys."""

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
        return False  # users store their own keys, so that other users' tasks do not use them

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Forbid filters on the ciphertext, with which a key could be guessed bit by bit."""
        return not lookup.startswith("sealed") and bool(super().lookup_allowed(lookup, value, request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
