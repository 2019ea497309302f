"""What is said on a WebSocket beside JSON-RPC: the client's actions, and the messages that answer them or tell of events."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import orjson
from msgspec import Meta

from a2a.core.errors import as_rpc
from a2a.core.parsing import Params, Text
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services.queries import StatusReport


class Ping(Params, frozen=True, kw_only=True):
    """Answered by `pong`."""

    action: Literal["ping"]


class Auth(Params, frozen=True, kw_only=True):
    """Says who it is, where the handshake could not."""

    action: Literal["auth"]
    token: str


class Subscribe(Params, frozen=True, kw_only=True):
    """From now on only what was subscribed to; without a task everything again. `after`: the last number that the client has."""

    action: Literal["subscribe"]
    task_id: Text | None = None
    after: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class Unsubscribe(Params, frozen=True, kw_only=True):
    """No more of this task's tree; without a task, nothing more at all."""

    action: Literal["unsubscribe"]
    task_id: Text | None = None


Action = Ping | Auth | Subscribe | Unsubscribe
ACTIONS: Mapping[str, type[Action]] = MappingProxyType(
    {"ping": Ping, "auth": Auth, "subscribe": Subscribe, "unsubscribe": Unsubscribe}
)


def action_of(message: Json) -> Action:
    """Raises InvalidParams."""
    kind = ACTIONS.get(message["action"]) if isinstance(message["action"], str) else None
    if kind is None:
        raise InvalidParams([("action", f"is one of {', '.join(ACTIONS)}")])
    return kind.parse(message)


def of_event(event: Json) -> str:
    """An event as a message: the fields that a page looks at first, and all of it in `data`."""
    return _text(_head(event["type"], event) | {"data": event})


def of_standing(type_: str, standing: StatusReport, **more: Any) -> str:
    """That a subscription begins or ends, and where its task stands."""
    task, run = standing.task, standing.run
    return _text(
        {
            "type": type_,
            "task_id": standing.task_id,
            "root_task_id": task.root_id if task else None,
            "status": standing.status,
            "progress": standing.progress,
            "run_id": run.id if run else None,
            "last_seq": run.last_seq if run else 0,
            **more,
        }
    )


def plain(type_: str) -> str:
    """A message that is about no task."""
    return _text({"type": type_})


def of_error(error: Exception, message: Json) -> str:
    """Why an action was refused."""
    return _text(
        {
            "type": "error",
            "action": message.get("action"),
            "task_id": message.get("task_id"),
            "error": as_rpc(error)["error"],
        }
    )


def _head(type_: str, event: Json) -> Json:
    return {
        "type": type_,
        "task_id": event["task_id"],
        "root_task_id": event["root_task_id"],
        "status": event["status"],
        "progress": event["progress"],
    }


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
