"""The bytes of files: objects of a folder or a bucket, each under a key that is never used twice, plain or encrypted.

All functions block, so they run on the threads of `on_thread`, or in a worker. They know no database.
"""

import asyncio
import errno
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Final, ParamSpec, Protocol, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from apflow_site.db.calls import Call, Threads
from tasks.rules.exceptions import StoreFull, StoreUnavailable

READ_BYTES: Final = 256 * 1024
"""The bytes that a reader gets at a time, and so has in memory."""
PIECE: Final = 64 * 1024
"""The bytes that are encrypted together."""
NONCE: Final = 12
SEALED_PIECE: Final = NONCE + PIECE + 16
THREADS: Final = 16
BESIDE: Final = 4
"""The calls that are made for other users beside slow ones."""
log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class ObjectBusy(Exception):
    """Another request, or a process, is writing the object."""


class ObjectDamaged(Exception):
    """The object is not there, is cut, or is not what was written."""


class Appender(Protocol):
    """An object that is being written. Only one at a time: `FileStore.append` raises ObjectBusy."""

    size: int
    """The bytes that it has."""

    def write(self, data: bytes) -> None: ...
    def complete(self) -> None:
        """Write what is left, and wait until the disk has it if `files.sync` says so."""

    def close(self, *, keep: bool = True) -> None:
        """End writing. The bytes that have been written stay, so that another writer can continue, unless they need not be kept."""


class FileStore(Protocol):
    """Objects by keys, which `new_id` makes, as they are stored: plain or encrypted.

    All functions raise StoreUnavailable if the bucket does not answer or the disk fails, and StoreFull if that has no room.
    """

    lingers: timedelta
    """The time for which a writer may still add bytes to an object that was removed: it is removed again after that."""

    def append(self, key: str, *, afresh: bool, piece: int = 1) -> Appender:
        """Open an object to write at its end. Raises ObjectBusy, as `write` may.

        `afresh`: without what it has, if the store can take it back. The last piece of an object of pieces is cut off if a
        crash may have torn it.
        """

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield these bytes of the object, READ_BYTES at a time. Raises ObjectDamaged."""

    def size(self, key: str, *, piece: int = 1) -> int:
        """Return how many bytes an object has to which `append` adds, also while it is written. 0 if there is none."""

    def remove(self, key: str) -> None:
        """Remove the object. It is no error if there is none."""


@contextmanager
def _using_disk() -> Iterator[None]:
    """Raise StoreFull if the disk is full, and StoreUnavailable for another error of it, or of a folder that machines share."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            log.error("Cannot write a file: %s", error.strerror, extra={"event": "files.store_full"})
            raise StoreFull from None
        log.error("The folder of the files: %s", error, extra={"event": "files.store_unavailable"})
        raise StoreUnavailable(f"The folder of the files fails ({error.strerror}). Try again later.") from None


class _OpenObject:
    """A file in the folder, locked for its writer: the lock ends with its process."""

    @_using_disk()
    def __init__(self, path: Path, *, afresh: bool, piece: int, sync: bool) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._folder, self._sync = path.parent, sync
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise ObjectBusy from None
        has = os.lseek(self._descriptor, 0, os.SEEK_END)
        self.size = 0 if afresh else has // piece * piece
        os.ftruncate(self._descriptor, self.size)
        os.lseek(self._descriptor, self.size, os.SEEK_SET)

    @_using_disk()
    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self.size += len(data)

    @_using_disk()
    def complete(self) -> None:
        if self._sync:
            os.fsync(self._descriptor)
            for folder in (self._folder, self._folder.parent):
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def close(self, *, keep: bool = True) -> None:
        os.close(self._descriptor)


class Folder:
    """Objects as files of a folder, spread over 256 folders by the random end of their keys."""

    lingers = timedelta()  # the bytes of an open file go with it

    def __init__(self, root: Path, *, sync: bool) -> None:
        self._root, self._sync = root, sync

    def append(self, key: str, *, afresh: bool, piece: int = 1) -> _OpenObject:
        return _OpenObject(self._path(key), afresh=afresh, piece=piece, sync=self._sync)

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        with _using_disk():
            try:
                file = self._path(key).open("rb", buffering=0)
            except FileNotFoundError:
                raise ObjectDamaged(key) from None
        with file:
            file.seek(start)
            while start < stop:
                with _using_disk():
                    data = file.read(min(READ_BYTES, stop - start))
                if not data:
                    raise ObjectDamaged(key)
                start += len(data)
                yield data

    def size(self, key: str, *, piece: int = 1) -> int:
        try:
            return self._path(key).stat().st_size // piece * piece
        except FileNotFoundError:
            return 0

    def remove(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / key[-2:] / key


class _SealedObject:
    """An object that is written encrypted: pieces, each with a random nonce and its number.

    Only whole pieces are written before the end, so an interrupted upload continues at a whole piece, and no nonce is
    used for two texts.
    """

    def __init__(self, inner: Appender, cipher: AESGCM) -> None:
        self._inner, self._cipher = inner, cipher
        self._number = -(-inner.size // SEALED_PIECE)
        self._left = b""
        self.size = _plain_size(inner.size)

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._left += data
        whole = len(self._left) - len(self._left) % PIECE
        self._write(self._left[:whole])
        self._left = self._left[whole:]

    def complete(self) -> None:
        self._write(self._left)
        self._left = b""
        self._inner.complete()

    def close(self, *, keep: bool = True) -> None:
        self._inner.close(keep=keep)

    def _write(self, data: bytes) -> None:
        sealed = []
        for start in range(0, len(data), PIECE):
            nonce, number = os.urandom(NONCE), self._number.to_bytes(8)
            sealed += [nonce, self._cipher.encrypt(nonce, data[start : start + PIECE], number)]
            self._number += 1
        if sealed:
            self._inner.write(b"".join(sealed))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object of the store with its secret, if it is encrypted. `size` is that of its bytes, once it is complete."""

    key: str
    secret: bytes | None
    size: int = 0

    def append(self, *, afresh: bool) -> Appender:
        """Open it to write at its end; `afresh`: without what it has. Raises ObjectBusy."""
        if self.secret is None:
            return store().append(self.key, afresh=afresh)
        return _SealedObject(store().append(self.key, afresh=afresh, piece=SEALED_PIECE), AESGCM(self.secret))

    def received(self) -> int:
        """Return after how many bytes it can continue, if it is not complete."""
        if self.secret is None:
            return store().size(self.key)
        return _plain_size(store().size(self.key, piece=SEALED_PIECE))

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `stop`, READ_BYTES at a time. Raises ObjectDamaged."""
        stop = self.size if stop is None else stop
        if start == stop:
            return
        if self.secret is None:
            yield from store().read(self.key, start, stop)
            return
        cipher, number = AESGCM(self.secret), start // PIECE
        end = -(-stop // PIECE) * PIECE
        sealed_stop = _sealed_size(min(end, self.size))
        left = b""
        for data in store().read(self.key, number * SEALED_PIECE, sealed_stop):
            left += data
            is_last = (number * SEALED_PIECE + len(left)) == sealed_stop
            opened = []
            while len(left) >= SEALED_PIECE or (is_last and left):
                piece, left = left[:SEALED_PIECE], left[SEALED_PIECE:]
                try:
                    plain = cipher.decrypt(piece[:NONCE], piece[NONCE:], number.to_bytes(8))
                except InvalidTag:
                    raise ObjectDamaged(self.key) from None
                begins = number * PIECE
                opened.append(plain[max(start - begins, 0) : stop - begins])
                number += 1
            if opened:
                yield b"".join(opened)


def _sealed_size(size: int) -> int:
    """Return the size of an encrypted object of so many bytes."""
    return size + -(-size // PIECE) * (SEALED_PIECE - PIECE)


def _plain_size(sealed: int) -> int:
    """Return the size of what an encrypted object of so many bytes has."""
    return sealed - -(-sealed // SEALED_PIECE) * (SEALED_PIECE - PIECE)


@cache
def store() -> FileStore:
    """Return the store of this server."""
    if (url := settings.APFLOW.files.store) is not None:
        from tasks.storage.s3_store import bucket_of_settings  # noqa: PLC0415  (the extra `s3`)

        return bucket_of_settings(url)
    return Folder(settings.FILES_DIR, sync=settings.APFLOW.files.sync == "always")


@cache
def _threads() -> Threads:
    return Threads(THREADS, name="files", beside=BESIDE)


def on_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
    """Call the function on a thread for files, of which a process has a few: a slow disk holds up nothing else.

    Users take turns.
    """
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    _threads().submit(Call(partial(function, *args, **kwargs), done))
    return done
