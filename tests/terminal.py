"""A terminal for a command: it writes as for a person, and a test sees what the person would."""

import os
import pty
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tests.fork_server import fork_server_for

SIZE: Final = {"COLUMNS": "120", "LINES": "30", "TERM": "xterm"}
ERASE_LINE: Final = "\x1b[2K"
"""What comes last before something is drawn again, for each line of what stood there."""
ESCAPES: Final = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What a command wrote to a terminal, with colours and moves of the cursor, and what beside it, to standard error."""

    code: int
    drawn: str
    err: str

    @property
    def out(self) -> str:
        """The text alone: what was drawn several times stands there several times."""
        return ESCAPES.sub("", self.drawn)

    @property
    def at_the_end(self) -> str:
        """The text that stands there when the command has ended: what was drawn several times, as it was the last time."""
        return ESCAPES.sub("", self.drawn.rpartition(ERASE_LINE)[2])


def on_a_terminal(*words: str, env: Mapping[str, str], given: str = "") -> Screen:
    """Run `aipartnerupflow` with the words to its end, with its standard output on a terminal of 120 columns."""
    leader, follower = pty.openpty()
    with tempfile.TemporaryFile("w+") as typed, tempfile.TemporaryFile("w+") as errors:
        typed.write(given)
        typed.seek(0)
        process = fork_server_for(env).start(words, env={**env, **SIZE}, streams=(typed, follower, errors))
        os.close(follower)
        drawn = _rest(leader)
        code = process.wait()
        errors.seek(0)
        return Screen(code=code, drawn=drawn.replace("\r\n", "\n"), err=errors.read())


def _rest(leader: int) -> str:
    """Up to the end of the last process on the terminal, which Linux tells by an error."""
    seen = b""
    with suppress(OSError), open(leader, "rb", buffering=0) as terminal:
        while some := terminal.read(65536):
            seen += some
    return seen.decode()
