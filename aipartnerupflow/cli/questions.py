"""`aipartnerupflow questions …` and `aipartnerupflow events …`: what tasks wait for."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import asks, json_option

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

questions = typer.Typer(no_args_is_help=True, help="List the questions that wait for an answer.")


@questions.callback()
def group() -> None:
    """List the questions that wait for an answer."""


@questions.command("list")
@asks(show.questions, piped=lambda answer: output.as_lines(answer["questions"]))
def list_questions(
    client: "Client",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of questions, the oldest first.")] = 100,
) -> Any:
    """List the open questions of your trees, and those that you may answer as an assignee."""
    return client.questions(limit=limit)


events = typer.Typer(no_args_is_help=True, help="Send events to tasks that wait for them.")


@events.callback()
def group_events() -> None:
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
