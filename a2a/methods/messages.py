"""WebSocket messages besides JSON-RPC: the client's actions, and the server's replies and events."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import orjson
from msgspec import Meta

from a2a.core.errors import as_rpc
from a2a.core.parsing import NotWith, Params, Text
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services.trees.queries import StatusReport


class Ping(Params, frozen=True, kw_only=True):
    """The server replies with `pong`."""

    action: Literal["ping"]


class Auth(Params, frozen=True, kw_only=True):
    """Authenticates a client that sent no token with the handshake."""

    action: Literal["auth"]
    token: str


class Subscribe(Params, frozen=True, kw_only=True):
    """Subscribes to the tree of a task or run only; without `task_id` and `run_id`, to all trees.

    `after` is the number of the last event of the run that the client has received. With `run_id`,
    the events of later runs of the tree follow, too. With `tokens`, words of models are `token` events on this connection from
    then on.
    """

    CONDITIONS = (NotWith("run_id", "task_id", "names the tree: send one of the two"),)

    action: Literal["subscribe"]
    task_id: Text | None = None
    run_id: Text | None = None
    after: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    tokens: bool | None = None


class Unsubscribe(Params, frozen=True, kw_only=True):
    """Unsubscribes from the tree of a task; without `task_id`, from all trees."""

    action: Literal["unsubscribe"]
    task_id: Text | None = None


Action = Ping | Auth | Subscribe | Unsubscribe
ACTIONS: Mapping[str, type[Action]] = MappingProxyType(
    {"ping": Ping, "auth": Auth, "subscribe": Subscribe, "unsubscribe": Unsubscribe}
)


def action_of(message: Json) -> Action:
    """Parse an action. Raises InvalidParams."""
    kind = ACTIONS.get(message["action"]) if isinstance(message["action"], str) else None
    if kind is None:
        raise InvalidParams([("action", f"must be one of {', '.join(ACTIONS)}")])
    return kind.parse(message)


def of_event(event: Json) -> str:
    """Return an event as a message: the main fields at the top level, the whole event in `data`."""
    return _text(_head(event["type"], event) | {"data": event})


def of_standing(type_: str, standing: StatusReport, **more: Any) -> str:
    """Return the reply to `subscribe` or `unsubscribe`, with the status of the task."""
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
    """Return a message that has only a type."""
    return _text({"type": type_})


def of_error(error: Exception, message: Json) -> str:
    """Return the error reply to an action."""
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
