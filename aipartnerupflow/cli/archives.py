"""ZIP archives of a flow or a run with its files: `flows export`, `flows import` and `runs export --archive`.

`flow.json` or `run.json` is the document, `files.json` lists the files as the server knows them, and `files/ID` has the bytes of
each. Names of files are data: nothing is stored by them.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import orjson

from aipartnerupflow.cli.options import refuse
from tasks.rules.files import FILE, is_file, named_once

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

    Json = dict[str, Any]

LISTED: Final = "files.json"
MOST_DOCUMENT_BYTES: Final = 64 * 2**20


def write(client: "Client", path: Path, document: Any, *, name: str, files: "Iterable[Json]") -> "Json":
    """Store the document and the files, one after the other, in a new archive. Raises typer.Exit if that is impossible."""
    if path.exists():
        refuse(f"{path} exists. Choose another name, or remove it first.")
    files = list(files)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=path.name) as folder:
            part = Path(folder, "archive")
            with ZipFile(part, "x", ZIP_STORED) as archive:
                archive.writestr(name, orjson.dumps(document, option=orjson.OPT_INDENT_2))
                archive.writestr(LISTED, orjson.dumps(files, option=orjson.OPT_INDENT_2))
                for file in files:
                    stored = client.download(file[FILE], Path(folder, "file"))
                    archive.write(stored, f"files/{file[FILE]}")
            part.rename(path)
    except OSError as error:
        refuse(f"Cannot write {error.filename or path}: {error.strerror or error}.")
    return {"path": str(path), "bytes": path.stat().st_size, "files": len(files)}


def files_named(client: "Client", document: Any) -> "Iterator[Json]":
    """Yield the files that a document names, as the server knows them."""
    for file in named_once(document):
        value: Any = client.file(file[FILE])["file"]
        yield value


@contextmanager
def sent(client: "Client", path: Path, *, name: str) -> Iterator[Any]:
    """For the block: the document of an archive, whose files are the caller's on the server. If the block fails, they are deleted again.

    Raises typer.Exit if the archive is none.
    """
    ours: dict[str, Json] = {}
    try:
        with ZipFile(path) as archive:
            document, listed = _read(archive, name), _read(archive, LISTED)
            for file in listed:
                ours[file[FILE]] = _sent(client, archive, file)
        yield _with(document, ours)
    except BaseException as error:
        for value in ours.values():
            client.delete_file(value[FILE])
        if isinstance(error, OSError | BadZipFile | KeyError | TypeError | orjson.JSONDecodeError):
            refuse(f"Cannot read {path} as an archive of `flows export`: {error}.")
        raise


def _read(archive: ZipFile, name: str) -> Any:
    with archive.open(name) as opened:
        text = opened.read(MOST_DOCUMENT_BYTES + 1)
    if len(text) > MOST_DOCUMENT_BYTES:
        refuse(f"{name} has more than {MOST_DOCUMENT_BYTES:,} bytes.")
    return orjson.loads(text)


def _sent(client: "Client", archive: ZipFile, file: "Json") -> "Json":
    """Send a file of the archive. It is stored as it is, so it cannot be larger than the archive."""
    entry = archive.getinfo(f"files/{file[FILE]}")
    if entry.compress_type != ZIP_STORED:
        refuse(f"The file {entry.filename} is compressed. Archives of `flows export` have their files as they are.")
    with tempfile.NamedTemporaryFile() as local, archive.open(entry) as opened:
        shutil.copyfileobj(opened, local, 2**20)
        local.flush()
        value: Json = dict(client.upload(local.name, name=file["name"], media_type=file["media_type"]))
    if value["sha256"] != file["sha256"]:
        client.delete_file(value[FILE])
        refuse(f"The file {entry.filename} is not what was exported: its SHA-256 differs.")
    return value


def _with(value: Any, ours: "Mapping[str, Json]") -> Any:
    """Return the document with the files of this server instead of those of the other."""
    if isinstance(value, list):
        return [_with(each, ours) for each in value]
    if not isinstance(value, dict):
        return value
    if is_file(value):
        return value | ours.get(value[FILE], {})
    return {name: _with(each, ours) for name, each in value.items()}
