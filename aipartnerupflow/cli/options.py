"""Options, exit codes and the choice of the server, shared by all commands."""

import inspect
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, NoReturn

import orjson
import typer

from aipartnerupflow.cli import output
from aipartnerupflow.program import with_flags

if TYPE_CHECKING:
    from apflow_site.config import Config

Command = Callable[..., None]

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings. Environment variables and flags override it.")
]
ServerUrl = Annotated[
    str | None, typer.Option("--url", envvar="AIPARTNERUPFLOW_URL", help="URL of the server (default: the local one).")
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="AIPARTNERUPFLOW_TOKEN", help="Token from POST /auth/login, or an API key."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
Fields = Annotated[str | None, typer.Option(metavar="NAMES", help="Only these fields, with commas between them.")]


COMPLETION_SECONDS: Final = 2.0
"""The seconds that the shell may wait for completions."""


def _ids_like(incomplete: str) -> list[str]:
    """Complete ids in the shell: those of the 100 newest roots.

    Empty if the server does not answer within COMPLETION_SECONDS.
    """
    import httpx

    url, token = os.environ.get("AIPARTNERUPFLOW_URL"), os.environ.get("AIPARTNERUPFLOW_TOKEN")
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks.list", "params": {"limit": 100, "fields": ["id"]}}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        found = httpx.post(
            f"{url or _local_url(configure(None, {}))}/tasks", json=body, headers=headers, timeout=COMPLETION_SECONDS
        ).json()
    except (httpx.HTTPError, ValueError, typer.Exit):
        return []
    return [task["id"] for task in found.get("result", []) if task["id"].startswith(incomplete)]


TaskId = Annotated[str, typer.Argument(metavar="ID", help="Task id.", autocompletion=_ids_like)]
TaskIds = Annotated[list[str], typer.Argument(metavar="ID...", help="One or more task ids.", autocompletion=_ids_like)]
Watched = Annotated[bool, typer.Option("--watch", help="Show each step as it happens.")]
Awaited = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the run ends, or return at once.")]
Timeout = Annotated[float | None, typer.Option(min=0, help="Stop waiting after this many seconds. The run continues.")]


class ExitCode(IntEnum):
    """Exit codes of all commands; docs/reference/cli.md describes them."""

    OK = 0
    FAILED = 1
    REFUSED = 2
    NOT_FOUND = 3
    AUTHENTICATION = 4
    TIMED_OUT = 5
    UNREACHABLE = 6
    NOT_WRITTEN = output.NOT_WRITTEN
    INTERRUPTED = 130
    READER_GONE = output.READER_GONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server that a command calls."""

    url: str
    token: str | None


def to_server(command: Command) -> Command:
    """Decorate a command that calls a server.

    Adds the options --url, --token and --config and passes them to the command as a `Server`, its
    first argument. An RpcError is printed and becomes an exit code.
    """

    def with_options(*, url: str | None, token: str | None, config: Path | None, **arguments: Any) -> None:
        # The flags that name the server, unless the environment does so for the next command, too.
        flags = [] if url is None or url == os.environ.get("AIPARTNERUPFLOW_URL") else ["--url", url]
        flags += [] if config is None else ["--config", str(config)]
        with exit_codes(), with_flags(*flags):
            address = url or _local_url(configure(config, {}))
            command(Server(url=address, token=token.strip() if token else None), **arguments)

    _, *own = inspect.signature(command).parameters.values()
    options = {"url": ServerUrl, "token": Token, "config": ConfigFile}
    return _declared(with_options, command, [*own, *itertools.starmap(_option, options.items())])


def asks(
    shown: Callable[[Any], None],
    *,
    piped: Callable[[Any], None] = output.as_lines,
    exit_code: Callable[[Any], ExitCode] = lambda _: ExitCode.OK,
) -> Callable[[Callable[..., Any]], Command]:
    """Decorate a command that makes one request: it gets a Client and returns the reply to print.

    `shown` prints the reply to a terminal, `piped` to a pipe or file; `exit_code` chooses the exit
    code.
    """

    def decorate(command: Callable[..., Any]) -> Command:
        def ask(server: Server, *, as_json: bool, **arguments: Any) -> None:
            from aipartnerupflow.client import Client

            with Client(server.url, token=server.token) as client:
                answer = command(client, **arguments)
            if not as_json:
                output.warn(answer.get("warnings", []) if isinstance(answer, dict) else [])
            output.answer(answer, shown=shown, piped=piped, as_json=as_json)
            raise typer.Exit(exit_code(answer))

        parameters = inspect.signature(command).parameters.values()
        return to_server(_declared(ask, command, [*parameters, _option("as_json", AsJson, default=False)]))

    return decorate


def _option(name: str, annotation: Any, *, default: object = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _declared(function: Command, command: Callable[..., Any], parameters: list[inspect.Parameter]) -> Command:
    """Give the function the name and help of the command, and the parameters that Typer reads."""
    result = wraps(command)(function)
    result.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    result.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return result


@contextmanager
def exit_codes() -> Iterator[None]:
    """Print an RpcError and raise typer.Exit with its exit code."""
    from aipartnerupflow import client

    codes = {
        client.NotFound: ExitCode.NOT_FOUND,
        client.AuthenticationFailed: ExitCode.AUTHENTICATION,
        client.TimedOut: ExitCode.TIMED_OUT,
        client.InvalidRequest: ExitCode.REFUSED,
        client.Conflict: ExitCode.REFUSED,
    }
    try:
        yield
    except client.RpcError as error:
        faults = error.data if isinstance(error.data, list) else []
        lines = [error.message]
        if isinstance(error, client.AuthenticationFailed):
            lines.append("Pass a token from POST /auth/login, or an API key, with --token or AIPARTNERUPFLOW_TOKEN.")
        elif len(faults) > 1:
            lines = ["Invalid params:", *(f"- {fault['field']}: {fault['reason']}" for fault in faults)]
        output.error(*lines)
        # Also for internal errors and limits of the server: retry later.
        raise typer.Exit(codes.get(type(error), ExitCode.UNREACHABLE)) from None


def fields_of(text: str | None) -> Any:
    """Return the names in the option `--fields`, as a parameter of a list; none without the option."""
    return {} if text is None else {"fields": [name for part in text.split(",") if (name := part.strip())]}


class Given(NamedTuple):
    """The JSON value of an option. Tells an explicit null from an omitted option."""

    value: Any


def json_value(text: str) -> Given:
    try:
        return Given(orjson.loads(text))
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}") from None


def json_option(text: str) -> Any:
    return typer.Option(parser=json_value, metavar="JSON", help=text)


def _local_url(config: "Config") -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.server.host, config.server.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{config.server.port}"


def configure(file: Path | None, flags: Mapping[str, object]) -> "Config":
    """Return the validated configuration, with the flags applied.

    Flags become environment variables, so child processes see them too. Raises typer.Exit if a
    setting is invalid.
    """
    from apflow_site.config import FILE_VARIABLE, ConfigError, get_config, variables

    if file is not None:
        os.environ[FILE_VARIABLE] = str(file.resolve())
    for key, value in flags.items():
        if value is not None:
            os.environ[variables(key)[0]] = str(value).lower() if isinstance(value, bool) else str(value)
    try:
        return get_config()
    except ConfigError as error:
        refuse(str(error))


def refuse(message: str) -> NoReturn:
    output.error(message)
    raise typer.Exit(ExitCode.REFUSED)
