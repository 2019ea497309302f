"""`aipartnerupflow generate`: a model writes a tree of tasks."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import show
from aipartnerupflow.cli.options import asks

if TYPE_CHECKING:
    from aipartnerupflow.client import Client


@asks(show.generated, piped=show.generated)
def generate(
    client: "Client",
    requirement: Annotated[str, typer.Argument(metavar="TEXT", help="What is to be done, in plain words.")],
    save: Annotated[bool, typer.Option("--save", help="Store the tree, ready to run.")] = False,
    model: Annotated[str | None, typer.Option(help="The model that writes it (llm.default_model).")] = None,
) -> Any:
    """Let a language model write a tree of tasks. It is printed as a file for `run`, and never run by itself."""
    return client.generate(requirement, model=model, save=save)
