"""`aipartnerupflow webhooks …`: the URLs that receive the events of a run."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.options import asks
from aipartnerupflow.cli.output import clean, note, put, table

if TYPE_CHECKING:
    from aipartnerupflow.client import Client
    from aipartnerupflow.client.types import RunWebhooks, WebhookDeleted

webhooks = typer.Typer(no_args_is_help=True, help="List and delete the webhooks of a run.")


def show_all(answer: "RunWebhooks") -> None:
    rows = table("ID", "KIND", "URL", "STATE", "LAST EVENT")
    for each in answer["webhooks"]:
        rows.add_row(each["id"], each["kind"], clean(each["url"]), each["state"], str(each["last_seq"]))
    put(rows)
    if not answer["webhooks"]:
        note("The run has no webhooks. docs/how-to/webhooks.md shows how to add one.")


def show_deleted(answer: "WebhookDeleted") -> None:
    note(f"{'Deleted' if answer['deleted'] else 'There was no webhook'} {clean(answer['webhook_id'])}.")


@webhooks.command("list")
@asks(show_all, piped=lambda answer: output.as_lines(answer["webhooks"]))
def list_webhooks(client: "Client", run_id: Annotated[str, typer.Argument(help="Id of the run.")]) -> Any:
    """List the webhooks of a run."""
    return client.webhooks(run_id)


@webhooks.command("delete")
@asks(show_deleted)
def delete_webhook(client: "Client", webhook_id: Annotated[str, typer.Argument(help="Id of the webhook.")]) -> Any:
    """Delete a webhook: nothing more is sent to it."""
    return client.delete_webhook(webhook_id)
