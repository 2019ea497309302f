"""`aipartnerupflow doctor`: every red line provoked once, and turned green by what its fix says."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from aipartnerupflow import doctor
from aipartnerupflow.doctor import Doubt, Trouble
from apflow_site.config import Config, load
from tasks.models import InstallationFact
from tasks.services.secrets.shared_secrets import note_signer
from tests.fork_server import printed_by, run_command
from tests.ports import free_port
from tests.servers import environment_of, new_database, query, running_server, until

Findings = dict[str, dict[str, Any]]
NOW = datetime.now(UTC)
BEAT = "INSERT INTO tasks_workerprocess (id, cluster_id, host, pid, started_at, beat_at, places)"
SECRET = "a-secret-of-the-tests-that-is-long-enough-0123456789"
STORE = """
import django
from aipartnerupflow import bootstrap
bootstrap()
django.setup()
from llmkeys.keys import set_key
from llmkeys.secret import Secret
set_key(user_id="alice", provider="openai", key=Secret("sk-canary-12345678"))
"""


WAIT_FOR_TURNS = """
import django
from aipartnerupflow import bootstrap
bootstrap()
django.setup()
from tasks.telemetry.metrics import database_call
for waited in (0.04, 0.5, 2.0):
    database_call("read", waited, 0.0)
database_call("read", 0.0, 0.5)
"""


class Installation:
    """A database and a data folder, and the commands that are run on them."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.database_url, self.folder = database_url, folder
        self.variables = {"AIPARTNERUPFLOW_PORT": str(free_port())}

    def run(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = environment_of(self.database_url, self.folder) | self.variables | variables
        return run_command(*words, env=environment)

    def examine(self, **variables: str) -> Findings:
        done = self.run("doctor", "--json", **variables)
        assert done.stdout, done.stderr
        found = {finding["name"]: finding for finding in json.loads(done.stdout)}
        assert done.returncode == any(finding["status"] == "fail" for finding in found.values())
        return found


@pytest.mark.crews
def test_extras_that_are_missing_are_named_with_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.extras() == "all are installed"
    monkeypatch.setattr("tasks.rules.extras.EXTRAS", {"llm": "litellm", "crewai": "a_module_that_is_not_installed"})
    assert doctor.extras().startswith("crewai is missing: pip install 'crewai<2,>=1.15'")
    assert doctor.extras().endswith("make serve SET=all")


def test_pools_name_executors_that_exist_and_fit_into_the_memory() -> None:
    config = load({"AIPARTNERUPFLOW_POOLS_PROCESS_SIZE": "100", "AIPARTNERUPFLOW_WORKER_PROCESSES": "2"})
    assert doctor.pools(config, memory_mb=20_000).startswith("100 processes per worker process")
    with pytest.raises(Doubt) as caught:
        doctor.pools(config, memory_mb=8192)
    assert caught.value.fix == "Set pools.process.size to 8."
    none = load({"AIPARTNERUPFLOW_POOLS_PROCESS_SIZE": "0"})
    assert doctor.pools(none, memory_mb=1).startswith("no processes")


def words(text: str) -> str:
    """The text without its line breaks: messages are wrapped."""
    return " ".join(text.split())


def green(found: Findings) -> Findings:
    """The findings if all are green, or else none. Not counted is the one on durability: the tests' PostgreSQL flushes nothing, to be fast."""
    return found if {each["colour"] for name, each in found.items() if name != "durability"} == {"green"} else {}


def red(finding: dict[str, Any]) -> str:
    """The fix of a red line."""
    assert finding["colour"] == "red", finding
    fix: str = finding["fix"]
    return fix


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """One that is up to date, whose server does not run."""
    with new_database() as database_url:
        yield Installation(database_url, tmp_path)


@pytest.mark.both_engines
def test_all_is_green_while_a_server_runs_and_the_worker_is_missed_when_it_does_not(tmp_path: Path) -> None:
    with new_database(is_bare=True) as database_url:
        found = Installation(database_url, tmp_path)
        assert red(found.examine()["migrations"]) == "Run: aipartnerupflow migrate"
        pending = found.run("migrate", "--check")
        assert (pending.returncode, "tasks.0001_squashed_0058_open_waits" in pending.stdout.splitlines()) == (1, True)
        assert "\n  Create model Task\n" in found.run("migrate", "--plan").stdout
        assert found.run("migrate").stdout == "The database is up to date.\n"
        assert (found.run("migrate", "--check").returncode, found.run("migrate", "--plan").stdout) == (0, "")
        before = found.examine()
        assert before["migrations"]["colour"] == "green"
        assert "aipartnerupflow worker" in red(before["worker"])
        assert "is free" in before["port"]["message"]
        port = int(found.variables["AIPARTNERUPFLOW_PORT"])
        with running_server(database_url, data_dir=tmp_path, port=port):
            public = {"AIPARTNERUPFLOW_SERVER_PUBLIC_URL": f"http://localhost:{port}"}
            during = until(lambda: green(found.examine(**public)), seconds=60, what="green")
            wrong = found.examine(AIPARTNERUPFLOW_SERVER_PUBLIC_URL=f"http://localhost:{free_port()}")["public URL"]
            assert (wrong["colour"], "does not lead to this server" in wrong["message"]) == ("yellow", True)
            other = {"AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": "another-key-of-the-tests-0123456789"}
            assert "AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS" in red(found.examine(**other)["shared secrets"])
            refused = found.run("worker", **other)
            assert (refused.returncode, "llm.encryption_keys: another value" in words(refused.stderr)) == (2, True)
        durability = during["durability"]
        database = "SQLite 3." if database_url.startswith("sqlite") else "PostgreSQL 1"
        assert during["db version"]["message"].startswith(database)
        assert "power cut" in durability["message"]
        assert (durability["colour"] == "green") == database_url.startswith("sqlite")
        full = found.examine(AIPARTNERUPFLOW_DATABASE_SQLITE_SYNCHRONOUS="full")["durability"]["message"]
        assert ("loses nothing that was answered" in full) == database_url.startswith("sqlite")
        assert during["port"]["message"].startswith("an aipartnerupflow server answers")
        assert {"versions", "notification", "stored keys", "clock", "queue", "secrets"} <= during.keys()


@pytest.mark.both_engines
def test_connections_that_postgresql_does_not_allow_are_counted(installation: Installation) -> None:
    found = installation.examine(AIPARTNERUPFLOW_WORKER_PROCESSES="2")
    if installation.database_url.startswith("sqlite"):
        assert "connections" not in found
        return
    assert found["connections"]["message"].startswith("this machine needs at most 74, PostgreSQL allows 997; ")
    many = installation.examine(AIPARTNERUPFLOW_WORKER_PROCESSES="100")["connections"]
    assert (many["colour"], "Raise max_connections" in many["fix"]) == ("yellow", True)


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_an_old_transaction_that_keeps_deleted_rows_is_named() -> None:
    if connection.vendor == "sqlite":
        return  # its readers keep no rows of others
    assert doctor.oldest_transaction() == "can be removed: no transaction is old"
    with closing(connection.copy()) as other:
        other.settings_dict["OPTIONS"]["application_name"] = "reports"
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        with pytest.raises(Doubt, match="reports, idle in transaction") as caught:
            doctor.oldest_transaction(doubt_seconds=0.0)
        assert f"pg_terminate_backend({pid})" in caught.value.fix


def test_people_see_signs_and_fixes(installation: Installation) -> None:
    printed = installation.run("doctor").stdout
    assert "✓ database" in printed
    assert "✗ worker" in printed
    assert "Start one: aipartnerupflow worker" in printed


def test_a_wrong_setting_is_named_and_nothing_else_is_looked_at(installation: Installation) -> None:
    found = installation.examine(AIPARTNERUPFLOW_SERVER_WORKERS="many")
    assert "server.workers" in found["configuration"]["message"]
    assert "Correct" in red(found["configuration"])
    assert "database" not in found
    assert installation.examine(AIPARTNERUPFLOW_SERVER_WORKERS="2")["configuration"]["colour"] == "green"


def test_a_data_folder_that_is_a_file(installation: Installation) -> None:
    (installation.folder / "file").touch()
    found = installation.examine(AIPARTNERUPFLOW_DATA_DIR=str(installation.folder / "file"))
    assert "AIPARTNERUPFLOW_DATA_DIR" in red(found["data folder"])
    other = installation.examine(AIPARTNERUPFLOW_DATA_DIR=str(installation.folder / "other"))
    assert other["data folder"]["colour"] == "green"


def test_a_database_that_is_away(installation: Installation) -> None:
    away = f"postgresql://user:pa55word@127.0.0.1:{free_port()}/none"
    found = installation.examine(AIPARTNERUPFLOW_DATABASE_URL=away)
    assert "No program listens at 127.0.0.1:" in found["database"]["message"]
    assert "AIPARTNERUPFLOW_DATABASE_URL" in red(found["database"])
    assert "pa55word" not in json.dumps(found)
    assert installation.examine()["database"]["colour"] == "green"


@contextmanager
def listening(reply: bytes) -> Iterator[int]:
    """The port of a program that answers every request with this reply, or never answers."""

    def answer() -> None:
        with suppress(OSError):
            while True:
                accepted, _ = server.accept()
                open_ones.enter_context(accepted)
                if reply:
                    accepted.recv(1024)
                    accepted.sendall(reply)
                    accepted.shutdown(socket.SHUT_RDWR)

    with ExitStack() as open_ones, socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("reply", "says"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not PostgreSQL"), (b"", "does not answer as PostgreSQL does")],
    ids=["http", "silent"],
)
def test_a_port_that_is_not_postgresqls(installation: Installation, reply: bytes, says: str) -> None:
    with listening(reply) as port:
        url = f"postgresql://user:pa55word@127.0.0.1:{port}/none"
        connect = {"AIPARTNERUPFLOW_DATABASE_CONNECT_SECONDS": "60" if reply else "2"}
        found = installation.examine(AIPARTNERUPFLOW_DATABASE_URL=url, **connect)["database"]
    assert f"127.0.0.1:{port}" in found["message"]
    assert says in found["message"]
    assert "database.url" in red(found)


def test_a_port_that_somebody_else_has(installation: Installation) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        fix = red(installation.examine(AIPARTNERUPFLOW_PORT=str(number))["port"])
    assert fix.endswith(f"AIPARTNERUPFLOW_PORT={number + 1}")
    assert installation.examine(AIPARTNERUPFLOW_PORT=str(free_port()))["port"]["colour"] == "green"


def test_an_open_server_a_weak_secret_and_readable_files(installation: Installation) -> None:
    reachable = {"AIPARTNERUPFLOW_HOST": "0.0.0.0"}
    assert "AIPARTNERUPFLOW_JWT_SECRET" in red(installation.examine(**reachable)["secrets"])
    weak = installation.examine(**reachable, AIPARTNERUPFLOW_JWT_SECRET="your-secret-key")["secrets"]
    assert "secrets.token_urlsafe" in red(weak)
    assert "your-secret-key" not in json.dumps(weak)
    strong = reachable | {"AIPARTNERUPFLOW_JWT_SECRET": SECRET}
    assert installation.examine(**strong)["secrets"]["colour"] == "green"
    weak = installation.examine(**strong, AIPARTNERUPFLOW_AUTH_TRIGGER_SECRET="change-me")["secrets"]
    assert "auth.trigger_secret: it is an example" in weak["message"]
    key = installation.folder / "secret_key"
    key.chmod(0o644)
    fix = red(installation.examine(**strong)["secrets"])
    assert fix == f"chmod 600 {key}"
    subprocess.run(fix.split(), check=True)
    assert installation.examine(**strong)["secrets"]["colour"] == "green"


def test_a_stored_key_that_does_not_open(installation: Installation) -> None:
    old, new = "old-key-of-the-tests-0123456789-abcdef", "new-key-of-the-tests-0123456789-abcdef"
    environment = environment_of(installation.database_url, installation.folder)
    environment["AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS"] = old
    printed_by(STORE, env=environment)
    lost = {"AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": new}
    assert "keys rotate" in red(installation.examine(**lost)["stored keys"])
    both = {"AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": f"{new},{old}"}
    assert installation.run("keys", "rotate", **both).returncode == 0
    assert installation.examine(**lost)["stored keys"]["message"] == "all can be decrypted (1)"


def test_runs_that_nobody_takes_although_workers_are_alive(installation: Installation) -> None:
    columns = "id, root_id, target_id, user_id, context_id, number, status, epoch, losses, last_seq, created_at"
    values = f"'r', 'r', 'r', 'u', 'r', 1, 'pending', 0, 0, 0, '{(NOW - timedelta(minutes=5)).isoformat(' ')[:26]}'"
    query(installation.database_url, f"INSERT INTO tasks_run ({columns}) VALUES ({values})")
    now = datetime.now(UTC)
    moment, later = ((now + timedelta(minutes=minutes)).isoformat(" ")[:26] for minutes in (0, 5))
    # A heartbeat of the future stays fresh, however long the commands take.
    query(installation.database_url, f"{BEAT} VALUES ('w', 'c', 'h', 1, '{moment}', '{later}', 1000)")
    assert "workers' log" in red(installation.examine()["queue"])
    query(installation.database_url, f"UPDATE tasks_run SET started_at = '{later}'")  # a worker is at it
    assert installation.examine()["queue"]["colour"] == "green"
    query(installation.database_url, "UPDATE tasks_run SET suspected_at = created_at")
    suspected = installation.examine()["quarantine"]
    assert (suspected["colour"], "aipartnerupflow explain r" in suspected["fix"]) == ("yellow", True)
    query(installation.database_url, "UPDATE tasks_run SET started_at = NULL, finished_at = created_at")
    found = installation.examine()
    assert (found["queue"]["colour"], found["quarantine"]["message"]) == ("green", "no run is suspected")


def test_calls_that_have_waited_for_their_turn_are_counted(installation: Installation) -> None:
    assert installation.examine()["turns"]["message"] == "no database call of a web process has waited for its turn"
    printed_by(WAIT_FOR_TURNS, env=environment_of(installation.database_url, installation.folder))
    counted = installation.examine()["turns"]["message"]
    assert counted == "3 database calls of web processes have waited for their turn, 1 of them over 1 s"


def test_a_long_queue_before_workers_that_are_busy_is_no_fault(installation: Installation) -> None:
    """Nobody who waits in it may take the server out of a load balancer."""
    now = datetime.now(UTC)
    old, moment, later = ((now + timedelta(minutes=minutes)).isoformat(" ")[:26] for minutes in (-5, 0, 5))
    columns = "id, root_id, target_id, user_id, context_id, number, status, epoch, losses, last_seq, created_at, started_at, lease_owner, lease_expires_at"
    for run_id, lease in [("waits", "NULL, NULL, NULL"), ("works", f"'{old}', 'w', '{later}'")]:
        values = f"'{run_id}', '{run_id}', '{run_id}', 'u', 'c', 1, 'pending', 0, 0, 0, '{old}', {lease}"
        query(installation.database_url, f"INSERT INTO tasks_run ({columns}) VALUES ({values})")
    # A heartbeat of the future stays fresh, however long the commands take.
    query(installation.database_url, f"{BEAT} VALUES ('w', 'c', 'h', 1, '{moment}', '{later}', 1)")
    assert installation.examine()["queue"]["colour"] == "green"
    query(installation.database_url, "UPDATE tasks_workerprocess SET places = 2")
    assert "workers' log" in red(installation.examine()["queue"])


def test_a_signing_key_that_is_missing_stops_the_start(installation: Installation) -> None:
    away = {"AIPARTNERUPFLOW_A2A_SIGNING_KEY": str(installation.folder / "card-key.pem")}
    assert "docs/how-to/a2a.md" in red(installation.examine(**away)["shared secrets"])
    refused = installation.run("serve", **away)
    assert (refused.returncode, "a2a.signing_key" in refused.stderr) == (2, True)


def test_a_database_of_a_newer_version_is_left_alone(installation: Installation) -> None:
    newer = f"INSERT INTO django_migrations (app, name, applied) VALUES ('tasks', '9999_newer', '{NOW.isoformat(' ')}')"
    query(installation.database_url, newer)
    for command in (["serve"], ["worker"], ["migrate"], ["migrate", "--check"]):
        refused = installation.run(*command)
        assert refused.returncode == 2
        assert "by a newer version of aipartnerupflow (tasks.9999_newer)" in words(refused.stderr)
    assert "restore a backup" in red(installation.examine()["schema"])


def test_a_file_that_is_no_database_and_one_that_goes_while_it_is_served(tmp_path: Path) -> None:
    """SQLite keeps writing to a deleted file, and creates an empty one when a process opens its name."""
    with new_database("sqlite") as url:
        file = Path(url.removeprefix("sqlite:///"))
        with running_server(url, "--no-worker") as server:
            server.rpc("tasks.create", {"tasks": [{"name": "before"}]})
            file.unlink()
            for number in range(3):
                lost = server.call("tasks.execute", {"tasks": [{"name": f"after {number}"}]})
                assert "file has been deleted" in lost["error"]["message"], lost
            ready = server.http.get("/ready")
            assert (ready.status_code, "has been deleted" in ready.json()["checks"]["database"]["message"]) == (
                503,
                True,
            )
            assert "restore the file" in ready.json()["checks"]["database"]["fix"]
            assert not file.exists()
            assert "Traceback" not in server.log.read_text()
        for rest in file.parent.glob(f"{file.name}-*"):
            rest.unlink()  # a log of the old file that was left would be read
        file.write_text("This is no database. " * 500)
        damaged = Installation(url, tmp_path)
        assert "restore the file from a backup" in red(damaged.examine()["database"])
        refused = damaged.run("serve")
        assert (refused.returncode, "restore the file from a backup" in words(refused.stderr)) == (2, True)


def test_redis_that_does_not_answer(installation: Installation) -> None:
    found = installation.examine(AIPARTNERUPFLOW_REDIS_URL=f"redis://:pa55word@127.0.0.1:{free_port()}/0")
    assert "AIPARTNERUPFLOW_REDIS_URL" in red(found["redis"])
    assert "pa55word" not in json.dumps(found)
    assert "redis" not in installation.examine()


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (lambda: doctor.versions(python=(3, 10)), "Python 3.11 to 3.14"),
        (lambda: doctor.database_version((3, 31, 1)), "3.35.0 or newer"),
        (lambda: doctor.data_folder(Path(), free_bytes=2**20), "Free some space"),
        (lambda: doctor.clock(NOW, NOW + timedelta(seconds=60)), "NTP"),
    ],
    ids=["python", "sqlite", "disk", "clock"],
)
def test_what_no_test_can_break_is_red_all_the_same(look: Any, words: str) -> None:
    with pytest.raises(Trouble) as caught:
        look()
    assert (caught.value.colour, words in caught.value.fix) == ("red", True)


@pytest.mark.parametrize(
    "look",
    [
        lambda: doctor.data_folder(Path(), free_bytes=2**29),
        lambda: doctor.clock(NOW, NOW - timedelta(seconds=5)),
    ],
    ids=["disk", "clock"],
)
def test_what_may_break_soon_is_yellow(look: Any) -> None:
    with pytest.raises(Doubt):
        look()


def test_what_is_well_is_green() -> None:
    assert "Python" in doctor.versions()
    assert "GiB free" in doctor.data_folder(Path(), free_bytes=2**40)
    assert "differs" in doctor.clock(NOW, NOW)


@pytest.mark.both_engines
@pytest.mark.django_db
def test_an_old_secret_may_go_when_nothing_that_it_signed_is_valid(settings: LazySettings) -> None:
    def have(secret: str, *accepted: str) -> Config:
        variables = {
            "AIPARTNERUPFLOW_JWT_SECRET": secret,
            "AIPARTNERUPFLOW_AUTH_ACCEPTED_JWT_SECRETS": ",".join(accepted),
        }
        settings.APFLOW = load(variables)
        config: Config = settings.APFLOW
        return config

    have(SECRET)
    note_signer()
    config = have(f"{SECRET}-of-today", SECRET, f"{SECRET}-of-tomorrow")
    note_signer()
    found = doctor.shared_secrets(config)
    assert "number 1 of auth.accepted_jwt_secrets is needed until" in found
    assert "number 2 of auth.accepted_jwt_secrets has not signed a token yet" in found
    InstallationFact.objects.filter(name__startswith="signed:").update(updated_at=NOW - timedelta(days=8))
    note_signer()  # does not concern the old one
    with pytest.raises(Doubt) as caught:
        doctor.shared_secrets(config)
    assert "number 1 of auth.accepted_jwt_secrets" in caught.value.message
    assert caught.value.fix.startswith("Remove it from auth.accepted_jwt_secrets")
    assert SECRET not in str(InstallationFact.objects.values_list())


def test_a_file_with_secrets_that_others_can_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, key = tmp_path / "config.yaml", tmp_path / "card-key.pem"
    key.write_text("a key")
    key.chmod(0o600)
    monkeypatch.setenv("AIPARTNERUPFLOW_CONFIG", str(file))
    for content, is_secret in (("log: {level: info}", False), (f"auth: {{jwt_secret: {SECRET}}}", True)):
        file.write_text(content)
        file.chmod(0o644)
        config = load({"AIPARTNERUPFLOW_A2A_SIGNING_KEY": str(key)})
        if not is_secret:
            assert doctor.secrets_(config).startswith("authentication is")
            continue
        with pytest.raises(Doubt) as caught:
            doctor.secrets_(config)
        assert caught.value.fix == f"chmod 600 {file}"
        file.chmod(0o600)
        key.chmod(0o644)
        with pytest.raises(Doubt) as caught:
            doctor.secrets_(config)
        assert caught.value.fix == f"chmod 600 {key}"
