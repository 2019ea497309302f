"""A user's shell: our commands are installed, and what is typed runs in a folder of its own."""

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import BinaryIO, Final

import pytest

from tests.fork_server import DATABASE, FORKS, fork_server, fork_server_for
from tests.ports import free_port
from tests.servers import ALL_READY, ROOT, Server, environment_of, running

COMMANDS: Final = {
    "curl": f'exec {sys.executable} -m tests.acceptance.curl "$@"',
    "aipartnerupflow": f"""\
if [ "${FORKS}" ]; then exec {sys.executable} -I -S {ROOT}/tests/forked_command.py "$@"; fi
exec {sys.executable} -m aipartnerupflow "$@\"""",
    "aipartnerupflow-server": f"exec {sys.executable} -c 'from aipartnerupflow.cli import serve_main; serve_main()' \"$@\"",
}

WIDE: Final = {"COLUMNS": "250", "NO_COLOR": "1", "TERM": "xterm"}
"""The terminal of `typed`."""
PATIENCE_SECONDS: Final = 120.0
COMMAND_SECONDS: Final = 240.0
"""A command that takes so long does not end; on a busy machine it may take a minute."""
GUIDES_PORT: Final = re.compile(r"\b80[08]0\b")
"""A word of its own: the name of a database may have the same digits in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """`folder` is where the user is, and their home."""

    folder: Path
    environment: dict[str, str]

    def run(self, script: str, *, given: str = "", code: int = 0, **variables: str) -> str:
        """What the script prints, to both ends, when `given` is typed. Our command starts by a fork.

        Raises AssertionError when the script ends with another code.
        """
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=self.folder,
            env=self.environment | {FORKS: fork_server().address} | variables,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def typed(self, script: str, *answers: str, **variables: str) -> str:
        """What is on the terminal after the script, when the questions that it asks there, one after the other, are so answered."""
        leader, follower = pty.openpty()
        with (
            subprocess.Popen(
                ["bash", "-ec", script],
                cwd=self.folder,
                env=self.environment | {FORKS: fork_server().address} | WIDE | variables,
                stdin=follower,
                stdout=follower,
                stderr=follower,
                start_new_session=True,
            ) as process,
            os.fdopen(leader, "r+b", buffering=0) as terminal,
        ):
            os.close(follower)
            seen = b""
            for answer in answers:
                seen += _until_asked(terminal)
                terminal.write(f"{answer}\n".encode())
            seen += _rest(terminal)
        assert process.returncode == 0, seen.decode()
        return seen.decode().replace("\r\n", "\n")

    @contextmanager
    def server(
        self,
        script: str,
        *,
        database: str = "",
        port: int = 0,
        is_ready: str = ALL_READY,
        is_forked: bool = True,
        **variables: str,
    ) -> Iterator[Server]:
        """The server that the last line of the script starts in this shell, on a free port instead of the guide's.

        Our command starts by a fork, unless its start is what the test is about.
        """
        port = port or free_port()
        *before, start = GUIDES_PORT.sub(str(port), script).strip().splitlines()
        env = self.environment | {"AIPARTNERUPFLOW_PORT": str(port)} | variables
        if is_forked:
            env[FORKS] = fork_server_for(env | {DATABASE: database}).address
        with running(
            ["bash", "-ec", "\n".join([*before, f"exec {start}"])],
            port=port,
            database_url=database,
            env=env,
            data_dir=self.folder,
            cwd=self.folder,
            is_ready=is_ready,
        ) as server:
            yield server


def _until_asked(terminal: BinaryIO) -> bytes:
    """What is written up to the end of a question. Raises AssertionError when none comes."""
    seen = b""
    while not seen.endswith(b": "):
        assert select.select([terminal], [], [], PATIENCE_SECONDS)[0], (
            f"No question within {PATIENCE_SECONDS} s: {seen!r}"
        )
        seen += os.read(terminal.fileno(), 65536)
    return seen


def _rest(terminal: BinaryIO) -> bytes:
    """What is written up to the end of the last process on the terminal, which Linux tells by an error."""
    seen = b""
    with suppress(OSError):
        while some := os.read(terminal.fileno(), 65536):
            seen += some
    return seen


def new_shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in an empty folder. A machine without curl gets ours. pip finds what is installed, and nothing else."""
    folder, commands = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("bin")
    for name, script in COMMANDS.items():
        if name == "curl" and which("curl"):
            continue
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    (folder / ".curlrc").write_text("silent\n")
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {
        "HOME": str(folder),
        "PATH": path,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "PIP_NO_INDEX": "1",
    }
    return Shell(folder=folder, environment=environment_of("", folder) | own)
