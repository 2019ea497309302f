"""Real servers for tests: a command of ours as a process of its own, with everything that it starts, and a client for it."""

import fcntl
import hashlib
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import urlsplit

import httpx
import orjson
import psutil
import psycopg

from tests.fork_server import CLUSTER, LETTERS, NAME_LENGTH, NURSERY, QUARANTINE, Forked, fork_server_for
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[1]
PYTHON: Final = sys.executable
COMMAND: Final = (PYTHON, "-m", "aipartnerupflow")
SERVE: Final = (*COMMAND, "serve")
MARK: Final = "APFLOW_TEST_SERVER"
"""The environment variable that all processes of one server have in common. A process that was forked and has not
started another program shows the environment of its fork server; it has the mark as its name instead."""
ALL_READY: Final = "/ready?workers=1"
"""Of a web process with workers beside it, which takes a moment longer than its own."""
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 120.0
BUSY: Final = 3
SHARED_FOLDER: Final = "APFLOW_TEST_FOLDER"
"""The environment variable with the folder that all pytest processes of a run have in common."""
EXECUTORS: Final = "tests.executors_for_tests"
NOT_KEPT: Final = httpx.Limits(max_keepalive_connections=0)
"""The server closes connections that are idle for 5 seconds. One that is used just then would break."""
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts no certificate. To load those that the system trusts takes 12 ms, and a test server has none."""
LONG_WAY: Final[Mapping[str, str]] = {"X-Unknown-To-Us": "yes"}
"""A header with which a call goes the way of all requests, and not the short one."""
MODULES: Final = f"{EXECUTORS},tests.patient"
LEASE: Final[Mapping[str, str]] = {"AIPARTNERUPFLOW_WORKER_LEASE_SECONDS": "60"}
"""On a busy machine a worker may not reach its database for ten seconds. With the default it would begin its runs again."""

WITH_EXAMPLES: Final = {"AIPARTNERUPFLOW_SERVER_EXAMPLES": "store"}
"""For servers whose tests need the examples. To store them takes a fifth of the time of a start."""
SAME_KEYS: Final = {"AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": "the-key-of-several-machines-0123456789"}
"""For servers on the same database that have data folders of their own."""

T = TypeVar("T")
Json = dict[str, Any]


def until(look: Callable[[], T], *, seconds: float, what: str, pause_seconds: float = 0.02) -> T:
    """What `look` finds, as soon as it finds something. Raises AssertionError after the time.

    `seconds` is more than it takes on a machine that is free; one with other work gets BUSY times as long.
    """
    deadline = time.monotonic() + seconds * BUSY
    while not (found := look()):
        assert time.monotonic() < deadline, f"Not within {seconds * BUSY:g} s: {what}"
        time.sleep(pause_seconds)
    return found


def patient(params: Any) -> Any:
    """The parameters of a call. One that waits for a run does so for longer than the 30 seconds of the product."""
    waits = isinstance(params, dict) and params.get("wait") is True
    return {"wait_timeout_seconds": 110, **params} if waits else params


def children_with(text: str) -> list[psutil.Process]:
    """The processes that this one has started and not collected, whose command line has this in it."""

    def has_it(process: psutil.Process) -> bool:
        with suppress(psutil.Error):  # it ends just now
            return any(text in part for part in process.cmdline())
        return False

    return [process for process in psutil.Process().children() if has_it(process)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The living processes of a server, by what they do."""

    web: list[int]
    sentinel: int | None
    workers: list[int]
    pusher: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs. `pid` is the process that was started; `mark` is what all its processes carry."""

    url: str
    database_url: str
    data_dir: Path
    log: Path
    mark: str
    process: "subprocess.Popen[bytes] | Forked"
    http: httpx.Client

    @property
    def pid(self) -> int:
        return self.process.pid

    def call(self, method: str, params: Any, *, path: str = "/tasks", **headers: str) -> Any:
        """The whole JSON-RPC reply."""
        request = {"jsonrpc": "2.0", "method": method, "params": patient(params), "id": 1}
        return self.http.post(path, json=request, headers=headers).json()

    def rpc(self, method: str, params: Any, *, path: str = "/tasks", **headers: str) -> Any:
        """The result of a call that works."""
        reply = self.call(method, params, path=path, **headers)
        assert "error" not in reply, reply
        return reply["result"]

    @contextmanager
    def events(self, task_id: str, *, after: int = 0, tokens: bool = False) -> Iterator[Iterator[Json]]:
        """The events of the latest run of the task's tree, as they come."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        query = {"tokens": "true"} if tokens else {}
        with self.http.stream("GET", f"/tasks/{task_id}/events", headers=headers, params=query) as response:
            assert response.status_code == 200, response.read()
            yield events_of(response.iter_lines())

    def finished(self, task_id: str, *, tokens: bool = False) -> list[Json]:
        """All events of a run, when it is over."""
        with self.events(task_id, tokens=tokens) as events:
            return list(events)

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the server's database behind its back. Placeholders are `%s`."""
        return query(self.database_url, statement, *values)

    def processes(self) -> list[psutil.Process]:
        """All living processes of the server, the oldest first."""
        return processes_of(self.mark)

    def pids(self) -> Processes:
        """A cluster forks its pusher first, then its workers; call this while none was replaced."""
        every = [process for process in self.processes() if not self.runs(process, QUARANTINE, NURSERY)]
        clusters = [process for process in every if self.runs(process, CLUSTER)]
        ids = {process.pid for process in clusters}
        forked = sorted((process for process in clusters if process.ppid() in ids), key=_place_among_siblings)
        sentinels = [process.pid for process in clusters if process.ppid() not in ids]
        return Processes(
            web=[process.pid for process in every if process.pid not in ids],
            sentinel=sentinels[0] if sentinels else None,
            workers=[process.pid for process in forked[1:]],
            pusher=forked[0].pid if forked else None,
        )

    def runs(self, process: psutil.Process, *programs: str) -> bool:
        """Whether it runs one of these, by its command line, or by its name if it was forked."""
        names = [self.mark[:NAME_LENGTH] + LETTERS[program] for program in programs]
        with suppress(psutil.Error):  # it ends just now
            return process.name() in names or not set(programs).isdisjoint(process.cmdline())
        return False

    def pool(self) -> list[psutil.Process]:
        """The processes of the pools, without their nurseries."""
        found = [process for process in self.processes() if self.runs(process, NURSERY)]
        pids = {process.pid for process in found}
        return [process for process in found if process.ppid() in pids]

    def kill(self, *pids: int | None) -> None:
        """As a machine that runs out of memory does."""
        for pid in pids:
            assert pid is not None
            with suppress(ProcessLookupError):  # it ends with one that was killed before it
                os.kill(pid, signal.SIGKILL)

    def terminate_all(self) -> None:
        """SIGTERM to every process at once, as systemd does."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # one of the others may have ended it by now
                process.terminate()

    def stop(self) -> None:
        """Send SIGTERM, and wait until the last process has ended."""
        self.process.terminate()
        self.assert_gone(within_seconds=STOP_SECONDS)

    def assert_gone(self, *, within_seconds: float) -> None:
        """Raises AssertionError when a process of the server is left after the time."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(within_seconds)
        until(lambda: not self.processes(), seconds=within_seconds, what=f"the end of all processes of {self.url}")


def events_of(lines: Iterator[str]) -> Iterator[Json]:
    """What the `data:` lines of an event stream hold."""
    return (orjson.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))


def _place_among_siblings(process: psutil.Process) -> tuple[bool, int]:
    """Sorts processes with one parent by when they were forked: at the highest number, the system begins with small ones again."""
    return process.pid < process.ppid(), process.pid


def processes_of(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_dead = process.status() == psutil.STATUS_ZOMBIE
            if not is_dead and (
                process.name()[:NAME_LENGTH] == mark[:NAME_LENGTH] or process.environ().get(MARK) == mark
            ):
                found.append((process.create_time(), process.pid, process))
    return [process for _, _, process in sorted(found)]


@contextmanager
def running_server(
    database_url: str,
    *flags: str,
    env: Mapping[str, str] | None = None,
    data_dir: Path | None = None,
    port: int | None = None,
    is_forked: bool = True,
) -> Iterator[Server]:
    """`aipartnerupflow serve` with the flags, ready for work."""
    port = port or free_port()
    with running(
        [*SERVE, "--port", str(port), *flags],
        port=port,
        database_url=database_url,
        env=env,
        data_dir=data_dir,
        is_ready="/health" if "--no-worker" in flags else ALL_READY,
        is_forked=is_forked,
    ) as server:
        yield server


def real_server(database_url: str, *flags: str, **options: Any) -> AbstractContextManager[Server]:
    """The same in an interpreter of its own, for tests of the start and of the processes themselves."""
    return running_server(database_url, *flags, is_forked=False, **options)


@contextmanager
def running(
    command: Sequence[str],
    *,
    port: int,
    database_url: str,
    env: Mapping[str, str] | None = None,
    data_dir: Path | None = None,
    cwd: Path = ROOT,
    is_ready: str = ALL_READY,
    is_forked: bool = True,
) -> Iterator[Server]:
    """A server by any command, once it is ready; stopped at the end. Its log is shown when something fails.

    A command of ours is forked by the fork server, unless its start or its process is what the test is about.
    Raises AssertionError when it does not start, or when one of its processes is left after SIGTERM.
    """
    with tempfile.TemporaryDirectory(prefix="apflow-") as folder, _client(port) as http:
        home = data_dir or Path(folder)
        mark, log = uuid.uuid4().hex, Path(folder) / "log"
        environment = environment_of(database_url, home) | {MARK: mark, **(env or {})}
        with log.open("wb") as output:
            process = _started(command, cwd, environment, output, mark=mark if is_forked else "")
        server = Server(
            url=f"http://127.0.0.1:{port}",
            database_url=database_url,
            data_dir=home,
            log=log,
            mark=mark,
            process=process,
            http=http,
        )
        try:
            _await_start(server, is_ready)
            yield server
            server.stop()
        except BaseException:
            print(f"--- log of {' '.join(command)}\n{log.read_text(errors='replace')}\n---")  # noqa: T201
            raise
        finally:
            for left in server.processes():
                left.kill()
            process.wait()


def _started(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], output: BinaryIO, *, mark: str
) -> "subprocess.Popen[bytes] | Forked":
    """The process of the command: forked, if there is a mark for its name and the command is ours."""
    if mark and tuple(command[:3]) == COMMAND and cwd == ROOT:
        with Path(os.devnull).open() as nothing:
            return fork_server_for(environment).start(
                command[3:], env=environment, streams=(nothing, output, output), name=mark, folder=str(ROOT)
            )
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output)


def environment_of(database_url: str, data_dir: Path) -> dict[str, str]:
    """Our environment without settings, but for these. Without a URL the settings of the command's own choose the database."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AIPARTNERUPFLOW_")}
    database = {"AIPARTNERUPFLOW_DATABASE_URL": database_url} if database_url else {}
    return (
        ours
        | database
        | {
            "AIPARTNERUPFLOW_DATA_DIR": str(data_dir),
            "AIPARTNERUPFLOW_EXECUTORS_MODULES": MODULES,
            "AIPARTNERUPFLOW_SERVER_EXAMPLES": "none",
            **LEASE,
            "AIPARTNERUPFLOW_POOLS_PROCESS_ENVIRONMENT": "*",  # MARK, and what functions of tests read
            **({} if os.getuid() == 0 else {"AIPARTNERUPFLOW_SERVER_DEBUGGERS": "true"}),  # else MARK could not be read
        }
    )


def _client(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, limits=NOT_KEPT, verify=NO_TLS)


def _await_start(server: Server, path: str) -> None:
    def answers() -> bool:
        assert server.process.poll() is None, f"It ended with code {server.process.returncode}"
        with suppress(httpx.TransportError):
            return server.http.get(path).status_code == 200
        return False

    until(answers, seconds=START_SECONDS, what=f"200 from {path}", pause_seconds=0.1)


# --- databases ---


@contextmanager
def new_database(beside: str = "", *, is_bare: bool = False) -> Iterator[str]:
    """The URL of a database of the engine that is tested, or of the one that the other URL names.

    It has our tables, so that each server need not make them anew, and nothing in them; a bare one has none.
    """
    url = beside or os.environ["AIPARTNERUPFLOW_DATABASE_URL"]
    name = f"apflow_{uuid.uuid4().hex}"
    if url.startswith("sqlite"):
        with tempfile.TemporaryDirectory(prefix="apflow-") as folder:
            file = Path(folder, f"{name}.sqlite3")
            if not is_bare:
                file.write_bytes(sqlite_template())
            yield f"sqlite:///{file}"
        return
    _execute(url, f'CREATE DATABASE "{name}"' + ("" if is_bare else f' TEMPLATE "{postgres_template(url)}"'))
    yield urlsplit(url)._replace(path=f"/{name}").geturl()
    _drop(url, name)


@cache
def sqlite_template() -> bytes:
    """A database with our tables. The first pytest process that needs it makes it for all of them."""
    with _template("sqlite") as file:
        if not file.exists():
            new = file.with_suffix(".new")
            _migrate(f"sqlite:///{new}")
            with closing(sqlite3.connect(new)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the tables may be in another file
            new.rename(file)
        return file.read_bytes()


@cache
def postgres_template(url: str) -> str:
    """The name of the same on the server of the URL. It goes with its server, or, where that is not ours, by `drop_templates`."""
    with _template(hashlib.sha256(url.encode()).hexdigest()) as file:
        if not file.exists():
            name = f"apflow_template_{uuid.uuid4().hex}"
            _execute(url, f'CREATE DATABASE "{name}"')
            _migrate(urlsplit(url)._replace(path=f"/{name}").geturl())
            file.write_text(f"{url} {name}")
        return file.read_text().split()[1]


@contextmanager
def _template(name: str) -> Iterator[Path]:
    """The file about a template, while no other process uses it."""
    folder = Path(os.environ[SHARED_FOLDER])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / f"{name}.template"


def drop_templates() -> None:
    """Drop those of PostgreSQL."""
    for file in Path(os.environ[SHARED_FOLDER]).glob("*.template"):
        if file.stem != "sqlite":
            _drop(*file.read_text().split())


def _migrate(url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="apflow-") as folder:
        environment = environment_of(url, Path(folder))
        migrate = [PYTHON, "-m", "aipartnerupflow", "migrate"]
        subprocess.run(migrate, cwd=ROOT, env=environment, check=True, capture_output=True)


def _drop(url: str, name: str) -> None:
    # It waits for every backend, also for one that hangs.
    _execute(url, "SET statement_timeout = '60s'", f'DROP DATABASE "{name}" WITH (FORCE)')


def _execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def query(database_url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own. Placeholders are `%s`."""
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=120)) as file, file:
            return file.execute(statement.replace("%s", "?"), values).fetchall()
    with psycopg.connect(database_url) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []
