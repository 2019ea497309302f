"""The files of a command: those of its task in the folder `in`, and those that it leaves in `out`.

A command may put links there, to what it may not read itself. So the folder and each file are opened without following one.
"""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from aipartnerupflow.executors import ExecutorError, Files, Json
from aipartnerupflow.executors.files import PART_BYTES
from tasks.rules.files import name_problem
from tasks.storage.file_store import on_thread

IN: Final = "in"
OUT: Final = "out"
MOST: Final = 100
"""The files in each of the folders."""


async def fill(home: str, given: Json, files: Files) -> None:
    """Make both folders, and store the files in `in`. Raises ExecutorError."""
    check_names(given)
    for folder in (IN, OUT):
        os.mkdir(os.path.join(home, folder))  # noqa: PTH102, PTH118  (at once, in a folder that was just made)
    for name, file in given.items():
        await files.copy(file, Path(home, IN, name))


def check_names(given: Json) -> None:
    """Raise ExecutorError, permanent, for too many files, or a name that no file can have."""
    if len(given) > MOST:
        raise ExecutorError(f"`files` has more than {MOST} files.", permanent=True)
    for name in given:
        if problem := name_problem(name):
            raise ExecutorError(f"`files`: the name {name[:100]!r} {problem}.", permanent=True)


async def saved(home: str, files: Files) -> dict[str, Json]:
    """Save the files in `out`, and return them by name. Raises ExecutorError, permanent, for what is no plain file."""
    folder = await on_thread(_open, Path(home, OUT), os.O_DIRECTORY)
    try:
        names = sorted(await on_thread(os.listdir, folder))
        if len(names) > MOST:
            raise ExecutorError(f"The command left more than {MOST} files in {OUT}/.", permanent=True)
        found = {}
        for name in names:
            if problem := name_problem(name):
                raise ExecutorError(f"A file in {OUT}/ cannot be saved: its name {problem}.", permanent=True)
            file = await on_thread(_open, name, os.O_NONBLOCK, within=folder)
            try:
                found[name] = await files.save(name, _parts(file))
            finally:
                os.close(file)
        return found
    finally:
        os.close(folder)


def _open(path: str | Path, flags: int, *, within: int | None = None) -> int:
    """Open a folder, or a file that is no link and has no other name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=within)
    except OSError as error:
        raise _refusal(path, error.strerror or "") from None
    state = os.fstat(descriptor)
    if not flags & os.O_DIRECTORY and not (stat.S_ISREG(state.st_mode) and state.st_nlink == 1):
        os.close(descriptor)
        raise _refusal(path, "it is no plain file")
    return descriptor


def _refusal(path: str | Path, why: str) -> ExecutorError:
    return ExecutorError(f"{Path(path).name!r} of the command cannot be saved: {why}.", permanent=True)


async def _parts(file: int) -> AsyncIterator[bytes]:
    while part := await on_thread(os.read, file, PART_BYTES):
        yield part
