"""`aipartnerupflow doctor`: is everything there that this installation needs, and what to do where it is not.

Each look returns what it found, or raises Trouble, which is red; Doubt is yellow: it works, and may not for long. Imported after the
command is known; Django is loaded only when the configuration and the data folder allow it.
"""

import os
import platform
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx

from aipartnerupflow import __version__
from apflow_site.config import Config, ConfigError, get_config

GREEN: Final = "green"
YELLOW: Final = "yellow"
RED: Final = "red"
PYTHONS: Final = ((3, 11), (3, 13))
SQLITE_MIN: Final = (3, 35, 0)  # RETURNING
LOW_DISK_BYTES: Final = 2**30
NO_DISK_BYTES: Final = 100 * 2**20
CLOCK_DOUBT_SECONDS: Final = 2.0
CLOCK_TROUBLE_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 2.0


class Trouble(Exception):
    """Something that must be is not; `fix` is what to do."""

    colour = RED

    def __init__(self, message: str, *, fix: str) -> None:
        self.message, self.fix = message, fix
        super().__init__(message)


class Doubt(Trouble):
    """It works, but somebody should know."""

    colour = YELLOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of one look."""

    name: str
    colour: str
    message: str
    fix: str | None = None


def examine() -> Iterator[Finding]:
    """Every look, in an order in which none needs what a later one finds. What cannot be looked at is left out."""
    yield _looked("versions", versions)
    configuration = _looked("configuration", _configuration)
    yield configuration
    if configuration.colour is RED:
        return
    config = get_config()
    folder = _looked("data folder", lambda: data_folder(Path(config.server.data_dir)))
    yield folder
    yield _looked("port", lambda: port(config.server.host, config.server.port))
    yield _looked("secrets", lambda: secrets_(config))
    if folder.colour is not RED:
        yield from _in_django(config)


def _looked(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, colour=GREEN, message=look())
    except Trouble as trouble:
        return Finding(name=name, colour=trouble.colour, message=trouble.message, fix=trouble.fix)


def _in_django(config: Config) -> Iterator[Finding]:
    """What needs the database, as far as it answers."""
    import django

    django.setup()
    from tasks.services import readiness

    for name, look in {**readiness.CHECKS, "doorbell": readiness.hears_notifications}.items():
        check = readiness.checked(look)
        yield Finding(name=name, colour=GREEN if check["ok"] else RED, message=check["message"], fix=check["fix"])
        if not check["ok"] and name in ("database", "migrations"):
            return
    yield _looked("stored keys", stored_keys)
    yield _looked("clock", lambda: clock(_database_time(), datetime.now(UTC)))
    if config.redis.url is not None:
        yield _looked("redis", lambda: redis(str(config.redis.url)))


def versions(
    python: tuple[int, int] = sys.version_info[:2], sqlite: tuple[int, ...] = sqlite3.sqlite_version_info
) -> str:
    lowest, highest = PYTHONS
    if not lowest <= python <= highest:
        raise Trouble(
            f"Python {'.'.join(map(str, python))} is not supported.",
            fix=f"Install with Python {'.'.join(map(str, lowest))} to {'.'.join(map(str, highest))}.",
        )
    if sqlite < SQLITE_MIN:
        raise Trouble(
            f"SQLite {'.'.join(map(str, sqlite))} is too old.",
            fix=f"Use a Python that is built with SQLite {'.'.join(map(str, SQLITE_MIN))} or newer, or PostgreSQL.",
        )
    return f"aipartnerupflow {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"


def _configuration() -> str:
    try:
        get_config()
    except ConfigError as error:
        raise Trouble(
            str(error), fix="Correct these values; `aipartnerupflow config show` tells where each comes from."
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
            f"{folder} cannot be written: {error.strerror}.",
            fix="Let the user who runs this write to it, or name another folder: AIPARTNERUPFLOW_DATA_DIR.",
        ) from None
    free = shutil.disk_usage(folder).free if free_bytes is None else free_bytes
    fix = f"Make room on the disk of {folder}, or move server.data_dir."
    if free < NO_DISK_BYTES:
        raise Trouble(f"{free / 2**20:.0f} MiB are free: databases break when a disk is full.", fix=fix)
    if free < LOW_DISK_BYTES:
        raise Doubt(f"{free / 2**20:.0f} MiB are free.", fix=fix)
    return f"{folder}, {free / 2**30:.1f} GiB free"


def port(host: str, number: int) -> str:
    """Free for a server of ours, or taken by one."""
    if _is_ours(host, number):
        return f"our server answers on {host}:{number}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            raise Trouble(
                f"Cannot listen on {host}:{number}: {error.strerror}, by something that is not this server.",
                fix=f"Stop what listens there, or choose another port: AIPARTNERUPFLOW_PORT={number + 1}",
            ) from None
    return f"{host}:{number} is free: start with `aipartnerupflow serve`"


def _is_ours(host: str, number: int) -> bool:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    try:
        answer = httpx.get(f"http://{f'[{name}]' if ':' in name else name}:{number}/health", timeout=ANSWER_SECONDS)
        return answer.status_code == 200 and "version" in answer.json()
    except (httpx.HTTPError, ValueError):
        return False


def secrets_(config: Config) -> str:
    """Whether whoever reaches the server, or reads its files, could be somebody else."""
    from accounts.secret import MAKE_A_SECRET, weak_secret

    if config.is_open:
        raise Trouble(
            "Authentication is off, and others than this machine can reach the server: they can run, read and delete everything.",
            fix=f"Set AIPARTNERUPFLOW_JWT_SECRET, made by: {MAKE_A_SECRET}",
        )
    if config.auth.is_on and (weakness := weak_secret(config.auth.jwt_secret or "")):
        trouble = Doubt if config.server.is_local else Trouble
        raise trouble(f"auth.jwt_secret: {weakness}.", fix=f"Make another one: {MAKE_A_SECRET}")
    for file in _files_with_secrets(config):
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise Trouble(f"{file} can be read by other users of this machine.", fix=f"chmod 600 {file}")
    return f"authentication is {'on' if config.auth.is_on else 'off, and only this machine can reach the server'}"


def _files_with_secrets(config: Config) -> list[Path]:
    folder = Path(config.server.data_dir)
    return [folder / name for name in ("secret_key", "jwt_secret", "llm_key")]


def stored_keys() -> str:
    """Whether what is sealed in the database opens with the keys of this process."""
    from llmkeys.cipher import CannotUnseal
    from llmkeys.keys import open_all

    try:
        return f"{open_all()} stored keys open"
    except CannotUnseal as error:
        raise Trouble(
            f"A stored key does not open: {error}",
            fix="Add the old key to the end of llm.encryption_keys (it is in the file llm_key of the old data folder), "
            "run `aipartnerupflow keys rotate`, then take it out again.",
        ) from None


def _database_time() -> datetime:
    from django.db import connection

    from apflow_db.connections import IS_SQLITE

    if IS_SQLITE:
        return datetime.now(UTC)  # SQLite has no clock but this machine's
    with connection.cursor() as cursor:
        cursor.execute("SELECT CLOCK_TIMESTAMP()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def clock(database: datetime, own: datetime) -> str:
    seconds = abs((database - own).total_seconds())
    fix = "Let both machines keep time by NTP: timedatectl set-ntp true"
    if seconds > CLOCK_TROUBLE_SECONDS:
        raise Trouble(
            f"This machine and the database differ by {seconds:.0f} s: tokens expire too early or too late.", fix=fix
        )
    if seconds > CLOCK_DOUBT_SECONDS:
        raise Doubt(f"This machine and the database differ by {seconds:.1f} s.", fix=fix)
    return f"{seconds:.1f} s apart from the database's"


def redis(url: str) -> str:
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS) as server:
            server.ping()
    except RedisError as error:
        raise Trouble(
            f"Redis does not answer: {type(error).__name__}.",
            fix="Start it, or correct redis.url (AIPARTNERUPFLOW_REDIS_URL).",
        ) from None
    return "answers"
