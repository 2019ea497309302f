"""`aipartnerupflow cache …`: the results that equal tasks take."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import show
from aipartnerupflow.cli.options import asks

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

cache = typer.Typer(no_args_is_help=True, help="Show and clear the cache of results.")


@cache.command("list")
@asks(show.cached)
def list_cache(client: "Client") -> Any:
    """Count your results in the cache by executor; for administrators those of all users."""
    return client.cached()


@cache.command("clear")
@asks(show.cache_cleared)
def clear_cache(
    client: "Client",
    executor: Annotated[str | None, typer.Option(help="Only results of its tasks.")] = None,
    flow: Annotated[str | None, typer.Option(help="Only results of runs of this flow.")] = None,
) -> Any:
    """Remove your results from the cache; administrators remove those of all users."""
    return client.clear_cache(executor=executor, flow=flow)
