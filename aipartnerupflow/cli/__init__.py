"""The `aipartnerupflow` command.

Commands import what is slow to import (Django, httpx) when they run, so that `--help` is fast.
"""

import sys
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

from aipartnerupflow import __version__, bootstrap
from aipartnerupflow.cli import operate
from aipartnerupflow.cli.cache import cache
from aipartnerupflow.cli.evals import datasets, evals
from aipartnerupflow.cli.examples import complete_help
from aipartnerupflow.cli.files import InputsFile, RunInputs, Tags, inputs_of
from aipartnerupflow.cli.flows import NewRun, flows, run_call
from aipartnerupflow.cli.hooks import hooks
from aipartnerupflow.cli.importing import import_
from aipartnerupflow.cli.judges import judges
from aipartnerupflow.cli.limits import limits, pause, resume
from aipartnerupflow.cli.notifications import notifications, webhooks
from aipartnerupflow.cli.operate import audit
from aipartnerupflow.cli.options import (
    AsJson,
    Awaited,
    ConfigFile,
    ExitCode,
    Server,
    TaskId,
    Timeout,
    Watched,
    configure,
    refuse,
    to_server,
)
from aipartnerupflow.cli.output import error as error_line
from aipartnerupflow.cli.output import room_to_write
from aipartnerupflow.cli.runs import runs, status, usage
from aipartnerupflow.cli.schedules import schedules
from aipartnerupflow.cli.secrets import keys, secrets
from aipartnerupflow.cli.skill import skill
from aipartnerupflow.cli.stored import files
from aipartnerupflow.cli.tasks import events, generate, questions, tasks
from aipartnerupflow.cli.users import tokens, users

FLAGS: Final = MappingProxyType(
    {
        "server.host": "--host",
        "server.port": "--port",
        "a2a.grpc_port": "--grpc-port",
        "server.workers": "--workers",
        "worker.embedded": "--no-worker",
    }
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
examples = typer.Typer(no_args_is_help=True, help="Manage the example trees.")
app.add_typer(tasks, name="tasks")
app.add_typer(runs, name="runs")
app.add_typer(flows, name="flows")
app.add_typer(datasets, name="datasets")
app.add_typer(evals, name="evals")
app.add_typer(judges, name="judges")
app.add_typer(questions, name="questions")
app.add_typer(events, name="events")
app.add_typer(examples, name="examples")
app.add_typer(users, name="users")
app.add_typer(tokens, name="tokens")
app.add_typer(keys, name="keys")
app.add_typer(secrets, name="secrets")
app.add_typer(limits, name="limits")
app.add_typer(cache, name="cache")
app.add_typer(files, name="files")
app.add_typer(schedules, name="schedules")
app.add_typer(notifications, name="notifications")
app.add_typer(webhooks, name="webhooks")
app.add_typer(hooks, name="hooks")
app.add_typer(skill, name="skill")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default: 8000).")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port for A2A over gRPC (default: none).")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of web processes (default: 1).")] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Load code again when it changes; for development.")] = False,
    config: ConfigFile = None,
    paused: Annotated[
        bool, typer.Option("--paused", help="Begin maintenance first: start no run and send no webhook.")
    ] = False,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Start no workers: they run elsewhere.")] = False,
) -> None:
    """Start the server and, unless --no-worker is given, its workers."""
    flags = {
        "server.host": host,
        "server.port": port,
        "a2a.grpc_port": grpc_port,
        "server.workers": workers,
        "worker.embedded": False if no_worker else None,
    }
    _serve(flags, config, reload=reload, paused=paused)


def _serve(
    flags: dict[str, Any],
    config: Path | None,
    *,
    reload: bool = False,
    paused: bool = False,
    folder: Path | None = None,
) -> None:
    from aipartnerupflow import server
    from apflow_site.config import ConfigError, check_flags

    try:
        check_flags({key: value for key, value in flags.items() if value is not None}, names=FLAGS)
    except ConfigError as error:
        refuse(str(error))
    configure(config, flags)
    server.serve(reload=reload, paused=paused, folder=folder)


@app.command()
def dev(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of your Python files.")],
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default: 8000).")] = None,
    config: ConfigFile = None,
) -> None:
    """Start a server for development: it finds the functions, executors, graphs and crews of FOLDER, and reloads them."""
    if not folder.is_dir():
        refuse(f"{folder} is {'no folder' if folder.exists() else 'not there'}. Name the folder of your Python files.")
    _serve({"server.host": host, "server.port": port}, config, folder=folder.resolve())


@app.command()
def worker(config: ConfigFile = None) -> None:
    """Start workers without a server. They stop with this command."""
    from aipartnerupflow import server

    configure(config, {})
    server.work()


@app.command()
@to_server
def run(
    server: Server,
    file: NewRun,
    inputs: RunInputs = None,
    inputs_file: InputsFile = None,
    tags: Tags = None,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Version of the flow (default: the newest).")
    ] = None,
    watch: Watched = False,
    wait: Awaited = True,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Run a tree from a file, a flow, or a workflow, whose arguments are its inputs, on a server. Exits 1 if the run does not complete."""
    from aipartnerupflow.cli import watching

    code = watching.run(
        server,
        run_call(file, inputs_of(inputs, inputs_file, to=server), version=version, tags=tags),
        is_watched=watch,
        is_awaited=wait,
        timeout_seconds=timeout,
        as_json=as_json,
    )
    raise typer.Exit(code)


@app.command()
@to_server
def logs(
    server: Server,
    task_id: TaskId,
    is_all: Annotated[bool, typer.Option("--all", help="All events, not only log lines and failures.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the log lines of a tree's latest run, and follow the run. For a task below the root, print only its own."""
    from aipartnerupflow.cli import watching as log_lines

    log_lines.follow(server, task_id, is_all=is_all, as_json=as_json)


app.command()(generate)
app.command("import")(import_)
app.command()(audit)
operate.register(app)
app.command()(status)
app.command()(usage)
app.command()(pause)
app.command()(resume)


@examples.command("init")
def examples_init(
    force: Annotated[bool, typer.Option("--force", help="Also replace existing examples.")] = False,
    config: ConfigFile = None,
) -> None:
    """Store missing example trees."""
    from aipartnerupflow import server

    configure(config, {})
    server.init_examples(force=force)


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    typer.echo(f'{{"version": "{__version__}"}}' if as_json else __version__)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        version()
        raise typer.Exit


@app.callback()
def options(
    is_asked: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Store, run and inspect trees of tasks for AI agents.

    --url, --token and --config, which name a server, may also precede the command.
    """


complete_help(app)


def main() -> None:
    """Run the console script `aipartnerupflow`."""
    _bootstrap()
    with room_to_write():
        app()


def serve_main() -> None:
    """Run the console script `aipartnerupflow-server`: the command `serve` with its flags."""
    _bootstrap()
    typer.run(serve)


def _bootstrap() -> None:
    try:
        bootstrap()
    except ImportError as error:
        error_line(str(error))
        sys.exit(ExitCode.REFUSED)
    from tasks.own_process import hide_memory  # importable only now

    hide_memory()
