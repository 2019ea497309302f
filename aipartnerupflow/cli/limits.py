"""`aipartnerupflow limits …`: the named limits that all workers of a server share."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import asks, refuse

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

limits = typer.Typer(no_args_is_help=True, help="Show and change the named limits that all workers share.")

Name = Annotated[str, typer.Argument(help="Name of the limit, such as crm.")]


@limits.command("list")
@asks(show.limits, piped=lambda answer: output.as_lines(answer["limits"]))
def list_limits(client: "Client") -> Any:
    """List the limits, and how many tasks wait for each since when."""
    return client.limits()


@limits.command("get")
@asks(show.limit)
def get_limit(client: "Client", name: Name) -> Any:
    """Show a limit and the tasks that wait for it."""
    return client.limit(name)


@limits.command("set")
@asks(show.limit_set)
def set_limit(
    client: "Client",
    name: Name,
    limit: Annotated[
        str, typer.Argument(metavar="LIMIT", help="The limit as JSON, such as '{\"requests_per_second\": 10}'.")
    ],
) -> Any:
    """Set a limit, or replace one. Administrators only. With {"at_once": 0}, nothing that it matches starts."""
    try:
        given = json.loads(limit)
    except ValueError as error:
        refuse(f"The limit is not JSON: {error}.")
    return client.set_limit(name, given)


@limits.command("delete")
@asks(show.limit_deleted)
def delete_limit(client: "Client", name: Name) -> Any:
    """Delete a limit that was set. One of the configuration with its name applies again. Administrators only."""
    return client.delete_limit(name)
