"""`aipartnerupflow generate`: a language model writes a tree of tasks."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import show
from aipartnerupflow.cli.options import asks

if TYPE_CHECKING:
    from aipartnerupflow.client import Client


@asks(show.generated, piped=show.generated)
def generate(
    client: "Client",
    requirement: Annotated[str, typer.Argument(metavar="TEXT", help="The task of the tree, in plain words.")],
    save: Annotated[bool, typer.Option("--save", help="Also store the tree, ready to run.")] = False,
    run: Annotated[bool, typer.Option("--run", help="Also store the tree, and run it.")] = False,
    model: Annotated[str | None, typer.Option(help="Language model to use (default: llm.default_model).")] = None,
) -> Any:
    """Generate a tree of tasks with a language model.

    Prints the JSON file that `run` accepts.
    """
    return client.generate(requirement, model=model, save=save, run=run)
