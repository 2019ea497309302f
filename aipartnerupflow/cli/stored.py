"""`aipartnerupflow files …`: files on a server, sent from and stored in local files."""

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import asks, refuse
from aipartnerupflow.program import command

if TYPE_CHECKING:
    from aipartnerupflow.client import Client
    from aipartnerupflow.client.types import FileInfo

    Json = dict[str, Any]

files = typer.Typer(no_args_is_help=True, help="Send files to a server, and get them from it.")

PAGE: Final = 1000
NAME_BYTES: Final = 200
"""The most bytes of a local name: systems take 255, and what is being stored has a longer one."""
SUFFIX_CHARACTERS: Final = 20
NOT_LOCAL: Final = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
FileId = Annotated[str, typer.Argument(metavar="ID", help="Id of the file.")]


@files.command("put")
@asks(show.file_stored)
def put_file(
    client: "Client",
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Local file.")],
    name: Annotated[str | None, typer.Option(help="Name on the server (default: that of the file).")] = None,
    media_type: Annotated[str | None, typer.Option(help="Media type (default: the usual one of the name).")] = None,
) -> Any:
    """Send a file, and print it as a value for the inputs of tasks."""
    try:
        return client.upload(path, name=name, media_type=media_type)
    except OSError as error:
        refuse(f"Cannot read {path}: {error.strerror or error}.")


@files.command("get")
@asks(show.file_fetched)
def get_file(
    client: "Client",
    file_id: FileId,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="Local file or folder (default: the name of the file, here).")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", "-o", help="Another way to give PATH.")] = None,
) -> Any:
    """Store a file of the server here."""
    if path is not None and to is not None:
        refuse("Name the local file once: as PATH, or with --to.")
    given = path or to
    file = client.file(file_id)
    name = local_name(file["name"])
    target = Path(name) if given is None else given / name if given.is_dir() else given
    if given is None and target.exists():
        refuse(f"{target} exists. Name the local file: {command('files', 'get', file_id, 'PATH')}.")
    try:
        return {"path": str(client.download(file_id, target)), "bytes": file["bytes"]}
    except OSError as error:
        refuse(f"Cannot write {target}: {error.strerror or error}.")


def files_of_run(client: "Client", run_id: str) -> "list[FileInfo]":
    """Return the files that the tree of a run names, the newest first."""
    found: list[FileInfo] = []
    cursor: str | None = None
    while page := client.files(limit=PAGE, cursor=cursor, run_id=run_id):
        found += page["files"]
        if (cursor := page["next_cursor"]) is None:
            break
    return found


def download_all(client: "Client", run_id: str, folder: Path, *, replaces: bool) -> "list[Json]":
    """Store the files of a run in a folder, equal names with numbers, and return their ids and paths. Raises typer.Exit."""
    targets: dict[Path, FileInfo] = {}
    taken = set[str]()
    for file in reversed(files_of_run(client, run_id)):  # the oldest first: further files of a run change no name
        name = number = local_name(file["name"])
        for count in itertools.count(2):
            if number.lower() not in taken:
                break
            number = f"{Path(name).stem} ({count}){Path(name).suffix}"
        taken.add(number.lower())
        targets[folder / number] = file
    if not replaces and (there := [path for path in targets if path.exists()]):
        refuse(f"{there[0]} exists, and nothing was stored. Name another folder, or replace files with --force.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, file in targets.items():
            client.download(file["id"], path)
    except OSError as error:
        refuse(f"Cannot write {error.filename or folder}: {error.strerror or error}.")
    return [{"id": file["id"], "path": str(path), "bytes": file["bytes"]} for path, file in targets.items()]


def local_name(name: str) -> str:
    """Return a name without a path, hidden files, and characters that a system may not take; the server is not believed."""
    plain = NOT_LOCAL.sub("_", name).strip()
    plain = re.sub(r"^\.+", "_", plain) or "file"
    suffix = Path(plain).suffix[:SUFFIX_CHARACTERS]
    stem = plain.removesuffix(Path(plain).suffix).encode()[: NAME_BYTES - len(suffix.encode())]
    return stem.decode(errors="ignore") + suffix


@files.command("ls")
@asks(show.files, piped=lambda answer: output.as_lines(answer["files"]))
def list_files(
    client: "Client",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most files to list.")] = 100,
) -> Any:
    """List the files, the newest first."""
    return client.files(limit=limit)


@files.command("rm")
@asks(show.file_deleted)
def delete_file(client: "Client", file_id: FileId) -> Any:
    """Delete a file that no tree and no flow names."""
    return client.delete_file(file_id)


@files.command("link")
@asks(show.file_link)
def link_file(
    client: "Client",
    file_id: FileId,
    minutes: Annotated[int | None, typer.Option(min=1, help="Minutes for which it is valid.")] = None,
) -> Any:
    """Print a link with which a browser may read the file for some minutes without a login."""
    return client.link_file(file_id, minutes=minutes)
