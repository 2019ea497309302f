"""Where commands write, and in which form: text for people at a terminal, JSON for programs, errors beside it on standard error.

The one home of that choice. `--json` gives everybody one document. Without it a terminal gets text, and a pipe or a file NDJSON: an
object on each line. What counts as a terminal rich decides, by FORCE_COLOR, TTY_COMPATIBLE, TTY_INTERACTIVE and NO_COLOR too.
What is written may be from others, so nothing of it reaches a terminal that it would obey.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

import orjson
from rich.console import Console

READER_GONE: Final = 141
"""The exit code when nobody reads on, as shells count it: 128 and the number of SIGPIPE."""
NOT_WRITTEN: Final = os.EX_IOERR
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Output(Console):
    """Standard output. A reader who has seen enough, as `head` has, ends the command without a word."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> NoReturn:
        """Raises SystemExit."""
        self.end(READER_GONE)

    def end(self, code: int) -> NoReturn:
        """What is left to write goes nowhere. Raises SystemExit with the code."""
        with suppress(SystemExit):  # of code 1
            super().on_broken_pipe()
        raise SystemExit(code)


def out() -> Output:
    return Output()


@contextmanager
def room_to_write() -> Iterator[None]:
    """A disk that is full ends the command with a sentence. Raises SystemExit."""
    try:
        yield
    except OSError as failed:
        if failed.errno not in NO_ROOM:
            raise
        error(f"What this command says cannot be written: {failed.strerror}. Make room, or write elsewhere.")
        out().end(NOT_WRITTEN)


def is_for_people(*, as_json: bool) -> bool:
    return not as_json and out().is_terminal


def as_document(value: Any) -> None:
    """One JSON document, indented."""
    _write(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def as_lines(value: Any) -> None:
    """NDJSON: what is in a list, one a line; anything else on one line."""
    values = value if isinstance(value, list) else [value]
    if values:
        _write(b"\n".join(map(orjson.dumps, values)))


def answer(value: Any, *, shown: Callable[[Any], None], as_json: bool, piped: Callable[[Any], None] = as_lines) -> None:
    """As it is `shown` to people, `piped` to programs, or as the one document of --json."""
    if as_json:
        as_document(value)
    elif out().is_terminal:
        shown(value)
    else:
        piped(value)


def _write(data: bytes) -> None:
    try:
        print(data.decode(), flush=True)
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


def clean(text: str) -> str:
    """The text on one line, without what moves a cursor or changes a colour."""
    return "".join(char if char.isprintable() else " " for char in text)


def clean_lines(text: str) -> str:
    return "\n".join(map(clean, text.split("\n")))
