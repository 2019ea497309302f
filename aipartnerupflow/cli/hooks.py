"""`aipartnerupflow hooks …`: addresses at which other services start flows, send events and answer questions."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.files import read_object
from aipartnerupflow.cli.options import ExitCode, asks
from aipartnerupflow.cli.output import clean, line, note, put, table
from aipartnerupflow.program import command as command_line

if TYPE_CHECKING:
    from aipartnerupflow.client import Client
    from aipartnerupflow.client.types import HookDeleted, HookDeliveries, HookDelivery, InboundHook, InboundHooks

hooks = typer.Typer(
    no_args_is_help=True, help="Manage inbound hooks: addresses at which other services start flows and send events."
)


class Verifier(StrEnum):
    GITHUB = "github"
    STRIPE = "stripe"
    SLACK = "slack"
    STANDARD = "standard"
    HMAC = "hmac"


Name = Annotated[str, typer.Argument(help="Name of the hook.")]


def show_hook(answer: "InboundHook") -> None:
    line(answer["url"])
    note(f"Signed requests of {answer['verifier']} to this address {clean(_deed(answer))}.")


def show_all(answer: "InboundHooks") -> None:
    rows = table("NAME", "VERIFIER", "DOES", "URL")
    for each in answer["hooks"]:
        rows.add_row(clean(each["name"]), each["verifier"], clean(_deed(each)), each["url"])
    put(rows)
    if not answer["hooks"]:
        example = command_line(
            "hooks", "set", "github", "--verifier", "github", "--secret", "github_hook", "--flow", "triage"
        )
        note(f"No inbound hooks yet. Set one: {example}")


def show_deliveries(answer: "HookDeliveries") -> None:
    rows = table("DELIVERY", "RECEIVED", "OUTCOME", "RUN OR REASON", "ID OF THE SENDER")
    for each in answer["deliveries"]:
        led_to = each["run_id"] or each["reason"] or each["task_id"] or each["event_id"] or ""
        rows.add_row(
            str(each["delivery"]), each["received_at"], each["outcome"], clean(led_to), clean(each["delivery_id"])
        )
    put(rows)
    if not answer["deliveries"]:
        note("Nothing has been delivered with a valid signature.")


def show_replayed(answer: "HookDelivery") -> None:
    note(f"Delivery {answer['delivery']}: {answer['outcome']}. {clean(answer['reason'] or answer['run_id'] or '')}")


def show_deleted(answer: "HookDeleted") -> None:
    note(f"{'Deleted' if answer['deleted'] else 'There was no hook'} {clean(answer['name'])}.")


@hooks.command("set")
@asks(show_hook, piped=lambda answer: line(answer["url"]))
def set_hook(
    client: "Client",
    name: Name,
    verifier: Annotated[
        Verifier, typer.Option(help="Who signs the requests: github, stripe, slack, standard or hmac.")
    ],
    secret: Annotated[list[str], typer.Option(help="Name of the stored secret; repeat it while you replace one.")],
    flow: Annotated[str | None, typer.Option(help="The flow that a delivery starts.")] = None,
    inputs: Annotated[
        str | None, typer.Option(metavar="JSON", help='Its inputs, such as \'{"title": "{{body.issue.title}}"}\'.')
    ] = None,
    event: Annotated[
        str | None, typer.Option(help="The event that a delivery sends to tasks that wait for it.")
    ] = None,
    payload: Annotated[str | None, typer.Option(metavar="JSON", help="Its payload. Default: the body.")] = None,
    answers: Annotated[
        bool, typer.Option("--answers", help="Buttons that are pressed in Slack answer questions.")
    ] = False,
    condition: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="JSON",
            help='A condition, such as \'{"path": "/body/action", "op": "eq", "value": "opened"}\'.',
        ),
    ] = None,
    hmac: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='The scheme of the sender, such as \'{"header": "X-Signature"}\'.'),
    ] = None,
    tolerance: Annotated[
        int | None, typer.Option(help="Seconds that the time of a signature may differ (300).")
    ] = None,
) -> Any:
    """Set (or replace) an inbound hook, and print its address."""
    return client.set_hook(
        name,
        verifier=verifier.value,
        secrets=secret,
        flow=flow,
        inputs=read_object("--inputs", inputs),
        event=event,
        payload=read_object("--payload", payload),
        answers=answers or None,
        filter=read_object("--filter", condition),
        hmac=read_object("--hmac", hmac),
        tolerance_seconds=tolerance,
    )


@hooks.command("list")
@asks(show_all, piped=lambda answer: output.as_lines(answer["hooks"]))
def list_hooks(client: "Client") -> Any:
    """List your inbound hooks with their addresses."""
    return client.hooks()


@hooks.command("get")
@asks(show_hook, piped=lambda answer: line(answer["url"]))
def get_hook(client: "Client", name: Name) -> Any:
    """Print the address of an inbound hook."""
    return client.hook(name)


@hooks.command("deliveries")
@asks(show_deliveries, piped=lambda answer: output.as_lines(answer["deliveries"]))
def list_deliveries(
    client: "Client",
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of deliveries to list.")] = 100,
    before: Annotated[int | None, typer.Option(help="List those before this delivery.")] = None,
    body: Annotated[bool, typer.Option("--body", help="Also return headers and bodies, with --json.")] = False,
) -> Any:
    """List what was delivered to an inbound hook, and what each delivery led to."""
    return client.hook_deliveries(name, limit=limit, before=before, with_body=body)


@hooks.command("replay")
@asks(show_replayed, exit_code=lambda answer: ExitCode.FAILED if answer["outcome"] == "failed" else ExitCode.OK)
def replay(
    client: "Client", name: Name, delivery: Annotated[int, typer.Argument(help="Number of the delivery.")]
) -> Any:
    """Do again what a delivery did, with the hook as it is now."""
    return client.replay_delivery(name, delivery)


@hooks.command("delete")
@asks(show_deleted)
def delete_hook(client: "Client", name: Name) -> Any:
    """Delete an inbound hook with its deliveries."""
    return client.delete_hook(name)


def _deed(hook: "InboundHook") -> str:
    if hook["flow"] is not None:
        return f"start {hook['flow']}"
    return "answer questions" if hook["answers"] else f"send {hook['event']}"
