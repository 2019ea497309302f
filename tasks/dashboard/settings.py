"""What people keep here for themselves: keys for language models, and keys for their programs."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts import api_keys as api_keys
from accounts.callers import Caller, Role
from accounts.users import Refused, user_named
from apflow_db import pools
from llmkeys import keys as llm_keys
from llmkeys.header import MalformedKey
from llmkeys.providers import UnknownProvider, known_providers
from llmkeys.secret import Secret
from tasks.dashboard.pages import Context, page, shown, told

TEMPLATE: Final = "dashboard/settings.html"
#: Named first, since most keys are theirs.
USUAL: Final = ("openai", "anthropic", "gemini", "mistral", "groq")
MAX_DAYS: Final = 3650
DAYS: Final = re.compile(r"[1-9][0-9]{0,3}")


@page()
async def overview(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/settings/`: the keys, by what is not secret of them."""
    return await shown(request, caller, TEMPLATE, await _context(caller))


@page("POST", needs=Role.OPERATOR)
async def set_llm_key(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Keep a key for a provider, in the place of an earlier one."""
    provider, key = request.POST.get("provider", ""), Secret(request.POST.get("key", "").strip())
    try:
        stored = await pools.write(llm_keys.set_key, user_id=caller.user_id, provider=provider, key=key)
    except UnknownProvider as error:
        return await _refused(request, caller, f"“{provider[:100]}” is {error.message}")
    except MalformedKey as error:
        return await _refused(request, caller, f"The key {error.message}")
    return _done(request, f"The key …{stored.last_four} for {stored.provider} is kept.")


@page("POST", needs=Role.OPERATOR)
async def delete_llm_key(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Forget the key for a provider."""
    provider = request.POST.get("provider", "")
    try:
        deleted = await pools.write(llm_keys.delete_key, user_id=caller.user_id, provider=provider)
    except UnknownProvider as error:
        return await _refused(request, caller, f"“{provider[:100]}” is {error.message}")
    return _done(request, f"The key for {provider} is forgotten." if deleted else "There was no such key.")


@page("POST")
async def create_api_key(request: HttpRequest, caller: Caller) -> HttpResponse:
    """A new key for a program. Only this answer shows it: nothing keeps its text."""
    try:
        lifetime = _lifetime(request.POST.get("days"))
    except ValueError as error:
        context = await _context(caller) | {"days_problem": str(error)}
        return await shown(request, caller, TEMPLATE, context, status=422)
    is_read_only = "read_only" in request.POST
    name = request.POST.get("name", "").strip()

    def create(user: User) -> str:
        return api_keys.create_key(user, name=name, is_read_only=is_read_only, lifetime=lifetime)[1]

    try:
        text = await pools.write(_as_user, create, caller=caller)
    except Refused as error:
        return await _refused(request, caller, str(error))
    return await shown(request, caller, TEMPLATE, await _context(caller) | {"new_key": text, "new_key_name": name})


@page("POST")
async def revoke_api_key(request: HttpRequest, caller: Caller) -> HttpResponse:
    """End a key: no program gets in with it any more."""
    prefix = request.POST.get("prefix", "")
    try:
        key = await pools.write(_as_user, lambda user: api_keys.revoke_key(prefix, user=user), caller=caller)
    except Refused as error:
        return await _refused(request, caller, str(error))
    return _done(request, f"The key “{key.name}” is revoked.")


def _lifetime(days: str | None) -> timedelta | None:
    """How long a key is to work; only an empty field means without an end. Raises ValueError."""
    if days == "":
        return None
    if days is None or not DAYS.fullmatch(days) or int(days) > MAX_DAYS:
        raise ValueError(f"Write 1 to {MAX_DAYS} days in digits, or nothing for a key without an end.")
    return timedelta(days=int(days))


async def _context(caller: Caller) -> Context:
    providers = known_providers()
    first = [name for name in USUAL if name in providers]
    context: Context = {
        "place": "settings",
        "llm_keys": await pools.read(llm_keys.list_keys, user_id=caller.user_id),
        "providers": [*first, *sorted(providers - set(first))],
    }
    if settings.APFLOW.auth.is_on:
        context["api_keys"] = await pools.read(_as_user, lambda user: list(api_keys.keys_of(user)), caller=caller)
    return context


def _as_user(verb: Callable[[User], Any], *, caller: Caller) -> Any:
    """Raises Refused while nobody has an account."""
    if not settings.APFLOW.auth.is_on:
        raise Refused("Authentication is off: whoever reaches this server needs no key. See auth.enabled.")
    return verb(user_named(caller.user_id))


async def _refused(request: HttpRequest, caller: Caller, message: str) -> HttpResponse:
    return await shown(request, caller, TEMPLATE, await _context(caller) | {"problem": message}, status=422)


def _done(request: HttpRequest, message: str) -> HttpResponse:
    return told(request, reverse("dashboard:settings"), message, level=messages.SUCCESS)
