"""Files that a request has in base64. They are saved before it is carried out, and deleted again if nothing names them then."""

import re
from base64 import b64decode
from mimetypes import guess_extension
from types import TracebackType
from typing import Any, Final, Self

from a2a.methods.files import remove
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import File
from tasks.rules.exceptions import InvalidParams
from tasks.rules.files import FILE, MEDIA_TYPE, is_file
from tasks.rules.strict_json import Json
from tasks.services import files
from tasks.services.files import Receiving
from tasks.storage.file_store import on_thread

DATA_URI: Final = re.compile("data:(?P<type>[^;,]{0,200})(;[^;,]{1,200})*;base64,", re.IGNORECASE)
MOST: Final = 100
"""The files in one request."""


class SentFiles:
    """The files of one request. At the end of the block those that nothing names are deleted, unless the request may `keep` them."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._ids: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ids:
            await remove(await pools.write(files.discard, self._ids))

    def keep(self) -> None:
        """Leave the files to their owner: they are deleted once they have been unused for `retention.unused_file_days`."""
        self._ids = []

    async def save(self, data: str, *, name: str | None, media_type: str | None, field: str) -> Json:
        """Save a file, and return its value. `field` is its place in the request, for errors.

        Raises InvalidParams for what is no base64, no name or no media type, LimitReached and FileTooLarge.
        """
        if len(self._ids) == MOST:
            raise InvalidParams([(field, f"is one file too many: a request may have {MOST}")])
        if media_type and not MEDIA_TYPE.fullmatch(media_type.partition(";")[0].strip().lower()):
            raise InvalidParams([(field, f"must have a media type such as application/pdf, not {media_type[:100]!r}")])
        try:
            content = await on_thread(lambda: b64decode(data, validate=True))
        except ValueError as error:
            raise InvalidParams([(field, f"is not base64: {error}")]) from None
        try:
            return await self.store(
                content, name=name or f"file{guess_extension(media_type or '') or ''}", media_type=media_type
            )
        except InvalidParams as error:
            raise InvalidParams([(f"{field}: {place}", reason) for place, reason in error.problems]) from None

    async def store(self, content: bytes, *, name: str, media_type: str | None, is_made: bool = False) -> Json:
        """Save a file with these bytes. Raises InvalidParams, LimitReached, FileTooLarge and StoreUnavailable."""
        file = await pools.write(
            files.create_file,
            caller=self.caller,
            name=name,
            media_type=media_type,
            size=len(content),
            is_made=is_made,
        )
        try:
            sha256 = await on_thread(_stored, file, content)
            file, doomed = await pools.write(files.complete_file, file, size=len(content), sha256=sha256)
        except BaseException:
            await remove(await pools.write(files.give_up, file))
            raise
        self._ids.append(file.id)
        await remove(doomed)
        return file.value


async def with_saved(value: Any, sent: SentFiles, *, field: str) -> Any:
    """Return a JSON value in which files with their bytes, `{"$file": "data:application/pdf;base64,…", "name"}`, are saved ones.

    `field` is its place. Raises the errors of `SentFiles.save`.
    """
    if is_file(value) and (found := DATA_URI.match(value[FILE])):
        return await sent.save(
            value[FILE][found.end() :], name=value.get("name"), media_type=found["type"] or None, field=field
        )
    if isinstance(value, dict):
        return {name: await with_saved(each, sent, field=f"{field}.{name}") for name, each in value.items()}
    if isinstance(value, list):
        return [await with_saved(each, sent, field=f"{field}[{index}]") for index, each in enumerate(value)]
    return value


def _stored(file: File, content: bytes) -> str:
    """Store all bytes of a file, and return their SHA-256."""
    receiving = Receiving(file)
    try:
        receiving.write(content)
        receiving.complete()
        return receiving.sha256
    finally:
        receiving.close()
