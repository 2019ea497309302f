"""docs/how-to/call.md: every block of it runs, against a server and through a connection that breaks."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import playwright
import pytest
from playwright.sync_api import Page

from aipartnerupflow.client import AuthenticationFailed, Client, NotFound
from tests.accounts.conftest import minted
from tests.cutting import cutting
from tests.documents import text, texts
from tests.ports import free_port
from tests.servers import ROOT, SERVE, Server, events_of, new_database, running
from tests.shell import Shell, new_shell

PAGE: Final = "docs/how-to/call.md"
ADDRESS: Final = "http://localhost:8000"
NODE: Final = Path(playwright.__file__).parent / "driver/node"
SECRET: Final = "wZ0vJm3kq-8TfXc5Rb1nYhLs7DgPeAu4"
TYPES: Final = [
    "task_start",
    "progress",
    "progress",
    "progress",
    "task_completed",
    "task_start",
    "task_completed",
    "final",
]
FOURTH: Final = b"id: 4\n"


@pytest.fixture
def server(open_server: Server) -> Server:
    """Other blocks and other pages, too, have a tree named `report`, whose id this page shows."""
    open_server.call("tasks.delete", {"task_id": "report", "force": True})
    return open_server


@pytest.fixture(scope="module")
def closed_server() -> Iterator[Server]:
    """One that wants a token, and runs nothing."""
    port = free_port()
    command = [*SERVE, "--port", str(port), "--no-worker"]
    secret = {"AIPARTNERUPFLOW_JWT_SECRET": SECRET}
    with (
        new_database() as database_url,
        running(command, port=port, database_url=database_url, env=secret, is_ready="/health") as server,
    ):
        yield server


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


def shown_of(answer: Any, shown: Any) -> Any:
    """The part of the answer that has the fields which are shown."""
    if isinstance(shown, dict) and isinstance(answer, dict):
        return {name: shown_of(answer.get(name), part) for name, part in shown.items()}
    return answer


def check_lines(printed: str) -> None:
    """The result, and then every event once and in its order."""
    result, *events = printed.splitlines()
    assert re.fullmatch(r"completed \{['\"].+['\"]: ?\{['\"]slept_seconds['\"]: ?1\}\}", result)
    check_events(events)


def without_late(printed: str) -> str:
    """All but what somebody gets who asks again after the final event: the end of the stream, and then no more."""
    assert printed.endswith("\nstream_end\n")
    return printed.removesuffix("stream_end\n")


def check_events(lines: list[str]) -> None:
    assert [line.split()[:2] for line in lines] == [[str(seq), kind] for seq, kind in enumerate(TYPES, start=1)]


def test_curl_waits_follows_and_goes_on(server: Server, shell: Shell) -> None:
    wait, live, rest = (shell.run(block.replace(ADDRESS, server.url)) for block in texts(PAGE, "curl", "sh"))
    shown = json.loads(text(PAGE, "curl", "json"))
    assert shown_of(json.loads(wait), shown) == shown
    reply, *events = events_of(iter(live.splitlines()))
    assert reply["result"]["ids"].keys() == {"again", "nap"}
    assert [event["type"] for event in events] == [*TYPES, "stream_end"]
    assert list(events_of(iter(rest.splitlines()))) == events[3:]


def test_the_client_comes_back_after_a_break(server: Server) -> None:
    with cutting(server.url, before=FOURTH) as proxy:
        check_lines(python(text(PAGE, "Python", "python"), proxy.url))
    assert proxy.cuts == 1


def test_so_does_httpx_alone(server: Server) -> None:
    program = "\n".join([tasks_of(text(PAGE, "Python", "python")), *texts(PAGE, "With httpx alone", "python")])
    late = f'print(*[event["type"] for event in events(done["task_id"], {len(TYPES)})])'
    with cutting(server.url, before=FOURTH) as proxy:
        printed = python(f"{program}\n{late}", proxy.url)
    check_lines(without_late(printed))
    assert proxy.cuts == 1


def tasks_of(program: str) -> str:
    (tasks,) = re.findall(r"^tasks = \[\n.*?^\]\n", program, re.MULTILINE | re.DOTALL)
    return str(tasks)


def python(program: str, url: str) -> str:
    command = [sys.executable, "-c", program.replace(ADDRESS, url)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=240).stdout


def test_so_does_node(server: Server) -> None:
    late = f"for await (const event of events(done.task_id, {len(TYPES)})) console.log(event.type);"
    program = "\n".join([*texts(PAGE, "JavaScript", "javascript"), late])
    with cutting(server.url, before=FOURTH) as proxy:
        command = [str(NODE), "--input-type=module", "--eval", program.replace(ADDRESS, proxy.url)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout
    check_lines(without_late(printed))
    assert proxy.cuts == 1


def test_so_does_a_page_of_the_server(server: Server, page: Page) -> None:
    program = "\n".join(texts(PAGE, "JavaScript", "javascript")).replace(ADDRESS, "")
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text) if message.type == "log" else None)
    with cutting(server.url, before=FOURTH) as proxy:
        page.goto(f"{proxy.url}/health")
        page.evaluate(f"async () => {{ {program} }}")
    check_lines("\n".join(printed))
    assert proxy.cuts == 1


def test_so_does_the_browsers_own_client(server: Server, page: Page) -> None:
    tasks = ast.literal_eval(tasks_of(text(PAGE, "Python", "python")).removeprefix("tasks = "))
    task_id = server.rpc("tasks.execute", {"tasks": tasks, "wait": True})["task_id"]
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text) if message.type == "log" else None)
    with cutting(server.url, before=FOURTH) as proxy:
        page.goto(f"{proxy.url}/health")
        with page.expect_console_message(lambda message: "final" in message.text):
            page.evaluate(f"() => {{ {text(PAGE, 'In a browser', 'javascript').replace('/again/', f'/{task_id}/')} }}")
    check_events(printed)
    assert proxy.cuts == 1


def test_a_page_of_another_origin_may_not_write(server: Server) -> None:
    answer = server.http.post("/tasks", json={}, headers={"Origin": "http://elsewhere.example.com"})
    assert (answer.status_code, [name for name in answer.headers if "access-control" in name]) == (403, [])


def test_the_token_goes_where_the_page_says(closed_server: Server, shell: Shell) -> None:
    token = minted(key=SECRET, sub="ada")
    refused, answered = (
        json.loads(shell.run(text(PAGE, "With a token", "sh").replace(ADDRESS, closed_server.url), TOKEN=it))
        for it in ("", token)
    )
    assert (refused["error"]["code"], answered["result"]) == (-32004, [])
    names = {"Client": Client, "url": closed_server.url, "token": token}
    with eval(cell("With a token", "`Client`"), names) as client:
        assert list(client.list()) == []
    arguments = eval(f"dict({cell('With a token', 'httpx')})", names)
    call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.list", "params": {}}
    assert httpx.post(f"{closed_server.url}/tasks", json=call, timeout=60, **arguments).json()["result"] == []


def cell(heading: str, first: str) -> str:
    """The code in the row of a table that begins with `first`."""
    section = (ROOT / PAGE).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(rf"^\| {re.escape(first)} \| `(.+)` \|$", section, re.MULTILINE)
    return str(code)


def test_without_a_token_nobody_gets_in(closed_server: Server) -> None:
    refused = closed_server.http.post("/tasks", json={"jsonrpc": "2.0", "id": 1, "method": "tasks.list"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, -32004)
    with Client(closed_server.url) as client, pytest.raises(AuthenticationFailed):
        client.count()


def test_a_wrong_call_is_answered_as_shown(server: Server, shell: Shell) -> None:
    answer = json.loads(shell.run(text(PAGE, "Errors", "sh").replace(ADDRESS, server.url)))
    assert answer == json.loads(text(PAGE, "Errors", "json"))


def test_what_is_not_there_and_what_fails_look_as_the_table_says(server: Server) -> None:
    assert server.http.get("/tasks/nothing/events").status_code == 404
    with Client(server.url) as client, pytest.raises(NotFound) as missing:
        client.get("nothing")
    assert missing.value.code == -32001
    fails = {"name": "Fails", "schemas": {"method": "rest_executor"}, "inputs": {"url": "http://127.0.0.1/"}}
    reply = server.rpc("tasks.execute", {"tasks": fails, "wait": True})
    assert (reply["success"], reply["status"]) == (False, "failed")
    assert "is not public" in reply["task"]["error"]
    assert server.finished(reply["task_id"])[-2]["status"] == "failed"
