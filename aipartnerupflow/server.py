"""What the commands do that need the Django project: serve, work, examples. Imported after the configuration is checked."""

import errno
import os
import shlex
import signal
import socket
import sys
import threading
from pathlib import Path
from shutil import which
from typing import NoReturn
from urllib.parse import unquote

import django
import psutil
import typer
import uvicorn
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from rich.console import Console
from rich.panel import Panel

from aipartnerupflow import __version__
from apflow_site.config import FILE_VARIABLE, PREFIX, Config, ConfigError, get_config

GRACEFUL_SECONDS = 5
"""So long open streams may go on after SIGTERM; then their clients resume elsewhere."""
DEFAULT_PORT = 8000
EXAMPLE = Path("docs/examples/hello.json")
"""Where a checkout has a tree to try."""

errors = Console(stderr=True)


def serve(*, reload: bool) -> None:
    """Prepare the database, say where everything is, and serve until a signal."""
    config = get_config()
    warnings = _check_exposure(config)
    _check_port(config.server.host, config.server.port, host_option="--host ", port_option="--port ")
    prepare()
    _check_message_handler()
    _show_box(config, warnings)
    # Uvicorn, when it has ended well, sends itself the signal again, so that by default the exit code would be that of a kill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        "aipartnerupflow.api.main:app",
        host=config.server.host,
        port=config.server.port,
        workers=None if reload else config.server.workers,
        reload=reload,
        log_config=None,  # what it logs goes where all logs go, past the filter that masks keys
        log_level="warning",
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        ws="apflow_site.uvicorn_websocket:AnsweringWebSocket",
        ws_max_size=config.limits.body_bytes,
    )


def work() -> None:
    """Keep a worker cluster until a signal, then drain it."""
    prepare()
    from tasks.worker.supervisor import Stop, supervise  # needs Django's apps

    _offer_metrics(get_config())
    stop = Stop()
    supervisor = threading.Thread(target=supervise, args=[stop], kwargs={"may_start": lambda: True}, name="supervisor")
    for number, react in ((signal.SIGTERM, stop.ask), (signal.SIGINT, stop.interrupt)):
        signal.signal(number, lambda *_, react=react: threading.Thread(target=react).start())
    supervisor.start()
    typer.echo("Workers are running. Ctrl+C lets them finish and stops them.")
    supervisor.join()


def _offer_metrics(config: Config) -> None:
    from apflow_site.metrics import serve_metrics  # needs Django's apps

    if (port := config.worker.metrics_port) is not None:
        _check_port(config.server.host, port, host_option="server.host: ", port_option="worker.metrics_port: ")
        serve_metrics(config.server.host, port)


def init_examples(*, force: bool) -> None:
    prepare()
    from tasks.services.examples import init_examples as store  # needs Django's apps

    stored = store(force=force)
    typer.echo("\n".join(stored) if stored else "All examples are there already. --force replaces them.")


def rotate_keys() -> None:
    prepare()
    try:
        call_command("rotate_llm_keys")
    except CommandError as error:
        _refuse(str(error))


def prepare() -> None:
    """Load Django and bring the database up to date, or say why not."""
    try:
        django.setup()
        from apflow_site.prepare import prepare as bring_up_to_date  # needs Django's apps
        from tasks.executors import executor_ids

        executor_ids()
        bring_up_to_date()
    except (ConfigError, ImproperlyConfigured) as error:
        _refuse(str(error))
    except DatabaseError as error:
        _refuse(
            f"The database does not work: {str(error).strip()}\nCheck database.url (AIPARTNERUPFLOW_DATABASE_URL) and that it is running."
        )
    os.environ["APFLOW_INTERNAL_PREPARED"] = "1"


def _check_message_handler() -> None:
    from a2a.protocol.message_handler import message_handler  # needs Django's apps

    try:
        message_handler()
    except ImproperlyConfigured as error:
        _refuse(str(error))


def _check_exposure(config: Config) -> list[str]:
    """What an operator should know about who can reach this server."""
    from accounts.secret import MAKE_A_SECRET, weak_secret

    secret = config.auth.jwt_secret
    weakness = weak_secret(secret, elsewhere=_other_secrets(config)) if config.auth.is_on and secret else None
    if weakness and not config.server.is_local:
        _refuse(
            f"auth.jwt_secret {weakness}: anyone could make tokens for this server, which others than this machine can reach.\n"
            f"Make a secret of its own: {MAKE_A_SECRET}"
        )
    warnings = [f"auth.jwt_secret: {weakness}. {MAKE_A_SECRET}"] if weakness else []
    if config.is_open:
        warnings.append(
            "Authentication is off: whoever reaches this server can run tasks. Set AIPARTNERUPFLOW_JWT_SECRET."
        )
    if config.server.workers > 1 and config.database.url.startswith("sqlite"):
        warnings.append("SQLite has one writer at a time: several web processes want PostgreSQL (database.url).")
    if config.llm.key_store == "memory":
        warnings.append(
            "llm.key_store is memory: workers, being other processes, do not see the keys that users store."
        )
    return warnings


def _other_secrets(config: Config) -> list[str]:
    """Texts that hold the other secrets of this installation: its URLs with passwords, and the key that signs sessions."""
    key = Path(config.server.data_dir, "secret_key")
    urls = (unquote(config.database.url), unquote(config.redis.url or ""))
    return [*urls, key.read_text(encoding="ascii") if key.exists() else ""]


def _check_port(host: str, port: int, *, host_option: str, port_option: str) -> None:
    """Refuse at once when the host is not of this machine or the port is taken, and name who has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                _refuse(
                    f"Cannot listen on {host}: {error.strerror}. The host must be an address of this machine.\n"
                    f"Choose another one: {host_option}127.0.0.1"
                )
            other = DEFAULT_PORT if port < 1024 or port == 65535 else port + 1
            _refuse(
                f"Cannot listen on {host}:{port}: {error.strerror}{_holder(port)}.\nChoose another one: {port_option}{other}"
            )


def _holder(port: int) -> str:
    try:
        found = [
            c.pid for c in psutil.net_connections("inet") if c.status == "LISTEN" and c.laddr and c.laddr.port == port
        ]
    except psutil.AccessDenied:
        return ""
    pid = next((pid for pid in found if pid), None)
    return f" by process {pid} ({' '.join(psutil.Process(pid).cmdline())[:80]})" if pid else ""


def _show_box(config: Config, warnings: list[str]) -> None:
    url = (config.server.public_url or _local_url(config)).rstrip("/")
    worker = "started with the server" if config.worker.embedded else f"not here: {_command('worker', *_config_flag())}"
    lines = [
        f"Dashboard   {url}/",
        f"JSON-RPC    POST {url}/tasks and {url}/ (A2A's shapes)",
        f"REST        {url}/docs",
        f"Agent card  {url}/.well-known/agent-card.json",
        f"Operate     {url}/admin/, {url}/metrics, {url}/ready",
        f"Database    {_without_password(config.database.url)}",
        f"Worker      {worker}",
        *(f"[yellow]Warning     {warning}[/yellow]" for warning in warnings),
    ]
    console = Console()
    console.print(Panel("\n".join(lines), title=f"aipartnerupflow {__version__}", expand=False))
    # Below the box, where no line is broken: these are copied.
    for line in (*_login_lines(config, url), *_try_lines(config)):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _local_url(config: Config) -> str:
    """Where this machine reaches the server."""
    host = "localhost" if config.server.host in ("127.0.0.1", "0.0.0.0", "::") else config.server.host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{config.server.port}"


def _try_lines(config: Config) -> list[str]:
    """A command that works from the folder where the server was started, and, where one needs a token, how to get it."""
    words = ["run", str(EXAMPLE), "--watch"] if EXAMPLE.exists() else ["tasks", "list"]
    url = _local_url(config)
    if url != f"http://localhost:{DEFAULT_PORT}" or f"{PREFIX}URL" in os.environ:
        words += ["--url", url]
    if not config.auth.is_on:
        return [f"Try         {_command(*words)}"]
    return [
        f"Try         {_command(*words, '--token', 'TOKEN')}",
        f"            TOKEN is what this prints: {_command('tokens', 'create', 'NAME', *_config_flag())}",
    ]


def _command(*words: str) -> str:
    """What to type for this program and these words: its name, or, where the shell would not find it, its path."""
    script = Path(sys.executable).with_name("aipartnerupflow")
    name = script.name if which(script.name) or not script.exists() else _from_here(script)
    return shlex.join([name, *words])


def _config_flag() -> list[str]:
    """What a command on the database needs, to work on this one."""
    path = os.environ.get(FILE_VARIABLE)
    return ["--config", _from_here(Path(path))] if path else []


def _from_here(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _login_lines(config: Config, url: str) -> list[str]:
    """How to get in, where one has to."""
    if not config.auth.is_on:
        return []
    from accounts.logins import make_link  # needs Django's apps
    from accounts.users import first_admin

    admin = first_admin()
    if admin is None:
        create = _command("users", "create", "NAME", "--role", "admin", *_config_flag())
        return [f"Log in      there is no admin yet: {create}"]
    return [
        f"Log in      {url}/login/link/{make_link(admin)}/",
        f"            as {admin.username}, once, within 15 minutes",
    ]


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://…@{tail}" if at else url


def _refuse(message: str) -> NoReturn:
    errors.print(message, style="red", markup=False, highlight=False)
    sys.exit(2)
