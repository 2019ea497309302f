"""`aipartnerupflow backup`: a copy of one moment, made while others write, that a server starts from."""

import secrets
import shutil
import stat
import threading
from pathlib import Path

from tests.fork_server import run_command
from tests.servers import Json, environment_of, new_database, query, running_server, until

CHILDREN = 20


def tree(number: int) -> list[Json]:
    children = [{"id": f"r{number}-{child}", "name": "child", "parent_id": f"r{number}"} for child in range(CHILDREN)]
    return [{"id": f"r{number}", "name": "root"}, *children]


def test_a_copy_that_is_made_while_others_write_is_complete_and_can_be_served(tmp_path: Path) -> None:
    copy, is_over = tmp_path / "copy.sqlite3", threading.Event()
    with new_database("sqlite") as url, running_server(url, "--no-worker") as server:
        stored: list[int] = []

        def write() -> None:
            while not is_over.is_set():
                server.rpc("tasks.create", {"tasks": tree(len(stored))})
                stored.append(len(stored))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            until(lambda: len(stored) > 5, seconds=60, what="trees")
            before = len(stored)
            made = run_command("backup", str(copy), env=environment_of(url, server.data_dir))
            assert (made.returncode, "Back up the encryption keys" in made.stdout) == (0, True), made.stderr
            after = len(stored)
            until(lambda: len(stored) > after, seconds=60, what="another tree: the backup blocks no writer for long")
        finally:
            is_over.set()
            writer.join()
        again = run_command("backup", str(copy), env=environment_of(url, server.data_dir))
        assert (again.returncode, "exists" in again.stderr) == (2, True)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    ours = "SELECT COUNT(*) FROM tasks_task WHERE root_id NOT LIKE 'example%' GROUP BY root_id"
    sizes = query(f"sqlite:///{copy}", ours)
    assert before <= len(sizes) <= after + 1
    assert {size for (size,) in sizes} == {CHILDREN + 1}, "no tree is there in part"
    with running_server(f"sqlite:///{copy}", "--no-worker", "--paused") as restored:
        assert restored.rpc("tasks.get", {"task_id": "r0"})["name"] == "root"
        assert restored.http.get("/ready").status_code == 200


def test_files_are_backed_up_before_and_after_the_database(tmp_path: Path) -> None:
    """As the page says: each file that the copy of the database names is there, also one that arrived or was deleted meanwhile."""
    database, home = tmp_path / "copy.sqlite3", tmp_path / "restored"
    with new_database("sqlite") as url, running_server(url) as server:
        early, late, gone = (secrets.token_bytes(50_000) for _ in range(3))
        folder = server.data_dir / "files"

        def sent(data: bytes) -> str:
            return str(server.http.post("/files", params={"name": "a.bin"}, content=data).json()["$file"])

        def copy() -> None:
            shutil.copytree(folder, home / "files", dirs_exist_ok=True)

        names = {sent(early): early, (leaves := sent(gone)): gone}
        copy()
        names[sent(late)] = late
        made = run_command("backup", str(database), env=environment_of(url, server.data_dir))
        assert (made.returncode, "Back up the files" in made.stdout) == (0, True), made.stderr
        server.rpc("files.delete", {"file_id": leaves})
        copy()
        shutil.copy(server.data_dir / "llm_key", home)
    with running_server(f"sqlite:///{database}", "--paused", data_dir=home) as restored:
        found = {file["id"] for file in restored.rpc("files.list", {})["files"]}
        assert found == names.keys()
        for name, data in names.items():
            assert restored.http.get(f"/files/{name}").content == data


def test_postgresql_has_a_tool_of_its_own(tmp_path: Path) -> None:
    environment = environment_of("postgresql://user:pass@localhost/db", tmp_path)
    refused = run_command("backup", str(tmp_path / "copy"), env=environment)
    assert (refused.returncode, "pg_dump" in refused.stderr) == (2, True)


def test_a_backup_does_not_follow_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "copy"
    link.symlink_to(elsewhere)
    with new_database("sqlite://") as url:
        refused = run_command("backup", str(link), env=environment_of(url, tmp_path / "data"))
    assert (refused.returncode, "exists" in refused.stderr) == (2, True)
    assert link.is_symlink()
    assert not elsewhere.exists()
