"""`aipartnerupflow limits …`, `pause` and `resume`: the named limits that all workers of a server share, and what is paused."""

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import asks, refuse

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

limits = typer.Typer(no_args_is_help=True, help="Show and change the named limits that all workers share.")

Name = Annotated[str, typer.Argument(help="Name of the limit, such as crm.")]
User = Annotated[
    str | None, typer.Option("--user", help="The user for whose tasks alone the limit is. Administrators only.")
]


class Kind(StrEnum):
    """The kinds of what can be paused."""

    FLOW = "flow"
    EXECUTOR = "executor"
    PROVIDER = "provider"
    USER = "user"


WhichKind = Annotated[Kind, typer.Argument(metavar="KIND", help="flow, executor, provider or user.")]
Paused = Annotated[str, typer.Argument(metavar="NAME", help="Name of the flow, executor, provider or user.")]
Owner = Annotated[str | None, typer.Option("--user", help="Owner of the flow (default: you). Administrators only.")]


@limits.command("list")
@asks(show.limits, piped=lambda answer: output.as_lines([*answer["limits"], *answer["pauses"]]))
def list_limits(client: "Client", user: User = None) -> Any:
    """List the limits and what is paused, and how many tasks wait for each since when."""
    return client.limits(user_id=user)


@limits.command("get")
@asks(show.limit)
def get_limit(client: "Client", name: Name, user: User = None) -> Any:
    """Show a limit and the tasks that wait for it."""
    return client.limit(name, user_id=user)


@limits.command("set")
@asks(show.limit_set)
def set_limit(
    client: "Client",
    name: Name,
    limit: Annotated[
        str, typer.Argument(metavar="LIMIT", help="The limit as JSON, such as '{\"requests_per_second\": 10}'.")
    ],
    user: User = None,
) -> Any:
    """Set a limit, or replace one: administrators for all users, others for their own tasks. With {"at_once": 0}, nothing starts."""
    try:
        given = json.loads(limit)
    except ValueError as error:
        refuse(f"The limit is not JSON: {error}.")
    return client.set_limit(name, given, user_id=user)


@limits.command("delete")
@asks(show.limit_deleted)
def delete_limit(client: "Client", name: Name, user: User = None) -> Any:
    """Delete a limit that was set. One of the configuration with its name applies again."""
    return client.delete_limit(name, user_id=user)


@asks(show.pause)
def pause(client: "Client", kind: WhichKind, name: Paused, user: Owner = None) -> Any:
    """Let no task of a flow, executor, provider or user start until it is resumed. Tasks at work continue."""
    match kind:
        case Kind.FLOW:
            return client.pause_flow(name, user_id=user)
        case Kind.EXECUTOR:
            return client.pause_executor(name)
        case Kind.PROVIDER:
            return client.pause_provider(name)
        case Kind.USER:
            return client.pause_user(name)


@asks(show.pause)
def resume(client: "Client", kind: WhichKind, name: Paused, user: Owner = None) -> Any:
    """Let the tasks start that wait because of a pause, in their order."""
    match kind:
        case Kind.FLOW:
            return client.resume_flow(name, user_id=user)
        case Kind.EXECUTOR:
            return client.resume_executor(name)
        case Kind.PROVIDER:
            return client.resume_provider(name)
        case Kind.USER:
            return client.resume_user(name)
