"""`aipartnerupflow doctor`: check this installation and suggest fixes.

A check is a function that returns its finding (green), or raises Doubt (yellow: works, but needs
attention) or Trouble (red: does not work). Django is loaded only if the configuration and the data
folder are usable.
"""

import asyncio
import os
import platform
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx

from aipartnerupflow import __version__
from apflow_site.config import FILE_VARIABLE, Config, ConfigError, get_config, known_settings, shown
from apflow_site.databases import APPLICATION, is_postgresql

GREEN: Final = "green"
YELLOW: Final = "yellow"
RED: Final = "red"
PYTHONS: Final = ((3, 11), (3, 14))
SQLITE_MIN: Final = (3, 35, 0)  # RETURNING
LOW_DISK_BYTES: Final = 2**30
FULL_SOON_DAYS: Final = 14
NO_DISK_BYTES: Final = 100 * 2**20
OVERDUE_SECONDS: Final = 60.0
SUSPECTED_SECONDS: Final = 300.0
CLOCK_DOUBT_SECONDS: Final = 2.0
CLOCK_TROUBLE_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 2.0
LEAST_PROCESS_MB: Final = 64
OLD_TRANSACTION_SECONDS: Final = 300.0
CONNECTIONS: Final = {"web": (29, 32), "worker": (13, 17), "machine": (5, 8)}
"""The greatest number of connections of a web process, of a worker process and of the processes that start, wake and feed
those of a machine: with Redis, and without. docs/how-to/capacity.md explains them."""


class Trouble(Exception):
    """A failed check. `fix` tells the operator what to do."""

    colour = RED

    def __init__(self, message: str, *, fix: str) -> None:
        self.message, self.fix = message, fix
        super().__init__(message)


class Doubt(Trouble):
    """A warning: everything works, but the operator should act."""

    colour = YELLOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check. `fix` is None if there is nothing to do."""

    name: str
    colour: str
    message: str
    fix: str | None = None


def examine() -> Iterator[Finding]:
    """Run the checks in order and yield their findings.

    Checks that depend on a failed one are skipped.
    """
    yield _looked("versions", versions)
    settings = _looked("configuration", configuration)
    yield settings
    if settings.colour is RED:
        return
    config = get_config()
    folder = _looked("data folder", lambda: data_folder(Path(config.server.data_dir)))
    yield folder
    yield _looked("port", lambda: port(config.server.host, config.server.port))
    if config.server.public_url is not None:
        yield _looked("public URL", lambda: public_url(config))
    yield _looked("secrets", lambda: secrets_(config))
    if folder.colour is not RED:
        yield from _in_django(config)


def _looked(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, colour=GREEN, message=look())
    except Trouble as trouble:
        return Finding(name=name, colour=trouble.colour, message=trouble.message, fix=trouble.fix)


def _in_django(config: Config) -> Iterator[Finding]:
    """Yield the checks that need Django and its database."""
    import django

    django.setup()
    from tasks.services.upkeep import readiness

    for name, look in {
        **readiness.CHECKS,
        **readiness.WORKER_CHECKS,
        "notification": readiness.hears_notifications,
    }.items():
        check = readiness.checked(look)
        yield Finding(name=name, colour=GREEN if check["ok"] else RED, message=check["message"], fix=check["fix"])
        if not check["ok"] and name in ("database", "migrations"):
            return
    yield _looked("db version", database_version)
    yield _looked("schema", known_schema)
    if is_postgresql(config.database.url):
        yield _looked("connections", lambda: connections(config))
        yield _looked("old rows", oldest_transaction)
    yield _looked("pools", lambda: pools(config))
    yield _looked("extras", extras)
    yield _looked("durability", lambda: durability(config))
    yield _looked("growth", lambda: database_growth(Path(config.server.data_dir)))
    yield _looked("stored keys", stored_keys)
    yield _looked("shared secrets", lambda: shared_secrets(config))
    if (store := config.files.store) is not None:
        yield _looked("files", lambda: bucket(store))
    if config.executors.command.allow:
        yield _looked("commands", commands)
    if config.executors.docker.images:
        yield _looked("docker", lambda: docker(config))
    yield _looked("schedules", schedules_on_time)
    yield _looked("quarantine", suspects)
    yield _looked("workflows", needed_code)
    yield _looked("turns", waits_for_turns)
    yield _looked("clock", lambda: clock(_database_time(), datetime.now(UTC)))
    if config.redis.url is not None:
        yield _looked("redis", lambda: redis(str(config.redis.url)))


def versions(python: tuple[int, int] = sys.version_info[:2]) -> str:
    lowest, highest = PYTHONS
    if not lowest <= python <= highest:
        raise Trouble(
            f"Python {_dotted(python)} is not supported.",
            fix=f"Install with Python {_dotted(lowest)} to {_dotted(highest)}.",
        )
    return f"aipartnerupflow {__version__}, Python {platform.python_version()}"


def configuration() -> str:
    try:
        get_config()
    except ConfigError as error:
        raise Trouble(
            str(error), fix="Correct these values. `aipartnerupflow config show` shows the source of each."
        ) from None
    return "valid"


def data_folder(folder: Path, *, free_bytes: int | None = None) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Trouble(
            f"Cannot write to {folder}: {error.strerror}.",
            fix="Grant this user write access to it, or set another folder: AIPARTNERUPFLOW_DATA_DIR.",
        ) from None
    free = shutil.disk_usage(folder).free if free_bytes is None else free_bytes
    fix = f"Free some space on the disk of {folder}, or move server.data_dir."
    if free < NO_DISK_BYTES:
        raise Trouble(f"Only {free / 2**20:.0f} MiB are free: the database fails when the disk is full.", fix=fix)
    if free < LOW_DISK_BYTES:
        raise Doubt(f"Only {free / 2**20:.0f} MiB are free.", fix=fix)
    return f"{folder}, {free / 2**30:.1f} GiB free"


def port(host: str, number: int) -> str:
    """Check that the port is free, or that an aipartnerupflow server answers on it."""
    if _is_ours(host, number):
        return f"an aipartnerupflow server answers on {host}:{number}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            raise Trouble(
                f"Cannot listen on {host}:{number}: {error.strerror}. It is not an aipartnerupflow server.",
                fix=f"Stop the program that uses it, or choose another port: AIPARTNERUPFLOW_PORT={number + 1}",
            ) from None
    return f"{host}:{number} is free; start the server with `aipartnerupflow serve`"


def public_url(config: Config) -> str:
    """Check that `server.public_url` leads to an aipartnerupflow server, if one answers on our port."""
    url = str(config.server.public_url).rstrip("/")
    if not _is_ours(config.server.host, config.server.port):
        return f"{url}: not checked, because the server does not run"
    try:
        answer = httpx.get(f"{url}/health", timeout=ANSWER_SECONDS)
    except httpx.HTTPError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    else:
        if _is_health(answer):
            return f"an aipartnerupflow server answers at {url}"
        reason = f"GET /health returned {answer.status_code}, not the health of an aipartnerupflow server"
    raise Doubt(
        f"server.public_url {url} does not lead to this server: {reason}.",
        fix="Correct it, or the proxy and the DNS behind it. If only this machine cannot reach it, ignore this.",
    )


def _is_ours(host: str, number: int) -> bool:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    try:
        return _is_health(
            httpx.get(f"http://{f'[{name}]' if ':' in name else name}:{number}/health", timeout=ANSWER_SECONDS)
        )
    except httpx.HTTPError:
        return False


def _is_health(answer: httpx.Response) -> bool:
    try:
        return answer.status_code == 200 and "version" in answer.json()
    except ValueError:
        return False


def secrets_(config: Config) -> str:
    """Check authentication, the strength of the JWT secret, and file permissions of secrets."""
    from accounts.secret import MAKE_A_SECRET, weak_secret

    if config.is_open:
        raise Trouble(
            "Authentication is off and the server listens beyond this machine: "
            "anyone who can reach it can run, read and delete everything.",
            fix=f"Set AIPARTNERUPFLOW_JWT_SECRET to the output of: {MAKE_A_SECRET}",
        )
    if config.auth.is_on and (weakness := next(filter(None, map(weak_secret, config.auth.jwt_secrets)), None)):
        trouble = Doubt if config.server.is_local else Trouble
        raise trouble(
            f"{'auth.jwt_secret or auth.accepted_jwt_secrets' if config.auth.accepted_jwt_secrets else 'auth.jwt_secret'}: {weakness}.",
            fix=f"Generate another one: {MAKE_A_SECRET}",
        )
    if config.auth.trigger_secret and (weakness := weak_secret(config.auth.trigger_secret)):
        raise Doubt(f"auth.trigger_secret: {weakness}.", fix=f"Generate another one: {MAKE_A_SECRET}")
    for file in [Path(config.server.data_dir) / name for name in ("secret_key", "jwt_secret", "llm_key")]:
        _refuse_readable(file, Trouble)
    # The files of the operator. In a container, other users of the machine may not reach a readable file.
    if config.a2a.signing_key is not None:
        _refuse_readable(Path(config.a2a.signing_key).expanduser(), Doubt)
    path = os.environ.get(FILE_VARIABLE)
    if path is not None:
        given = {row["key"] for row in shown(os.environ) if row["source"] == path}
        if any(known_settings()[key].is_secret for key in given):
            _refuse_readable(Path(path), Doubt)
    return f"authentication is {'on' if config.auth.is_on else 'off; only this machine can reach the server'}"


def _refuse_readable(file: Path, kind: type[Trouble]) -> None:
    if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise kind(f"Other users of this machine can read {file}.", fix=f"chmod 600 {file}")


def stored_keys() -> str:
    """Check that the encryption keys of this process decrypt all stored keys."""
    from llmkeys.cipher import CannotUnseal
    from llmkeys.keys import open_all

    try:
        return f"all can be decrypted ({open_all()})"
    except CannotUnseal as error:
        raise Trouble(
            f"A stored key cannot be decrypted: {error}",
            fix="Add the old key to the end of llm.encryption_keys (the file llm_key in the old data folder has it), "
            "run `aipartnerupflow keys rotate`, then remove it again.",
        ) from None


def database_version(found: tuple[int, ...] | None = None) -> str:
    """Name the database in use. Django itself refuses a PostgreSQL that is too old."""
    from django.db import connection

    found = found or connection.get_database_version()
    if connection.vendor == "sqlite" and found < SQLITE_MIN:
        raise Trouble(
            f"SQLite {_dotted(found)} is too old.",
            fix=f"Use a Python that is built with SQLite {_dotted(SQLITE_MIN)} or newer, or PostgreSQL.",
        )
    return f"{connection.display_name} {_dotted(found)}"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def known_schema() -> str:
    """Check that this version knows the schema of the database, or can migrate it."""
    from apflow_site.db.schema import SchemaMismatch, require_known

    try:
        require_known()
    except SchemaMismatch as error:
        raise Trouble(error.message, fix=error.fix) from None
    return "known to this version"


def shared_secrets(config: Config) -> str:
    """Check the key that signs the agent card, and that live processes have the same secrets as this one."""
    from django.core.exceptions import ImproperlyConfigured

    from a2a.protocol.agent_card import signing_key
    from tasks.services.secrets.shared_secrets import SecretsDiffer, compare

    try:
        if config.a2a.signing_key is not None:
            signing_key(config.a2a.signing_key)
        compare()
    except ImproperlyConfigured as error:
        raise Trouble(
            str(error),
            fix="Generate one as docs/how-to/a2a.md shows, or remove the setting to leave the card unsigned.",
        ) from None
    except SecretsDiffer as error:
        raise Trouble(error.message, fix=error.fix) from None
    return f"no live process of this installation has others{_accepted_secrets(config)}"


def _accepted_secrets(config: Config) -> str:
    """Until when further JWT secrets are needed. Raises Doubt if one is not needed any more."""
    from tasks.dashboard.answer_tokens import LINK_SECONDS
    from tasks.services.secrets import shared_secrets

    longest = max(timedelta(days=config.auth.refresh_days), timedelta(seconds=LINK_SECONDS))
    found = ""
    for number, secret in enumerate(config.auth.jwt_secrets[1:], start=1):
        name = f"number {number} of auth.accepted_jwt_secrets"
        signed_at = shared_secrets.last_signed_at(secret)
        if signed_at is None:
            found += f"; {name} has not signed a token yet"
        elif (needed_until := signed_at + longest) > datetime.now(UTC):
            found += f"; {name} is needed until {needed_until:%Y-%m-%d %H:%M} UTC, or longer if a process still signs with it"
        else:
            raise Doubt(
                f"No token, session or link that {name} signed is valid any more.",
                fix="Remove it from auth.accepted_jwt_secrets and restart every process.",
            )
    return found


def pools(config: Config, memory_mb: int | None = None) -> str:
    """Check that the settings of pools name executors that exist, and that the memory is enough for all processes."""
    from django.core.exceptions import ImproperlyConfigured

    from apflow_site.config import sources
    from tasks.executors import executor_ids

    try:
        executor_ids()
    except ImproperlyConfigured as error:
        raise Trouble(str(error), fix="Correct executors.modules or pools.executors.") from None
    process, count = config.pools.process, config.worker.processes
    has_mb = memory_mb or sources.memory_mb()
    if process.size * count * LEAST_PROCESS_MB > has_mb:
        raise Doubt(
            f"{count} x {process.size} processes do not fit into {has_mb:,} MB of memory.",
            fix=f"Set pools.process.size to {max(1, has_mb // 512 // count)}.",
        )
    if not process.size:
        return "no processes (pools.process.size is 0): functions and crews run in the worker processes"
    return (
        f"{process.size} processes per worker process, with at most {process.memory_mb:,} MB for a task, "
        f"and {process.cpus} processors to reserve"
    )


def bucket(url: str) -> str:
    """Check that the bucket of files answers, and that one upload cannot write over another."""
    from tasks.storage.s3_store import bucket_of_settings

    if problem := bucket_of_settings(url).check():
        raise Trouble(
            f"The bucket {url} cannot be used: {problem}.",
            fix="Check files.store, files.s3_endpoint, files.s3_region and the access key, which must be allowed to list, read, write and delete.",
        )
    return f"{url} answers"


def extras() -> str:
    """Name the extras that are not installed. That is no doubt: most servers need some only."""
    from tasks.rules.extras import EXTRAS, how_to_install, is_installed

    missing = [f"{extra} is missing: {how_to_install(extra)}" for extra in EXTRAS if not is_installed(extra)]
    return "; ".join(missing) or "all are installed"


def commands() -> str:
    """Check that the kernel confines commands. A doubt, because only machines with workers need it."""
    from tasks.executors.command.guard import landlock_version

    version = landlock_version()
    if not version:
        raise Doubt(
            "The kernel does not confine the commands of tasks (Landlock): they may read and change what the server's user may, "
            "such as its database and its keys; as root, also its memory.",
            fix="Use Linux 5.13 or newer with Landlock (`landlock` in /sys/kernel/security/lsm), and a container that allows "
            "its system calls; or allow no program that opens files which tasks name.",
        )
    if version < 6:
        return f"confined to their folders (Landlock {version}); only Linux 6.12 keeps them from sending signals, too"
    return f"confined to their folders (Landlock {version})"


def docker(config: Config) -> str:
    """Check that the Docker daemon answers, and has the images. Doubts, because only machines with workers need it."""
    from aipartnerupflow.executors import ExecutorError
    from tasks.executors.docker.daemon import DaemonRefused, connected

    async def missing() -> list[str]:
        async with connected() as daemon:
            return [image for image in config.executors.docker.images if not await daemon.has(image)]

    try:
        images = asyncio.run(missing())
    except (ExecutorError, DaemonRefused) as error:
        raise Doubt(str(error), fix="Do so on each machine with workers.") from None
    if images and config.executors.docker.pull == "never":
        raise Doubt(f"Images that are not on this machine: {', '.join(images)}.", fix=f"docker pull {images[0]}")
    return f"answers; images to pull when a task needs them: {', '.join(images) or 'none'}"


def connections(config: Config) -> str:
    """Check that PostgreSQL allows the connections that this machine's processes need, beside those of other programs."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(setting::int * CASE name WHEN 'max_connections' THEN 1 ELSE -1 END) FROM pg_settings "
            "WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
        )
        (allowed,) = cursor.fetchone()
        cursor.execute(
            "SELECT count(*), count(*) FILTER (WHERE application_name NOT LIKE %s) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend'",
            [f"{APPLICATION}%"],
        )
        used, others = cursor.fetchone()
    web, worker, machine = (each[config.redis.url is None] for each in CONNECTIONS.values())
    needed = config.server.workers * web + config.worker.processes * worker + machine
    found = f"this machine needs at most {needed}, PostgreSQL allows {allowed}; {used} are in use, {others} of them by other programs"
    if needed + others > allowed:
        raise Doubt(
            f"There may be too few: {found}.",
            fix=f"Raise max_connections of PostgreSQL by {needed + others - allowed}, more for more machines "
            "(docs/how-to/capacity.md), or lower server.workers or worker.processes.",
        )
    return found


def oldest_transaction(doubt_seconds: float = OLD_TRANSACTION_SECONDS) -> str:
    """Name the transaction for which PostgreSQL keeps deleted rows, if it is old: each look at the queue reads them, too."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid, application_name, state, EXTRACT(EPOCH FROM now() - xact_start)::float FROM pg_stat_activity "
            "WHERE backend_xmin IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend' ORDER BY xact_start LIMIT 1"
        )
        row = cursor.fetchone()
    if row is None or row[3] < doubt_seconds:
        return "can be removed: no transaction is old"
    pid, name, state, seconds = row
    raise Doubt(
        f"PostgreSQL keeps all rows that were deleted in the last {seconds / 60:.0f} minutes for a transaction of "
        f"process {pid} ({name or 'without application_name'}, {state}): the queue becomes slower.",
        fix=f"End it: SELECT pg_terminate_backend({pid}). Set idle_in_transaction_session_timeout for its user.",
    )


def durability(config: Config) -> str:
    """Describe what a power cut may lose. Raises Doubt if PostgreSQL does not wait for the disk."""
    from django.db import connection

    from apflow_site.db.connections import IS_SQLITE

    if IS_SQLITE and config.database.sqlite_synchronous == "full":
        return "a power cut loses nothing that was answered (database.sqlite_synchronous: full)"
    if IS_SQLITE:
        return (
            "a killed process loses nothing, a power cut may lose the last commits "
            "(database.sqlite_synchronous: normal; with full it loses nothing, and commits take longer)"
        )
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
        fsync, synchronous_commit = cursor.fetchone()
    if fsync == "off":
        raise Doubt("fsync is off: a power cut may destroy the database.", fix="Set fsync = on in PostgreSQL.")
    if synchronous_commit == "off":
        raise Doubt(
            "synchronous_commit is off: a crash of PostgreSQL may lose commits that were answered.",
            fix="Set synchronous_commit = on in PostgreSQL.",
        )
    return f"a power cut loses nothing that was answered (synchronous_commit: {synchronous_commit})"


def database_growth(folder: Path) -> str:
    """Say how large the database is and how fast it grows; a doubt if its disk will be full soon."""
    from apflow_site.db.connections import IS_SQLITE
    from tasks.services.upkeep.growth import growth

    found = growth()
    size = f"{found.size_bytes / 2**20:.1f} MiB"
    if found.bytes_per_day is None:
        return f"{size}; how fast it grows is known after a day"
    message = f"{size}, grows by {found.bytes_per_day / 2**20:.1f} MiB per day"
    if not IS_SQLITE or found.bytes_per_day <= 0:
        return message
    days = shutil.disk_usage(folder).free / found.bytes_per_day
    message += f", its disk is full in {days:,.0f} days"
    if days < FULL_SOON_DAYS:
        raise Doubt(f"{message}.", fix="Free some space, or let old trees be deleted: retention.completed_days.")
    return message


def _database_time() -> datetime:
    from django.db import connection

    from apflow_site.db.connections import IS_SQLITE

    if IS_SQLITE:
        return datetime.now(UTC)  # SQLite uses this machine's clock
    with connection.cursor() as cursor:
        cursor.execute("SELECT CLOCK_TIMESTAMP()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def schedules_on_time() -> str:
    from tasks.services.schedules import due_schedules

    if late := due_schedules.overdue(OVERDUE_SECONDS):
        raise Doubt(
            f"{late:,} schedule{'' if late == 1 else 's'} should have run more than a minute ago.",
            fix="Start a server or a worker, or end maintenance: aipartnerupflow maintenance off",
        )
    return "none is late"


def suspects() -> str:
    from tasks.queue import leases

    found = leases.suspects()
    if found.oldest_at is not None and found.oldest_seconds > SUSPECTED_SECONDS:
        raise Doubt(
            f"{found.count:,} {'run is' if found.count == 1 else 'runs are'} suspected of killing workers, the oldest since "
            f"{found.oldest_at:%Y-%m-%d %H:%M} UTC; {found.waiting:,} of them {'waits' if found.waiting == 1 else 'wait'}.",
            fix=f"Find out why: aipartnerupflow explain {found.oldest_root_id}. More at once: worker.quarantine",
        )
    return "no run is suspected" if not found.count else f"{found.count:,} suspected of killing workers"


def needed_code() -> str:
    """Name the code of workflows for which runs wait. A doubt if no worker has it."""
    from tasks.services.waits.needed_code import needed_by_runs

    found = needed_by_runs()
    if missing := next((each for each in found if not each.has_worker), None):
        verb = "run waits" if missing.runs == 1 else "runs wait"
        raise Doubt(
            f"{missing.runs:,} {verb} for {missing.text}, which no worker has.",
            fix=f"Deploy that code. Or cancel such a run and execute it again: aipartnerupflow explain {missing.root_id}",
        )
    return (
        f"{sum(each.runs for each in found):,} runs wait for a worker with their code"
        if found
        else "no run waits for code"
    )


def waits_for_turns() -> str:
    """Return how often calls of web processes on this machine have waited for others, from the counts behind `/metrics`."""
    from apflow_site.metrics import registry

    waits = [metric for metric in registry(lambda: None).collect() if metric.name == "apflow_turn_wait_seconds"]
    samples = [sample for metric in waits for sample in metric.samples if sample.name.endswith("_bucket")]
    second, all_ = (sum(each.value for each in samples if each.labels["le"] == most) for most in ("1.0", "+Inf"))
    if not all_:
        return "no database call of a web process has waited for its turn"
    return (
        f"{all_:,.0f} database calls of web processes have waited for their turn, {all_ - second:,.0f} of them over 1 s"
    )


def clock(database: datetime, own: datetime) -> str:
    seconds = abs((database - own).total_seconds())
    fix = "Synchronize both clocks with NTP: timedatectl set-ntp true"
    if seconds > CLOCK_TROUBLE_SECONDS:
        raise Trouble(
            f"The clocks of this machine and the database differ by {seconds:.0f} s: "
            "tokens expire too early or too late.",
            fix=fix,
        )
    if seconds > CLOCK_DOUBT_SECONDS:
        raise Doubt(f"The clocks of this machine and the database differ by {seconds:.1f} s.", fix=fix)
    return f"differs from the database's by {seconds:.1f} s"


def redis(url: str) -> str:
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS) as server:
            server.ping()
    except RedisError as error:
        raise Trouble(
            f"Redis does not answer: {type(error).__name__}.",
            fix="Start Redis, or correct redis.url (AIPARTNERUPFLOW_REDIS_URL).",
        ) from None
    return "answers"
