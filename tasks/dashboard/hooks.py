"""The pages of inbound hooks: their addresses, what was delivered, and replays."""

from typing import Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.json_text import format_json
from tasks.dashboard.pages import Context, base_url, page, read_page, redirect_with_message
from tasks.rules.exceptions import InvalidParams
from tasks.rules.hooks import FAILED
from tasks.services import hooks
from tasks.services.hooks import receiving

PAGE: Final = 50
LONGEST: Final = len(str(2**63 - 1))
WORDS: Final = {
    "started": "started",
    "sent": "sent the event",
    "answered": "answered",
    "filtered": "filtered out",
    "failed": "failed",
}


@read_page("dashboard/hooks.html")
def overview(request: HttpRequest, caller: Caller) -> Context:
    """`GET /ui/hooks/`: the caller's hooks, with their addresses."""
    base = base_url(request)
    return {
        "place": "settings",
        "hooks": [hooks.native_of(each, base=base) for each in hooks.list_hooks(caller=caller)],
    }


@read_page("dashboard/hook.html")
def hook(request: HttpRequest, caller: Caller, name: str) -> Context:
    """`GET /ui/hooks/<name>/`: a hook and its deliveries, the newest first; those before `?before=`."""
    found = hooks.get_hook(caller=caller, name=name)
    before = _number(request.GET["before"], "before") if "before" in request.GET else None
    rows = hooks.deliveries_of(caller=caller, name=name, before=before, limit=PAGE + 1)
    native = hooks.native_of(found, base=base_url(request))
    fields = ("filter", "inputs", "payload", "hmac")
    return {
        "place": "settings",
        "hook": native,
        "rules": [(name, format_json(native[name])) for name in fields if native[name] is not None],
        "deliveries": [(each, WORDS[each.outcome]) for each in rows[:PAGE]],
        "next_before": rows[PAGE - 1].pk if len(rows) > PAGE else None,
    }


@page("POST", needs=Role.OPERATOR)
async def replay(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Do again what a delivery did."""
    number = _number(request.POST.get("delivery", ""), "delivery")
    received = await pools.write(receiving.replay, caller=caller, name=name, delivery=number)
    await receiving.follow_up(received)
    row = received.row
    text = f"Replayed delivery {number}: {WORDS[row.outcome]}. {row.reason or ''}".strip()
    level = messages.ERROR if row.outcome == FAILED else messages.SUCCESS
    return redirect_with_message(request, reverse("dashboard:hook", args=[name]), text, level=level)


@page("POST", needs=Role.OPERATOR)
async def delete(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Delete a hook with its deliveries."""
    deleted = await pools.write(hooks.delete_hook, caller=caller, name=name)
    text = f"Deleted the hook {name}." if deleted else f"There is no hook {name}."
    return redirect_with_message(request, reverse("dashboard:hooks"), text)


def _number(text: str, field: str) -> int:
    """Return the number of a delivery. Raises InvalidParams."""
    if not (text.isascii() and text.isdecimal() and len(text) < LONGEST):
        raise InvalidParams([(field, "must be the number of a delivery")])
    return int(text)
