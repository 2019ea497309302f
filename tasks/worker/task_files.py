"""The files that a task reads and saves, in the worker: for its owner alone, a part at a time (`Context.files`)."""

import time
from itertools import count
from typing import Any, Final

from accounts.callers import Caller
from aipartnerupflow.executors import ExecutorError, Json
from aipartnerupflow.executors.files import PART_BYTES
from apflow_site.db import pools
from tasks.models import File
from tasks.rules.exceptions import LimitReached, StoreUnavailable, TasksError
from tasks.services import files
from tasks.services.files import Doomed, Receiving
from tasks.storage.file_store import ObjectDamaged, StoredObject, on_thread

TOUCHED_SECONDS: Final = 60.0
MOST_OPEN: Final = 16
"""The files that one attempt may write at a time."""


class TaskFiles:
    """The files of one attempt. `close` it at the end: what it has not completed is deleted."""

    def __init__(self, owner: str, *, root_id: str) -> None:
        self._caller = Caller(user_id=owner)
        self._root_id = root_id
        self._objects: dict[str, StoredObject] = {}
        self._open: dict[int, Receiving] = {}
        self._touched: dict[int, float] = {}
        self._numbers = count(1)

    async def call(self, name: str, arguments: Json) -> Any:
        """Do what `aipartnerupflow.executors.files.Files` asks for. Raises ExecutorError."""
        try:
            return await self.do(name, arguments)
        except TasksError as error:
            raise ExecutorError(
                error.message, permanent=not isinstance(error, LimitReached | StoreUnavailable)
            ) from None
        except ObjectDamaged as error:
            raise ExecutorError(f"The bytes of a file are damaged (object {error}).", permanent=True) from None

    async def do(self, name: str, arguments: Json) -> Any:
        """Do it. Raises TasksError, ObjectDamaged and, for too many files at a time, ExecutorError."""
        match name:
            case "get_file":
                return (await self._file(**arguments)).value
            case "read_file":
                return await self._read(**arguments)
            case "begin_file":
                return await self._begin(**arguments)
            case "write_file":
                return await self._write(**arguments)
            case "complete_file":
                return await self._complete(**arguments)
            case "drop_file":
                return await self._drop(**arguments)
        raise LookupError(name)

    async def close(self) -> None:
        for number in list(self._open):
            await self._drop(number)

    async def _file(self, file_id: str) -> File:
        return files.complete(await pools.read(files.get_file, caller=self._caller, file_id=file_id))

    async def _read(self, file_id: str, start: int) -> Json:
        stored = self._objects.get(file_id)
        if stored is None:
            stored = self._objects[file_id] = files.stored_object(await self._file(file_id))
        stop = min(start + PART_BYTES, stored.size)
        data = await on_thread(lambda: b"".join(stored.read(start, stop))) if start < stop else b""
        return {"data": data, "size": stored.size}

    async def _begin(self, name: str, media_type: str | None) -> int:
        if len(self._open) >= MOST_OPEN:
            raise ExecutorError(f"A task may write {MOST_OPEN} files at a time.", permanent=True)
        file = await pools.write(files.create_file, caller=self._caller, name=name, media_type=media_type, is_made=True)
        number = next(self._numbers)
        try:
            self._open[number] = await on_thread(Receiving, file)
        except BaseException:
            await pools.write(files.give_up, file)  # the sweep removes what there may be of it
            raise
        self._touched[number] = time.monotonic()
        return number

    async def _write(self, number: int, data: bytes) -> None:
        receiving = self._open[number]
        file, size = receiving.file, receiving.size + len(data)
        now = time.monotonic()
        if size > file.stored.bytes or now - self._touched[number] > TOUCHED_SECONDS:
            await pools.write(files.keep_space, file, size=size)
            self._touched[number] = now
        await on_thread(receiving.write, data)

    async def _complete(self, number: int) -> Json:
        receiving = self._open[number]
        await on_thread(receiving.complete)
        file, doomed = await pools.write(
            files.complete_file,
            receiving.file,
            size=receiving.size,
            sha256=receiving.sha256,
            root_id=self._root_id,
        )
        del self._open[number]
        await on_thread(receiving.close)
        await _remove(doomed)
        return file.value

    async def _drop(self, number: int) -> None:
        receiving = self._open.pop(number, None)
        if receiving is not None:
            await on_thread(receiving.close, keep=False)
            await _remove(await pools.write(files.give_up, receiving.file))


async def _remove(doomed: Doomed) -> None:
    if doomed:
        await on_thread(files.remove_objects, doomed)
        await pools.write(files.forget_objects, doomed)
