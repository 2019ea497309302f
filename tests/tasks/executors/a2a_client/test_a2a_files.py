"""Files for another agent, and those that it returns: another whole server of ours in each version, and a script for what is wrong."""

import os
from base64 import b64encode
from collections.abc import Iterator

import httpx
import pytest

from tests.acceptance.receiver_of_files import Receiver, receiving
from tests.servers import Server, new_database, running_server
from tests.tasks.executors.a2a_client.agents import FakeAgent, agent_running, task
from tests.tasks.executors.a2a_client.test_a2a_trees import card_of
from tests.workers import Json

pytestmark = pytest.mark.both_engines_nightly
ECHO: Json = {"skill": "echo_executor", "inputs": {"given": "{{{{run.inputs.files}}"}}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def scripted() -> Iterator[FakeAgent]:
    with agent_running(FakeAgent()) as agent:
        yield agent


@pytest.fixture
def agent(scripted: FakeAgent) -> FakeAgent:
    scripted.speaks("1.0", streams=False)
    scripted.script, scripted.asked = {}, []
    scripted.card_path = f"/{os.urandom(4).hex()}.json"  # cards are cached by their address
    return scripted


@pytest.fixture(scope="module")
def site(open_server: Server, scripted: FakeAgent, receiver: Receiver) -> Iterator[Server]:
    ports = f"{httpx.URL(open_server.url).port},{scripted.port},{receiver.port}"
    settings = {
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "127.0.0.1",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": ports,
    }
    with new_database() as database_url, running_server(database_url, env=settings) as found:
        yield found


def ended(site: Server, agent: FakeAgent, **inputs: object) -> Json:
    given = {
        "name": "errand",
        "schemas": {"method": "a2a_executor"},
        "inputs": {"agent_url": f"{agent.url}{agent.card_path}"} | inputs,
        "params": {"retry": {"max_attempts": 1}},
    }
    task_id = site.rpc("tasks.execute", {"tasks": given})["task_id"]
    site.finished(task_id)
    found: Json = site.rpc("tasks.get", {"task_id": task_id})
    return found


def uploaded(site: Server, content: bytes, name: str = "report.pdf") -> Json:
    return dict(site.http.post("/files", params={"name": name}, content=content).json())


def content_of(site: Server, file: Json) -> bytes:
    return site.http.get(f"/files/{file['$file']}").content


def number_of_files(site: Server) -> int:
    return len(site.rpc("files.list", {"limit": 1000})["files"])


@pytest.mark.parametrize(
    ("version", "binding"), [("1.0", "JSONRPC"), ("1.0", "HTTP+JSON"), ("0.3", "JSONRPC"), ("0.3", "HTTP+JSON")]
)
def test_files_go_to_another_server_of_ours_and_come_back(
    site: Server, open_server: Server, agent: FakeAgent, version: str, binding: str
) -> None:
    agent.card = card_of(open_server, version, binding)
    contents = [os.urandom(3000), os.urandom(1000)]
    files = [uploaded(site, content, f"{number} ä.pdf") for number, content in enumerate(contents)]
    done = ended(site, agent, data=ECHO, files=files, save=True)
    assert done["status"] == "completed", done["error"]
    saved = done["result"]["files"]
    assert [content_of(site, file) for file in saved] == contents
    assert {file["$file"] for file in saved}.isdisjoint(file["$file"] for file in files)
    named = [part for part in done["result"]["artifacts"][-1]["parts"] if "file" in part]
    assert [part["file"] for part in named] == saved
    assert [part["filename"] for part in named] == ["0 ä.pdf", "1 ä.pdf"]


def test_bytes_and_urls_of_an_agent_are_saved(site: Server, agent: FakeAgent, receiver: Receiver) -> None:
    receiver.answers(b"by url", content_type="text/csv")
    parts = [
        {"text": "done"},
        {"raw": b64encode(b"raw").decode(), "filename": "../a.txt", "mediaType": "text/plain"},
        {"url": f"{receiver.url}/table.csv", "metadata": {"a": 1}},
    ]
    artifact = {"artifactId": "a", "parts": parts}
    agent.script["SendMessage"] = [{"task": task("COMPLETED", artifacts=[artifact])}]
    result = ended(site, agent, message="go", save=True)["result"]
    assert [content_of(site, file) for file in result["files"]] == [b"raw", b"by url"]
    assert [file["name"] for file in result["files"]] == ["file.txt", "table.csv"]
    assert result["artifacts"][0]["parts"][2] == {"file": result["files"][1], "metadata": {"a": 1}}
    as_they_came = ended(site, agent, message="go")["result"]
    assert as_they_came["artifacts"][0]["parts"] == parts
    assert "files" not in as_they_came


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"raw": "%"}, "is not base64"),
        ({"url": "http://127.0.0.2/secret"}, "127.0.0.2"),
        ({"url": "file:///etc/passwd"}, "http"),
        ({"url": "MISSING"}, "answered 404"),
    ],
)
def test_what_cannot_be_saved_fails_the_task(
    site: Server, agent: FakeAgent, receiver: Receiver, part: Json, reason: str
) -> None:
    receiver.answers(b"not here", content_type="text/plain", status=404)
    part = {"url": f"{receiver.url}/missing"} if part == {"url": "MISSING"} else part
    before = number_of_files(site)
    agent.script["SendMessage"] = [{"task": task("COMPLETED", artifacts=[{"artifactId": "a", "parts": [part]}])}]
    done = ended(site, agent, message="go", save=True)
    assert done["status"] == "failed"
    assert reason in done["error"]
    assert number_of_files(site) == before


def test_files_that_are_too_large_together_are_not_sent(site: Server, agent: FakeAgent) -> None:
    files = [uploaded(site, bytes(4 * 2**20), f"{number}.bin") for number in range(2)]
    done = ended(site, agent, message="go", files=files)
    assert "more than 6,291,456 bytes together" in done["error"]
    assert "SendMessage" not in agent.methods()
