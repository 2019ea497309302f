"""Admin of tasks: read-only fields, and actions that call the same services as the API."""

from dataclasses import replace
from typing import Any, Final

from django.contrib import admin, messages
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.decorators import display

from accounts.callers import LOCAL, Caller
from tasks.admin.base import (
    STATUS_COLOURS,
    Inspection,
    as_text,
    change_url,
    dashboard_url,
    link,
    link_list,
    list_url,
    state,
)
from tasks.models import Question, Run, Task, TaskEvent
from tasks.rules.exceptions import TasksError
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.secrets.write_only import for_pages
from tasks.storage.loads import TASK_COLUMNS

MAX_AT_ONCE: Final = 100


class TreesOrTasks(admin.SimpleListFilter):
    """Show trees (roots only, ordered by an index on time) or all tasks (ordered by id)."""

    title = "level"
    parameter_name = "rows"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("all", "All tasks")]

    def choices(self, changelist: Any) -> Any:
        default, *others = super().choices(changelist)
        return [{**default, "display": "Trees"}, *others]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        return queryset if shows_every_task(request) else queryset.filter(parent_id=None)


@display(description="Run", label=STATUS_COLOURS)  # type: ignore[untyped-decorator]
def run_state(task: Task) -> str | None:
    """Return the status of the latest run; only roots have runs."""
    status: str | None = vars(task)["run_status"]
    return status


@admin.register(Task)
class TaskAdmin(Inspection):
    list_display = (
        "name",
        run_state,
        state,
        "progress_percent",
        "executor_id",
        "user_id",
        "created_at",
        "on_dashboard",
    )
    list_filter = (TreesOrTasks, "status", "created_at")
    search_fields = ("name",)
    search_help_text = "Search by ID, owner or name"
    big_fields = TASK_COLUMNS
    actions = ("execute", "cancel")
    change_form_outer_before_template = "admin/tasks/task/buttons.html"
    fieldsets = (
        (None, {"fields": ("name", run_state, state, "error", "links")}),
        (
            "Execution",
            {"fields": ("executor_id", "priority", "attempt", "progress_percent", "started_at", "completed_at")},
        ),
        ("Data", {"fields": ("inputs_", "result_", "dependencies_", "schemas_", "params_", "token_usage_")}),
        (
            "IDs",
            {"fields": ("id", "root_id", "parent_id", "user_id", "origin_type", "original_task_id", "created_at")},
        ),
    )

    inputs_ = as_text("inputs", value_of=lambda task: for_pages(task, task.inputs))
    result_, dependencies_ = as_text("result"), as_text("dependencies")
    schemas_, params_, token_usage_ = as_text("schemas"), as_text("params"), as_text("token_usage")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        newest = Run.objects.filter(root_id=OuterRef("id")).order_by("-number").values("status")[:1]
        rows: QuerySet[Task] = super().get_queryset(request).annotate(run_status=Subquery(newest))
        return rows

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        return ("-id",) if shows_every_task(request) else ("-created_at", "-id")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Task], term: str) -> Any:
        """Search by id or owner with an index; search names only without such a match."""
        for exact in (Q(id=term) | Q(root_id=term), Q(user_id=term)):
            if term and queryset.filter(exact).exists():
                return queryset.filter(exact), False
        return queryset.filter(name__icontains=term), False

    @admin.display(description="Progress")
    def progress_percent(self, task: Task) -> str:
        return f"{task.progress:.0%}"

    @admin.display(description="")
    def on_dashboard(self, task: Task) -> str:
        return link("Open", dashboard_url(task.id))

    @admin.display(description="See also")
    def links(self, task: Task) -> str:
        return link_list(
            ("Dashboard", dashboard_url(task.id)),
            ("Tree", list_url(Task, q=task.root_id)),
            ("Runs", list_url(Run, q=task.root_id)),
            ("Events", list_url(TaskEvent, q=task.id)),
            ("Questions", list_url(Question, q=task.id)),
        )

    @admin.action(description="Run")
    def execute(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        for task in self._chosen(request, queryset):
            try:
                execution = trees.execute_task(caller=caller_of(request), task_id=task.id)
            except TasksError as error:
                self.message_user(request, error.message, messages.ERROR)
                continue
            outcome = "is queued" if execution.started else "is already running"
            self.log_change(request, task, f"Run: {outcome}")
            self.message_user(request, f"'{task.name}' {outcome}.", messages.SUCCESS)
        return back(request)

    @admin.action(description="Cancel subtree")
    def cancel(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        chosen = {task.id: task for task in self._chosen(request, queryset)}
        asked = cancels.ask(
            caller=caller_of(request),
            task_ids=list(chosen),
            force=False,
            message=f"Cancelled by {request.user.get_username()} in the admin",
        )
        for one in cancels.answers(asked=asked):
            task = chosen[one["task_id"]]
            self.log_change(request, task, f"Cancel: {one['message']}")
            self.message_user(request, f"'{task.name}': {one['message']}", messages.INFO)
        return back(request)

    def _chosen(self, request: HttpRequest, queryset: QuerySet[Task]) -> list[Task]:
        chosen = list(queryset.only("id", "name")[: MAX_AT_ONCE + 1])
        if len(chosen) > MAX_AT_ONCE:
            self.message_user(request, f"Nothing changed. Select at most {MAX_AT_ONCE} tasks.", messages.ERROR)
            return []
        return chosen


def caller_of(request: HttpRequest) -> Caller:
    """Return the administrator as a caller; the admin site admits only administrators."""
    return replace(LOCAL, user_id=request.user.get_username())


def back(request: HttpRequest) -> HttpResponse | None:
    """Redirect to the task's page if the button was on it. None: stay on the list."""
    return redirect(change_url(Task, request.POST["page_of"])) if "page_of" in request.POST else None


def shows_every_task(request: HttpRequest) -> bool:
    """Return whether to list all tasks: a search includes all levels of a tree."""
    return bool(request.GET.get("rows") or request.GET.get("q"))
