"""docs/how-to/files.md: its commands, its program and its request send the file that the page shows."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from aipartnerupflow.executors import File
from tasks.executors.function_files import has_files
from tests.documents import text
from tests.servers import Server
from tests.shell import Shell, new_shell

PAGE = "docs/how-to/files.md"
SEND = "Send and get files"
FORMS = "Ask for files in forms"
USE = "Use files in tasks"
TAKE = "Take a flow and its files to another server"


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


def test_what_the_page_shows_works(shell: Shell, open_server: Server, tmp_path: Path) -> None:
    value = json.loads(text(PAGE, "Files", "json"))
    typed = shell.run(text(PAGE, SEND, "sh"), AIPARTNERUPFLOW_URL=open_server.url)
    sent = json.loads(next(line for line in typed.splitlines() if "$file" in line))
    assert sent.keys() == value.keys()
    assert sent["$file"] in typed.splitlines()[-1] or sent["$file"] in typed
    program = text(PAGE, SEND, "python").replace("http://localhost:8000", open_server.url)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "report.txt 23 Rivers flow to the sea."
    with_curl = text(PAGE, SEND, "bash").replace("http://localhost:8000", open_server.url)
    answer = shell.run(with_curl)
    (found,) = re.findall(r"\{.*\}", answer)
    assert json.loads(found)["sha256"] == sent["sha256"]


def test_a_flow_takes_a_local_file_and_its_files_are_stored(shell: Shell, open_server: Server) -> None:
    schema = json.loads(text(PAGE, FORMS, "json"))
    run, download = text(PAGE, FORMS, "bash").splitlines()
    task = {"name": "echo_executor", "inputs": {"doc": "{{run.inputs.report}}"}}
    saved = open_server.rpc("flows.save", {"name": "summary", "tasks": [task], "inputs_schema": schema})
    assert saved["warnings"] == []
    shell.run(f"printf 'Rivers flow to the sea.' > report.txt && {run}", AIPARTNERUPFLOW_URL=open_server.url)
    (started,) = open_server.rpc("runs.list", {"flow": "summary"})["runs"]
    shell.run(download.replace("RUN_ID", started["id"]), AIPARTNERUPFLOW_URL=open_server.url)
    assert shell.run("cat results/report.txt").strip().endswith("Rivers flow to the sea.")
    shell.run(text(PAGE, TAKE, "sh"), AIPARTNERUPFLOW_URL=open_server.url)
    assert open_server.rpc("flows.get", {"name": "summary-2"})["inputs_schema"] == schema
    open_server.rpc("tasks.delete", {"task_id": started["root_task_id"], "force": True})
    for name in ("summary", "summary-2"):
        open_server.rpc("flows.delete", {"name": name})


def test_the_function_of_the_page_reads_its_file(tmp_path: Path) -> None:
    task = json.loads(text(PAGE, USE, "json"))
    module = runpy.run_path(str(_written(tmp_path / "own.py", text(PAGE, USE, "python"))))
    function = module[task["inputs"]["function"]]
    assert has_files(function)
    assert [*task["inputs"]["arguments"]] == ["document"]
    document = File(_written(tmp_path / "report.txt", "Rivers flow to the sea."))
    assert function(document) == {"words": 5}


def _written(path: Path, content: str) -> Path:
    path.write_text(content)
    return path
