"""URLs of JSON-RPC, REST and A2A.

A trailing slash is optional; a redirect would lose the body of a POST.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.urls import path, re_path
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt

from a2a.agui.endpoint import ag_ui
from a2a.endpoints import docs, files, hooks, modules, views
from a2a.mcp import endpoint as mcp_endpoint
from a2a.protocol.bindings import http_json
from a2a.rest.views import api


def of_openai(name: str) -> Any:
    """Return a view of `a2a.openai.endpoints`, which is imported for the first request of its kind."""

    async def view(request: HttpRequest, **named: str) -> HttpResponseBase:
        found: Callable[..., Awaitable[HttpResponseBase]] = import_string(f"a2a.openai.endpoints.{name}")
        return await found(request, **named)

    return csrf_exempt(view)


urlpatterns = [
    path("", views.a2a),
    path("tasks", views.tasks),
    path("tasks/", views.tasks),
    path("system", views.system),
    path("system/", views.system),
    path("mcp", mcp_endpoint.mcp),
    path("mcp/", mcp_endpoint.mcp),
    path("ag-ui", ag_ui),
    path("ag-ui/", ag_ui),
    re_path(r"^(?:v1/)?responses/?\Z", of_openai("responses")),
    re_path(r"^(?:v1/)?responses/(?P<response_id>[^/]+)/?\Z", of_openai("response")),
    re_path(r"^(?:v1/)?responses/(?P<response_id>[^/]+)/cancel/?\Z", of_openai("cancel")),
    re_path(r"^(?:v1/)?chat/completions/?\Z", of_openai("chat_completions")),
    re_path(r"^v1/models/?\Z", of_openai("models")),
    re_path(r"^v1/models/(?P<name>[^/]+)\Z", of_openai("model")),
    re_path(r"^tasks/(?P<task_id>(?s:.+))/events\Z", views.events),  # an id may contain slashes and line breaks
    path("modules/<str:name>", modules.module),
    path("files", files.new_file),
    path("files/", files.new_file),
    path("files/<str:file_id>", files.file_bytes),
    path("hooks/in/<str:address>", hooks.inbound),
    path("hooks/<str:token>", hooks.hook),
    re_path(r"^webhook/trigger/(?P<task_id>(?s:.+?))/?\Z", hooks.trigger),
    path("health", views.health),
    path("healthz", views.health),
    path("ready", views.ready),
    re_path("^api/", api),
    path("openapi.json", docs.openapi),
    path("llms.txt", docs.llms),
    path("docs", docs.page),
    path("docs/", docs.page),
    path("docs/<str:name>", docs.asset),
    path("schemas/<str:name>", docs.schema),
    path(".well-known/agent-card.json", views.agent_card),
    path(".well-known/agent-card", views.agent_card),
    path(".well-known/agent.json", views.agent_card),
    path(".well-known/jwks.json", views.keys),
    path(mcp_endpoint.WELL_KNOWN, mcp_endpoint.resource_metadata),
    path(f"{mcp_endpoint.WELL_KNOWN}/mcp", mcp_endpoint.resource_metadata, {"resource": "mcp"}),
    *http_json.urlpatterns,
]
