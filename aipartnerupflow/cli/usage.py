"""`aipartnerupflow usage`: what the model calls of a server used."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.options import asks
from aipartnerupflow.cli.output import clean, note, put, table
from aipartnerupflow.costs import price

if TYPE_CHECKING:
    from aipartnerupflow.client import Client
    from aipartnerupflow.client.types import Usage, UsageRow

NAMELESS: Final = {"flow": "no flow"}
"""Group → the text for null; in other groups it is 'unknown'."""


class Group(StrEnum):
    """The groups that rows may sum up."""

    DAY = "day"
    MODEL = "model"
    EXECUTOR = "executor"
    FLOW = "flow"
    USER = "user"


def show_usage(answer: "Usage") -> None:
    """Print a table of the rows, and their total."""
    made = table(*(name.upper() for name in answer["by"]), "CALLS", "PROMPT", "COMPLETION", "TOKENS", "COST")
    for row in answer["rows"]:
        named = (row.get(name) or NAMELESS.get(name, "unknown") for name in answer["by"])
        made.add_row(*(clean(str(each)) for each in named), *_numbers(row))
    if answer["rows"] or not answer["by"]:
        made.add_row(*(["total", *[""] * (len(answer["by"]) - 1)] if answer["by"] else []), *_numbers(answer["total"]))
        put(made)
    else:
        note(f"No model was called from {answer['since']} to {answer['until']}.")
    if limits := answer["today"]:
        note(f"Today: spent {', '.join(clean(limit['text']) for limit in limits)}.")
    if unpriced := answer["total"]["unpriced_calls"]:
        note(f"The cost leaves out {unpriced:,} calls whose price is unknown.")


def _numbers(row: "UsageRow") -> tuple[str, ...]:
    counts = (row["calls"], row["prompt_tokens"], row["completion_tokens"], row["total_tokens"])
    cost = row["cost_usd"]
    return *(f"{count:,}" for count in counts), "unknown" if cost is None else price(cost)


@asks(show_usage, piped=lambda answer: output.as_lines(answer["rows"]))
def usage(
    client: "Client",
    since: Annotated[
        str | None, typer.Option(help="First day, in UTC, such as 2026-11-01 (default: 29 days before the last).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Last day (default: today).")] = None,
    by: Annotated[
        list[Group] | None, typer.Option(help="Group the sums by this; may be repeated (default: day).")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    executor: Annotated[str | None, typer.Option(help="Only this executor.")] = None,
    flow: Annotated[str | None, typer.Option(help="Only this flow.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user. Administrators only.")] = None,
) -> Any:
    """Show the tokens and the cost of model calls."""
    groups: Any = [each.value for each in by] if by else None
    return client.usage(since=since, until=until, by=groups, model=model, executor=executor, flow=flow, user_id=user)
