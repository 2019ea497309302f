"""The command line of this program in messages, so that users can copy it."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from shutil import which
from typing import Final

NAME: Final = "aipartnerupflow"
_flags: list[str] = []  # a process runs one command, whose threads print, too


def command(*words: str) -> str:
    """Return the command line with these words, quoted for a shell, and with the flags of `with_flags`."""
    return " ".join([program(), *map(shlex.quote, (*words, *_flags))])


@contextmanager
def with_flags(*flags: str) -> Iterator[None]:
    """Within the block, give these flags to every command line: a copied one then calls the same server."""
    before, _flags[:] = [*_flags], flags
    try:
        yield
    finally:
        _flags[:] = before


@cache
def program() -> str:
    """Return the name of the program, with its path if a shell would not find it: `.venv/bin/aipartnerupflow`."""
    script = Path(sys.executable).with_name(NAME)
    return shlex.quote(NAME if which(NAME) or not script.exists() else from_here(script))


def from_here(path: Path) -> str:
    """Return the path as a command in the current folder takes it: relative, if it is below the folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
