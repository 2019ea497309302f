"""Shared by the admin classes: read-only pages that link to each other."""

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any, ClassVar, Final

import orjson
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from unfold.admin import ModelAdmin
from unfold.decorators import display

from llmkeys.redact import mask_start
from tasks.models import Run, Task
from tasks.storage.paginator import BoundedPaginator

STATUS_COLOURS: Final = {
    "pending": "default",
    "in_progress": "info",
    "completed": "success",
    "failed": "danger",
    "cancelled": "warning",
    "skipped": "default",
}


class Inspection(ModelAdmin):
    """A read-only admin. Lists do not load `big_fields`; `secret_fields` cannot be filtered, so they cannot be guessed bit by bit.

    A search finds the rows that have the term in one of the `exact_fields`, if there are any.
    """

    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 0
    list_disable_select_all = True
    sortable_by = ()
    view_on_site = False
    big_fields: ClassVar[tuple[str, ...]] = ()
    secret_fields: ClassVar[tuple[str, ...]] = ()
    exact_fields: ClassVar[tuple[str, ...]] = ()

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        is_list = request.resolver_match and str(request.resolver_match.url_name).endswith("_changelist")
        return rows.defer(*self.big_fields) if is_list else rows

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> Any:
        if not self.exact_fields:
            return super().get_search_results(request, queryset, term)
        found = reduce(or_, (Q(**{name: term}) for name in self.exact_fields))
        return queryset.filter(found) if term else queryset, False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        field = lookup.partition("__")[0]
        return field not in self.secret_fields and bool(super().lookup_allowed(lookup, value, request))


@display(description="Status", label=STATUS_COLOURS)  # type: ignore[untyped-decorator]
def state(row: Task | Run) -> str:
    return row.status


def as_text(field: str, *, value_of: Callable[[Any], Any] | None = None) -> Any:
    """Make a read-only field that shows JSON as indented text with LLM keys masked. `value_of` replaces the field's value."""

    @admin.display(description=field.replace("_", " ").capitalize())
    def shown(model_admin: Any, row: Model) -> str:
        value = value_of(row) if value_of else getattr(row, field)
        text = "" if value is None else mask_start(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
        return format_html('<pre class="json">{}</pre>', text)

    return shown


def linked(model: type[Model], field: str, *, description: str = "") -> Any:
    """Make a read-only field that links to the row of the model whose id is in `field`."""

    @admin.display(description=description or str(model._meta.verbose_name).capitalize())
    def shown(model_admin: Any, row: Model) -> str:
        key = getattr(row, field)
        return link(key, change_url(model, key)) if key else "–"

    return shown


def dashboard_url(task_id: str) -> str:
    """Return the page of a task; empty for an id with a NUL, which no address can contain.

    SQLite may still have such an id, from before every interface refused it.
    """
    return "" if "\0" in task_id else reverse("dashboard:tree", args=[task_id])


def change_url(model: type[Model], key: str) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[quote(key)])


def list_url(model: type[Model], **query: str) -> str:
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{url}?{urlencode(query)}"


def link(text: str, url: str) -> str:
    return format_html('<a class="underline" href="{}">{}</a>', url, text)


def link_list(*links: tuple[str, str]) -> str:
    return format_html_join(" · ", '<a class="underline" href="{1}">{0}</a>', links)
