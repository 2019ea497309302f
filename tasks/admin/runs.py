"""Read-only admin of runs, their questions and webhooks, and what model calls used."""

from typing import Any, Final
from urllib.parse import urlsplit

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from tasks.admin.base import Inspection, as_text, change_url, dashboard_url, link_list, linked, list_url, state
from tasks.models import Question, Run, Task, TaskEvent, Usage, Webhook, WebhookDelivery, WorkerProcess
from tasks.rules.token_usage import dollars


@admin.register(Run)
class RunAdmin(Inspection):
    list_display = (
        "id",
        state,
        "tree",
        "number",
        "user_id",
        "created_at",
        "started_at",
        "finished_at",
        "losses",
        "strikes",
        "host_losses",
    )
    list_filter = ("status", "created_at")
    search_fields = ("id",)
    search_help_text = "Search by run, tree or context ID"
    exact_fields = ("id", "root_id", "context_id")
    ordering = ("-id",)
    big_fields = ("deaths",)
    deaths_ = as_text("deaths")
    fieldsets = (
        (None, {"fields": ("id", state, "links")}),
        ("IDs", {"fields": ("root_id", "target_id", "number", "context_id", "user_id")}),
        ("Times", {"fields": ("created_at", "started_at", "finished_at")}),
        (
            "Lease",
            {
                "fields": (
                    "lease_owner",
                    "lease_expires_at",
                    "epoch",
                    "losses",
                    "strikes",
                    "host_losses",
                    "deaths_",
                    "last_seq",
                )
            },
        ),
    )

    tree = linked(Task, "root_id", description="Tree")

    @admin.display(description="See also")
    def links(self, run: Run) -> str:
        return link_list(
            ("Dashboard", dashboard_url(run.root_id)),
            ("Tree", change_url(Task, run.root_id)),
            ("Events", list_url(TaskEvent, q=run.id)),
            ("Questions", list_url(Question, q=run.id)),
        )


@admin.register(TaskEvent)
class EventAdmin(Inspection):
    list_display = ("number", "type", "task", "run", "created_at")
    list_filter = ("type",)
    search_fields = ("run_id",)
    search_help_text = "Search by run or task ID"
    ordering = ("-pk",)
    big_fields = ("payload",)
    fieldsets = ((None, {"fields": ("run", "seq", "type", "task", "created_at", "payload_")}),)
    payload_ = as_text("payload")
    task, run = linked(Task, "task_id"), linked(Run, "run_id")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[TaskEvent], term: str) -> Any:
        """Search events of a run, or of a task in the runs of its tree. Both use an index."""
        root_id = Task.objects.filter(id=term).values_list("root_id", flat=True).first() if term else None
        if root_id:
            runs = Run.objects.filter(root_id=root_id).values("id")
            return queryset.filter(run_id__in=runs, task_id=term), False
        return queryset.filter(run_id=term) if term else queryset, False

    @admin.display(description="Number")
    def number(self, event: TaskEvent) -> str:
        return f"#{event.seq}"


@admin.register(WorkerProcess)
class WorkerProcessAdmin(Inspection):
    list_display = ("host", "pid", "places", "started_at", "beat_at")
    ordering = ("-beat_at",)


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


MAX_CHARACTERS_IN_LIST = 80


@admin.register(Question)
class QuestionAdmin(Inspection):
    list_display = ("question", "task", "of_run", "asked_at", "expires_at", "answered_at", "answered_by", "closed_at")
    list_filter = (("answered_at", admin.EmptyFieldListFilter), ("closed_at", admin.EmptyFieldListFilter), "asked_at")
    search_fields = ("task_id",)
    search_help_text = "Search by question, task or run ID"
    exact_fields = ("id", "task_id", "run_id")
    ordering = ("-id",)
    big_fields = ("options", "schema", "memo", "answer", "comment")
    secret_fields = ("memo",)
    fieldsets = (
        (None, {"fields": ("text", "options_", "schema_", "assignees_", "links")}),
        ("Answer", {"fields": ("answer_", "comment", "answered_by", "answered_at")}),
        ("Times", {"fields": ("asked_at", "alarm_at", "expires_at", "closed_at")}),
        ("IDs", {"fields": ("id", "task", "of_run")}),
    )
    options_, schema_ = as_text("options"), as_text("schema")
    assignees_, answer_ = as_text("assignees"), as_text("answer")
    task, of_run = linked(Task, "task_id"), linked(Run, "run_id")

    @admin.display(description="Question")
    def question(self, question: Question) -> str:
        is_long = len(question.text) > MAX_CHARACTERS_IN_LIST
        return f"{question.text[:MAX_CHARACTERS_IN_LIST]}{'…' if is_long else ''}"

    @admin.display(description="See also")
    def links(self, question: Question) -> str:
        return link_list(
            ("Dashboard", dashboard_url(question.task_id)), ("Events", list_url(TaskEvent, q=question.task_id))
        )


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
    exact_fields = ("id", "run_id")
    ordering = ("-id",)
    big_fields = ("sealed",)
    secret_fields = ("sealed", "url")
    fieldsets = (
        (None, {"fields": ("address", "method", "kind", "config_id", "links")}),
        ("Next delivery", {"fields": ("next_seq", "next_at", "attempt", "failures", "lease_owner")}),
        ("Times", {"fields": ("created_at", "closed_at", "disabled_at")}),
    )

    of_run = linked(Run, "run_id")

    @admin.display(description="Address")
    def address(self, webhook: Webhook) -> str:
        parts = urlsplit(webhook.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/…"

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
    exact_fields = ("webhook_id",)
    ordering = ("-pk",)
    fieldsets = (
        (None, {"fields": ("event", delivery_status, "attempts", "status_code", "error", "of_webhook", "updated_at")}),
    )

    of_webhook = linked(Webhook, "webhook_id")

    @admin.display(description="Event")
    def event(self, delivery: WebhookDelivery) -> str:
        return f"#{delivery.seq}"
