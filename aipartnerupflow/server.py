"""Commands that need the Django project: serve, worker, examples, keys.

Imported after the configuration is validated.
"""

import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import unquote

import django
import psutil
import typer
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from rich.console import Console
from rich.panel import Panel

from aipartnerupflow import __version__
from aipartnerupflow.program import command, from_here
from apflow_site.config import FILE_VARIABLE, PREFIX, Config, ConfigError, get_config
from apflow_site.databases import is_postgresql, sqlite_settings

GRACEFUL_SECONDS = 5
"""The seconds that open streams may continue after SIGTERM. Their clients then resume on another server."""
WEB_PROCESS_SECONDS = 30
"""The time that one of several web processes has to start, or to answer the first one, before it is replaced."""
STARTUP_FAILED = 3
DEFAULT_PORT = 8000
EXAMPLE = Path("docs/examples/publish.json")
"""An example tree, if the server starts in a checkout."""
ABOUT_EXAMPLES = "Examples    Log lines of the first example runs follow; example-failure fails on purpose, example-approval waits for you."

errors = Console(stderr=True)
log = logging.getLogger(__name__)
T = TypeVar("T")


def serve(*, reload: bool, paused: bool = False, folder: Path | None = None) -> None:
    """Prepare the database, print the URLs, and serve until SIGTERM or SIGINT: also the code of the folder, if one is given."""
    config = get_config()
    warnings = _check_exposure(config)
    _check_port(config.server.host, config.server.port, host_option="--host ", port_option="--port ")
    runs_examples = bool(prepare(waits=True)) and config.server.examples == "run"
    from a2a.protocol.agent_card import signing_key
    from a2a.protocol.message_handler import message_handler  # needs Django's apps

    try:
        message_handler()
        if config.a2a.signing_key is not None:
            signing_key(config.a2a.signing_key)
    except ImproperlyConfigured as error:
        _refuse(str(error))
    _join_installation()
    if paused:
        set_maintenance(is_on=True)
    warnings += [*_check_notifications(config), *(_check_commands(config) if config.worker.embedded else ())]
    watched: list[Path] = []
    if reload:
        from apflow_site.web_server import code_folders  # only for this command

        watched = code_folders()
        if not watched:
            warnings.append(
                "--reload sees no change: all code is installed. Put the folder of your code on PYTHONPATH."
            )
    if config.log.format == "json":
        _log_start(config, warnings)
    else:
        _show_box(config, warnings, runs_examples=runs_examples)
    _name_sessions("web")
    # After a clean shutdown uvicorn raises the signal again; the default handler would kill us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _run_uvicorn(config, reload=reload, watched=watched, folder=folder)


def _run_uvicorn(config: Config, *, reload: bool, watched: list[Path], folder: Path | None) -> None:
    from apflow_site.prepare import PREPARED_VARIABLE  # needs Django's apps
    from apflow_site.web_server import WebConfig, WebProcesses, WebServer  # only for this command
    from tasks.own_process import keep_secrets

    keep_secrets()
    if not reload:  # else each web process checks its code, which has changed
        os.environ[PREPARED_VARIABLE] = "1"
    options = WebConfig(
        "aipartnerupflow.api.main:app",
        host=config.server.host,
        port=config.server.port,
        workers=config.server.workers,
        log_config=None,  # its log records go through our handlers, whose filter masks keys
        log_level="warning",
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        timeout_worker_healthcheck=WEB_PROCESS_SECONDS,
    )
    if folder is not None:
        from aipartnerupflow import dev  # needs Django's apps, and only for this command

        dev.run(folder, options)
    elif reload or options.workers > 1:
        WebProcesses(options, drain_seconds=config.server.drain_seconds, watched=watched).run()
    else:
        server = WebServer(options)
        with suppress(KeyboardInterrupt):
            server.run()
        if not server.started:
            sys.exit(STARTUP_FAILED)


def work() -> None:
    """Run a worker cluster until SIGTERM or SIGINT, then drain it."""
    prepare(waits=True)
    _join_installation()
    from tasks.own_process import keep_secrets  # needs Django's apps
    from tasks.worker.supervisor import Stop, supervise

    keep_secrets()
    config = get_config()
    for warning in (*_check_notifications(config), *_check_commands(config)):
        log.warning("%s", warning, extra={"event": "server.warning"})
    from apflow_site.metrics import begin_at_zero, serve_metrics  # needs Django's apps

    if (port := config.worker.metrics_port) is not None:
        _check_port(config.server.host, port, host_option="server.host: ", port_option="worker.metrics_port: ")
        begin_at_zero()
        serve_metrics(config.server.host, port)
    _name_sessions("supervisor")
    stop = Stop()
    for number, react in ((signal.SIGTERM, stop.ask), (signal.SIGINT, stop.interrupt)):
        signal.signal(number, lambda *_, react=react: threading.Thread(target=react).start())
    if config.log.format == "json":
        log.info("Workers are running", extra={"event": "worker.running"})
    else:
        typer.echo("Workers are running. Ctrl+C drains and stops them.")
    _run_beside_signals(partial(supervise, stop, may_start=lambda: True), name="supervisor")


def _run_beside_signals(work: Callable[[], None], *, name: str) -> None:
    """Run it on a thread to its end, and handle signals meanwhile, whichever thread the system gives them to.

    A signal that is sent while the process is stopped may go to any thread. Its handler runs on the
    main thread, which does not wake up for it while it waits for the end of another thread.
    """
    is_over = threading.Event()
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)

        def run() -> None:
            try:
                work()
            finally:
                is_over.set()
                with suppress(BlockingIOError):  # there is something to receive already
                    sender.send(b"\0")

        thread = threading.Thread(target=run, name=name)
        thread.start()
        while not is_over.is_set():
            receiver.recv(1)
        thread.join()
        signal.set_wakeup_fd(-1)


def _name_sessions(role: str) -> None:
    """Name those to come, and close that of the start."""
    from django.db import connection

    from apflow_site.db.connections import name_sessions  # needs Django's apps

    name_sessions(role)
    connection.close()


def init_examples(*, force: bool) -> None:
    first = prepare()  # which stores them in an empty database
    from tasks.services.upkeep.examples import init_examples as store  # needs Django's apps

    stored = first or store(force=force)
    typer.echo("\n".join(stored) if stored else "All examples exist already. --force replaces them.")


def rotate_keys() -> None:
    prepare()
    from llmkeys.cipher import CannotUnseal
    from tasks.services.secrets.resealing import reseal

    try:
        call_command("rotate_llm_keys")
        if count := reseal():
            typer.echo(f"Encrypted in inputs of tasks, runs, flows and schedules, and keys of files: {count:,} rows.")
    except CommandError as error:
        _refuse(str(error))
    except CannotUnseal as error:
        _refuse(f"An input of a task cannot be decrypted, and was not changed. {error}")


def prepare(*, waits: bool = False) -> list[str]:
    """Set up Django and migrate the database. Returns the roots of the examples that an empty database now has.

    An error of the configuration or the database ends the command; if it `waits`, after PostgreSQL had time to start.
    """

    def bring_up_to_date() -> list[str]:
        from apflow_site import prepare as preparation  # needs Django's apps
        from apflow_site.db.schema import SchemaMismatch
        from tasks.executors import executor_ids

        executor_ids()
        if waits:
            preparation.await_database()
        try:
            return preparation.prepare()
        except SchemaMismatch as error:
            _refuse(str(error))

    return in_django(bring_up_to_date)


def set_maintenance(*, is_on: bool) -> bool:
    """Begin or end maintenance. Call `prepare` first. Returns False if it ended nothing."""
    from tasks.queue import maintenance  # needs Django's apps

    with on_command_line():
        if is_on:
            maintenance.begin()
            return True
        return maintenance.end()


@contextmanager
def on_command_line() -> Iterator[None]:
    """Record what happens in the block as done by the user of this machine, in rows only: a terminal is no log."""
    from accounts import audit  # needs Django's apps

    level = audit.logger.level
    audit.logger.setLevel(logging.WARNING)
    try:
        with audit.origin(address=f"cli:{psutil.Process().username()}"):
            yield
    finally:
        audit.logger.setLevel(level)


def back_up(target: Path) -> int:
    """Copy the SQLite database to the file while it is in use, and return its size. Errors end the command."""
    from apflow_site.db.backup import BackupFailed  # needs no Django
    from apflow_site.db.backup import back_up as copy

    url = get_config().database.url
    if is_postgresql(url):
        _refuse("The database is PostgreSQL: back it up with pg_dump --format=custom, or continuously with its WAL.")
    try:
        return copy(Path(sqlite_settings(url)["NAME"]), target)
    except BackupFailed as error:
        _refuse(str(error))


def pending_migrations() -> list[tuple[str, list[str]]]:
    """Return each pending migration and what it does. Errors end the command, as does a database that this version must not use."""

    def plan() -> list[tuple[str, list[str]]]:
        from apflow_site.db import schema  # needs Django's apps

        try:
            schema.require_known()
        except schema.SchemaMismatch as error:
            _refuse(str(error))
        return schema.plan()

    return in_django(plan)


def in_django(function: Callable[[], T]) -> T:
    """Set up Django and call the function. An error of the configuration or the database ends the command."""
    try:
        django.setup()
        if not apps.is_installed("tasks"):  # a project that uses `aipartnerupflow.django`
            _refuse(
                f"DJANGO_SETTINGS_MODULE is '{settings.SETTINGS_MODULE}', another project's settings. Unset it for this command."
            )
        gc.freeze()  # what is imported is no garbage; to look for some in it would delay the end of the command
        return function()
    except (ConfigError, ImproperlyConfigured) as error:
        _refuse(str(error))
    except DatabaseError as error:
        _refuse_without_database(error)


def _refuse_without_database(error: DatabaseError) -> NoReturn:
    from apflow_site.db.advice import advice_for  # needs Django's settings

    message, fix = advice_for(error)
    _refuse(f"{message}\n{fix}\nDatabase error: {str(error).strip()}")


def _join_installation() -> None:
    """Refuse to start with other secrets than those of the other machines."""
    from tasks.services.secrets.shared_secrets import SecretsDiffer, join  # needs Django's apps

    try:
        join()
    except SecretsDiffer as error:
        _refuse(str(error))
    except DatabaseError as error:
        _refuse_without_database(error)


def _check_exposure(config: Config) -> list[str]:
    """Refuse to start with a weak secret on a reachable address.

    Returns warnings about insecure or slow settings.
    """
    from accounts.secret import MAKE_A_SECRET, weak_secret

    signing = config.auth.jwt_secrets if config.auth.is_on else ()
    # The other secrets of this installation: URLs with passwords, and the session key.
    key = Path(config.server.data_dir, "secret_key")
    others = [unquote(config.database.url), unquote(config.redis.url or "")]
    others.append(key.read_text(encoding="ascii") if key.exists() else "")
    weak = (weak_secret(secret, elsewhere=others) for secret in signing)
    weakness = next(filter(None, weak), None)
    names = "auth.jwt_secret or auth.accepted_jwt_secrets" if config.auth.accepted_jwt_secrets else "auth.jwt_secret"
    if weakness and not config.server.is_local:
        _refuse(
            f"{names}: {weakness}. Anyone could forge tokens for this server, which listens beyond this machine.\n"
            f"Generate a secret: {MAKE_A_SECRET}"
        )
    warnings = [f"{names}: {weakness}. Generate another one: {MAKE_A_SECRET}"] if weakness else []
    if weak_key := next(filter(None, map(weak_secret, config.llm.encryption_keys)), None):
        fault = f"llm.encryption_keys: {weak_key}. Anyone who reads the database could decrypt the keys in it.\nGenerate another one: {MAKE_A_SECRET}"
        if not config.server.is_local:
            _refuse(fault)
        warnings.append(fault)
    if config.auth.trigger_secret and (weakness := weak_secret(config.auth.trigger_secret)):
        warnings.append(
            f"auth.trigger_secret: {weakness}. Anyone could sign requests that run tasks of all users.\n"
            f"Generate another one: {MAKE_A_SECRET}"
        )
    if config.is_open:
        warnings.append(
            "Authentication is off: anyone who can reach this server can run tasks. Set AIPARTNERUPFLOW_JWT_SECRET."
        )
    if config.server.workers > 1 and config.database.url.startswith("sqlite"):
        warnings.append("SQLite allows one writer at a time. Use PostgreSQL (database.url) for several web processes.")
    if config.llm.key_store == "memory":
        warnings.append(
            "llm.key_store is memory: workers are other processes and cannot read the keys that users store."
        )
    return warnings


def _check_port(host: str, port: int, *, host_option: str, port_option: str) -> None:
    """End the command if it cannot listen there.

    The message says whether the host is not an address of this machine, or names the process that
    uses the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                _refuse(
                    f"Cannot listen on {host}: {error.strerror}. The host must be an address of this machine.\n"
                    f"Choose another host: {host_option}127.0.0.1"
                )
            other = DEFAULT_PORT if port < 1024 or port == 65535 else port + 1
            _refuse(
                f"Cannot listen on {host}:{port}: {error.strerror}{_holder(port)}.\nChoose another port: {port_option}{other}"
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


def _check_notifications(config: Config) -> list[str]:
    """Return a warning if Redis does not answer, or without it PostgreSQL's notifications do not arrive: everything works, only later."""
    from aipartnerupflow.doctor import Trouble, redis

    if config.redis.url is None:
        if not is_postgresql(config.database.url):
            return []
        from django.db import connection

        from tasks.queue.notify_postgres import can_listen
        from tasks.services.upkeep.readiness import NOTIFY_SECONDS, WITHOUT_LISTEN

        if can_listen(connection.get_connection_params(), within_seconds=NOTIFY_SECONDS):
            return []
        return [
            f"Notifications of PostgreSQL do not arrive: runs begin up to 3 seconds late, and streams lag. Instead, {WITHOUT_LISTEN}."
        ]
    try:
        redis(str(config.redis.url))
    except Trouble as trouble:
        return [f"{trouble.message} {trouble.fix} Until then the database carries the notifications."]
    return []


def _check_commands(config: Config) -> list[str]:
    """Return a warning if the kernel does not confine the commands of tasks."""
    from aipartnerupflow.doctor import Trouble, commands

    try:
        if config.executors.command.allow:
            commands()
    except Trouble as trouble:
        return [f"executors.command.allow: {trouble.message} {trouble.fix}"]
    return []


def _log_start(config: Config, warnings: list[str]) -> None:
    """Log the start, for programs. The link to log in is a secret, so it is left out."""
    url = (config.server.public_url or _local_url(config)).rstrip("/")
    facts = {"event": "server.starting", "url": url, "version": __version__}
    facts |= {"database": _without_password(config.database.url)}
    log.info("aipartnerupflow %s at %s", __version__, url, extra=facts)
    for warning in warnings:
        log.warning("%s", warning, extra={"event": "server.warning"})


def _show_box(config: Config, warnings: list[str], *, runs_examples: bool) -> None:
    url = (config.server.public_url or _local_url(config)).rstrip("/")
    worker = (
        "started with the server" if config.worker.embedded else f"none; start: {command('worker', *_config_flag())}"
    )
    lines = [
        f"Dashboard   {url}/",
        f"JSON-RPC    {url}/tasks",
        f"A2A         {url}/",
        f"REST        {url}/docs",
        f"Agent card  {url}/.well-known/agent-card.json",
        f"Admin       {url}/admin/",
        f"Health      {url}/ready, {url}/metrics",
        f"Worker      {worker}",
        *(f"[yellow]Warning     {warning}[/yellow]" for warning in warnings),
    ]
    console = Console()
    console.print(Panel("\n".join(lines), title=f"aipartnerupflow {__version__}", expand=False))
    # Below the box, where long lines are not cut: users copy these.
    database = f"Database    {_without_password(config.database.url)}"
    for line in (database, *_login_lines(config, url), *_try_lines(config)):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if runs_examples:
        console.print(ABOUT_EXAMPLES, soft_wrap=True, markup=False, highlight=False)


def _local_url(config: Config) -> str:
    """Return the URL of the server from this machine."""
    host = "localhost" if config.server.host in ("127.0.0.1", "0.0.0.0", "::") else config.server.host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{config.server.port}"


def _try_lines(config: Config) -> list[str]:
    """Return a command to try from the current folder and, with authentication, how to get its token."""
    words = ["run", str(EXAMPLE), "--watch"] if EXAMPLE.exists() else ["tasks", "list"]
    url = _local_url(config)
    if url != f"http://localhost:{DEFAULT_PORT}" or f"{PREFIX}URL" in os.environ:
        words += ["--url", url]
    if not config.auth.is_on:
        return [f"Try         {command(*words)}"]
    return [
        f"Try         {command(*words, '--token', 'TOKEN')}",
        f"            Get a TOKEN: {command('tokens', 'create', 'NAME', *_config_flag())}",
    ]


def _config_flag() -> list[str]:
    """Return the option `--config` of this server, for other commands; empty without a file."""
    path = os.environ.get(FILE_VARIABLE)
    return ["--config", from_here(Path(path))] if path else []


def _login_lines(config: Config, url: str) -> list[str]:
    """Return, with authentication, a one-time link for the first administrator, or the command that creates one."""
    if not config.auth.is_on:
        return []
    from accounts.logins import make_link  # needs Django's apps
    from accounts.users import first_admin

    admin = first_admin()
    if admin is None:
        create = command("users", "create", "NAME", "--role", "admin", *_config_flag())
        return [f"Log in      no administrator yet; create one: {create}"]
    return [
        f"Log in      {url}/login/link/{make_link(admin)}/",
        f"            logs in {admin.username}, once, within 15 minutes",
    ]


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://…@{tail}" if at else url


def _refuse(message: str) -> NoReturn:
    errors.print(message, style="red", markup=False, highlight=False, soft_wrap=True)  # users copy its commands
    sys.exit(2)
