"""Uploads and downloads that stream, and continue after a broken connection. Performs no I/O over the network."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Self
from urllib.parse import quote

import httpx

from .calls import Call, create_file, result_of
from .errors import RpcError
from .stream import Broken, Patience
from .types import FileInfo, FileValue

READ_BYTES: Final = 2**20
CONFLICT: Final = 409
SLOW: Final = httpx.Timeout(30, read=600)
"""The server answers an upload when its disk has the file."""
Source = str | os.PathLike[str] | bytes
File = str | Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Upload(Patience):
    """A file that is sent: `create` announces it, then `body` is sent from `received` on."""

    stream: BinaryIO
    create: Call[FileInfo]
    size: int
    received: int = 0
    file_id: str = ""

    @classmethod
    def of(cls, source: Source, *, name: str | None, media_type: str | None, patience: Patience) -> Self:
        """Open the source. Raises OSError, and TypeError for bytes without a name."""
        if isinstance(source, bytes):
            if name is None:
                raise TypeError("bytes need a name: upload(b'…', name='report.pdf')")
            stream: BinaryIO = BytesIO(source)
            size = len(source)
        else:
            stream = Path(source).open("rb")  # noqa: SIM115  `close` closes it
            size, name = os.fstat(stream.fileno()).st_size, name or Path(source).name
        return cls(
            url=patience.url,
            resume_seconds=patience.resume_seconds,
            has_answered=True,
            stream=stream,
            size=size,
            create=create_file(name, size, media_type=media_type),
        )

    @property
    def path(self) -> str:
        return f"/files/{self.file_id}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Upload-Offset": str(self.received), "Content-Length": str(self.size - self.received)}

    def begin(self) -> None:
        """Go to the first byte that the server does not have."""
        self.stream.seek(self.received)

    def read(self) -> bytes:
        return self.stream.read(READ_BYTES)

    def parts(self) -> Iterator[bytes]:
        while data := self.read():
            yield data

    def value(self, response: httpx.Response) -> FileValue | None:
        """Return the file; None if it is not complete. Raises RpcError, or Broken if another attempt may help."""
        self.check(response)
        if response.status_code == CONFLICT:  # the server has not noticed yet that the connection before has ended
            raise Broken("the server still reads an earlier request")
        if response.status_code != 200:
            result_of(response)
        return self.take_up(response.json())

    def take_up(self, info: FileInfo) -> FileValue | None:
        """Note how much the server has. Returns the file if that is all."""
        received = info.get("received") or 0
        if received > self.received:
            self.has_advanced()
        self.received = received
        return info["file"]


@dataclass(slots=True, kw_only=True)
class Download(Patience):
    """A file that is fetched into a file beside `target`, which replaces it when all has arrived and has its hash."""

    file_id: str
    target: Path
    part: BinaryIO
    received: int = 0
    etag: str | None = None
    _hash: Any = field(default_factory=hashlib.sha256)

    @classmethod
    def of(cls, file: File, target: str | os.PathLike[str], *, patience: Patience) -> Self:
        """Open the target. Raises OSError."""
        path = Path(target)
        return cls(
            url=patience.url,
            resume_seconds=patience.resume_seconds,
            has_answered=True,
            file_id=id_of(file),
            target=path,
            part=path.with_name(f".{path.name}.part").open("wb"),
        )

    @property
    def path(self) -> str:
        return f"/files/{quote(self.file_id, safe='')}"

    @property
    def headers(self) -> dict[str, str]:
        if self.etag is None or not self.received:
            return {}
        return {"Range": f"bytes={self.received}-", "If-Range": self.etag}

    def opens(self, response: httpx.Response) -> bool:
        """Return whether the response has the bytes from `received` on. If not, read its body and call `refuse`."""
        if response.status_code == 200 and self.received:  # the server has sent all of it again
            self.part.seek(0)
            self.part.truncate()
            self.received, self._hash = 0, hashlib.sha256()
        self.etag = response.headers.get("ETag")
        return response.status_code in (200, 206)

    def refuse(self, response: httpx.Response) -> None:
        """Raise RpcError, or Broken if another attempt may help."""
        self.check(response)
        result_of(response)

    def take(self, data: bytes) -> None:
        self.has_advanced()
        self.part.write(data)
        self._hash.update(data)
        self.received += len(data)

    def complete(self) -> Path:
        """Move the file to its place. Raises RpcError if its bytes are not those that the server announced."""
        self.part.close()
        if self.etag != f'"{self._hash.hexdigest()}"':
            raise RpcError(f"The bytes of file '{self.file_id}' are not those that the server announced.")
        return Path(self.part.name).replace(self.target)

    def close(self) -> None:
        """Remove what has arrived, if it is not complete."""
        self.part.close()
        Path(self.part.name).unlink(missing_ok=True)


def id_of(file: File) -> str:
    """Return the id of a file that is named by it, or is a value."""
    return file if isinstance(file, str) else str(file["$file"])
