"""Files of functions: an argument whose type is `File` is a file of this machine, and a `File` in the result is saved."""

import asyncio
import typing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aipartnerupflow.executors import File, Files, Json
from aipartnerupflow.executors.files import is_file
from aipartnerupflow.executors.functions import Function


@cache
def has_files(function: Function) -> bool:
    """Return whether the annotations of a function, which may be wrong, have `File` anywhere."""
    return bool(_with_files(function))


@cache
def _with_files(function: Function) -> frozenset[str]:
    """Return the parameters of a function, and `return`, whose annotations have `File`."""
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001  (an annotation may name anything, and a call does not need it)
        return frozenset()
    return frozenset(name for name, hint in hints.items() if _has_file(hint))


def _has_file(hint: Any) -> bool:
    return hint is File or any(map(_has_file, typing.get_args(hint)))


@asynccontextmanager
async def local_files(function: Function, arguments: Json, files: Files) -> AsyncIterator[Json]:
    """Store the files of these arguments in a folder of their own for the block. Raises ExecutorError."""
    wanted = _with_files(function)
    with TemporaryDirectory(prefix="apflow-files-", ignore_cleanup_errors=True) as folder:
        stored = 0

        async def local(value: Any) -> Any:
            nonlocal stored
            if is_file(value):
                stored += 1
                known = await files.info(value)
                place = Path(folder, str(stored))
                await asyncio.to_thread(place.mkdir)
                path = await files.copy(known, place / known["name"])
                return File(path, name=known["name"], media_type=known["media_type"])
            if isinstance(value, list):
                return [await local(each) for each in value]
            if isinstance(value, dict):
                return {name: await local(each) for name, each in value.items()}
            return value

        yield {name: await local(value) if name in wanted else value for name, value in arguments.items()}


async def with_saved(result: Any, files: Files) -> Any:
    """Return the result with each `File` saved. Raises ExecutorError."""
    if isinstance(result, File):
        if result.value is not None:
            return result.value
        return await files.save(result.name, result.path, media_type=result.media_type)
    if isinstance(result, dict):
        return {name: await with_saved(value, files) for name, value in result.items()}
    if isinstance(result, list | tuple):
        return [await with_saved(value, files) for value in result]
    return result
