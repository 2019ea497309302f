"""Admin of LLM keys and named secrets.

Shows of a key the owner, the provider and the last four characters, of a secret nothing of its value.
"""

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from llmkeys.models import LLMKey, NamedSecret
from llmkeys.signals import deleted_in_admin


class SealedAdmin(ModelAdmin):
    """Lists and deletes rows with an encrypted secret."""

    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # users add their own, which only their own runs use

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Refuse filters on the encrypted secret, which would allow guessing it bit by bit."""
        return not lookup.startswith("sealed") and bool(super().lookup_allowed(lookup, value, request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @transaction.atomic
    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        deleted_in_admin.send(None, row=obj, actor=request.user.get_username())
        super().delete_model(request, obj)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            deleted_in_admin.send(None, row=row, actor=request.user.get_username())
        super().delete_queryset(request, queryset)


@admin.register(LLMKey)
class LLMKeyAdmin(SealedAdmin):
    list_display = ("user_id", "provider", "ends_in", "created_at", "used_at")
    list_filter = ("provider",)
    search_fields = ("=user_id",)
    ordering = ("user_id", "provider")
    fields = ("user_id", "provider", "ends_in", "created_at", "used_at")

    @admin.display(description="Key")
    def ends_in(self, key: LLMKey) -> str:
        return f"…{key.last_four}"


@admin.register(NamedSecret)
class NamedSecretAdmin(SealedAdmin):
    list_display = ("name", "owner", "allow_hosts", "users", "created_at", "used_at")
    search_fields = ("=user_id", "=name")
    ordering = ("user_id", "name")
    fields = ("name", "owner", "allow_hosts", "users", "created_at", "used_at")

    @admin.display(description="Owner", ordering="user_id")
    def owner(self, secret: NamedSecret) -> str:
        return secret.user_id or "the operator"
