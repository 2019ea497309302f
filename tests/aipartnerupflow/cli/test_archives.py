"""Archives of flows and runs: they bring their files to another server, as files of whoever imports them."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from aipartnerupflow.client import Client
from tests.accounts.conftest import minted
from tests.aipartnerupflow.conftest import Said
from tests.servers import Server

Cli = Callable[..., Said]


@pytest.fixture
def archive(cli: Cli, client: Client, tmp_path: Path) -> Path:
    """A flow with a file, as an archive."""
    name, path = f"cli-archive-{uuid4().hex}", tmp_path / "flow.zip"
    document = client.upload(os.urandom(100_000), name="report.pdf")
    tasks = [{"id": "read", "name": "echo_executor", "inputs": {"docs": [document]}}]
    client.save_flow(name, tasks, description="Reads.")
    try:
        made = cli("flows", "export", name, str(path))
        assert (made.code, made.json["files"]) == (0, 1), made.err
        assert "exists" in cli("flows", "export", name, str(path)).err
    finally:
        client.delete_flow(name)
    return path


def test_a_flow_is_imported_with_its_files_as_those_of_another_user(
    cli: Cli, client: Client, auth_server: Server, archive: Path
) -> None:
    user, name = uuid4().hex, "cli-imported"
    token = minted(sub=user)
    to = {"AIPARTNERUPFLOW_URL": auth_server.url, "AIPARTNERUPFLOW_TOKEN": token}
    assert cli("flows", "import", str(archive), "--name", name, **to).code == 0
    with Client(auth_server.url, token=token) as other, ZipFile(archive) as opened:
        (listed,) = json.loads(opened.read("files.json"))
        flow = other.get_flow(name)
        (named,) = flow["tasks"][0]["inputs"]["docs"]
        assert (flow["description"], named["name"]) == ("Reads.", "report.pdf")
        assert named["$file"] != listed["$file"]
        assert other.file(named["$file"])["user_id"] == user
        got = other.download(named, archive.parent / "got")
        assert got.read_bytes() == opened.read(f"files/{listed['$file']}")
        assert other.files()["used_bytes"] == 100_000
        other.delete_flow(name)
        other.delete_file(named["$file"])


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no archive", "Cannot read .* as an archive"),
        ("without a file", "Cannot read .* as an archive"),
        ("other bytes", "SHA-256 differs"),
        ("compressed", "is compressed"),
        ("no flow", "unknown field"),
    ],
)
def test_a_wrong_archive_is_refused_and_leaves_no_file(
    cli: Cli, auth_server: Server, archive: Path, what: str, said: str
) -> None:
    with ZipFile(archive) as opened:
        parts: dict[str, Any] = {each: opened.read(each) for each in opened.namelist()}
    (file,) = (each for each in parts if each.startswith("files/"))
    if what == "without a file":
        del parts[file]
    elif what == "other bytes":
        parts[file] = b"other"
    elif what == "no flow":
        parts["flow.json"] = b'{"tasks": [], "surprise": 1}'
    wrong = archive.parent / "wrong.zip"
    with ZipFile(wrong, "w", ZIP_DEFLATED if what == "compressed" else 0) as made:
        for each, data in parts.items():
            made.writestr(each, data)
    if what == "no archive":
        wrong.write_text("text")
    token = minted(sub=uuid4().hex)
    to = {"AIPARTNERUPFLOW_URL": auth_server.url, "AIPARTNERUPFLOW_TOKEN": token}
    refused = cli("flows", "import", str(wrong), **to)
    assert refused.code == 2 and re.search(said, refused.err), refused.err
    with Client(auth_server.url, token=token) as other:
        assert other.files()["used_bytes"] == 0


def test_a_run_is_exported_with_its_files(cli: Cli, client: Client, tmp_path: Path) -> None:
    value = client.upload(text := uuid4().hex.encode(), name="a.txt")
    task = {"name": "Read", "schemas": {"method": "echo_executor"}, "inputs": {"doc": value}}
    reply = client.execute([task], wait=True, wait_timeout_seconds=110)
    (run,) = client.runs(task_id=reply["root_task_id"])["runs"]
    path = tmp_path / "run.zip"
    assert cli("runs", "export", run["id"], "--archive", str(path)).code == 0
    with ZipFile(path) as opened:
        assert json.loads(opened.read("run.json"))["run"]["id"] == run["id"]
        assert opened.read(f"files/{value['$file']}") == text
