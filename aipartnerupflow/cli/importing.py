"""`aipartnerupflow import`: the trees of the predecessor, with their statuses and results."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.options import AsJson, ConfigFile, ExitCode, configure, refuse

if TYPE_CHECKING:
    from aipartnerupflow.importing.importer import Report
    from aipartnerupflow.importing.sources import Source

LISTED: Final = 20
"""The number of trees that were left out, and of changes, that are printed as text."""

Database = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE", help="The predecessor's database: a file of DuckDB or SQLite, or a postgresql:// URL."
    ),
]
OldUrl = Annotated[str | None, typer.Option("--url", help="URL of the predecessor's server, to import while it runs.")]
OldToken = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="AIPARTNERUPFLOW_TOKEN", help="Token of an administrator of that server, for --url."
    ),
]
Table = Annotated[str, typer.Option("--table", help="Name of the table of tasks in the database.")]
Owner = Annotated[str, typer.Option("--user", help="Owner of the trees that have none.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Store nothing, and report what an import would do.")]


def import_(
    source: Database = None,
    url: OldUrl = None,
    token: OldToken = None,
    table: Table = "apflow_tasks",
    user: Owner = "local",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Import the trees of aipartnerupflow 0.9 or apflow 0.18. Exits 1 if it leaves out a tree.

    Works directly on the database; servers and workers may keep running.

    Trees that are here already are not imported again.
    """
    if (source is None) == (url is None):
        refuse("Give either SOURCE, the predecessor's database, or --url, its server.")
    from aipartnerupflow import server

    configure(config, {})
    server.prepare()
    from aipartnerupflow.importing.importer import import_source  # needs Django's apps
    from aipartnerupflow.importing.sources import CannotRead, open_source

    try:
        opened = open_source(str(source), table=table) if url is None else downloaded(url, token)
        with opened as found, _progress_bar(found.count()) as advance:
            report = import_source(found, default_user=user, dry_run=dry_run, advance=advance)
    except CannotRead as error:
        refuse(str(error))
    output.answer(report.as_json(), shown=lambda _: show_report(report), piped=output.as_document, as_json=as_json)
    raise typer.Exit(ExitCode.FAILED if report.left_out else ExitCode.OK)


@contextmanager
def downloaded(url: str, token: str | None) -> "Iterator[Source]":
    from rich.console import Console

    from aipartnerupflow.importing.sources import TABLE, download, sqlite_source

    with tempfile.TemporaryDirectory(prefix="aipartnerupflow-") as folder:
        file = Path(folder) / "tasks.sqlite3"
        with Console(stderr=True).status(f"{url} sends its tasks"):
            download(url, token, file)
        with sqlite_source(file, TABLE, title=url) as source:
            yield source


@contextmanager
def _progress_bar(total: int) -> Iterator[Callable[[int], object]]:
    """Show a bar on standard error, if that is a terminal. Yields what moves it by a number of tasks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("tasks", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("tasks", total=total)
        yield lambda number: progress.advance(bar, number)


def show_report(report: "Report") -> None:
    did = "Would import" if report.dry_run else "Imported"
    output.line(f"{did} {_trees(report.trees)} with {_tasks(report.tasks)} from {report.source}.")
    if report.schedules:
        output.line(f"{did} {report.schedules:,} {'schedule' if report.schedules == 1 else 'schedules'}.")
    if report.trees_here_already:
        present = f"{_trees(report.trees_here_already)} with {_tasks(report.tasks_here_already)}"
        output.line(f"Here already: {present}.")
    if report.left_out:
        output.line("Left out:", style="yellow")
        sizes = [f", {_tasks(each.tasks)}" if each.tasks else "" for each in report.left_out]
        lines = [
            f"{each.id} ({each.name}){size}: {each.reason}" for each, size in zip(report.left_out, sizes, strict=True)
        ]
        _show_some(lines)
    if report.notes:
        output.line("Changed, or not imported:")
        fields = ["".join(f" {name}={value}" for name, value in note.fields.items()) for note in report.notes]
        _show_some([f"{note.task_id}: {note.text}{text}" for note, text in zip(report.notes, fields, strict=True)])


def _trees(number: int) -> str:
    return f"{number:,} tree{'' if number == 1 else 's'}"


def _tasks(number: int) -> str:
    return f"{number:,} task{'' if number == 1 else 's'}"


def _show_some(lines: list[str]) -> None:
    for line in lines[:LISTED]:
        output.line(f"  {line}")
    if len(lines) > LISTED:
        output.line(f"  and {len(lines) - LISTED:,} more: --json lists all of them.")
