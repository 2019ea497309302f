"""`aipartnerupflow events …`: events for tasks that wait for one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import show
from aipartnerupflow.cli.options import asks, json_option

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

events = typer.Typer(no_args_is_help=True, help="Send events to tasks that wait for them.")


@events.callback()
def group() -> None:
    """Send events to tasks that wait for them."""


@events.command("send")
@asks(show.event_sent)
def send(
    client: "Client",
    event: Annotated[str, typer.Argument(help="Name of the event.")],
    payload: Annotated[Any, json_option("Payload of the event, any JSON value.")] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="Id of the event. An event that is sent twice with one id counts once.")
    ] = None,
) -> Any:
    """Send an event to your tasks that wait for it."""
    return client.send_event(event, None if payload is None else payload.value, event_id=event_id)
