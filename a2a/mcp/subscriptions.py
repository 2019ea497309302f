"""Streams of what changes in the caller's runs, from the event hub: `subscriptions/listen`, and those of sessions."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from a2a.core.jsonrpc import INVALID_REQUEST
from a2a.live import stream_limits
from a2a.mcp import handles
from a2a.mcp.eras import PREFIX, Exchange
from a2a.mcp.messages import McpError, Messages, Notification, Result
from a2a.mcp.resources import run_in
from a2a.mcp.sessions import LASTS, Session
from a2a.models import WatchedResource
from accounts.callers import Caller
from apflow_site.db import pools
from apflow_site.db.turns import has_room
from tasks.events import Event, following
from tasks.models import Run
from tasks.rules.exceptions import InvalidParams, LimitReached
from tasks.rules.strict_json import Json

MOST_WATCHED: Final = 100
"""The number of resources that a session may watch."""
MOST_OF_USER: Final = 1_000
URIS: Final = "resourceSubscriptions"
TASK_IDS: Final = "taskIds"
MOST: Final = 100
"""The number of resources, and of tasks, in one subscription."""
EVERY_SECONDS: Final = 0.5
"""Changes of this time become one notification each."""
ID_FIELD: Final = f"{PREFIX}subscriptionId"
UPDATED: Final = "notifications/resources/updated"
NEEDS_STREAM: Final = (
    "subscriptions/listen is answered with a stream. Send Accept: application/json, text/event-stream."
)


@transaction.atomic
def watch(*, caller: Caller, session: str, run_id: str, uri: str) -> None:
    """Watch a resource. Raises LimitReached."""
    of_user = WatchedResource.objects.filter(user_id=caller.user_id)
    of_user.filter(created_at__lt=timezone.now() - LASTS).delete()  # their sessions have ended
    others = of_user.exclude(session=session, uri=uri)
    of_session = has_room(others.filter(session=session), of=caller.user_id, most=MOST_WATCHED)
    if not of_session or not has_room(others, of=caller.user_id, most=MOST_OF_USER):
        raise LimitReached(
            f"A session watches at most {MOST_WATCHED} resources, and all sessions of a user {MOST_OF_USER:,}. "
            "End some with resources/unsubscribe."
        )
    defaults = {"user_id": caller.user_id, "run_id": run_id}
    WatchedResource.objects.update_or_create(session=session, uri=uri, defaults=defaults)


def unwatch(*, session: str, uri: str) -> None:
    """Watch a resource no longer."""
    WatchedResource.objects.filter(session=session, uri=uri).delete()


def watched_uris(*, session: str, run_ids: Collection[str] | None) -> list[str]:
    """Return the URIs that a session watches; only those that belong to these runs, unless `run_ids` is None."""
    found = WatchedResource.objects.filter(session=session)
    if run_ids is not None:
        found = found.filter(run_id__in=run_ids)
    return list(found.order_by("id").values_list("uri", flat=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The subject of a subscription: the URIs of each run, and the runs whose tasks it follows."""

    uris: Mapping[str, Sequence[str]]
    task_ids: Sequence[str]

    def concerns(self, event: Event) -> bool:
        return event["run_id"] in self.uris or event["run_id"] in self.task_ids

    def accepted(self) -> Json:
        """Return the part of the request that the server honors."""
        uris = [uri for found in self.uris.values() for uri in found]
        return {name: list(value) for name, value in ((URIS, uris), (TASK_IDS, self.task_ids)) if value}


async def listen(exchange: Exchange, params: Json) -> Messages:
    """Yield the acknowledgement, the tasks as they are, and then notifications until the client leaves or the server stops.

    Runs of other users count as absent. Raises InvalidParams, McpError or LimitReached.
    """
    if not exchange.takes_streams:
        raise McpError(INVALID_REQUEST, NEEDS_STREAM)
    stream_limits.open_streams().refuse_if_full(exchange.caller)
    notifications = params.get("notifications")
    if not isinstance(notifications, dict):
        raise InvalidParams([("notifications", "required, an object")])
    uris, task_ids = _texts(notifications, URIS), _texts(notifications, TASK_IDS)
    if task_ids:
        handles.require_extension(exchange)
    watched = await pools.read(_watched, exchange.caller, uris, task_ids)
    meta: Json = {"_meta": {ID_FIELD: exchange.call_id}}
    async with following(exchange.caller) as inbox:
        inbox.wants = watched.concerns
        yield Notification(
            method="notifications/subscriptions/acknowledged", params={"notifications": watched.accepted()} | meta
        )
        known: dict[str, Json] = {}
        changed: Sequence[str] = watched.task_ids
        while True:
            for run_id in changed:
                if run_id in watched.task_ids:
                    task = await pools.read(partial(handles.detail, caller=exchange.caller, run_id=run_id))
                    if known.get(run_id) != task:
                        known[run_id] = task
                        yield Notification(method="notifications/tasks", params=task | meta)
            if not (events := await inbox.next()):
                break
            await asyncio.sleep(EVERY_SECONDS)
            changed = list(dict.fromkeys(event["run_id"] for event in events))
            for uri in (uri for each in changed for uri in watched.uris.get(each, ())):
                yield Notification(method=UPDATED, params={"uri": uri} | meta)
    yield Result(value=meta)


async def changes(session: Session, caller: Caller) -> AsyncGenerator[Json]:
    """Yield a notification for each resource that a session watches and that has changed, until the server stops.

    At the beginning all count as changed: the client may have been away.
    """
    async with following(caller) as inbox:
        changed: set[str] = set()

        def is_first(event: Event) -> bool:  # of its run since the last notifications: the others say nothing new
            is_new = event["run_id"] not in changed
            changed.add(event["run_id"])
            return is_new

        inbox.wants = is_first
        run_ids: list[str] | None = None
        while True:
            for uri in await pools.read(watched_uris, session=session.id, run_ids=run_ids):
                yield Notification(method=UPDATED, params={"uri": uri}).to_json()
            if not await inbox.next():
                return
            await asyncio.sleep(EVERY_SECONDS)
            run_ids = list(changed)
            changed.clear()


def _texts(notifications: Json, name: str) -> list[str]:
    value: Any = notifications.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value) or len(value) > MOST:
        raise InvalidParams([(f"notifications.{name}", f"must be a list of at most {MOST} strings")])
    return list(dict.fromkeys(value))


def _watched(caller: Caller, uris: Sequence[str], task_ids: Sequence[str]) -> Watched:
    runs = {uri: run_id for uri in uris if (run_id := run_in(uri)) is not None}
    named = {*runs.values(), *task_ids}
    own = set(Run.objects.for_caller(caller).filter(id__in=named).values_list("id", flat=True))
    found: dict[str, list[str]] = {}
    for uri, run_id in runs.items():
        if run_id in own:
            found.setdefault(run_id, []).append(uri)
    return Watched(uris=found, task_ids=[run_id for run_id in task_ids if run_id in own])
