"""Read-only admin of schedules and of what they did."""

from django.contrib import admin

from tasks.admin.base import Inspection, as_text, link_list, linked, list_url
from tasks.models import Firing, Run, Schedule
from tasks.rules.schedules import in_words


@admin.register(Schedule)
class ScheduleAdmin(Inspection):
    list_display = ("name", "user_id", "times", "next_run_at", "last_run_at", "run_count", "is_paused")
    list_filter = ("is_paused", "overlap", "catch_up")
    search_fields = ("name",)
    search_help_text = "Search by name, ID, user or task ID"
    exact_fields = ("id", "name", "user_id", "task_id")
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
    exact_fields = ("schedule_id", "run_id")
    ordering = ("-id",)
    of_schedule, of_run = linked(Schedule, "schedule_id"), linked(Run, "run_id")
