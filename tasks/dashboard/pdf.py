"""The first pages of a PDF as images. The process that draws them has little time and memory, and can read nothing but the file."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from weakref import WeakValueDictionary

import orjson

from aipartnerupflow.executors import ExecutorError
from tasks.executors.command.guarded_process import Limits, Order, running
from tasks.models import File
from tasks.rules.extras import is_installed
from tasks.rules.previews import LARGEST_IMAGE, NO_PDF, Preview
from tasks.services import files
from tasks.storage.file_store import StoredObject, on_thread

PROGRAM: Final = str(Path(__file__).with_name("pdf_program.py"))
AT_ONCE: Final = 2
SECONDS: Final = 30.0
"""The timeout of the program. It is longer than its limit of processor time, so that it does not expire first on a busy machine."""
LIMITS: Final = Limits(cpu_seconds=5, memory_bytes=512 * 2**20, file_bytes=0, processes=1, output_bytes=8 * 2**20)
TOO_LARGE: Final = "The PDF is too large to show. Download it to read it."
CANNOT_SHOW: Final = "The pages cannot be shown: the PDF is damaged or encrypted, or takes too much time or memory. Download it to read it."


class Places:
    """Lets few PDFs be read at a time, and one of each user, so that a user waits for one of each other user at most."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(AT_ONCE)
        self._of = WeakValueDictionary[str, asyncio.Lock]()

    @asynccontextmanager
    async def taken_by(self, user_id: str) -> AsyncIterator[None]:
        own = self._of.setdefault(user_id, asyncio.Lock())
        async with own, self._all:
            yield


places: Final = cache(Places)


async def pdf_preview(file: File, *, reader: str) -> Preview:
    """Return the first pages, or the reason why they are not shown."""
    if not is_installed("pdf"):
        return Preview(kind="nothing", reason=NO_PDF)
    if (file.bytes or 0) > LARGEST_IMAGE:
        return Preview(kind="nothing", reason=TOO_LARGE)
    async with places().taken_by(reader):
        with TemporaryDirectory(prefix="apflow-pdf-", ignore_cleanup_errors=True) as home:
            path = Path(home, "document.pdf")
            await on_thread(_store, files.stored_object(file), path)
            try:
                printed = await _printed(path)
            except ExecutorError:
                printed = b""
    if not printed:
        return Preview(kind="nothing", reason=CANNOT_SHOW)
    found = orjson.loads(printed)
    pages, count = [str(image) for image in found["images"]], int(found["count"])
    return Preview(kind="pages", pages=pages, count=count, is_cut=count > len(pages))


def _store(stored: StoredObject, path: Path) -> None:
    with path.open("wb") as opened:
        opened.writelines(stored.read())


async def _printed(path: Path) -> bytes:
    """Return what the program prints; nothing if it ends in another way than well. Raises ExecutorError if it cannot be started."""
    library = find_spec("pypdfium2")
    packages = [str(Path(library.origin).parents[1])] if library and library.origin else []
    order = Order(
        program=sys.executable,
        argv=[sys.executable, "-I", "-X", "utf8", PROGRAM, str(path)],
        home=str(path.parent),
        cwd=str(path.parent),
        writable=(),
        readable=(sys.prefix, sys.base_prefix, *packages, PROGRAM),
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        stdin="",
        limits=LIMITS,
    )

    async def begin() -> None:
        return

    async with running(order, log=lambda line: None, begin=begin) as process:
        has_ended = await process.has_ended(within_seconds=SECONDS)
    return bytes(process.stdout) if has_ended and process.return_code == 0 and not process.is_flooding else b""
