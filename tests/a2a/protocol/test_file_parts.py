"""File parts of A2A: bytes in a message become files of the caller, and files in results become parts with a signed link."""

import os
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.a2a.a2a_client import SECRET, Agent, Json, agent_of, data, message, text
from tests.acceptance.receiver_of_files import Receiver, receiving
from tests.servers import MODULES, Server, new_database, running_server, until
from tests.shared_servers import PRIVATE_WEBHOOKS

pytestmark = pytest.mark.both_engines_nightly
PDF = "application/pdf"
COPY = ["/usr/bin/cp", "-r", "in/.", "out"]
COMMAND: Json = {"skill": "command_executor", "inputs": {"argv": COPY, "save": True}}
LOUD: Json = {
    "skill": "python_executor",
    "inputs": {"function": "shout", "arguments": {"document": "{{run.inputs.files.0}}"}},
}
TREE: Json = {"tasks": [{"name": "echo_executor", "inputs": {"given": "{{run.inputs.files.0}}"}}]}


def raw(content: bytes, **fields: Any) -> Json:
    return {"raw": b64encode(content).decode(), **fields}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def server(receiver: Receiver) -> Iterator[Server]:
    settings = {
        "AIPARTNERUPFLOW_JWT_SECRET": SECRET,
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.functions_for_tests",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "127.0.0.1",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": str(receiver.port),
        "AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW": COPY[0],
        "AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW_ANYWAY": COPY[0],
        "AIPARTNERUPFLOW_LIMITS_FILE_BYTES": "1000000",
        "AIPARTNERUPFLOW_LIMITS_FILE_BYTES_PER_USER": "2000000",
    }
    with new_database() as database_url, running_server(database_url, env=settings | PRIVATE_WEBHOOKS) as found:
        yield found


@pytest.fixture
def alice(server: Server) -> Agent:
    return agent_of(server.http, f"alice-{os.urandom(4).hex()}")


@pytest.fixture
def bob(server: Server) -> Agent:
    return agent_of(server.http, "bob")


def own(agent: Agent, method: str, **params: Any) -> Json:
    """The result of one of our own methods, or its error."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    reply = agent.http.post("/tasks", json=request, headers=agent.headers).json()
    found: Json = reply.get("result") or reply["error"]
    return found


def stored(server: Server) -> int:
    return len(list((server.data_dir / "files").glob("*/*")))


def file_parts(task: Json, artifact: int = -1) -> list[Json]:
    return [part for part in task["artifacts"][artifact]["parts"] if "url" in part]


def fetched(part: Json) -> bytes:
    """What a stranger gets at the link of a part."""
    response = httpx.get(part["url"], timeout=60)
    assert response.status_code == 200, response.text
    return response.content


@pytest.mark.both_engines
def test_bytes_become_files_of_a_skill_and_its_files_become_links(alice: Agent) -> None:
    content = os.urandom(70_000)
    task = alice.send(message({"data": COMMAND}, raw(content, filename="a report.pdf", mediaType=PDF)))
    data_part, file_part = task["artifacts"][-1]["parts"]
    value = data_part["data"]["files"]["a report.pdf"]
    assert (value["bytes"], value["media_type"]) == (len(content), PDF)
    assert fetched(file_part) == content
    assert (file_part["filename"], file_part["mediaType"]) == ("a report.pdf", PDF)
    assert file_part["metadata"] == {"file": value}
    (sent,) = [part for part in task["history"][0]["parts"] if "url" in part]
    assert fetched(sent) == content
    assert alice.get(task["id"])["artifacts"][-1]["parts"][1]["metadata"] == {"file": value}


@pytest.mark.parametrize(
    "given", [LOUD, {"tasks": [{"name": "loud", "schemas": {"method": "python_executor"}, "inputs": LOUD["inputs"]}]}]
)
def test_a_tree_and_a_skill_without_the_input_name_files_of_the_run(alice: Agent, given: Json) -> None:
    task = alice.send(message({"data": given}, raw(b"rivers, a, b", mediaType="text/csv")))
    (part,) = file_parts(task)
    assert fetched(part) == b"RIVERS, A, B"
    assert task["artifacts"][-1]["parts"][0]["data"]["name"] == "file.csv"


def test_a_result_that_is_a_file_is_a_part_with_a_link_and_for_json_its_value(alice: Agent) -> None:
    given: Json = {
        "tasks": [
            {
                "name": "python_executor",
                "inputs": {"function": "shout_softly", "arguments": {"document": "{{run.inputs.files.0}}"}},
            }
        ]
    }
    parts = [{"data": given}, raw(b"LOUD", filename="a.html", mediaType="text/html")]
    (part,) = alice.send(message(*parts))["artifacts"][-1]["parts"]
    assert (fetched(part), part["filename"]) == (b"loud", "softly.md")
    (as_json,) = alice.send(message(*parts), acceptedOutputModes=["application/json"])["artifacts"][-1]["parts"]
    assert as_json["data"]["name"] == "softly.md"
    (as_file,) = alice.send(message(*parts), acceptedOutputModes=["application/json", "text/markdown"])["artifacts"][
        -1
    ]["parts"]
    assert fetched(as_file) == b"loud"


def test_a_file_by_url_is_fetched_by_a_task_within_the_rules_for_requests(alice: Agent, receiver: Receiver) -> None:
    receiver.answers(b"%PDF by url", content_type=PDF)
    part = {"url": f"{receiver.url}/folder/by-url.pdf", "filename": "named.pdf"}
    task = alice.send(message({"data": COMMAND}, part))
    assert [fetched(each) for each in file_parts(task)] == [b"%PDF by url"]
    forbidden = alice.send(message({"data": COMMAND}, {"url": "http://127.0.0.2/secret", "filename": "secret"}))
    assert forbidden["status"]["state"] == "TASK_STATE_FAILED"
    assert "127.0.0.2" in forbidden["status"]["message"]["parts"][0]["text"]
    assert alice.error("SendMessage", {"message": message({"data": TREE}, part)})["code"] == -32005


def test_a_link_of_this_server_is_the_file_for_its_owner_only(alice: Agent, bob: Agent, server: Server) -> None:
    content = os.urandom(1000)
    (link,) = file_parts(alice.send(message({"data": COMMAND}, raw(content, filename="a.bin", mediaType=PDF))))
    again = alice.send(message({"data": TREE}, {"url": link["url"]}))
    assert again["artifacts"][-1]["parts"][0]["data"]["given"] == link["metadata"]["file"]
    assert bob.error("SendMessage", {"message": message({"data": TREE}, {"url": link["url"]})})["code"] == -32005


def test_the_file_of_another_user_gets_no_link(alice: Agent, bob: Agent) -> None:
    (part,) = file_parts(alice.send(message({"data": COMMAND}, raw(b"mine", filename="a.bin", mediaType=PDF))))
    of_alice = part["metadata"]["file"]
    hidden = {
        "skill": "python_executor",
        "inputs": {"function": "name_file", "arguments": {"file_id": of_alice["$file"]}},
    }
    parts = bob.send(data(hidden))["artifacts"][-1]["parts"]
    assert parts == [{"data": {"$file": of_alice["$file"]}}]
    assert (
        bob.error("SendMessage", {"message": data({"skill": "echo_executor", "inputs": {"f": of_alice}})})["code"]
        == -32602
    )


@pytest.mark.both_engines
def test_what_is_refused_leaves_nothing_behind(alice: Agent, server: Server) -> None:
    before = stored(server)
    good, long_name = raw(b"good", filename="good.bin", mediaType=PDF), "n" * 300
    refused: list[tuple[list[Json], int, str]] = [
        ([{"data": COMMAND}, good, {"raw": "%", "mediaType": PDF}], -32602, "message.parts[2].raw"),
        ([{"data": COMMAND}, good, raw(b"x", mediaType="nonsense")], -32602, "message.parts[2].raw"),
        ([{"data": COMMAND}, good, raw(b"x", mediaType=PDF, filename="../x")], -32602, "message.parts[2].raw: name"),
        ([{"data": COMMAND}, good, raw(b"x", mediaType=PDF, filename=long_name)], -32602, "message.parts[2].raw: name"),
        ([{"data": COMMAND}, good, good], -32602, "message.parts"),
        ([{"data": {"tasks": []}}, good], -32602, ""),
        ([{"data": {"tasks": [{"name": "echo_executor"}]}}, good], -32602, "run_inputs"),
        ([{"text": "what is this?"}, good], -32005, ""),
        ([good], -32005, ""),
        ([{"data": COMMAND}, *[good] * 101], -32602, "message.parts[101].raw"),
    ]
    for parts, code, field in refused:
        error = alice.error("SendMessage", {"message": message(*parts)})
        assert error["code"] == code, error
        assert field in str(error), error
    large = alice.error(
        "SendMessage", {"message": message({"data": COMMAND}, raw(os.urandom(1_000_001), mediaType=PDF))}
    )
    assert "limits.file_bytes" in large["message"] + str(large["data"])
    assert (
        alice.error("SendMessage", {"message": message(good, taskId=alice.send(text("hello"))["id"])})["code"] == -32005
    )
    assert own(alice, "files.list")["used_bytes"] == 0
    until(lambda: stored(server) == before, seconds=60, what="the end of the objects")


def test_a_repeated_message_saves_nothing_twice(alice: Agent) -> None:
    request = {"message": message({"data": COMMAND}, raw(b"once", filename="a.bin", mediaType=PDF))}
    key = {"Idempotency-Key": os.urandom(8).hex()}
    first, again = (alice.call("SendMessage", request, **key)["task"]["id"] for _ in range(2))
    assert first == again
    assert len(own(alice, "files.list")["files"]) == 2, "the file that was sent, and that which the command left"


def test_a_stream_and_a_page_of_tasks_have_links(alice: Agent) -> None:
    sent = {"message": message({"data": COMMAND}, raw(b"streamed", filename="a.bin", mediaType=PDF))}
    updates = alice.streamed("SendStreamingMessage", sent)
    (artifact,) = [each["artifactUpdate"]["artifact"] for each in updates if "artifactUpdate" in each]
    assert [fetched(part) for part in artifact["parts"] if "url" in part] == [b"streamed"]
    (listed,) = alice.call("ListTasks", {"includeArtifacts": True})["tasks"]
    assert [fetched(part) for part in file_parts(listed)] == [b"streamed"]


def test_a_client_of_0_3_sends_and_gets_files(server: Server) -> None:
    older = agent_of(server.http, "older", version="")
    content = os.urandom(5000)
    file = {"bytes": b64encode(content).decode(), "name": "old.pdf", "mimeType": PDF}
    parts = [{"kind": "data", "data": COMMAND}, {"kind": "file", "file": file}]
    task = older.call(
        "message/send", {"message": {"messageId": "m1", "role": "user", "kind": "message", "parts": parts}}
    )
    (part,) = [part for part in task["artifacts"][-1]["parts"] if part["kind"] == "file"]
    assert httpx.get(part["file"]["uri"], timeout=60).content == content
    assert (part["file"]["name"], part["file"]["mimeType"]) == ("old.pdf", PDF)
    file = {"uri": part["file"]["uri"], "name": "old.pdf"}
    parts = [{"kind": "data", "data": TREE}, {"kind": "file", "file": file}]
    again = older.call(
        "message/send", {"message": {"messageId": "m2", "role": "user", "kind": "message", "parts": parts}}
    )
    assert again["artifacts"][-1]["parts"][0]["data"]["given"] == part["metadata"]["file"]


def test_files_go_with_the_tree_of_their_message(alice: Agent) -> None:
    """Also those that no input names, only the message."""
    given = {"tasks": [{"name": "echo_executor", "inputs": {"name": "{{run.inputs.files.0.name}}"}}]}
    task = alice.send(message({"data": given}, raw(b"kept", filename="a.bin", mediaType=PDF)))
    (file,) = own(alice, "files.list")["files"]
    assert "has it" in own(alice, "files.delete", file_id=file["id"])["message"]
    assert task["artifacts"][-1]["parts"][0]["data"] == {"name": "a.bin"}
    own(alice, "tasks.delete", task_id=task["metadata"]["rootTaskId"], force=True)
    assert own(alice, "files.delete", file_id=file["id"]) == {"file_id": file["id"]}
