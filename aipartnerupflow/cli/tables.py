"""Tables on a terminal. Ids are never shortened; other long columns wrap."""

from collections.abc import Collection
from typing import Final

from rich.cells import cell_len
from rich.table import Column, Table

from aipartnerupflow.cli.output import out

GAP: Final = 2
NARROWEST: Final = 10
"""The least width of a wrapped column, in characters: that of a date."""


def table(*headings: str, folded: Collection[str] = ()) -> Table:
    """Return an empty table with these headings.

    Columns in `folded` wrap; the others are cut with an ellipsis.
    """
    made = Table(box=None, padding=(0, GAP, 0, 0), header_style="bright_black")
    for heading in headings:
        is_folded = heading in folded
        made.add_column(heading, no_wrap=not is_folded, overflow="fold" if is_folded else "ellipsis")
    return made


def put(made: Table) -> None:
    """Print the table.

    If the terminal is narrower than the columns need, the terminal wraps the lines.
    """
    console = out()
    console.width = max(console.width, sum(_least(column) + GAP for column in made.columns))
    console.print(made, crop=False)


def _least(column: Column) -> int:
    """Return the least width of the column, in characters."""
    widest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    return min(widest, column.max_width or widest) if column.no_wrap else min(widest, NARROWEST)
