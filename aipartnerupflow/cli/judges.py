"""`aipartnerupflow judges …`: what scores a share of the runs of a flow after they have ended."""

from typing import TYPE_CHECKING, Annotated

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.files import read_object
from aipartnerupflow.cli.flows import User
from aipartnerupflow.cli.options import asks
from aipartnerupflow.cli.output import clean, note, put, table

if TYPE_CHECKING:
    from aipartnerupflow.client import Client
    from aipartnerupflow.client.types import Judge, JudgeDeleted, Judges

judges = typer.Typer(no_args_is_help=True, help="Let judges score a share of the runs of a flow.")

Flow = Annotated[str, typer.Argument(metavar="FLOW", help="Name of the flow.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the judge, and of its scores.")]


def show_judge(answer: "Judge") -> None:
    alert = "" if answer["below"] is None else f" You are informed below {answer['below']:g}."
    note(
        f"{clean(answer['name'])} scores {answer['sample']:g} % of the runs of {clean(answer['flow'])} that complete from now on.{alert}"
    )


def show_judges(answer: "Judges") -> None:
    made = table("NAME", "SAMPLE", "JUDGED", "NOT SCORED", "OVER BUDGET", "MEAN", "SPENT TODAY", "ALERT")
    for each in answer["judges"]:
        counts = (f"{each[name]:,}" for name in ("judged", "not_scored", "over_budget"))
        mean = "–" if each["mean"] is None else f"{each['mean']:.3g}"
        most = "" if each["cost_usd_per_day"] is None else f" of {each['cost_usd_per_day']:g}"
        alert = "" if each["below"] is None else f"{'is ' if each['alert'] else ''}below {each['below']:g}"
        made.add_row(
            clean(each["name"]),
            f"{each['sample']:g} %",
            *counts,
            mean,
            f"{each['spent_today_usd']:.4g}{most} USD",
            alert,
        )
    put(made)
    for each in answer["judges"]:
        if each["problem"]:
            note(f"{clean(each['name'])}: {clean(each['problem'])}")
    if not answer["judges"]:
        note("The flow has no judges.")


def show_deleted(answer: "JudgeDeleted") -> None:
    note(f"{'Deleted the judge' if answer['deleted'] else 'There was no judge'} {clean(answer['name'])}.")


@judges.command("set")
@asks(show_judge)
def set_judge(
    client: "Client",
    flow: Flow,
    name: Name,
    evaluator: Annotated[
        str,
        typer.Argument(
            metavar="EVALUATOR", help='The evaluator as JSON, such as \'{"expression": "length(result.text)"}\'.'
        ),
    ],
    sample: Annotated[float, typer.Option(metavar="PERCENT", help="Share of the completed runs, up to 100.")],
    cost: Annotated[
        float | None, typer.Option("--cost", metavar="USD", help="Most that it may spend on a day in UTC.")
    ] = None,
    below: Annotated[float | None, typer.Option(help="Send a message when the mean falls below this.")] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, help="The mean covers this many of the newest scores (50).")
    ] = None,
    user: User = None,
) -> "Judge":
    """Let an evaluator score a share of the runs that complete from now on, or replace the judge with this name."""
    given = read_object("EVALUATOR", evaluator) or {}
    return client.set_judge(
        flow, name, given, sample=sample, cost_usd_per_day=cost, below=below, runs=runs, user_id=user
    )


@judges.command("list")
@asks(show_judges, piped=lambda answer: output.as_lines(answer["judges"]))
def list_judges(client: "Client", flow: Flow, user: User = None) -> "Judges":
    """List the judges of a flow with what they have found."""
    return client.judges(flow, user_id=user)


@judges.command("delete")
@asks(show_deleted)
def delete(client: "Client", flow: Flow, name: Name, user: User = None) -> "JudgeDeleted":
    """Delete a judge of a flow. Its scores stay."""
    return client.delete_judge(flow, name, user_id=user)
