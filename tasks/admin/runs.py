"""Read-only admin of runs, events and worker processes."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from tasks.admin.base import Inspection, as_text, change_url, dashboard_url, link, link_list, list_url, state
from tasks.models import Question, Run, Task, TaskEvent, WorkerProcess


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

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Run], term: str) -> Any:
        return queryset.filter(Q(id=term) | Q(root_id=term) | Q(context_id=term)) if term else queryset, False

    @admin.display(description="Tree")
    def tree(self, run: Run) -> str:
        return link(run.root_id, change_url(Task, run.root_id))

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

    @admin.display(description="Task")
    def task(self, event: TaskEvent) -> str:
        return link(event.task_id, change_url(Task, event.task_id))

    @admin.display(description="Run")
    def run(self, event: TaskEvent) -> str:
        return link(event.run_id, change_url(Run, event.run_id))


@admin.register(WorkerProcess)
class WorkerProcessAdmin(Inspection):
    list_display = ("host", "pid", "places", "started_at", "beat_at")
    ordering = ("-beat_at",)
