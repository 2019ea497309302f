"""Tables on a terminal in which an id is always whole: what is long beside it goes on in the next line."""

from collections.abc import Collection
from typing import Final

from rich.cells import cell_len
from rich.table import Column, Table

from aipartnerupflow.cli.output import out

GAP: Final = 2
NARROWEST: Final = 10
"""Columns of a terminal that a folded column keeps: a date."""


def table(*headings: str, folded: Collection[str] = ()) -> Table:
    """Of these headings, those that may go on in the next line are `folded`."""
    made = Table(box=None, padding=(0, GAP, 0, 0), header_style="bright_black")
    for heading in headings:
        is_folded = heading in folded
        made.add_column(heading, no_wrap=not is_folded, overflow="fold" if is_folded else "ellipsis")
    return made


def put(made: Table) -> None:
    """Print it. Where the terminal is too narrow even so, it breaks the lines itself, and nothing is cut."""
    console = out()
    console.width = max(console.width, sum(_least(column) + GAP for column in made.columns))
    console.print(made, crop=False)


def _least(column: Column) -> int:
    """The width that the column needs."""
    widest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    return min(widest, column.max_width or widest) if column.no_wrap else min(widest, NARROWEST)
