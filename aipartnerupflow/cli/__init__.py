"""The `aipartnerupflow` command. Everything heavy is imported inside the command that needs it, so that `--help` is instant."""

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

import typer

from aipartnerupflow import __version__, bootstrap
from aipartnerupflow.cli import operate
from aipartnerupflow.cli.examples import add_examples
from aipartnerupflow.cli.generate import generate
from aipartnerupflow.cli.keys import keys
from aipartnerupflow.cli.options import (
    AsJson,
    Awaited,
    ConfigFile,
    ExitCode,
    Server,
    TasksFile,
    Timeout,
    Watched,
    configure,
    read_tasks,
    refuse,
    to_server,
)
from aipartnerupflow.cli.output import error as error_line
from aipartnerupflow.cli.output import room_to_write
from aipartnerupflow.cli.tasks import tasks
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
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help="Trees of tasks for AI agents."
)
examples = typer.Typer(no_args_is_help=True, help="The example trees.")
app.add_typer(tasks, name="tasks")
app.add_typer(examples, name="examples")
app.add_typer(users, name="users")
app.add_typer(tokens, name="tokens")
app.add_typer(keys, name="keys")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on (8000).")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="A port for A2A over gRPC (none).")] = None,
    workers: Annotated[int | None, typer.Option(help="How many web processes (1).")] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Restart when the code changes (development).")] = False,
    config: ConfigFile = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Only serve; workers run elsewhere.")] = False,
) -> None:
    """Start the server and, unless told otherwise, a worker beside it."""
    from aipartnerupflow import server

    flags = {
        "server.host": host,
        "server.port": port,
        "a2a.grpc_port": grpc_port,
        "server.workers": workers,
        "worker.embedded": False if no_worker else None,
    }
    _check({key: value for key, value in flags.items() if value is not None})
    configure(config, flags)
    server.serve(reload=reload)


def _check(flags: Mapping[str, object]) -> None:
    """Raises typer.Exit when a flag has a value that is not allowed."""
    from apflow_site.config import ConfigError, check_flags

    try:
        check_flags(flags, names=FLAGS)
    except ConfigError as error:
        refuse(str(error))


@app.command()
def worker(config: ConfigFile = None) -> None:
    """Start workers only; they end when this command does."""
    from aipartnerupflow import server

    configure(config, {})
    server.work()


@app.command()
@to_server
def run(
    server: Server,
    file: TasksFile,
    watch: Watched = False,
    wait: Awaited = True,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Execute a new tree on a running server. Exit code 1: it did not complete."""
    from aipartnerupflow.cli import watching

    tasks = read_tasks(file)
    code = watching.run(
        server, tasks=tasks, is_watched=watch, is_awaited=wait, timeout_seconds=timeout, as_json=as_json
    )
    raise typer.Exit(code)


app.command()(generate)
operate.register(app)


@examples.command("init")
def examples_init(
    force: Annotated[bool, typer.Option("--force", help="Also replace the examples that are there.")] = False,
    config: ConfigFile = None,
) -> None:
    """Store the example trees that are missing."""
    from aipartnerupflow import server

    configure(config, {})
    server.init_examples(force=force)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


add_examples(app)


def main() -> None:
    """The console script `aipartnerupflow`."""
    _bootstrap()
    with room_to_write():
        app()


def serve_main() -> None:
    """The console script `aipartnerupflow-server`: `serve` with its flags."""
    _bootstrap()
    typer.run(serve)


def _bootstrap() -> None:
    try:
        bootstrap()
    except ImportError as error:
        error_line(str(error))
        sys.exit(ExitCode.REFUSED)
