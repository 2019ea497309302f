"""Output of all commands: text on a terminal, NDJSON in a pipe or file, errors on standard error.

With `--json`, every command prints one JSON document instead. Rich decides whether the output is a
terminal; FORCE_COLOR, TTY_COMPATIBLE, TTY_INTERACTIVE and NO_COLOR override it. Text from a server
is cleaned of control characters before it is printed: its author may be another user.
"""

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

import orjson
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

READER_GONE: Final = 141
"""The exit code after a closed pipe, by the convention of shells: 128 plus the number of SIGPIPE.
"""
NOT_WRITTEN: Final = os.EX_IOERR
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Output(Console):
    """Standard output.

    If the reader closes the pipe, as `head` does, the command ends without an error message.
    """

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> NoReturn:
        """End the command quietly. Raises SystemExit with code 141."""
        self.end(READER_GONE)

    def end(self, code: int) -> NoReturn:
        """Discard what is still buffered. Raises SystemExit with the code."""
        with suppress(SystemExit):  # rich exits with code 1
            super().on_broken_pipe()
        raise SystemExit(code)


def out() -> Output:
    return Output()


@contextmanager
def room_to_write() -> Iterator[None]:
    """Turn the error of a full disk or an exceeded quota into a message.

    Raises SystemExit with code 74.
    """
    try:
        yield
    except OSError as failed:
        if failed.errno not in NO_ROOM:
            raise
        error(f"Cannot write the output: {failed.strerror}. Free some space, or write to another disk.")
        out().end(NOT_WRITTEN)


def is_for_people(*, as_json: bool) -> bool:
    return not as_json and out().is_terminal


def as_document(value: Any) -> None:
    """Print one indented JSON document."""
    _write(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def as_lines(value: Any) -> None:
    """Print NDJSON: the items of a list on a line each, any other value on one line."""
    values = value if isinstance(value, list) else [value]
    if values:
        _write(b"\n".join(map(orjson.dumps, values)))


def answer(value: Any, *, shown: Callable[[Any], None], as_json: bool, piped: Callable[[Any], None] = as_lines) -> None:
    """Print a reply: one JSON document with --json, else `shown` on a terminal or `piped`."""
    if as_json:
        as_document(value)
    elif out().is_terminal:
        shown(value)
    else:
        piped(value)


def _write(data: bytes) -> None:
    text = data.decode()
    try:
        print(escaped(text) if out().is_terminal else text, flush=True)
    except BrokenPipeError:
        out().on_broken_pipe()


def line(text: str, *, style: str = "") -> None:
    out().print(clean_lines(text), style=style, soft_wrap=True)


def error(*lines: str) -> None:
    _beside(lines, style="red")


def warn(messages: Iterable[str]) -> None:
    _beside((f"Warning: {message}" for message in messages), style="yellow")


def note(*lines: str) -> None:
    _beside(lines, style="")


def _beside(lines: Iterable[str], *, style: str) -> None:
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    for line in lines:
        console.print(clean_lines(line), style=style)


def escaped(json: str) -> str:
    """Return the JSON with unprintable characters of its strings escaped.

    JSON itself allows C1 controls and those that change the direction of text, which terminals obey.
    """
    found = []
    for char in json:
        units = "" if char.isprintable() or char == "\n" else char.encode("utf-16-be").hex()
        found.append("".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4)) or char)
    return "".join(found)


def clean(text: str) -> str:
    """Replace unprintable characters by spaces: line breaks and terminal escape sequences too."""
    return "".join(char if char.isprintable() else " " for char in text)


def clean_lines(text: str) -> str:
    return "\n".join(map(clean, text.split("\n")))


GAP: Final = 2
NARROWEST: Final = 20
"""The least width of a wrapped column, in characters."""


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

    If the terminal is too narrow, empty columns are left out. If that is not enough, each row becomes a record: the
    first cell, and indented below it the others behind their headings. Without headings, the terminal wraps the lines.
    """
    console = out()
    least = least_width(made)
    if least > console.width and any(column.header for column in made.columns):
        made.columns = [column for column in made.columns if not column.header or any(map(str, column.cells))]
        least = least_width(made)
        if least > console.width:
            _put_records(made, console)
            return
    console.width = max(console.width, least)
    console.print(made, crop=False)


def least_width(made: Table) -> int:
    """Return the width that the columns need, in characters."""
    least = 0
    for column in made.columns:
        widest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        if not column.no_wrap:
            widest = min(widest, NARROWEST)
        least += GAP + min(widest, column.max_width or widest)
    return least


def _put_records(made: Table, console: Console) -> None:
    for cells in zip(*(column.cells for column in made.columns), strict=True):
        named = [(str(column.header).lower(), cell) for column, cell in zip(made.columns, cells, strict=True)]
        (_, first), *others = [pair for pair in named if pair[0]]
        console.print(*(cell for heading, cell in named if not heading), first, soft_wrap=True)
        lines = [Text()]
        for heading, cell in others:
            if not str(cell):
                continue
            text = Text.assemble((f"{heading} ", "bright_black"), cell)
            if lines[-1] and GAP + lines[-1].cell_len + GAP + text.cell_len > console.width:
                lines.append(Text())
            lines[-1].append(" " * GAP if lines[-1] else "").append_text(text)
        for line in lines:  # an id is never cut
            is_wide = any(cell_len(word) > console.width - GAP for word in line.plain.split())
            console.print(Padding(line, (0, 0, 0, GAP)) if not is_wide else Text(" " * GAP) + line, soft_wrap=is_wide)
