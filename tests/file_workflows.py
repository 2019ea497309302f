"""A workflow whose steps make and read files. `RAN` has the names of the steps that ran in this process, `FOLDER` what they write."""

from pathlib import Path
from typing import Any, Final

from aipartnerupflow.executors import File
from aipartnerupflow.workflows import step, workflow

RAN: Final[list[str]] = []
FOLDER: Final[list[Path]] = []


@step(idempotent=True)
async def write(text: str) -> File:
    RAN.append("write")
    path = FOLDER[0] / "made.md"
    path.write_text(text)
    return File(path)


@step(idempotent=True, pool="thread")
def join(documents: list[File]) -> dict[str, File]:
    RAN.append("join")
    path = FOLDER[0] / "joined.txt"
    path.write_text("".join(document.read_text() for document in documents))
    return {"joined": File(path, media_type="text/markdown")}


@workflow
async def report(document: File, opens: bool = False) -> dict[str, Any]:
    """Write a file, and join it to another one."""
    if opens:
        document.read_text()
    made = await write(f"{document.name}: ")
    return await join([made, document]) | {"kind": made.media_type}
