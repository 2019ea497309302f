"""The settings page: a user's LLM keys, named secrets, notifications and API keys."""

import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts import api_keys as api_keys
from accounts.callers import Caller, Role
from accounts.models import APIKey
from accounts.users import Refused, user_named
from apflow_site.db import pools
from llmkeys import keys as llm_keys
from llmkeys import named_secrets
from llmkeys.providers import MalformedKey, UnknownProvider, known_providers
from llmkeys.secret import Secret
from llmkeys.secret_forms import MalformedSecret
from tasks.dashboard.pages import Context, page, redirect_with_message, render_page
from tasks.rules.exceptions import TasksError
from tasks.services.messages import notifications
from tasks.services.messages.notifications import send_test
from tasks.services.secrets import stored_secrets

TEMPLATE: Final = "dashboard/settings.html"
#: Listed first: the most common providers.
USUAL: Final = ("openai", "anthropic", "gemini", "mistral", "groq")
MAX_DAYS: Final = 3650
LONGEST_NAME: Final = 100
ABOUT: Final = {
    "failures": (notifications.FAILURES,),
    "questions": (notifications.QUESTIONS,),
    "both": (notifications.FAILURES, notifications.QUESTIONS),
}
"""The choices of the form for a notification."""
DAYS: Final = re.compile(r"[1-9][0-9]{0,3}")


@page()
async def overview(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/settings/`: the keys, without their secrets."""
    return await render_page(request, caller, TEMPLATE, await _context(caller))


@page("POST", needs=Role.OPERATOR)
async def set_llm_key(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Store or replace the LLM key for a provider."""
    provider, key = request.POST.get("provider", ""), Secret(request.POST.get("key", "").strip())
    try:
        stored = await pools.write(
            stored_secrets.set_llm_key, caller=caller, user_id=caller.user_id, provider=provider, key=key
        )
    except UnknownProvider as error:
        return await _refused(request, caller, f"“{provider[:100]}” is {error.message}")
    except MalformedKey as error:
        return await _refused(request, caller, f"The key {error.message}")
    return _done(request, f"Saved the key …{stored.last_four} for {stored.provider}.")


@page("POST", needs=Role.OPERATOR)
async def delete_llm_key(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Delete the LLM key for a provider."""
    provider = request.POST.get("provider", "")
    try:
        deleted = await pools.write(
            stored_secrets.delete_llm_key, caller=caller, user_id=caller.user_id, provider=provider
        )
    except UnknownProvider as error:
        return await _refused(request, caller, f"“{provider[:100]}” is {error.message}")
    return _done(request, f"Deleted the key for {provider}." if deleted else f"There is no key for {provider}.")


@page("POST", needs=Role.OPERATOR)
async def set_secret(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Store or replace one of the user's named secrets."""
    name, value = request.POST.get("name", "").strip(), Secret(request.POST.get("value", ""))
    hosts, inputs = (request.POST.get(field, "").replace(",", " ").split() or None for field in ("hosts", "inputs"))
    verb = partial(stored_secrets.set_secret, caller=caller, name=name, value=value)
    try:
        await pools.write(partial(verb, allow_hosts=hosts, allow_in=inputs))
    except MalformedSecret as error:
        return await _refused(request, caller, f"The {error.field} {error.message}.")
    return _done(request, f"Saved the secret {name}. Tasks use it as {{{{secret.{name}}}}}.")


@page("POST", needs=Role.OPERATOR)
async def delete_secret(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Delete one of the user's named secrets."""
    name = request.POST.get("name", "")[:100]
    deleted = await pools.write(stored_secrets.delete_secret, caller=caller, name=name)
    return _done(request, f"Deleted the secret {name}." if deleted else f"There is no secret {name}.")


@page("POST", needs=Role.OPERATOR)
async def set_notification(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Store or replace one of the user's notifications."""
    given = {name: request.POST.get(name, "").strip() for name in ("name", "flow", "to")}
    if not 0 < len(given["name"]) <= LONGEST_NAME:
        return await _refused(request, caller, f"Enter a name of 1 to {LONGEST_NAME} characters.")
    target = {"url" if "://" in given["to"] else "email": given["to"]}
    about = ABOUT.get(request.POST.get("about", ""), (notifications.FAILURES,))
    is_slack = request.POST.get("format") == "slack"
    if is_slack and "email" in target:
        return await _refused(request, caller, "Enter the URL of an incoming webhook of Slack, not an e-mail address.")
    verb = partial(
        notifications.set_notification, caller=caller, about=about, flow=given["flow"] or None, is_slack=is_slack
    )
    try:
        kept = await pools.write(partial(verb, name=given["name"], **target))
    except TasksError as error:
        return await _refused(request, caller, error.message)
    context = await _context(caller) | {"new_notification": kept}
    return await render_page(request, caller, TEMPLATE, context)


@page("POST", needs=Role.OPERATOR)
async def test_notification(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Send a test message of one of the user's notifications."""
    name = request.POST.get("name", "")[:LONGEST_NAME]
    try:
        outcome = await send_test(caller=caller, name=name)
    except TasksError as error:
        return await _refused(request, caller, error.message)
    if outcome.error is not None:
        return await _refused(request, caller, f"The test message of “{name}” was not delivered. {outcome.error}")
    return _done(request, f"The test message of “{name}” was delivered.")


@page("POST", needs=Role.OPERATOR)
async def delete_notification(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Delete one of the user's notifications."""
    name = request.POST.get("name", "")[:LONGEST_NAME]
    deleted = await pools.write(notifications.delete_notification, caller=caller, name=name)
    return _done(request, f"Deleted the notification {name}." if deleted else f"There is no notification {name}.")


@page("POST")
async def create_api_key(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Create an API key. Only this response shows it; the server stores a hash."""
    days, lifetime = request.POST.get("days"), None
    if days != "":  # only an empty field means that the key does not expire
        if days is None or not DAYS.fullmatch(days) or int(days) > MAX_DAYS:
            problem = f"Enter 1 to {MAX_DAYS} days, or nothing for a key that does not expire."
            context = await _context(caller) | {"days_problem": problem}
            return await render_page(request, caller, TEMPLATE, context, status=422)
        lifetime = timedelta(days=int(days))
    is_read_only = "read_only" in request.POST
    name = request.POST.get("name", "").strip()

    def create(user: User) -> str:
        key = api_keys.create_key(user, name=name, is_read_only=is_read_only, lifetime=lifetime, actor=caller.user_id)
        return key[1]

    try:
        text = await pools.write(_as_user, create, caller=caller)
    except Refused as error:
        return await _refused(request, caller, str(error))
    return await render_page(
        request, caller, TEMPLATE, await _context(caller) | {"new_key": text, "new_key_name": name}
    )


@page("POST")
async def revoke_api_key(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Revoke an API key."""
    prefix = request.POST.get("prefix", "")

    def revoke(user: User) -> APIKey:
        return api_keys.revoke_key(prefix, user=user, actor=caller.user_id)

    try:
        key = await pools.write(_as_user, revoke, caller=caller)
    except Refused as error:
        return await _refused(request, caller, str(error))
    return _done(request, f"Revoked the key “{key.name}”.")


async def _context(caller: Caller) -> Context:
    providers = known_providers()
    first = [name for name in USUAL if name in providers]
    context: Context = {
        "place": "settings",
        "llm_keys": await pools.read(llm_keys.list_keys, user_id=caller.user_id),
        "secrets": await pools.read(named_secrets.list_secrets, user_id=caller.user_id),
        "notifications": [
            notifications.native_of(kept) for kept in await pools.read(notifications.list_notifications, caller=caller)
        ],
        "sends_mail": settings.APFLOW.email.host is not None,
        "providers": [*first, *sorted(providers - set(first))],
    }
    if settings.APFLOW.auth.is_on:
        context["api_keys"] = await pools.read(_as_user, lambda user: list(api_keys.keys_of(user)), caller=caller)
    return context


def _as_user(verb: Callable[[User], Any], *, caller: Caller) -> Any:
    """Raise Refused while authentication is off."""
    if not settings.APFLOW.auth.is_on:
        raise Refused("Authentication is off, so this server needs no API keys. See auth.enabled.")
    return verb(user_named(caller.user_id))


async def _refused(request: HttpRequest, caller: Caller, message: str) -> HttpResponse:
    return await render_page(request, caller, TEMPLATE, await _context(caller) | {"problem": message}, status=422)


def _done(request: HttpRequest, message: str) -> HttpResponse:
    return redirect_with_message(request, reverse("dashboard:settings"), message, level=messages.SUCCESS)
