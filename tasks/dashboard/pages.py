"""Shared by all pages: authentication, rendering and error pages."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, update_wrapper, wraps
from typing import Any, Concatenate, Final, ParamSpec
from urllib.parse import quote

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from django.views.decorators.csrf import csrf_protect

from accounts.auth import session_caller
from accounts.callers import Caller, Role
from apflow_site.db import pools
from apflow_site.db.calls import TurnTooFar, working_for
from tasks.queue import maintenance
from tasks.rules.exceptions import (
    CallNotFound,
    DatasetNotFound,
    DeliveryNotFound,
    ExperimentNotFound,
    FileNotFound,
    FlowNotFound,
    HookNotFound,
    InvalidParams,
    RoleTooLow,
    RunNotFound,
    ScheduleNotFound,
    TaskNotFound,
    TasksError,
)
from tasks.services.waits.questions import count_inbox
from tasks.storage.loads import charge

P = ParamSpec("P")
Context = dict[str, Any]
View = Callable[Concatenate[HttpRequest, Caller, P], Awaitable[HttpResponseBase]]
Read = Callable[Concatenate[HttpRequest, Caller, P], Context]
Page = Callable[..., Coroutine[Any, Any, HttpResponseBase]]
MOST_COUNTED: Final = 1_000
SOUGHT: Final = ("GET", "HEAD")
REFUSALS: Final = {
    TaskNotFound: 404,
    RunNotFound: 404,
    CallNotFound: 404,
    FileNotFound: 404,
    FlowNotFound: 404,
    DatasetNotFound: 404,
    ExperimentNotFound: 404,
    ScheduleNotFound: 404,
    HookNotFound: 404,
    DeliveryNotFound: 404,
    RoleTooLow: 403,
    TurnTooFar: 429,
}
HEADINGS: Final = {400: "Invalid request", 403: "Not allowed", 404: "Not found", 429: "Too many requests"}


def page(*methods: str, needs: Role = Role.VIEWER) -> Callable[[View[P]], Page]:
    """Make a view for logged-in users with the role, for these HTTP methods (default: GET and HEAD).

    Anonymous users are redirected to the login page.
    """
    allowed = methods or SOUGHT

    def decorate(view: View[P]) -> Page:
        @csrf_protect
        @wraps(view)
        async def answer(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if request.method not in allowed:
                return HttpResponseNotAllowed(allowed)
            caller = await caller_of(request)
            if caller is None:
                return HttpResponseRedirect(f"{settings.LOGIN_URL}?next={quote(request.get_full_path())}")
            try:
                if not caller.may(needs):
                    raise RoleTooLow(f"This page requires the role {needs}.")
                # PostgreSQL cannot store NUL characters.
                fields = [*request.GET.items(), *request.POST.items()]
                if problems := [
                    (name, "contains a NUL character") for name, value in fields if "\0" in f"{name}{value}"
                ]:
                    raise InvalidParams(problems)
                charge(caller.user_id)
                working_for.set(caller.user_id)
                response = await view(request, caller, *args, **kwargs)
            except (TasksError, TurnTooFar) as error:
                response = await refusal(request, caller, error)
            patch_cache_control(response, no_store=True)  # another user may use this browser next
            return response

        return answer

    return decorate


async def caller_of(request: HttpRequest) -> Caller | None:
    """Return the user of the session. None: not logged in."""
    return await pools.auth(session_caller, request)


async def render_page(
    request: HttpRequest, caller: Caller, template: str, context: Context, *, status: int = 200
) -> HttpResponse:
    """Render a page on a thread, where users take turns: rendering a thousand tasks would block the event loop."""
    return await pools.read(_render, request, caller, template, lambda: context, status=status)


def read_page(template: str, *, needs: Role = Role.VIEWER) -> Callable[[Read[P]], Page]:
    """Make a view of a function that returns the context of a template. The thread that reads it also renders the page."""

    def decorate(read: Read[P]) -> Page:
        async def view(request: HttpRequest, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            context = partial(read, request, caller, *args, **kwargs)
            return await pools.read(_render, request, caller, template, context)

        update_wrapper(view, read)
        return page(needs=needs)(view)

    return decorate


def _render(
    request: HttpRequest, caller: Caller, template: str, read: Callable[[], Context], *, status: int = 200
) -> HttpResponse:
    context = read()
    common: Context = {
        "caller": caller,
        "may_write": caller.may(Role.OPERATOR),
        "has_owners": has_owners(),
        "questions_open": count_questions(caller=caller),
        "maintenance_since": maintenance.since(),
    }
    return render(request, template, common | context, status=status)


async def refusal(request: HttpRequest, caller: Caller, error: TasksError | TurnTooFar) -> HttpResponse:
    """Render an error page. A task of another user is reported as missing."""
    status = next((status for kind, status in REFUSALS.items() if isinstance(error, kind)), 400)
    context = {"heading": HEADINGS[status], "error": error.message}
    return await render_page(request, caller, "dashboard/refusal.html", context, status=status)


def redirect_with_message(
    request: HttpRequest, address: str, message: str, *, level: int = messages.SUCCESS, tag: str = ""
) -> HttpResponse:
    """Redirect to a page that shows the message. `tag` is a class of it for scripts."""
    messages.add_message(request, level, message, extra_tags=tag)
    return HttpResponseRedirect(address)


def count_questions(*, caller: Caller) -> int:
    """Count the questions in the caller's inbox, up to MOST_COUNTED."""
    return count_inbox(caller, limit=MOST_COUNTED)


def has_owners() -> bool:
    """Return whether trees have owners: authentication is on."""
    return bool(settings.APFLOW.auth.is_on)


def base_url(request: HttpRequest) -> str:
    """Return the public URL of this server, without a trailing slash."""
    return (settings.APFLOW.server.public_url or request.build_absolute_uri("/")).rstrip("/")
