"""Files of commands on another host: by SFTP into a folder of the task, and back."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lazy_modules import LazyModule
from tests.servers import Server, new_database, running_server

if TYPE_CHECKING:
    from tests.ssh_server import SshServer

ssh = LazyModule("tests.ssh_server")
pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]
JOIN = "cat in/a.txt 'in/ä b.txt' > out/both.txt; pwd; cp in/a.txt out/copy.bin"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SshServer]":
    with ssh.ssh_server(tmp_path_factory.mktemp("ssh"), has_files=True) as server:
        yield server


@pytest.fixture(scope="module")
def without_sftp(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SshServer]":
    with ssh.ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture(scope="module")
def site(peer: "SshServer") -> Iterator[Server]:
    settings = {
        "AIPARTNERUPFLOW_EXECUTORS_SSH_HOSTS": f"build=deploy@127.0.0.1:{peer.port}",
        "AIPARTNERUPFLOW_EXECUTORS_SSH_KEYS": str(peer.client_key),
        "AIPARTNERUPFLOW_EXECUTORS_SSH_KNOWN_HOSTS": str(peer.known_hosts),
        "AIPARTNERUPFLOW_LIMITS_FILE_BYTES": "2000000",
    }
    with new_database() as database_url, running_server(database_url, env=settings) as found:
        yield found


def ended(site: Server, command: Any, **inputs: Any) -> Json:
    given = {"name": "there", "schemas": {"method": "ssh_executor"}, "params": {"retry": {"max_attempts": 1}}}
    task = given | {"inputs": {"host": "build", "command": command} | inputs}
    task_id = site.rpc("tasks.execute", {"tasks": task})["task_id"]
    site.finished(task_id)
    found: Json = site.rpc("tasks.get", {"task_id": task_id})
    return found


def uploaded(site: Server, content: bytes, name: str = "a.txt") -> Json:
    return dict(site.http.post("/files", params={"name": name}, content=content).json())


def content_of(site: Server, file: Json) -> bytes:
    return site.http.get(f"/files/{file['$file']}").content


def test_a_command_reads_files_of_the_task_and_what_it_leaves_is_saved(site: Server) -> None:
    large = os.urandom(1_500_000)
    files = {"a.txt": uploaded(site, large), "ä b.txt": uploaded(site, b"end")}
    done = ended(site, JOIN, files=files, save=True)
    assert done["status"] == "completed", done["error"]
    saved = done["result"]["files"]
    assert sorted(saved) == ["both.txt", "copy.bin"]
    assert content_of(site, saved["both.txt"]) == large + b"end"
    assert content_of(site, saved["copy.bin"]) == large
    assert saved["both.txt"]["media_type"] == "text/plain"
    folder = done["result"]["stdout"].strip()
    assert folder.startswith("/tmp/aipartnerupflow-")
    assert not Path(folder).exists()
    listed = ended(site, ["cat", "in/a b.txt"], files={"a b.txt": uploaded(site, b"quoted")})
    assert listed["result"] == {"return_code": 0, "stdout": "quoted", "stderr": ""}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("ln -s /etc/hostname out/link", "'link' of the command cannot be saved: it is no plain file"),
        ("mkdir out/folder", "'folder' of the command cannot be saved: it is no plain file"),
        ("head -c 2000001 /dev/zero > out/large", "limits.file_bytes"),
        ("for i in $(seq 101); do touch out/$i; done", "more than 100 files"),
        ("rm -r out", "cannot be read"),
        ("touch out/a; exit 3", "ended with code 3"),
    ],
)
def test_what_cannot_be_saved_fails_the_task_and_leaves_nothing_behind(
    site: Server, tmp_path: Path, command: str, reason: str
) -> None:
    before = len(site.rpc("files.list", {"limit": 1000})["files"])
    noted = tmp_path / "folder"
    done = ended(site, f"pwd > {noted}\n{command}", save=True)
    assert (done["status"], reason in done["error"]) == ("failed", True), done["error"]
    assert len(site.rpc("files.list", {"limit": 1000})["files"]) == before
    assert not Path(noted.read_text().strip()).exists()


def test_names_that_are_paths_are_refused_before_the_command_runs(site: Server) -> None:
    done = ended(site, "true", files={"../x": uploaded(site, b"x")})
    assert "must be a name without a path" in done["error"]


def test_a_host_without_sftp_says_so(without_sftp: "SshServer") -> None:
    settings = {
        "AIPARTNERUPFLOW_EXECUTORS_SSH_HOSTS": f"build=deploy@127.0.0.1:{without_sftp.port}",
        "AIPARTNERUPFLOW_EXECUTORS_SSH_KEYS": str(without_sftp.client_key),
        "AIPARTNERUPFLOW_EXECUTORS_SSH_KNOWN_HOSTS": str(without_sftp.known_hosts),
    }
    with new_database() as database_url, running_server(database_url, env=settings) as site:
        done = ended(site, "true", save=True)
        assert "The host 'build' has no SFTP" in done["error"]
        assert ended(site, "true")["status"] == "completed"
    assert without_sftp.commands == ["true"]
