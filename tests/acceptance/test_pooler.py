"""PgBouncer in transaction mode between all our processes and PostgreSQL: with Redis, and without."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg
import pytest

from tests.fork_server import run_command
from tests.ports import free_port
from tests.servers import Server, environment_of, new_database, query, running_server, until
from tests.valkey import valkey_server

pytestmark = pytest.mark.both_engines
SETTINGS = """
[databases]
{name} = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
logfile = {folder}/log
"""


@contextmanager
def pooled(url: str) -> Iterator[str]:
    """The URL of the same database behind a PgBouncer."""
    parts = urlsplit(url)
    host, own_port = parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[0], free_port()
    folder = Path(tempfile.mkdtemp(prefix="apflow-"))
    owner = Path(host).stat().st_uid if host.startswith("/") else os.geteuid()
    os.chown(folder, owner, -1)
    (folder / "ini").write_text(
        SETTINGS.format(
            name=parts.path[1:],
            host=host,
            port=parts.port or 5432,
            user=unquote(parts.username or ""),
            own_port=own_port,
            folder=folder,
        )
    )
    (folder / "ini").chmod(0o644)
    as_user = ["-u", pwd.getpwuid(owner).pw_name] if os.geteuid() == 0 else []  # it refuses to run as root
    pooled_url = f"postgresql://{parts.username}@127.0.0.1:{own_port}{parts.path}"
    pooler = subprocess.Popen(["pgbouncer", "-q", *as_user, str(folder / "ini")], stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert pooler.poll() is None, (folder / "log").read_text()
        with suppress(psycopg.OperationalError):
            return bool(query(pooled_url, "SELECT 1"))
        return False

    try:
        until(answers, seconds=60, what="PgBouncer")
        yield pooled_url
    finally:
        pooler.kill()
        pooler.wait()


def run_and_follow(server: Server) -> None:
    done = server.rpc("tasks.execute", {"tasks": [{"id": "one", "name": "echo_executor"}], "wait": True})
    assert done["status"] == "completed"
    assert "task_completed" in [event["type"] for event in server.finished("one")]
    asked = {"id": "long", "name": "sleep_executor", "inputs": {"seconds": 600}}
    server.rpc("tasks.execute", {"tasks": [asked]})
    until(lambda: server.rpc("tasks.get", {"task_id": "long"})["status"] == "in_progress", seconds=60, what="its start")
    server.rpc("tasks.cancel", {"task_ids": ["long"]})
    until(lambda: server.rpc("tasks.get", {"task_id": "long"})["status"] == "cancelled", seconds=60, what="its end")


def test_a_pooler_works_with_redis_and_is_named_at_the_start_without(tmp_path: Path) -> None:
    with new_database(is_bare=True) as url:
        if url.startswith("sqlite"):
            return  # it has no pooler
        with pooled(url) as pooled_url, valkey_server() as valkey:
            redis = {"AIPARTNERUPFLOW_REDIS_URL": valkey.connection_url}
            with running_server(pooled_url, env=redis) as server:
                run_and_follow(server)
                assert "do not arrive" not in server.log.read_text()
        with pooled(url) as pooled_url:
            with running_server(pooled_url) as server:
                assert "Notifications of PostgreSQL do not arrive" in " ".join(server.log.read_text().split())
                done = server.rpc("tasks.execute", {"tasks": [{"id": "two", "name": "echo_executor"}], "wait": True})
                assert done["status"] == "completed"
            printed = run_command("doctor", env=environment_of(pooled_url, tmp_path)).stdout
            assert "set redis.url, or connect without a transaction pooler" in " ".join(printed.split())
