"""Functions that do to their process what their names say."""

import ctypes
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from aipartnerupflow.executors import ExecutorError, File, current_context, python_function


@python_function
def add(a: int, b: int = 1) -> int:
    return a + b


@python_function
def total(numbers: list[int]) -> int:
    return sum(numbers)


@python_function
def surroundings() -> dict[str, Any]:
    """Return what code in this process can read of the server's secrets."""
    names = ("SECRET_KEY", "SIMPLE_JWT", "APFLOW_ENCRYPTION_KEYS", "DATABASES")
    first = [f"/proc/{each}/environ" for each in ("self", os.getppid())] if sys.platform == "linux" else []
    return {
        "environ": dict(os.environ),
        "settings": str([getattr(settings, name) for name in names]),
        "first": [Path(each).read_text().replace("\0", "\n") for each in first if os.access(each, os.R_OK)],
    }


@python_function
def start_daemon(gate: str) -> int:
    """Start a process of a session of its own, whose parent is gone, and return its id."""
    code = (
        "import os, sys, time\nos.setsid()\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True)\ntime.sleep(3600)"
    )
    done = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert done.stdout
    pid = int(done.stdout.readline())
    done.wait()
    if gate:
        Path(gate).write_text(str(pid))
        time.sleep(3600)
    return pid


@python_function
def fork_often(count: int) -> None:
    for _ in range(count):
        if not os.fork():
            time.sleep(3600)
            os._exit(0)
    time.sleep(3600)


@python_function
def fork_and_grow(count: int, each_bytes: int) -> None:
    """Take memory in several processes, each of which has less than the limit."""
    for _ in range(count):
        if not os.fork():
            taken = bytearray(each_bytes)
            taken[::4096] = b"x" * len(range(0, each_bytes, 4096))
            time.sleep(3600)
            os._exit(len(taken))
    time.sleep(3600)


@python_function
def process_id() -> int:
    return os.getpid()


@python_function
async def process_id_soon() -> int:
    return os.getpid()


@python_function
def note_key(file: str) -> str:
    """Write the idempotency key of the call into the file."""
    key = current_context().idempotency_key
    Path(file).write_text(key)
    return key


@python_function
def exit_at_once(code: int) -> None:
    os._exit(code)


@python_function
def crash() -> None:
    ctypes.string_at(0)


@python_function
def ask_for_memory() -> None:
    """Ask at once for more than any limit in the tests allows. Nothing is written to it: that would take seconds."""
    bytearray(2 * 2**30)


@python_function
def eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(10 * 2**20))


@python_function
def block(started: str) -> None:
    """Write the process id to a file, and never return."""
    Path(started).write_text(str(os.getpid()))
    threading.Event().wait()


@python_function
def block_with_a_program(started: str) -> None:
    """The same in a program of its own."""
    code = f"import os, pathlib, time; pathlib.Path({started!r}).write_text(str(os.getpid())); time.sleep(600)"
    subprocess.run([sys.executable, "-c", code], check=True)


@python_function
def wait_for(gate: str, started: str = "") -> int:
    if started:
        Path(started).touch()
    while not Path(gate).exists():
        time.sleep(0.01)
    return os.getpid()


@python_function
def return_a_set() -> set[int]:
    return {1}


@python_function
def return_not_a_number() -> float:
    return float("nan")


@python_function
def return_much() -> str:
    return "x" * (settings.APFLOW.limits.value_bytes + 1)


@python_function
def refuse() -> None:
    raise ExecutorError("The stock is empty.", permanent=True, retry_after_seconds=3)


@python_function
def ask_the_database() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 7")
        return int(cursor.fetchone()[0])


_kept: list[bytes] = []


@python_function
def keep_memory(megabytes: int) -> None:
    _kept.append(b"x" * (megabytes * 2**20))


@python_function
def print_everywhere(text: str) -> None:
    """Print a line each by Python, a log record, a program and C, and one without an end."""
    print(text, "of Python")  # noqa: T201
    logging.getLogger("own").warning("%s of a log record", text)
    subprocess.run(["/bin/sh", "-c", f"echo {text} of a program >&2"], check=True)
    ctypes.CDLL(None).puts(f"{text} of C".encode())
    print(text, "without an end", end="")  # noqa: T201


@python_function
def print_much(megabytes: int) -> None:
    """Print so much; with -1, until the process is killed."""
    line = b"much " * 100 + b"\n"
    while megabytes:
        for _ in range(2**20 // len(line)):
            os.write(1, line)
        megabytes -= 1


@python_function
def shout(document: File, others: list[File] | None = None) -> dict[str, Any]:
    """Return the text of files in capitals, as a file, and what the files are."""
    target = Path(document.path).with_name("loud.txt")
    target.write_text("".join(each.read_text() for each in (document, *(others or ()))).upper())
    return {"name": document.name, "type": document.media_type, "loud": File(target)}


@python_function
async def shout_softly(document: File) -> File:
    target = Path(document.path).with_name("soft.txt")
    target.write_text(document.read_text().lower())
    return File(target, name="softly.md")


@python_function
async def leave_a_file_open() -> None:
    """Begin a file, and do not complete it."""
    files = current_context().files
    number = await files.call("begin_file", {"name": "half.bin", "media_type": None})
    await files.call("write_file", {"number": number, "data": b"half"})
    raise ExecutorError("that is all")


@python_function
def name_file(file_id: str) -> dict[str, str]:
    """Return a value that names a file, which may be that of another user."""
    return {"$file": file_id}


@python_function
async def make_file(size: int) -> dict[str, Any]:
    return await current_context().files.save("made", bytes(size))
