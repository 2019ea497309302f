"""Responses outside of views: 404, 500 and CSRF failures, as JSON or, for browsers, as a page."""

import logging

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from apflow_site.edge.hosts import is_page
from tasks.ids import new_id

logger = logging.getLogger(__name__)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_page(method=request.method, path=request.path):
        return _page(request, "Not found", f"There is no page at {request.path}.", status=404)
    message = f"Not found: {request.path}. See /docs for the API and /.well-known/agent-card.json for A2A."
    return JsonResponse({"error": {"code": "not_found", "message": message}}, status=404)


def broken(request: HttpRequest) -> HttpResponse:
    """Return an unhandled exception. Django has just logged it; the error id identifies the log entry."""
    error_id = new_id()
    logger.error("%s: internal error at %s", error_id, request.path, extra={"event": "request.broken"})
    message = "Internal error. The server log has details under this error_id."
    if is_page(method=request.method, path=request.path):
        return _page(request, "Internal error", f"The server log has details under error ID {error_id}.", status=500)
    return JsonResponse({"error": {"code": "internal", "message": message, "error_id": error_id}}, status=500)


def forged(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Return a form without a valid CSRF token: from another site, or from before the latest login."""
    return _page(
        request, "Form expired", "This form is out of date. Go back, reload the page and submit it again.", status=403
    )


def _page(request: HttpRequest, heading: str, message: str, *, status: int) -> HttpResponse:
    return render(request, "dashboard/refusal.html", {"heading": heading, "error": message}, status=status)
