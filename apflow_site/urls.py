"""The URLs of the site."""

from typing import Final

from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import URLResolver, include, path, re_path
from django.urls.resolvers import RoutePattern
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from a2a.endpoints import files, pages
from a2a.endpoints.views import a2a
from accounts.pages import login, login_link, logout
from apflow_site.metrics import metrics
from tasks.dashboard import answering
from tasks.dashboard.home import home
from tasks.dashboard.views import trees

OF_TREES: Final = frozenset({"q", "status", "executor", "owner", "order", "cursor"})

handler404 = "apflow_site.errors.not_found"
handler500 = "apflow_site.errors.broken"


@csrf_exempt
async def front(request: HttpRequest) -> HttpResponseBase:
    """`/`: the dashboard for GET requests that accept HTML, JSON-RPC in A2A's format otherwise.

    The list of trees had this address, so a query with its filters leads there.
    """
    takes_html = request.accepts("text/html") or "HX-Request" in request.headers
    if not takes_html or request.method not in ("GET", "HEAD"):
        return await a2a(request)
    if "HX-Request" in request.headers:
        return await trees(request)
    if OF_TREES.intersection(request.GET):
        return HttpResponseRedirect(f"/ui/tasks/?{request.META['QUERY_STRING']}")
    return await home(request)


@require_safe
async def to_page(request: HttpRequest, page: str) -> HttpResponseRedirect:
    """Redirect an address that people type, such as `/usage`, to the page of the dashboard."""
    query = request.META["QUERY_STRING"]
    return HttpResponseRedirect(f"/ui/{page}/{'?' if query else ''}{query}")


urlpatterns = [
    path("", front),
    path("ui/events/list", pages.list_rows, name="list_rows"),
    path("ui/events/runs", pages.run_changes, name="run_changes"),
    path("ui/events/run/<str:run_id>", pages.run_events, name="run_events"),
    re_path(r"^ui/events/next/(?P<task_id>[^\0]+)\Z", pages.next_run, name="next_run"),
    path("ui/runs/<str:run_id>/download/", pages.run_file, name="run_file"),
    path("ui/experiments/<str:experiment_id>/download/", pages.experiment_file, name="experiment_file"),
    path("ui/files/", files.announced_file, name="send_file"),
    path("ui/", include("tasks.dashboard.urls")),
    re_path(r"^(?:ui/)?(?P<page>executors|flows|inbox|runs|schedules|settings|usage|workers)/?$", to_page),
    path("answer/<str:token>", answering.answer),
    path("", include("a2a.urls")),
    path("metrics", metrics),
    path("auth/", include("accounts.urls")),
    path("login/", login),
    path("login/link/<str:secret>/", login_link),
    path("logout/", logout),
    # As `include`, which would import the admin at the start: 300 modules that most processes never need.
    URLResolver(RoutePattern("admin/"), "apflow_site.admin_urls", app_name="admin", namespace="admin"),
]
