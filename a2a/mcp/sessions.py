"""The sessions of clients of 2025-11-25 and earlier. No process remembers them: their ids say what a client can do.

A session is needed for what such a client declares only once: whether it asks its user on our behalf, and which
resources it watches. Only that a client has ended its session is a row.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.core import signing
from django.db import transaction
from django.utils import timezone

from a2a.mcp.messages import SESSION_NOT_FOUND, McpError
from a2a.models import EndedSession, SessionCall, WatchedResource
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.rules.strict_json import Json

HEADER: Final = "Mcp-Session-Id"
SALT: Final = "a2a.mcp.session"
LASTS: Final = timedelta(days=7)
MODES: Final = ("form", "url")
APPS: Final = "io.modelcontextprotocol/ui"
"""The extension MCP Apps. A client that declares it is a host that shows the apps of tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The id of a session without its signature, and what its client can do."""

    id: str
    capabilities: Json


def begun(capabilities: Json, caller: Caller) -> str:
    """Return the value of the header for a client with these capabilities. Only its user can use it."""
    elicitation = capabilities.get("elicitation")
    modes = None if not isinstance(elicitation, dict) else [mode for mode in MODES if mode in elicitation]
    has_sampling = isinstance(capabilities.get("sampling"), dict)
    extensions = capabilities.get("extensions")
    has_apps = isinstance(extensions, dict) and isinstance(extensions.get(APPS), dict)
    return signing.dumps([secrets.token_urlsafe(16), caller.user_id, modes, has_sampling, has_apps], salt=SALT)


def session_in(sent: Mapping[str, str], caller: Caller) -> Session | None:
    """Return the session that the HTTP headers name; None without one.

    Raises McpError if it is none of the caller's, or has ended. The client then begins another one.
    """
    token = sent.get(HEADER)
    if token is None:
        return None
    try:
        session_id, user_id, modes, has_sampling, *has_apps = signing.loads(token, salt=SALT, max_age=LASTS)
    except signing.BadSignature:
        raise _ended() from None
    if user_id != caller.user_id:
        raise _ended()
    capabilities: Json = {} if modes is None else {"elicitation": {mode: {} for mode in modes}}
    capabilities |= {"sampling": {}} if has_sampling else {}
    capabilities |= (
        {"extensions": {APPS: {}}} if has_apps == [True] else {}
    )  # earlier releases began sessions without it
    return Session(id=session_id, capabilities=capabilities)


@transaction.atomic
def end(session_id: str) -> None:
    """End a session, and all that it watches. Its runs continue."""
    EndedSession.objects.filter(expires_at__lt=timezone.now()).delete()
    EndedSession.objects.get_or_create(session=session_id, defaults={"expires_at": timezone.now() + LASTS})
    WatchedResource.objects.filter(session=session_id).delete()
    SessionCall.objects.filter(session=session_id).delete()


async def refuse_if_ended(session_id: str) -> None:
    """Raise McpError if the client has ended the session."""
    if await pools.read(EndedSession.objects.filter(session=session_id).exists):
        raise _ended()


def _ended() -> McpError:
    return McpError(SESSION_NOT_FOUND, "This session has ended, or is none of yours. Begin one with initialize.")
