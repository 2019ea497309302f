"""`aipartnerupflow questions …`: what waits for an answer."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import asks

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
