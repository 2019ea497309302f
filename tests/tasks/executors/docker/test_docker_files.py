"""Files of containers: in a volume of their own, which goes with them, and back."""

import os
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.docker_daemon import IMAGE, DockerDaemon, docker_daemon
from tests.servers import Server, new_database, running_server

pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]
MOST: Final = 2_000_000
JOIN: Final = "cat in/a.txt 'in/ä b.txt' > out/both.txt; cat /dev/null > 'out/ö'; pwd; sleep 1"


@pytest.fixture(scope="module")
def daemon() -> Iterator[DockerDaemon]:
    with docker_daemon() as found:
        yield found


def settings_for(daemon: DockerDaemon, **more: str) -> dict[str, str]:
    given = {"IMAGES": IMAGE, "DAEMON": daemon.address} | more
    return {f"AIPARTNERUPFLOW_EXECUTORS_DOCKER_{name}": value for name, value in given.items()} | {
        "AIPARTNERUPFLOW_LIMITS_FILE_BYTES": str(MOST)
    }


@pytest.fixture(scope="module")
def site(daemon: DockerDaemon) -> Iterator[Server]:
    with new_database() as url, running_server(url, env=settings_for(daemon, SAVE="true")) as found:
        yield found


def ended(site: Server, script: str, **inputs: Any) -> Json:
    given = {"name": "box", "schemas": {"method": "docker_executor"}, "params": {"retry": {"max_attempts": 1}}}
    task = given | {"inputs": {"image": IMAGE, "command": ["sh", "-c", script]} | inputs}
    task_id = site.rpc("tasks.execute", {"tasks": task})["task_id"]
    site.finished(task_id)
    found: Json = site.rpc("tasks.get", {"task_id": task_id})
    return found


def uploaded(site: Server, content: bytes, name: str = "a.txt") -> Json:
    return dict(site.http.post("/files", params={"name": name}, content=content).json())


def test_a_container_reads_files_of_the_task_and_what_it_leaves_is_saved(site: Server, daemon: DockerDaemon) -> None:
    large = os.urandom(1_500_001)
    files = {"a.txt": uploaded(site, large), "ä b.txt": uploaded(site, b"end")}
    done = ended(site, JOIN, files=files, save=True)
    assert done["status"] == "completed", done["error"]
    assert done["result"]["logs"] == "/task\n"
    contents = {
        name: site.http.get(f"/files/{file['$file']}").content for name, file in done["result"]["files"].items()
    }
    assert contents == {"both.txt": large + b"end", "ö": b""}
    assert left_in(daemon) == ([], [])


def left_in(daemon: DockerDaemon) -> tuple[list[Json], list[Json]]:
    """The containers and the volumes that are left."""
    return daemon.containers(), daemon.client.get("/volumes").json()["Volumes"] or []


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo > 'out/a\\b'", "its name must be a name without a path"),
        ("sleep 0 | cat > out/x; ls -l out > /dev/null; busybox ln -s /etc/passwd out/link", "'link' of the container"),
        ("busybox mkdir out/folder", "'folder' of the container cannot be saved"),
        ("busybox mkfifo out/pipe", "'pipe' of the container cannot be saved"),
        ("for n in $(busybox seq 101); do echo > out/$n; done", "left more than 100 files"),
        ("yes > out/large", "ended with code"),
    ],
)
def test_a_container_cannot_leave_what_is_no_file(script: str, says: str, site: Server, daemon: DockerDaemon) -> None:
    known = {each["id"] for each in site.rpc("files.list", {"limit": 1000})["files"]}
    done = ended(site, f"{script}; code=$?; sleep 1; exit $code", save=True)
    assert says in str(done["error"]), done
    assert left_in(daemon) == ([], [])
    made = [each for each in site.rpc("files.list", {"limit": 1000})["files"] if each["id"] not in known]
    assert [each["name"] for each in made if each["name"] in ("link", "folder", "pipe", "large")] == []


def test_without_save_a_container_writes_nothing_to_the_disk_of_the_daemon(daemon: DockerDaemon) -> None:
    with new_database() as url, running_server(url, env=settings_for(daemon)) as site:
        script = "for name in a in/a in/a.txt out/a; do touch $name 2>&1; done; ls in; sleep 1"
        done = ended(site, script, files={"a.txt": uploaded(site, b"Rhine")})
        assert done["status"] == "completed", done["error"]
        assert (done["result"]["logs"].count("touch:"), "files" in done["result"]) == (4, False), done["result"]
        assert done["result"]["logs"].endswith("a.txt\n")
        task = {"name": "docker_executor", "inputs": {"image": IMAGE, "save": True}}
        assert "inputs.save: is not allowed" in str(site.call("tasks.execute", {"tasks": task}))


def test_what_cannot_be_given_is_refused(site: Server) -> None:
    file = uploaded(site, bytes(1_500_000))
    assert "without a path" in ended(site, "ls", files={"../a": file})["error"]
    assert "limits.file_bytes" in ended(site, "ls", files={"a": file, "b": file})["error"]
