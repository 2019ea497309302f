"""What the site answers where no view of ours does: JSON, as everywhere, and a page where a browser shows it."""

import logging

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from apflow_site.page_middleware import is_page
from tasks.ids import new_id

logger = logging.getLogger(__name__)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    where = f"There is nothing at {request.path}."
    if is_page(request):
        return _page(request, where, status=404)
    message = f"{where} The agent card lists what is: /.well-known/agent-card.json"
    return JsonResponse({"error": {"code": "not_found", "message": message}}, status=404)


def broken(request: HttpRequest) -> HttpResponse:
    """An exception that nobody expected. Django has logged it just now; the id tells which."""
    error_id = new_id()
    logger.error("%s: internal error at %s", error_id, request.path, extra={"event": "request.broken"})
    message = "Internal error. The server's log has more under this error_id."
    if is_page(request):
        return _page(request, f"{message[:-1]}: {error_id}", status=500)
    return JsonResponse({"error": {"code": "internal", "message": message, "error_id": error_id}}, status=500)


def forged(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form without the token that its page had: of another site, or from before somebody logged in anew."""
    return _page(
        request, "This form is too old, or is not of this page. Go back, load the page anew, and try again.", status=403
    )


def _page(request: HttpRequest, message: str, *, status: int) -> HttpResponse:
    return render(request, "dashboard/refusal.html", {"error": message}, status=status)
