"""Login and logout pages, which use sessions. Programs get tokens from `/auth/…`."""

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import auth
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from accounts import audit, logins
from accounts.audit import Action
from accounts.auth import session_caller
from accounts.recent import announce_after_commit
from apflow_site.db import pools

HOME = "/"


@never_cache
@csrf_protect
@require_http_methods(["GET", "HEAD", "POST"])
def login(request: HttpRequest) -> HttpResponse:
    """`/login/`: username and password, then a redirect to the requested page."""
    if not settings.APFLOW.auth.is_on:
        return HttpResponseRedirect(HOME)
    if request.method != "POST":
        return _form(request)
    username, password = request.POST.get("username", ""), request.POST.get("password", "")
    if "\0" in username + password:
        return _form(request, error=logins.WrongCredentials.__doc__, status=401)
    address = request.META.get("REMOTE_ADDR") or ""
    try:
        user = async_to_sync(pools.login)(logins.log_in, username, password, address=address)
    except logins.WrongCredentials as error:
        return _form(request, error=error.__doc__, status=401)
    except logins.TooManyTries as error:
        response = _form(request, error=error.message, status=429)
        response["Retry-After"] = str(error.retry_after_seconds)
        return response
    auth.login(request, user)
    return HttpResponseRedirect(_next(request))


@never_cache
@require_safe
def login_link(request: HttpRequest, secret: str) -> HttpResponse:
    """`/login/link/{secret}/`: the one-time link that `serve` prints."""
    if not settings.APFLOW.auth.is_on:
        return HttpResponseRedirect(HOME)
    user = logins.use_link(secret) if request.method == "GET" else None
    if user is None:
        return _form(
            request,
            error="This link has been used or has expired. Log in, or restart the server for a new link.",
            status=410,
        )
    auth.login(request, user)
    return HttpResponseRedirect(HOME)


@never_cache
@csrf_protect
@require_http_methods(["GET", "HEAD", "POST"])
def logout(request: HttpRequest) -> HttpResponse:
    """`/logout/`: GET asks for confirmation, POST ends the session."""
    if request.method != "POST":
        return render(request, "accounts/logout.html", {"who": session_caller(request)})
    with transaction.atomic():
        if request.user.is_authenticated:
            audit.record(Action.LOGOUT, actor=request.user.get_username())
            announce_after_commit(request.user.get_username())
        auth.logout(request)
    return HttpResponseRedirect(settings.LOGIN_URL)


def _form(request: HttpRequest, *, error: str | None = None, status: int = 200) -> HttpResponse:
    context = {
        "error": error,
        "username": request.POST.get("username", ""),
        "next": _next(request),
        "who": session_caller(request),
    }
    return render(request, "accounts/login.html", context, status=status)


def _next(request: HttpRequest) -> str:
    """Return the page to redirect to. Only paths of this server are allowed."""
    wanted = request.POST.get("next") or request.GET.get("next") or HOME
    is_own = wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if is_own else HOME
