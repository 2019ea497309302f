"""The guide's commands that start a server, typed into a shell, and what stops a start. The engine has no part in it: see test_guide."""

from pathlib import Path
from typing import Final

import pytest

from tests.servers import free_port
from tests.shell import Shell

STARTS: Final = """
aipartnerupflow serve
aipartnerupflow-server
python -m aipartnerupflow.api.main
aipartnerupflow serve --host 0.0.0.0 --port 8080
aipartnerupflow serve --reload
aipartnerupflow serve --workers 4
aipartnerupflow-server --host 0.0.0.0 --port 8000
uvicorn aipartnerupflow.api.main:app --host 0.0.0.0 --port 8000 --workers 4
python manage.py runserver 8000
"""


@pytest.mark.parametrize("command", STARTS.strip().splitlines())
def test_every_way_to_start_starts_a_server_with_a_worker(shell: Shell, database: str, command: str) -> None:
    with shell.server(command, database=database) as server:
        done = server.rpc("tasks.execute", {"tasks": [{"id": "a", "name": "echo_executor"}], "wait": True})
        assert done["status"] == "completed"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("server:\n  prot: 8000\n", "server.prot (config.yaml): unknown key. Did you mean 'port' under 'server'?"),
        ("server:\n  port: eight\n", "server.port (config.yaml): 'eight' is not allowed"),
    ],
)
def test_a_wrong_file_stops_the_start_by_name(shell: Shell, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    printed = shell.run(f"cd {tmp_path} && aipartnerupflow serve --config config.yaml", code=2)
    assert says in printed.replace(f"{tmp_path}/", "")


def test_an_unknown_variable_stops_the_start_by_name(shell: Shell) -> None:
    assert "AIPARTNERUPFLOW_PROT: unknown environment variable" in shell.run(
        "aipartnerupflow serve", code=2, AIPARTNERUPFLOW_PROT="1"
    )


def test_a_database_that_is_away_is_named_without_its_password(shell: Shell) -> None:
    away = f"postgresql://user:pa55word@127.0.0.1:{free_port()}/db"
    printed = shell.run("aipartnerupflow serve", code=2, AIPARTNERUPFLOW_DATABASE_URL=away)
    assert "AIPARTNERUPFLOW_DATABASE_URL" in printed
    assert "pa55word" not in printed
