"""`POST /modules/apflow.task.…`: our methods under the names by which apflow's newest web application calls them.

The body contains the parameters, and the response the result alone, in apflow's shape. Errors are those of REST.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from a2a.core.errors import as_rest
from a2a.core.exceptions import UnknownMethod
from a2a.core.http import body_of, headers_of, json_response, refusal, require_method
from a2a.core.jsonrpc import Call
from a2a.live import sse
from a2a.live.sse import held
from a2a.methods.dispatch import REST, perform
from accounts.auth import authenticate
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json, decode

PREFIX: Final = "apflow."
LINKS: Final = ("task.link", "task.archive", "task.clone_mixed")


@dataclass(frozen=True, slots=True)
class Module:
    """A method, how apflow returns its result, and its defaults for parameters where they are others."""

    method: str
    shape: Callable[[Any], Any] = lambda result: result
    defaults: Mapping[str, Any] = field(default_factory=dict)


def _stored_tree(root: Json) -> Json:
    task_ids = list(root["ids"].values())
    return {"root_task_id": root["id"], "task_count": len(task_ids), "task_ids": task_ids}


def _listed(found: list[Json] | Json, *, name: str = "tasks") -> Json:
    if isinstance(found, dict):  # a page with a cursor
        return found
    return {name: found, "count": len(found), "total": len(found)}


#: Those of `POST /system` have the name of their method.
MODULES: Mapping[str, Module] = MappingProxyType(
    {
        "task.create": Module("tasks.create"),
        "task.create_tree": Module("tasks.create", _stored_tree),
        "task.execute": Module("tasks.execute"),
        "task.get": Module("tasks.get"),
        "task.tree": Module("tasks.tree"),
        "task.children": Module("tasks.children", partial(_listed, name="children")),
        "task.list": Module("tasks.list", _listed),
        "task.running": Module("tasks.running.list", _listed),
        "task.update": Module("tasks.update"),
        "task.delete": Module("tasks.delete", lambda deletion: deletion | {"deleted": deletion["success"]}),
        "task.cancel": Module("tasks.cancel", lambda answers: {"results": answers}),
        "task.copy": Module("tasks.copy", lambda root: _stored_tree(root) | {"origin_type": root["origin_type"]}),
        "task.scheduled": Module("tasks.scheduled.list", _listed),
        "schedule.set": Module("tasks.update", defaults={"schedule_enabled": True}),
        "schedule.due": Module("tasks.scheduled.due", _listed),
        "schedule.trigger": Module("tasks.webhook.trigger", defaults={"async_execution": False}),
        "schedule.complete": Module("tasks.scheduled.complete"),
        "schedule.history": Module("runs.list", lambda page: {"runs": page["runs"], "count": len(page["runs"])}),
        "schedule.export_ical": Module(
            "tasks.scheduled.export-ical", lambda found: {"ical": found["ical_content"], "format": "text/calendar"}
        ),
        "generate": Module("tasks.generate"),
        "config.llm_key.set": Module("config.llm_key.set"),
        "config.llm_key.get": Module("config.llm_key.get"),
        "config.llm_key.delete": Module("config.llm_key.delete"),
    }
)
_STATUS: Final = Module("tasks.running.status")


@csrf_exempt
async def module(request: HttpRequest, name: str) -> HttpResponseBase:
    """Call a module. `task.execute` streams its events to clients that accept text/event-stream."""
    try:
        require_method(request, "POST")
        caller = await authenticate(request)
        short = name.removeprefix(PREFIX)
        if short in LINKS:
            other = f"{PREFIX}task.copy"
            raise UnknownMethod(f"Module '{name}' is not available: this server only has copies. Call {other}.")
        if short not in MODULES:
            known = ", ".join(f"{PREFIX}{each}" for each in MODULES)
            raise UnknownMethod(f"Module '{name[:100]}' not found. Known modules: {known}.")
        found = MODULES[short]
        sent = decode(body_of(request), nesting=settings.APFLOW.limits.nesting)
        if not isinstance(sent, dict):
            raise InvalidParams([("body", "must be an object with the parameters")])
        params = {**found.defaults, **sent}
        if found.method == "tasks.running.list" and "task_ids" in params:
            found = _STATUS
        if found.method == "tasks.execute" and "text/event-stream" in request.headers.get("Accept", ""):
            params = params | {"use_streaming": True}
        call = Call(method=found.method, params=params)
        dialect = replace(REST, result=lambda method, caller, result: found.shape(result.native))
        reply, stream = await perform(call, caller=caller, dialect=dialect, headers=headers_of(request))
        if stream is not None:
            frames = sse.frames(stream, render=lambda event: event)
            return held(frames, caller=caller, who_is_it=partial(authenticate, request))
        return json_response(reply.result)
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error, shape=as_rest)
