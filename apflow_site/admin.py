"""The admin site: for administrators only, with its own content security policy."""

from collections.abc import Callable
from functools import wraps
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

from csp.decorators import csp_update
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from unfold.sites import UnfoldAdminSite

View = Callable[..., Any]

#: What unfold needs beyond the policy of all pages: Alpine evaluates template expressions and sets `style=""` attributes.
POLICY: Final = MappingProxyType({"script-src": ["'unsafe-eval'"], "style-src-attr": ["'unsafe-inline'"]})

SIDEBAR: Final = MappingProxyType(
    {
        "Work": (
            ("Tasks", "account_tree", "tasks_task"),
            ("Runs", "play_circle", "tasks_run"),
            ("Events", "list_alt", "tasks_taskevent"),
            ("Questions", "help", "tasks_question"),
            ("Schedules", "schedule", "tasks_schedule"),
            ("Workers", "memory", "tasks_workerprocess"),
            ("Usage", "payments", "tasks_usage"),
        ),
        "Webhooks": (
            ("Webhooks", "webhook", "tasks_webhook"),
            ("Deliveries", "outbox", "tasks_webhookdelivery"),
        ),
        "Users and keys": (
            ("Users", "group", "auth_user"),
            ("API keys", "vpn_key", "accounts_apikey"),
            ("LLM keys", "key", "llmkeys_llmkey"),
            ("Secrets", "lock", "llmkeys_namedsecret"),
            ("Audit log", "history", "accounts_auditentry"),
        ),
    }
)


class AdminSite(UnfoldAdminSite):
    """Requires superusers, not only `is_staff`: the admin shows the tasks of all users."""

    def has_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        return with_policy(without_nul(super().admin_view(view, cacheable)))

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Redirect to the list of trees; the sidebar links to all other pages."""
        return redirect("admin:tasks_task_changelist")

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Redirect to the login page, or explain why this account or server has no admin access."""
        if settings.APFLOW.auth.is_on and not request.user.is_authenticated:
            return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
        context = {**self.each_context(request), "title": "Administration", "is_auth_on": settings.APFLOW.auth.is_on}
        response: HttpResponse = with_policy(render)(request, "admin/login.html", context, status=403)
        return response

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out the colours: unfold would write them as a `<style>`. `apflow_site/static/admin_theme` defines them."""
        return {**super().each_context(request), "colors": {}}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups of the sidebar, by topic instead of by app."""
    return [{"title": title, "items": [_entry(*item) for item in items]} for title, items in SIDEBAR.items()]


def _entry(title: str, icon: str, page: str) -> dict[str, str]:
    return {"title": title, "icon": icon, "link": reverse(f"admin:{page}_changelist")}


def without_nul(view: View) -> View:
    """Wrap the view: a request with NUL is a 404, because PostgreSQL refuses such a query."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if "\0" in request.path or "\0" in unquote(request.META.get("QUERY_STRING", "")):
            raise Http404("Not found.")
        return view(request, *args, **kwargs)

    return checked


def with_policy(view: View) -> View:
    """Wrap the view: add what unfold needs to the content security policy."""
    decorated: View = csp_update(dict(POLICY))(view)
    return decorated
