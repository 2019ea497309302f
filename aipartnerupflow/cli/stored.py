"""`aipartnerupflow files …`: files on a server, sent from and stored in local files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import asks, refuse

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

files = typer.Typer(no_args_is_help=True, help="Send files to a server, and get them from it.")

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
    to: Annotated[
        Path | None, typer.Option("--to", "-o", help="Local file or folder (default: the name of the file, here).")
    ] = None,
) -> Any:
    """Store a file of the server here."""
    file = client.file(file_id)
    target = Path(file["name"]) if to is None else to / file["name"] if to.is_dir() else to
    if to is None and target.exists():
        refuse(f"{target} exists. Name the local file with --to.")
    try:
        return {"path": str(client.download(file_id, target)), "bytes": file["bytes"]}
    except OSError as error:
        refuse(f"Cannot write {target}: {error.strerror or error}.")


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
