"""Read-only admin of questions. Hides `memo`, which is private to the executor."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from tasks.admin.base import Inspection, as_text, change_url, dashboard_url, link, link_list, list_url
from tasks.models import Question, Run, Task, TaskEvent

MAX_CHARACTERS_IN_LIST = 80


@admin.register(Question)
class QuestionAdmin(Inspection):
    list_display = ("question", "task", "of_run", "asked_at", "expires_at", "answered_at", "answered_by", "closed_at")
    list_filter = (("answered_at", admin.EmptyFieldListFilter), ("closed_at", admin.EmptyFieldListFilter), "asked_at")
    search_fields = ("task_id",)
    search_help_text = "Search by question, task or run ID"
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

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Question], term: str) -> Any:
        return queryset.filter(Q(id=term) | Q(task_id=term) | Q(run_id=term)) if term else queryset, False

    @admin.display(description="Question")
    def question(self, question: Question) -> str:
        is_long = len(question.text) > MAX_CHARACTERS_IN_LIST
        return f"{question.text[:MAX_CHARACTERS_IN_LIST]}{'…' if is_long else ''}"

    @admin.display(description="Task")
    def task(self, question: Question) -> str:
        return link(question.task_id, change_url(Task, question.task_id))

    @admin.display(description="Run")
    def of_run(self, question: Question) -> str:
        return link(question.run_id, change_url(Run, question.run_id))

    @admin.display(description="See also")
    def links(self, question: Question) -> str:
        return link_list(
            ("Dashboard", dashboard_url(question.task_id)), ("Events", list_url(TaskEvent, q=question.task_id))
        )
