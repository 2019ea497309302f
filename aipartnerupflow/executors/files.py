"""`Context.files`: read and save the files of the owner of a task. And `File`, a file as functions get it."""

import mimetypes
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

FILE: Final = "$file"
PART_BYTES: Final = 2**20
"""The bytes of a file that are in memory at a time."""
MOST_READ_BYTES: Final = 32 * 2**20
FileValue = dict[str, Any]
"""A file as a JSON value: `{"$file": id, "name", "media_type", "bytes", "sha256"}`."""
Call = Callable[[str, dict[str, Any]], Coroutine[Any, Any, Any]]


def is_file(value: Any) -> bool:
    """Return whether a JSON value names a file: `{"$file": id, "name", "media_type", "bytes", "sha256"}`."""
    return isinstance(value, dict) and isinstance(value.get(FILE), str)


@dataclass(frozen=True, slots=True)
class Files:
    """The files of the owner of a task. A file is a JSON value, as it is in inputs, and as `save` returns it for the result.

    All raise ExecutorError: for a file that is not there or belongs to another user, and for limits that are reached.
    """

    call: Call

    async def info(self, file: FileValue) -> FileValue:
        """Return the file as the server knows it, with its true name, type and size: a value may have any."""
        known: FileValue = await self.call("get_file", {"file_id": str(file[FILE])})
        return known

    async def stream(self, file: FileValue) -> AsyncIterator[bytes]:
        """Yield the bytes of a file, a MiB at a time."""
        start, size = 0, None
        while size is None or start < size:
            part = await self.call("read_file", {"file_id": str(file[FILE]), "start": start})
            size = part["size"]
            start += len(part["data"])
            if part["data"]:
                yield part["data"]

    async def read(self, file: FileValue, *, most_bytes: int = MOST_READ_BYTES) -> bytes:
        """Return the bytes of a file. A larger one is refused: `stream` it, or `copy` it."""
        from aipartnerupflow.executors.base import ExecutorError

        parts, size = list[bytes](), 0
        async for part in self.stream(file):
            size += len(part)
            if size > most_bytes:
                name = file.get("name", file[FILE])
                raise ExecutorError(f"The file '{name}' has more than {most_bytes:,} bytes.", permanent=True)
            parts.append(part)
        return b"".join(parts)

    async def copy(self, file: FileValue, path: str | Path) -> Path:
        """Store a file at a path of this machine, and return it."""
        target = Path(path)
        with target.open("wb") as opened:  # noqa: ASYNC230  (a MiB at a time, into the cache of the system)
            async for part in self.stream(file):
                opened.write(part)
        return target

    async def save(
        self, name: str, content: bytes | str | Path | AsyncIterable[bytes], *, media_type: str | None = None
    ) -> FileValue:
        """Save bytes, a text, the file at a path, or bytes as they come, and return the value for the result.

        The file belongs to the owner of the task. It is deleted with the tree, unless another one has it by then.
        """
        number = await self.call("begin_file", {"name": name, "media_type": media_type})
        try:
            async for part in _parts(content):
                await self.call("write_file", {"number": number, "data": part})
            value: FileValue = await self.call("complete_file", {"number": number})
        except BaseException:
            await self.call("drop_file", {"number": number})
            raise
        return value


async def _parts(content: bytes | str | Path | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(content, bytes | str):
        data = content if isinstance(content, bytes) else bytes(content, "utf-8")
        for start in range(0, len(data), PART_BYTES):
            yield data[start : start + PART_BYTES]
    elif isinstance(content, Path):
        with content.open("rb") as opened:
            while part := opened.read(PART_BYTES):
                yield part
    else:
        kept = b""
        async for part in content:
            kept += part
            if len(kept) >= PART_BYTES:
                yield kept
                kept = b""
        if kept:
            yield kept


@dataclass(frozen=True, slots=True)
class File:
    """A file of this machine, as a function of `@python_function` gets it for an argument with this type.

    A function returns one, alone or anywhere in its result, to save it: `return File("report.pdf")`.
    """

    path: Path | str
    name: str = ""
    media_type: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "name", self.name or Path(self.path).name)
        guessed = mimetypes.guess_type(self.name)[0] or "application/octet-stream"
        object.__setattr__(self, "media_type", self.media_type or guessed)

    def open(self) -> IO[bytes]:
        """Open it to read."""
        return Path(self.path).open("rb")

    def read_bytes(self) -> bytes:
        return Path(self.path).read_bytes()

    def read_text(self) -> str:
        return Path(self.path).read_text(encoding="utf-8")
