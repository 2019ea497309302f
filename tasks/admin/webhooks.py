"""Read-only admin of webhooks and their deliveries. Shows only the host of a URL: the rest often contains a secret."""

from typing import Any, Final
from urllib.parse import urlsplit

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from tasks.admin.base import Inspection, change_url, link, link_list, list_url
from tasks.models import Run, Webhook, WebhookDelivery

DELIVERY_COLOURS: Final = {"delivered": "success", "retrying": "warning", "failed": "danger"}


@admin.register(Webhook)
class WebhookAdmin(Inspection):
    list_display = (
        "address",
        "kind",
        "of_run",
        "next_seq",
        "attempt",
        "failures",
        "next_at",
        "closed_at",
        "disabled_at",
    )
    list_filter = ("kind", ("disabled_at", admin.EmptyFieldListFilter), ("closed_at", admin.EmptyFieldListFilter))
    search_fields = ("run_id",)
    search_help_text = "Search by webhook or run ID"
    ordering = ("-id",)
    big_fields = ("sealed",)
    secret_fields = ("sealed", "url")
    fieldsets = (
        (None, {"fields": ("address", "method", "kind", "config_id", "links")}),
        ("Next delivery", {"fields": ("next_seq", "next_at", "attempt", "failures", "lease_owner")}),
        ("Times", {"fields": ("created_at", "closed_at", "disabled_at")}),
    )

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Webhook], term: str) -> Any:
        return queryset.filter(Q(id=term) | Q(run_id=term)) if term else queryset, False

    @admin.display(description="Address")
    def address(self, webhook: Webhook) -> str:
        parts = urlsplit(webhook.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/…"

    @admin.display(description="Run")
    def of_run(self, webhook: Webhook) -> str:
        return link(webhook.run_id, change_url(Run, webhook.run_id))

    @admin.display(description="See also")
    def links(self, webhook: Webhook) -> str:
        return link_list(
            ("Run", change_url(Run, webhook.run_id)), ("Deliveries", list_url(WebhookDelivery, q=webhook.id))
        )


@display(description="Status", label=DELIVERY_COLOURS)  # type: ignore[untyped-decorator]
def delivery_status(delivery: WebhookDelivery) -> str:
    return delivery.status


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(Inspection):
    list_display = ("event", delivery_status, "attempts", "status_code", "error", "of_webhook", "updated_at")
    list_filter = ("status",)
    search_fields = ("webhook_id",)
    search_help_text = "Search by webhook ID"
    ordering = ("-pk",)
    fieldsets = (
        (None, {"fields": ("event", delivery_status, "attempts", "status_code", "error", "of_webhook", "updated_at")}),
    )

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery], term: str) -> Any:
        return queryset.filter(webhook_id=term) if term else queryset, False

    @admin.display(description="Event")
    def event(self, delivery: WebhookDelivery) -> str:
        return f"#{delivery.seq}"

    @admin.display(description="Webhook")
    def of_webhook(self, delivery: WebhookDelivery) -> str:
        return link(delivery.webhook_id, change_url(Webhook, delivery.webhook_id))
