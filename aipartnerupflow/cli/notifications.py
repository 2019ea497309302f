"""`aipartnerupflow notifications …` and `webhooks …`: messages about runs, and the URLs that receive their events."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.options import ExitCode, asks
from aipartnerupflow.cli.output import clean, note, put, table
from aipartnerupflow.program import command as command_line

if TYPE_CHECKING:
    from aipartnerupflow.client import Client
    from aipartnerupflow.client.types import (
        Notification,
        NotificationDeleted,
        Notifications,
        NotificationTested,
        RunWebhooks,
        WebhookDeleted,
    )

notifications = typer.Typer(no_args_is_help=True, help="Manage messages about runs that fail and questions.")


class About(StrEnum):
    FAILURES = "failures"
    QUESTIONS = "questions"


Name = Annotated[str, typer.Argument(help="Name of the notification.")]


def show_stored(answer: "Notification") -> None:
    run = f"a run of the flow {clean(answer['flow'])}" if answer["flow"] else "a run"
    events = {"failures": f"{run} fails", "questions": f"a task of {run} asks a question"}
    note(
        f"Stored. When {' or '.join(events[each] for each in answer['about'])}, a message goes to {clean(answer['url'] or answer['email'] or '')}."
    )
    if "signing_key" in answer:
        note(f"Requests are signed with this key, which is not shown again: {answer['signing_key']}")


def show_all(answer: "Notifications") -> None:
    rows = table("NAME", "ABOUT", "FLOW", "TO")
    for each in answer["notifications"]:
        of, to = each["flow"] or "all runs", each["url"] or each["email"] or ""
        rows.add_row(clean(each["name"]), ", ".join(each["about"]), clean(of), clean(to))
    put(rows)
    if not answer["notifications"]:
        note(
            f"No notifications yet. Store one: {command_line('notifications', 'set', 'on-call', '--to', 'ops@example.com')}"
        )


def show_tested(answer: "NotificationTested") -> None:
    if answer["delivered"]:
        note(f"The test message of {clean(answer['name'])} was delivered.")
    else:
        note(f"The test message of {clean(answer['name'])} was not delivered. {clean(answer['error'] or '')}")


def show_deleted(answer: "NotificationDeleted") -> None:
    note(f"{'Deleted' if answer['deleted'] else 'There was no notification'} {clean(answer['name'])}.")


@notifications.command("set")
@asks(show_stored)
def set_notification(
    client: "Client",
    name: Name,
    to: Annotated[str, typer.Option(help="A URL, which gets a signed request, or an e-mail address.")],
    flow: Annotated[str | None, typer.Option(help="Only runs of this flow. Default: all your runs.")] = None,
    about: Annotated[
        list[About] | None, typer.Option(help="The subject of messages; repeat it for both. Default: failures.")
    ] = None,
    slack: Annotated[bool, typer.Option("--slack", help="The URL is an incoming webhook of Slack.")] = False,
) -> Any:
    """Store (or replace) a notification: a message when a run fails or a task asks a question."""
    url, email = (to, None) if "://" in to else (None, to)
    return client.set_notification(
        name,
        url=url,
        email=email,
        flow=flow,
        about=[each.value for each in about] if about else None,
        format="slack" if slack else None,
    )


@notifications.command("list")
@asks(show_all, piped=lambda answer: output.as_lines(answer["notifications"]))
def list_notifications(client: "Client") -> Any:
    """List your notifications."""
    return client.notifications()


@notifications.command("test")
@asks(show_tested, exit_code=lambda answer: ExitCode.OK if answer["delivered"] else ExitCode.FAILED)
def test_notification(client: "Client", name: Name) -> Any:
    """Send a test message now, and say whether it was delivered."""
    return client.test_notification(name)


@notifications.command("delete")
@asks(show_deleted)
def delete_notification(client: "Client", name: Name) -> Any:
    """Delete a notification."""
    return client.delete_notification(name)


webhooks = typer.Typer(no_args_is_help=True, help="List and delete the webhooks of a run.")


def show_webhooks(answer: "RunWebhooks") -> None:
    rows = table("ID", "KIND", "URL", "STATE", "LAST EVENT")
    for each in answer["webhooks"]:
        rows.add_row(each["id"], each["kind"], clean(each["url"]), each["state"], str(each["last_seq"]))
    put(rows)
    if not answer["webhooks"]:
        note("The run has no webhooks. docs/how-to/webhooks.md shows how to add one.")


def show_webhook_deleted(answer: "WebhookDeleted") -> None:
    note(f"{'Deleted' if answer['deleted'] else 'There was no webhook'} {clean(answer['webhook_id'])}.")


@webhooks.command("list")
@asks(show_webhooks, piped=lambda answer: output.as_lines(answer["webhooks"]))
def list_webhooks(client: "Client", run_id: Annotated[str, typer.Argument(help="Id of the run.")]) -> Any:
    """List the webhooks of a run."""
    return client.webhooks(run_id)


@webhooks.command("delete")
@asks(show_webhook_deleted)
def delete_webhook(client: "Client", webhook_id: Annotated[str, typer.Argument(help="Id of the webhook.")]) -> Any:
    """Delete a webhook: nothing more is sent to it."""
    return client.delete_webhook(webhook_id)
