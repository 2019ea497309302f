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
FILE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "format": "file",
    "properties": {FILE: {"type": "string", "minLength": 1}},
    "required": [FILE],
}
"""The JSON Schema of a file as a value."""
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


class File:
    """A file of this machine, as functions of `@python_function` and `@step` get it for an argument with this type.

    A function returns one, alone or anywhere in its result, to save it: `return File("report.pdf")`. The code of a workflow has one
    without bytes, and passes it on. So does a client: `File.of(client.upload("report.pdf"))`.
    """

    __slots__ = ("_path", "media_type", "name", "value")

    def __init__(self, path: Path | str, name: str = "", media_type: str = "") -> None:
        self._path: Path | None = Path(path)
        self.name = name or self._path.name
        self.media_type = media_type or mimetypes.guess_type(self.name)[0] or "application/octet-stream"
        self.value: FileValue | None = None
        """The value of a stored file; None for one of this machine."""

    @classmethod
    def of(cls, value: FileValue) -> "File":
        """Return a stored file, without its bytes. Raises ValueError if the value names none."""
        if not is_file(value):
            raise ValueError(f'no file: {{"{FILE}": id}}')
        name = str(value.get("name", value[FILE]))
        file = cls(name, name, str(value.get("media_type", "")))
        file._path, file.value = None, value
        return file

    @property
    def path(self) -> Path:
        """The path of the file on this machine. Raises TypeError if it has none: only functions and steps have."""
        if self._path is None:
            raise TypeError(
                f"The bytes of the file '{self.name}' are not here. A step has them that takes it as an argument with the type File, "
                "or a list or a dict of them."
            )
        return self._path

    def __repr__(self) -> str:
        return f"File({self.name!r})"

    def open(self) -> IO[bytes]:
        """Open it to read."""
        return self.path.open("rb")

    def read_bytes(self) -> bytes:
        return self.path.read_bytes()

    def read_text(self) -> str:
        return self.path.read_text(encoding="utf-8")
