"""A bucket of an S3-compatible service as the store of files. It needs the extra `s3`, and is imported only where `files.store` names one.

An object of the bucket cannot be appended to. So an object of the store is a sequence of segments, each under
`<key>/<offset>` and written once (`If-None-Match: *`): who finds that another writer was there first has lost. No lock is
needed, and a writer that is cut off leaves whole segments after which any other machine continues.
"""

import contextlib
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import obstore
from django.conf import settings
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from tasks.ids import new_id
from tasks.rules.exceptions import StoreUnavailable
from tasks.storage.file_store import READ_BYTES, ObjectBusy, ObjectDamaged

SEGMENT: Final = 4 * 2**20
"""The bytes that a writer collects before it sends them, and so has in memory."""
ASKED_BYTES: Final = 4 * READ_BYTES
"""The bytes that a reader asks for at a time: a request that waits for a slow reader would end by a timeout."""
MOST_KNOWN: Final = 1_000
"""The objects whose segments a process remembers. Segments never change, so what it knows stays true."""
RETRIES: Final[Any] = {"max_retries": 5, "retry_timeout": timedelta(seconds=30)}
Segments = list[tuple[int, int]]
"""The offsets and sizes of the segments of an object, in order."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Raise StoreUnavailable for an answer that no object explains."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        log.error("S3: %s", str(error).partition("\n")[0], extra={"event": "files.store_unavailable"})
        raise StoreUnavailable("The store of the files does not answer. Try again later.") from None


class _Segments:
    """An object to whose end bytes are added: a segment at a time, and the rest when it is closed."""

    def __init__(self, bucket: S3Store, key: str, size: int) -> None:
        self._bucket, self._key = bucket, key
        self._stored = self.size = size
        self._parts = list[bytes]()

    def write(self, data: bytes) -> None:
        """Add bytes, which stay together in one segment. Raises ObjectBusy and StoreUnavailable."""
        self._parts.append(data)
        self.size += len(data)
        if self.size - self._stored >= SEGMENT:
            self._send()

    def complete(self) -> None:
        self._send()

    def close(self, *, keep: bool = True) -> None:
        if keep:
            # What cannot be stored now arrives again: a client continues after what the store has.
            with contextlib.suppress(ObjectBusy, StoreUnavailable):
                self._send()

    def _send(self) -> None:
        data = b"".join(self._parts)
        if not data:
            return
        path = f"{self._key}/{self._stored:015}"
        with _asking():
            try:
                obstore.put(self._bucket, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                # A request whose response was lost has been repeated, or another writer was here.
                if bytes(obstore.get(self._bucket, path).bytes()) != data:
                    raise ObjectBusy from None
        self._stored += len(data)
        self._parts = []


class S3:
    """Objects as segments in a bucket, under a prefix."""

    lingers = timedelta(hours=1)

    def __init__(self, url: str, **options: Any) -> None:
        """Take `s3://bucket/prefix`, and the options of `S3Store` that are not None. AWS's variables and roles give the others."""
        place = urlsplit(url)
        is_plain = str(options.get("endpoint") or "").startswith("http:")
        self._bucket = S3Store(
            place.netloc,
            prefix=place.path.strip("/") or None,
            client_options={"allow_http": is_plain},
            retry_config=RETRIES,
            **{name: value for name, value in options.items() if value is not None},
        )
        self._known = dict[str, Segments]()

    def append(self, key: str, *, afresh: bool, piece: int = 1) -> _Segments:
        return _Segments(self._bucket, key, self.size(key))

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        segments = self._known.get(key)
        if segments is None or sum(segments[-1]) < stop:
            segments = self._list(key)
            if not segments or sum(segments[-1]) < stop:
                raise ObjectDamaged(key)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = segments
        for offset, size in segments:
            begin, end = max(start - offset, 0), min(stop - offset, size)
            while begin < end:
                until = min(begin + ASKED_BYTES, end)
                data = self._range(f"{key}/{offset:015}", begin, until)
                if len(data) != until - begin:
                    raise ObjectDamaged(key)
                for at in range(0, len(data), READ_BYTES):
                    yield data[at : at + READ_BYTES]
                begin = until

    def size(self, key: str, *, piece: int = 1) -> int:
        segments = self._list(key)
        return sum(segments[-1]) if segments else 0

    def remove(self, key: str) -> None:
        paths = [f"{key}/{offset:015}" for offset, _ in self._list(key)]
        if paths:
            with _asking():
                obstore.delete(self._bucket, paths)
        self._known.pop(key, None)

    def check(self) -> str | None:
        """Write, read and remove an object. Return what is wrong with the bucket; None if nothing is."""
        path = f"check/{new_id()}"
        try:
            obstore.put(self._bucket, path, b"1", mode="create", use_multipart=False)
            try:
                obstore.put(self._bucket, path, b"2", mode="create", use_multipart=False)
                return "The bucket ignores If-None-Match, so two uploads could mix their bytes"
            except AlreadyExistsError:
                return None
            finally:
                obstore.delete(self._bucket, [path])
        except (BaseError, OSError) as error:
            return str(error).partition("\n")[0]

    def _range(self, path: str, start: int, stop: int) -> bytes:
        try:
            with _asking():
                return bytes(obstore.get_range(self._bucket, path, start=start, end=stop))
        except FileNotFoundError:
            raise ObjectDamaged(path) from None

    def _list(self, key: str) -> Segments:
        with _asking():
            found = [each for page in obstore.list(self._bucket, f"{key}/") for each in page]
        return sorted((int(each["path"].rpartition("/")[2]), each["size"]) for each in found)


def bucket_of_settings(url: str) -> S3:
    """Return the bucket, with the endpoint and the key of the settings."""
    files = settings.APFLOW.files
    return S3(
        url,
        endpoint=files.s3_endpoint,
        region=files.s3_region,
        access_key_id=files.s3_access_key_id,
        secret_access_key=files.s3_secret_access_key,
    )
