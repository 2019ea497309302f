"""The admin site: for administrators only, with a content policy of its own."""

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

#: What unfold needs beyond the policy of all pages. Its Alpine evaluates the expressions of its templates, and sizes things by `style=""`.
POLICY: Final = MappingProxyType({"script-src": ["'unsafe-eval'"], "style-src-attr": ["'unsafe-inline'"]})

SIDEBAR: Final = MappingProxyType(
    {
        "Work": (
            ("Tasks", "account_tree", "tasks_task"),
            ("Runs", "play_circle", "tasks_run"),
            ("Events", "list_alt", "tasks_taskevent"),
            ("Questions", "help", "tasks_question"),
            ("Workers", "memory", "tasks_workerprocess"),
        ),
        "Webhooks": (
            ("Webhooks", "webhook", "tasks_webhook"),
            ("Deliveries", "outbox", "tasks_webhookdelivery"),
        ),
        "People": (
            ("Users", "group", "auth_user"),
            ("API keys", "vpn_key", "accounts_apikey"),
            ("LLM keys", "key", "llmkeys_llmkey"),
        ),
    }
)


class AdminSite(UnfoldAdminSite):
    """Django's `is_staff` alone opens nothing here: whoever gets in sees everybody's tasks."""

    def has_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        return with_policy(without_nul(super().admin_view(view, cacheable)))

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list of the trees: the menu stands beside it."""
        return redirect("admin:tasks_task_changelist")

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The one page to log in at, or why that would not help."""
        if settings.APFLOW.auth.is_on and not request.user.is_authenticated:
            return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
        context = {**self.each_context(request), "title": "Administration", "is_auth_on": settings.APFLOW.auth.is_on}
        response: HttpResponse = with_policy(render)(request, "admin/login.html", context, status=403)
        return response

    def _get_colors(self, key: str, *args: Any) -> dict[str, dict[str, str]]:
        """None: they would be a `<style>` in every page. They are in a file, `apflow_site/static/admin_theme`."""
        return {}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """What stands beside every page, by the names of this field rather than those of the apps."""
    return [{"title": title, "items": [_entry(*item) for item in items]} for title, items in SIDEBAR.items()]


def _entry(title: str, icon: str, page: str) -> dict[str, str]:
    return {"title": title, "icon": icon, "link": reverse(f"admin:{page}_changelist")}


def without_nul(view: View) -> View:
    """The view, but nothing is found by a NUL: no text here has one, and PostgreSQL cannot even be asked."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if "\0" in request.path or "\0" in unquote(request.META.get("QUERY_STRING", "")):
            raise Http404("There is nothing by that name.")
        return view(request, *args, **kwargs)

    return checked


def with_policy(view: View) -> View:
    """The view, with what unfold needs added to the content policy."""
    decorated: View = csp_update(dict(POLICY))(view)
    return decorated
