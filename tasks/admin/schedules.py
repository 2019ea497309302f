"""Read-only admin of schedules and of what they did."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from tasks.admin.base import Inspection, as_text, change_url, link, link_list, list_url
from tasks.models import Firing, Run, Schedule
from tasks.rules.schedules import in_words


@admin.register(Schedule)
class ScheduleAdmin(Inspection):
    list_display = ("name", "user_id", "times", "next_run_at", "last_run_at", "run_count", "is_paused")
    list_filter = ("is_paused", "overlap", "catch_up")
    search_fields = ("name",)
    search_help_text = "Search by name, ID, user or task ID"
    ordering = ("-created_at", "-id")
    big_fields = ("tasks", "inputs")
    fieldsets = (
        (None, {"fields": ("name", "user_id", "times", "links")}),
        ("What it runs", {"fields": ("task_id", "flow", "flow_version", "tasks_", "inputs_")}),
        ("When", {"fields": ("cron", "every_seconds", "at", "timezone", "starts_at", "ends_at", "jitter_seconds")}),
        ("Rules", {"fields": ("overlap", "catch_up", "catch_up_window_seconds", "max_runs", "pause_after_failures")}),
        ("State", {"fields": ("is_paused", "pause_reason", "next_run_at", "last_run_at", "run_count", "failures")}),
        ("IDs and times", {"fields": ("id", "created_at", "updated_at")}),
    )
    tasks_, inputs_ = as_text("tasks"), as_text("inputs")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Schedule], term: str) -> Any:
        named = Q(id=term) | Q(name=term) | Q(user_id=term) | Q(task_id=term)
        return queryset.filter(named) if term else queryset, False

    @admin.display(description="Times")
    def times(self, schedule: Schedule) -> str:
        return in_words(schedule.timing)

    @admin.display(description="See also")
    def links(self, schedule: Schedule) -> str:
        return link_list(("What it did", list_url(Firing, q=schedule.id)))


@admin.register(Firing)
class FiringAdmin(Inspection):
    list_display = ("scheduled_for", "of_schedule", "outcome", "cause", "reason", "of_run", "status", "started_at")
    list_filter = ("outcome", "cause")
    search_fields = ("schedule_id",)
    search_help_text = "Search by schedule or run ID"
    ordering = ("-id",)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Firing], term: str) -> Any:
        return queryset.filter(Q(schedule_id=term) | Q(run_id=term)) if term else queryset, False

    @admin.display(description="Schedule")
    def of_schedule(self, firing: Firing) -> str:
        return link(firing.schedule_id, change_url(Schedule, firing.schedule_id))

    @admin.display(description="Run")
    def of_run(self, firing: Firing) -> str:
        return link(firing.run_id, change_url(Run, firing.run_id)) if firing.run_id else "–"
