"""Files that are larger than memory should be, more readers than there are places, and a disk without room."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Final

import pytest

from benchmarks import files as benchmark
from tests.ports import free_port
from tests.servers import MODULES, SERVE, Server, new_database, running, running_server
from tests.sizes import size

MIB: Final = 2**20
DISK: Final = "/mnt"
"""Where the server, and nobody else, sees a small disk."""
PLACES: Final = 8


def test_no_process_grows_with_a_file(tmp_path: Path) -> None:
    """Far less than the file has: threads and buffers are made at the first use."""
    large = size(160, full=1024) * MIB
    environment = {"AIPARTNERUPFLOW_EXECUTORS_MODULES": "benchmarks.files", "AIPARTNERUPFLOW_FILES_SYNC": "never"}
    with new_database() as database_url, running_server(database_url, env=environment) as server:
        port, pids = int(server.url.rpartition(":")[2]), [process.pid for process in server.processes()]
        grown = benchmark.growth(port, large, folder=tmp_path, pids=pids)
    assert grown.keys() == set(pids)
    assert max(grown.values()) < 80, grown


@pytest.mark.both_engines_nightly
def test_more_readers_than_places_are_refused_and_the_others_get_all(tmp_path: Path) -> None:
    environment = {"AIPARTNERUPFLOW_LIMITS_STREAMS": str(PLACES)}
    data = os.urandom(20 * MIB)  # more than the buffers of a connection
    with new_database() as database_url, running_server(database_url, "--no-worker", env=environment) as server:
        path = f"/files/{server.http.post('/files', params={'name': 'a'}, content=data).json()['$file']}"
        have_begun = Barrier(5 * PLACES, timeout=110)

        def read(_: int) -> bytes | None:
            with server.http.stream("GET", path) as response:
                have_begun.wait()  # until then nobody reads
                if response.status_code == 200:
                    return hashlib.sha256(response.read()).digest()
                assert (response.status_code, "limits.streams" in response.read().decode()) == (429, True)
            return None

        with ThreadPoolExecutor(5 * PLACES) as threads:
            found = list(threads.map(read, range(5 * PLACES)))
        assert [each for each in found if each] == [hashlib.sha256(data).digest()] * PLACES


@contextmanager
def on_a_small_disk(database_url: str) -> Iterator[Server]:
    """A server whose files are on a disk of 8 MiB."""
    port = free_port()
    serve = f"mount -t tmpfs -o size=8m tmpfs {DISK} && exec {' '.join(SERVE)} --port {port}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", serve]
    environment = {
        "AIPARTNERUPFLOW_FILES_FOLDER": f"{DISK}/files",
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.functions_for_tests",
    }
    with running(command, port=port, database_url=database_url, env=environment, is_forked=False) as server:
        yield server


def test_a_full_disk_refuses_files_and_the_same_upload_continues_once_there_is_room() -> None:
    data = os.urandom(6 * MIB)
    with new_database() as database_url, on_a_small_disk(database_url) as server:
        disk = Path(f"/proc/{server.pid}/root{DISK}")
        (disk / "filler").write_bytes(bytes(5 * MIB))
        in_one = server.http.post("/files", params={"name": "a"}, content=data)
        assert (in_one.status_code, in_one.json()["error"]["message"]) == (507, NO_ROOM)
        assert (kept(server), objects(disk)) == ({}, 0)
        file_id = server.rpc("files.create", {"name": "a", "bytes": len(data)})["id"]
        assert server.http.put(f"/files/{file_id}", content=data).status_code == 507
        received = server.rpc("files.get", {"file_id": file_id})["received"]
        assert 2 * MIB <= received < len(data)
        assert making_a_file(server) == ("failed", NO_ROOM)
        assert (kept(server), objects(disk)) == ({file_id: False}, 1)
        (disk / "filler").unlink()
        rest = server.http.put(
            f"/files/{file_id}", content=data[received:], headers={"Upload-Offset": str(received)}
        ).json()
        assert rest["is_complete"], rest
        assert server.http.get(f"/files/{file_id}").content == data
        assert making_a_file(server) == ("completed", None)
        assert len(kept(server)) == objects(disk) == 2


NO_ROOM: Final = "The disk of the server has no room for this file. Try again later."


def kept(server: Server) -> dict[str, bool]:
    """The ids of all files, and whether they are complete."""
    return {file["id"]: file["is_complete"] for file in server.rpc("files.list", {})["files"]}


def objects(disk: Path) -> int:
    return len(list((disk / "files").glob("*/*")))


def making_a_file(server: Server) -> tuple[str, str | None]:
    """The end of a task that makes a file, and its error."""
    call = {"function": "make_file", "arguments": {"size": MIB}}
    started = server.rpc("tasks.execute", {"tasks": [{"name": "python_executor", "inputs": call}]})
    server.finished(started["task_id"])
    task = server.rpc("tasks.get", {"task_id": started["task_id"]})
    return task["status"], task["error"]
