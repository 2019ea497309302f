"""A terminal for a command: it writes as for a person, and a test sees what the person would."""

import os
import pty
import re
import select
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tests.fork_server import fork_server_for

SIZE: Final = {"COLUMNS": "120", "LINES": "30", "TERM": "xterm"}
PATIENCE_SECONDS: Final = 120.0
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


def at_the_keyboard(*words: str, env: Mapping[str, str], answers: Mapping[str, str]) -> Screen:
    """Run `aipartnerupflow` with the words on a terminal of 80 columns: when a text stands there, its answer is typed."""
    leader, follower = pty.openpty()
    with tempfile.TemporaryFile("w+") as errors:
        size = SIZE | {"COLUMNS": "80"}
        process = fork_server_for(env).start(words, env={**env, **size}, streams=(follower, follower, errors))
        os.close(follower)
        seen = b""
        for text, answer in answers.items():
            start, deadline = len(seen), time.monotonic() + PATIENCE_SECONDS
            while text not in ESCAPES.sub("", seen[start:].decode(errors="replace")):
                is_there = select.select([leader], [], [], PATIENCE_SECONDS)[0] and time.monotonic() < deadline
                assert is_there, f"{text!r} is not in {seen.decode()[-2000:]}"
                seen += os.read(leader, 65536)
            os.write(leader, f"{answer}\n".encode())
        drawn = seen.decode() + _rest(leader)
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
