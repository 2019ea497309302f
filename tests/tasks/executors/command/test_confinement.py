"""What a command can reach where the kernel has Landlock, and what is said where it has not.

The kernel of the tests has it: CI runs on Linux 5.13 or newer. A seccomp filter makes it a kernel without.
"""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from aipartnerupflow.doctor import commands
from aipartnerupflow.executors import Context
from tasks.executors.command.executor import Command
from tasks.executors.command.guard import landlock_version
from tests.servers import ROOT
from tests.tasks.executors.command.commands import allowing

READ = """#!/bin/sh
# A program of the operator, which opens the files that its arguments name.
for file; do cat "$file" > /dev/null 2>> "$HOME/refusals" && echo "read $file"; done
cat "$HOME/refusals" >&2
"""
WITHOUT_LANDLOCK = """
import ctypes, struct, sys
LOAD, IF_LESS, IF_MORE, ALLOW, REFUSE = (32, 0, 0, 0), (53, 0, 2, 444), (37, 1, 0, 446), (6, 0, 0, 0x7FFF0000), (6, 0, 0, 0x50026)
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in (LOAD, IF_LESS, IF_MORE, REFUSE, ALLOW)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
program = ctypes.create_string_buffer(struct.pack("HP", 5, ctypes.addressof(code)))
assert libc.prctl(22, 2, program) == 0, ctypes.get_errno()
"""


@pytest.fixture
def read(tmp_path: Path, settings: Settings) -> str:
    """A program that reads files, which may run, and may use `tmp_path/folder`."""
    (tmp_path / "folder").mkdir()
    program = tmp_path / "read"
    program.write_text(READ)
    program.chmod(0o755)
    settings.APFLOW_COMMAND = allowing(str(program), "/bin/sh", folders=(str(tmp_path / "folder"),))
    return str(program)


@contextmanager
def other_process() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["/bin/sleep", "600"], env={"SECRET": "canary"}) as process:
        try:
            yield process
        finally:
            process.kill()


async def run(context: Context, *argv: str, **inputs: Any) -> list[str]:
    result = await Command().execute({"argv": [*argv], **inputs}, context)
    lines: list[str] = result["stdout"].splitlines()
    return lines


async def test_a_command_reads_no_secret_of_the_server(read: str, context: Context, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("auth: {jwt_secret: canary}")
    with other_process() as other:
        own, parent = os.getpid(), os.getppid()
        of_processes = [
            f"/proc/{pid}/{name}" for pid in (own, parent, other.pid) for name in ("environ", "cmdline", "maps")
        ]
        files = [str(tmp_path / "config.yaml"), __file__, "/etc/shadow", "/root/.profile", *of_processes]
        assert await run(context, read, *files) == []


async def test_a_command_reads_the_system_its_input_and_its_folders(
    read: str, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "folder/data").write_text("1")
    files = ["/etc/passwd", "/usr/bin/env", "/proc/meminfo", "/dev/stdin", str(tmp_path / "folder/data"), read]
    assert await run(context, read, *files, stdin="some") == [f"read {file}" for file in files]


async def test_a_command_reads_what_the_operator_names_besides(
    read: str, context: Context, tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library/words").write_text("1")
    settings.APFLOW_COMMAND = allowing(read, readable=(str(tmp_path / "library"), str(tmp_path / "gone")))
    assert await run(context, read, str(tmp_path / "library/words")) == [f"read {tmp_path}/library/words"]


async def test_a_command_writes_only_to_its_folders(read: str, context: Context, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    script = f"""
        for place in {tmp_path} /tmp /var/tmp /dev/shm; do echo evil > $place/evil 2> /dev/null && echo $place; done
        for place in . {folder}; do echo good > $place/good && mkdir $place/new && mv $place/good $place/new && echo ok; done
        rm -f {read} 2> /dev/null && echo removed; ln {read} $HOME/read 2> /dev/null && echo linked
        cp /bin/true $HOME/true; chmod +x $HOME/true; $HOME/true 2> /dev/null && echo executed
        exit 0
    """
    assert await run(context, "/bin/sh", "-c", script) == ["ok", "ok"]
    assert (folder / "new/good").read_text() == "good\n"


async def test_a_command_reaches_no_process_outside(read: str, context: Context) -> None:
    """From version 6 of Landlock, which Linux has since 6.12, it cannot send it a signal."""
    with other_process() as other:
        found = await run(context, "/bin/sh", "-c", f"kill -0 {other.pid} 2> /dev/null && echo signalled; exit 0")
        assert found == ([] if landlock_version() >= 6 else ["signalled"])


def without_landlock(code: str, **environ: str) -> str:
    """What the code prints in a process for which the kernel has no Landlock."""
    words = [sys.executable, "-c", WITHOUT_LANDLOCK + textwrap.dedent(code)]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_landlock_commands_run_and_the_doctor_and_the_start_say_what_is_missing() -> None:
    said = without_landlock(
        """
        import asyncio, django
        django.setup()
        from aipartnerupflow.executors import Context
        from aipartnerupflow.server import _check_commands
        from apflow_site.config import get_config
        from tasks.executors.command.executor import Command
        context = Context(
            task_id="t", run_id="r", root_task_id="t", user_id="u", name="n", params={}, schemas={},
            dependency_results={}, attempt=1, report=print, log=print,
        )
        asyncio.run(Command().execute({"argv": ["/bin/echo", "it runs"]}, context))
        print(*_check_commands(get_config()))
        """,
        AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW="/bin/echo",
    )
    first, warning = said.splitlines()
    assert first == "it runs"
    assert warning.startswith("executors.command.allow: The kernel does not confine the commands of tasks (Landlock)")
    assert "Use Linux 5.13 or newer with Landlock" in warning


def test_with_landlock_the_doctor_says_so() -> None:
    assert commands().startswith("confined to their folders (Landlock ")
