"""The folder of a task on another host, by SFTP: its files in `in`, and those that the command leaves in `out`."""

import asyncio
import secrets
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncssh

from aipartnerupflow.executors import ExecutorError, Files, Json
from aipartnerupflow.executors.files import PART_BYTES
from tasks.executors.command.task_folder import IN, MOST, OUT, check_names
from tasks.rules.files import name_problem

PLACE: Final = "/tmp/aipartnerupflow-"  # noqa: S108  (on the host, with a name that nobody can guess, for its user alone)
PRIVATE: Final = 0o700
REMOVAL_SECONDS: Final = 20.0


class Folder:
    """A folder in which the command runs, with its files."""

    def __init__(self, sftp: asyncssh.SFTPClient, host: str, files: Files) -> None:
        self._sftp = sftp
        self._host = host
        self._files = files
        self.path = f"{PLACE}{secrets.token_hex(16)}"

    async def make(self, given: Json) -> None:
        """Make it, and copy the files. Raises ExecutorError."""
        check_names(given)
        try:
            for path in (self.path, f"{self.path}/{IN}", f"{self.path}/{OUT}"):
                await self._sftp.mkdir(path, asyncssh.SFTPAttrs(permissions=PRIVATE))
            for name, file in given.items():
                async with self._sftp.open(f"{self.path}/{IN}/{name}", "wb", encoding=None) as opened:
                    async for part in self._files.stream(file):
                        await opened.write(part)
        except (asyncssh.Error, OSError) as error:
            raise ExecutorError(f"The host '{self._host}' did not take the files: {type(error).__name__}.") from None

    def command(self, line: str) -> str:
        """Return the line so that it runs in the folder."""
        return f"cd {shlex.quote(self.path)} || exit\n{line}"

    async def saved(self) -> dict[str, Json]:
        """Save the files in `out`, and return them by name. Raises ExecutorError, permanent, for what is no plain file."""
        try:
            entries = [
                each for each in await self._sftp.readdir(f"{self.path}/{OUT}") if each.filename not in (".", "..")
            ]
            if len(entries) > MOST:
                raise ExecutorError(f"The command left more than {MOST} files in {OUT}/.", permanent=True)
            found = {}
            for entry in sorted(entries, key=lambda each: str(each.filename)):
                name = str(entry.filename)
                if problem := name_problem(name):
                    raise ExecutorError(f"A file in {OUT}/ cannot be saved: its name {problem}.", permanent=True)
                if entry.attrs.type != asyncssh.FILEXFER_TYPE_REGULAR:
                    raise ExecutorError(
                        f"{name!r} of the command cannot be saved: it is no plain file.", permanent=True
                    )
                async with self._sftp.open(f"{self.path}/{OUT}/{name}", "rb", encoding=None) as opened:
                    found[name] = await self._files.save(name, _parts(opened))
        except (asyncssh.Error, OSError) as error:
            raise ExecutorError(f"The files of '{self._host}' cannot be read: {type(error).__name__}.") from None
        return found

    async def remove(self) -> None:
        """Remove it. A host that is away keeps it."""
        with suppress(asyncssh.Error, OSError, TimeoutError):
            async with asyncio.timeout(REMOVAL_SECONDS):
                await self._sftp.rmtree(self.path, ignore_errors=True)


async def _parts(opened: "asyncssh.SFTPClientFile") -> AsyncIterator[bytes]:
    while part := await opened.read(PART_BYTES):
        yield part if isinstance(part, bytes) else part.encode()


@asynccontextmanager
async def folder_on(
    connection: asyncssh.SSHClientConnection, host: str, given: Json, files: Files
) -> AsyncIterator[Folder]:
    """Yield a folder with these files, which is removed at the end. Raises ExecutorError, also if the host has no SFTP."""
    try:
        sftp = await connection.start_sftp_client()
    except asyncssh.Error as error:
        raise ExecutorError(
            f"The host '{host}' has no SFTP, which files need ({type(error).__name__}).", permanent=True
        ) from None
    folder = Folder(sftp, host, files)
    try:
        await folder.make(given)
        yield folder
    finally:
        await folder.remove()
