"""What all pages share: who looks, how a page is made, and what is shown when something is refused."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
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
from apflow_db import pools
from tasks.models import Question
from tasks.rules.exceptions import InvalidParams, RoleTooLow, TaskNotFound, TasksError

P = ParamSpec("P")
Context = dict[str, Any]
View = Callable[Concatenate[HttpRequest, Caller, P], Awaitable[HttpResponseBase]]
SOUGHT: Final = ("GET", "HEAD")
REFUSALS: Final = {TaskNotFound: 404, RoleTooLow: 403}


def page(
    *methods: str, needs: Role = Role.VIEWER
) -> Callable[[View[P]], Callable[..., Coroutine[Any, Any, HttpResponseBase]]]:
    """A view for whoever is logged in and has the role, by these HTTP methods (default: reading).

    Who is not logged in is sent to the login.
    """
    allowed = methods or SOUGHT

    def decorate(view: View[P]) -> Callable[..., Coroutine[Any, Any, HttpResponseBase]]:
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
                    raise RoleTooLow(f"This needs the role {needs}.")
                _refuse_nul(request)
                response = await view(request, caller, *args, **kwargs)
            except TasksError as error:
                response = await refusal(request, caller, error)
            patch_cache_control(response, no_store=True)  # somebody else may sit here next
            return response

        return answer

    return decorate


async def caller_of(request: HttpRequest) -> Caller | None:
    """Who looks. None: nobody is logged in."""
    return await pools.auth(session_caller, request)


async def shown(
    request: HttpRequest, caller: Caller, template: str, context: Context, *, status: int = 200
) -> HttpResponse:
    """A page. It is made on a thread: a tree of a thousand tasks would keep the loop from everybody else."""
    common: Context = {
        "caller": caller,
        "may_write": caller.may(Role.OPERATOR),
        "has_owners": has_owners(),
        "questions_open": await pools.read(count_questions, caller=caller),
    }
    return await asyncio.to_thread(render, request, template, common | context, status=status)


async def refusal(request: HttpRequest, caller: Caller, error: TasksError) -> HttpResponse:
    """A page that says what is wrong. Another's task looks like a missing one."""
    status = next((status for kind, status in REFUSALS.items() if isinstance(error, kind)), 400)
    return await shown(request, caller, "dashboard/refusal.html", {"error": error.message}, status=status)


def told(request: HttpRequest, address: str, message: str, *, level: int = messages.SUCCESS) -> HttpResponse:
    """Go to another page, which shows the message."""
    messages.add_message(request, level, message)
    return HttpResponseRedirect(address)


def _refuse_nul(request: HttpRequest) -> None:
    """No database of ours holds that character. Raises InvalidParams."""
    fields = [*request.GET.items(), *request.POST.items()]
    if problems := [(name, "holds the NUL character") for name, value in fields if "\0" in f"{name}{value}"]:
        raise InvalidParams(problems)


def count_questions(*, caller: Caller) -> int:
    """How many questions wait for an answer in the caller's trees."""
    return Question.objects.for_caller(caller).waiting().count()


def has_owners() -> bool:
    """Whether there are several people, so that it matters whose a tree is."""
    return bool(settings.APFLOW.auth.is_on)


def base_url(request: HttpRequest) -> str:
    """The address of this server as clients have it, without a slash at its end."""
    return (settings.APFLOW.server.public_url or request.build_absolute_uri("/")).rstrip("/")
