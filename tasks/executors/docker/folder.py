"""The folder of a container, `/task`: a volume with the files of its task in `in`, and those that it leaves in `out`.

The daemon takes and gives tar archives, so it may be on another machine. A container may write to
`out` only, which it has if it saves: nothing limits what it stores there on the daemon's disk.
"""

import asyncio
import tarfile
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import IO, Any, Final, cast

from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Files, Json
from aipartnerupflow.executors.files import PART_BYTES
from tasks.executors.command.task_folder import IN, MOST, OUT, check_names
from tasks.executors.docker.daemon import Daemon
from tasks.executors.docker.order import FOLDER
from tasks.rules.files import name_problem
from tasks.storage.file_store import on_thread

BLOCK: Final = tarfile.BLOCKSIZE


async def fill(daemon: Daemon, container: str, given: Json, files: Files, *, saves: bool) -> None:
    """Store the files in `in`, and make `out` if the container `saves`. Raises ExecutorError."""
    check_names(given)
    known = {name: await files.info(file) for name, file in given.items()}
    most: int = settings.APFLOW.limits.file_bytes
    if sum(file["bytes"] for file in known.values()) > most:
        raise ExecutorError(f"`files` have more than {most:,} bytes together (limits.file_bytes).", permanent=True)

    async def archive() -> AsyncIterator[bytes]:
        yield _head(IN, mode=0o755) + (_head(OUT, mode=0o777) if saves else b"")
        for name, file in known.items():
            yield _head(f"{IN}/{name}", mode=0o444, size=file["bytes"])
            async for part in files.stream(file):
                yield part
            yield bytes(-file["bytes"] % BLOCK)
        yield bytes(2 * BLOCK)

    await daemon.extract(container, FOLDER, archive())


def _head(name: str, *, mode: int, size: int | None = None) -> bytes:
    """Return the header of a file in an archive, or of a folder, which has no size."""
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE if size is None else tarfile.REGTYPE
    entry.size, entry.mode = size or 0, mode
    return entry.tobuf(tarfile.PAX_FORMAT)


async def saved(daemon: Daemon, container: str, files: Files) -> dict[str, Json]:
    """Save the files in `out`, and return them by name. Raises ExecutorError, permanent, for what is no plain file."""
    found: dict[str, Json] = {}
    async with daemon.archived(container, f"{FOLDER}/{OUT}") as parts:
        source = cast(IO[bytes], _Source(parts))
        archive = await on_thread(lambda: tarfile.open(fileobj=source, mode="r|"))  # noqa: SIM115  (nothing to close)
        while (entry := await on_thread(archive.next)) is not None:
            _, _, name = entry.name.partition("/")
            if not name:
                continue
            if len(found) == MOST:
                raise ExecutorError(f"The container left more than {MOST} files in {OUT}/.", permanent=True)
            if problem := name_problem(name) if entry.isreg() else "is not that of a plain file":
                raise ExecutorError(
                    f"{name[:255]!r} of the container cannot be saved: its name {problem}.", permanent=True
                )
            content = archive.extractfile(entry)
            assert content is not None  # noqa: S101  (it is a plain file)
            found[name] = await files.save(name, _parts(content))
    return found


async def _parts(content: IO[bytes]) -> AsyncIterator[bytes]:
    while part := await on_thread(content.read, PART_BYTES):
        yield part


class _Source:
    """The archive as `tarfile` reads it, on another thread, from what arrives on the event loop."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            coming: Future[Any] = asyncio.run_coroutine_threadsafe(_next(self._parts), self._loop)
            if not (part := coming.result()):
                break
            self._rest += part
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


async def _next(parts: AsyncIterator[bytes]) -> bytes:
    return await anext(parts, b"")
