"""Files on the command line: inputs that are local files, and the files of a run."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from aipartnerupflow.cli.stored import local_name
from aipartnerupflow.client import Client
from tests.aipartnerupflow.conftest import Said

Cli = Callable[..., Said]
TASK = {"name": "Read", "schemas": {"method": "echo_executor"}, "inputs": {"doc": "{{run.inputs.doc}}"}}


def ran(cli: Cli, folder: Path, *options: str) -> Said:
    (folder / "tree.json").write_text(json.dumps(TASK))
    return cli("run", str(folder / "tree.json"), "--json", *options)


def run_id_of(client: Client, said: Said) -> str:
    task_id = said.json["id"] if "id" in said.json else said.json["root_task_id"]
    (run,) = client.runs(task_id=task_id)["runs"]
    return run["id"]


def test_an_input_may_be_a_local_file(cli: Cli, client: Client, tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text(text := uuid4().hex)
    said = ran(cli, tmp_path, "--input", f"doc=@{tmp_path / 'report.txt'}")
    assert said.code == 0, said.err
    run_id = run_id_of(client, said)
    assert client.get_run(run_id)["inputs"]["doc"]["name"] == "report.txt"
    stored = cli("runs", "download", run_id, str(tmp_path / "out"))
    assert (stored.code, stored.lines[0]["path"]) == (0, str(tmp_path / "out" / "report.txt"))
    assert (tmp_path / "out" / "report.txt").read_text() == text


def test_several_files_of_one_input_are_a_list(cli: Cli, client: Client, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(uuid4().hex)
    said = ran(cli, tmp_path, *(word for name in ("a", "b") for word in ("--input", f"doc=@{tmp_path / name}")))
    inputs = client.get_run(run_id_of(client, said))["inputs"]
    assert [value["name"] for value in inputs["doc"]] == ["a", "b"]


@pytest.mark.parametrize(("given", "doc"), [("@@report", "@report"), ("a@b", "a@b"), ('"@x"', "@x")])
def test_a_text_may_have_an_at_sign(cli: Cli, client: Client, tmp_path: Path, given: str, doc: str) -> None:
    said = ran(cli, tmp_path, "--input", f"doc={given}")
    assert client.get_run(run_id_of(client, said))["inputs"] == {"doc": doc}


def test_a_file_that_is_not_here_is_named_and_nothing_runs(cli: Cli, client: Client, tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_text("x")
    before = client.files()["used_bytes"]
    said = ran(cli, tmp_path, "--input", f"doc=@{tmp_path / 'here.txt'}", "--input", "more=@missing.pdf")
    assert (said.code, said.out) == (2, "")
    assert "--input more: there is no file missing.pdf here" in said.err and "more=@@missing.pdf" in said.err
    assert client.files()["used_bytes"] == before


def test_the_files_of_a_run_get_names_of_their_own(cli: Cli, client: Client, tmp_path: Path) -> None:
    values = [client.upload(uuid4().hex.encode(), name=name) for name in ("a.txt", "A.txt", ".profile", "..txt")]
    reply = client.execute([TASK], run_inputs={"doc": values}, wait=True, wait_timeout_seconds=110)
    (run,) = client.runs(task_id=reply["root_task_id"])["runs"]
    out = tmp_path / "out"
    assert cli("runs", "download", run["id"], str(out)).code == 0
    assert sorted(path.name for path in out.iterdir()) == ["A (2).txt", "_profile", "_txt", "a.txt"]
    (out / "_profile").write_text("kept")
    again = cli("runs", "download", run["id"], str(out))
    assert again.code == 2 and "exists, and nothing was stored" in again.err
    assert (out / "_profile").read_text() == "kept"
    assert cli("runs", "download", run["id"], str(out), "--force").code == 0
    assert re.fullmatch("[0-9a-f]{32}", (out / "_profile").read_text())
    none = cli("runs", "download", "no-such-run", str(out))
    assert none.code == 3


def test_a_file_is_stored_where_the_command_says(cli: Cli, client: Client, tmp_path: Path) -> None:
    value = client.upload(b"words", name="words.txt")
    for words in ([str(tmp_path / "a")], ["--to", str(tmp_path / "b")], [str(tmp_path)]):
        assert cli("files", "get", value["$file"], *words).code == 0
    assert [(tmp_path / name).read_bytes() for name in ("a", "b", "words.txt")] == [b"words"] * 3
    twice = cli("files", "get", value["$file"], "a", "--to", "b")
    assert twice.code == 2 and "once" in twice.err


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("../../etc/passwd", "__.._etc_passwd"),
        ("..", "_"),
        ("", "file"),
        ("a\nb:c.txt", "a_b_c.txt"),
        ("ä" * 200 + ".pdf", "ä" * 98 + ".pdf"),
        ("x." + "y" * 300, "x." + "y" * 19),
    ],
)
def test_a_local_name_is_no_path_and_is_short(name: str, local: str) -> None:
    assert local_name(name) == local
