"""The server as the conformance kit meets it: with the handler that behaves by message id."""

import os
import subprocess
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.a2a.a2a_client import Agent, Json, message, states_of
from tests.a2a.schemas import check
from tests.documents import text
from tests.ports import free_port
from tests.servers import PYTHON, ROOT, new_database, running

pytestmark = pytest.mark.both_engines_nightly

numbers = count(0x10000000)
LENGTH: Json = {"historyLength": 2}


@pytest.fixture(scope="module")
def conformance_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """The kit's client, of the server that the page on conformance starts: nobody has to log in."""
    port, data = free_port(), tmp_path_factory.mktemp("conformance")
    command = text("docs/reference/a2a.md", "Conformance", "sh").replace("9999", str(port)).strip()
    start = recipe(command).replace("build/conformance", str(data))
    with new_database() as database, running(["bash", "-ec", start], port=port, database_url=database) as server:
        yield Agent(http=server.http)


def recipe(command: str) -> str:
    """What make would run by this command, besides installing; with the Python of the tests."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    words = ["bash", "-ec", f"{command} --dry-run --assume-old .venv/installed"]
    would_run = subprocess.run(words, cwd=ROOT, env=alone, capture_output=True, text=True, check=True).stdout
    return would_run.replace(".venv/bin/aipartnerupflow", f"exec {PYTHON} -m aipartnerupflow")


def said(prefix: str, **fields: Any) -> Json:
    return message({"text": "hello"}, messageId=f"{prefix}-{next(numbers):x}", **fields)


@pytest.mark.parametrize(
    ("prefix", "part"),
    [
        ("tck-artifact-text", {"text": "Generated text content"}),
        ("tck-artifact-data", {"data": {"key": "value", "count": 42}}),
        ("tck-artifact-file", {"raw": "R2VuZXJhdGVkIGZpbGU=", "filename": "output.txt", "mediaType": "text/plain"}),
        (
            "tck-artifact-file-url",
            {"url": "https://example.com/output.txt", "filename": "output.txt", "mediaType": "text/plain"},
        ),
        ("tck-anything-else", {"text": "Hello from TCK"}),
    ],
)
def test_artifacts_are_of_every_kind(conformance_agent: Agent, prefix: str, part: Json) -> None:
    task = conformance_agent.send(said(prefix))
    check(task, "Task")
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert task["artifacts"][0]["parts"] == [part]


def test_a_result_that_is_text_is_the_status_message(conformance_agent: Agent) -> None:
    task = conformance_agent.send(said("tck-complete-task"))
    assert task["status"]["message"]["parts"] == [{"text": "Hello from TCK"}]
    assert task["status"]["message"]["role"] == "ROLE_AGENT"


def test_a_handler_may_answer_with_a_message(conformance_agent: Agent) -> None:
    result = conformance_agent.call("SendMessage", {"message": said("tck-message-response", contextId="mine")})
    check(result, "SendMessageResponse")
    assert result["message"]["parts"] == [{"text": "Direct message response"}]
    assert result["message"]["contextId"] == "mine"
    assert conformance_agent.call("ListTasks", {"contextId": "mine"})["totalSize"] == 0


def test_a_message_is_the_same_when_its_request_is_repeated(conformance_agent: Agent) -> None:
    params, key = {"message": said("tck-message-response")}, {"Idempotency-Key": f"key-{next(numbers):x}"}
    first, second = (conformance_agent.call("SendMessage", params, **key) for _ in range(2))
    assert first == second
    assert conformance_agent.call("SendMessage", params) != first


@pytest.mark.requirement("CORE-STREAM-002", "CORE-MULTI-001a")
def test_a_message_is_all_that_its_stream_has(conformance_agent: Agent) -> None:
    (result,) = conformance_agent.streamed("SendStreamingMessage", {"message": said("tck-stream-002")})
    check(result, "StreamResponse")
    assert result["message"]["contextId"]


def test_a_question_is_answered_by_a_follow_up_that_names_the_task_only(conformance_agent: Agent) -> None:
    asking = conformance_agent.send(said("tck-input-required"))
    assert asking["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    done = conformance_agent.send(said("tck-complete-task", taskId=asking["id"]))
    assert (done["id"], done["status"]["state"]) == (asking["id"], "TASK_STATE_COMPLETED")


def test_a_handler_may_refuse(conformance_agent: Agent) -> None:
    task = conformance_agent.send(said("tck-reject-task"))
    check(task, "Task")
    assert task["status"]["state"] == "TASK_STATE_REJECTED"
    assert task["status"]["message"]["parts"] == [{"text": "Rejected, as it was told to."}]
    assert (
        conformance_agent.error("SendMessage", {"message": said("tck-complete-task", taskId=task["id"])})["code"]
        == -32004
    )
    listed = conformance_agent.call("ListTasks", {"contextId": task["contextId"], "status": "TASK_STATE_REJECTED"})[
        "tasks"
    ]
    assert [each["id"] for each in listed] == [task["id"]]


@pytest.mark.parametrize("prefix", ["tck-stream-001", "tck-stream-ordering-001", "tck-stream-artifact-file"])
def test_streams_work_and_complete(conformance_agent: Agent, prefix: str) -> None:
    results = conformance_agent.streamed("SendStreamingMessage", {"message": said(prefix)})
    assert states_of(results) == ["SUBMITTED", "WORKING", "COMPLETED"]
    assert [list(result) for result in results].count(["artifactUpdate"]) == 1


# --- as the kit of 0.3 speaks ---


def spoken(prefix: str, **fields: Any) -> Json:
    """A message with an id of that kit."""
    parts = [{"kind": "text", "text": "Hello from TCK!"}]
    message_id = f"{prefix}-message-id-{next(numbers):x}"
    return {"message": {"kind": "message", "messageId": message_id, "role": "user", "parts": parts, **fields}}


@pytest.fixture
def older(conformance_agent: Agent) -> Agent:
    return Agent(http=conformance_agent.http, headers={})


def test_messages_without_the_prefix_ask_and_are_continued(older: Agent) -> None:
    task = older.call("message/send", spoken("text"))
    assert (task["kind"], task["status"]["state"]) == ("task", "input-required")
    for _ in range(3):
        again = older.call("message/send", spoken("continuation", taskId=task["id"]))
        assert (again["id"], again["status"]["state"]) == (task["id"], "input-required")
    full, limited = (older.call("tasks/get", {"id": task["id"], **length})["history"] for length in ({}, LENGTH))
    assert len(full) > len(limited) == LENGTH["historyLength"]


def test_a_task_of_that_kit_can_be_cancelled_once(older: Agent) -> None:
    task = older.call("message/send", spoken("cancel-test"))
    cancelled = older.call("tasks/cancel", {"id": task["id"]})
    assert (cancelled["id"], cancelled["status"]["state"]) == (task["id"], "canceled")
    assert older.error("tasks/cancel", {"id": task["id"]})["code"] == -32002
    assert older.error("tasks/cancel", {"id": "nonexistent-task-id"})["code"] == -32001


def test_a_file_by_its_address_is_taken(older: Agent) -> None:
    file = {"name": "test.txt", "mimeType": "text/plain", "uri": "https://example.com/test.txt"}
    task = older.call("message/send", spoken("file", parts=[{"kind": "file", "file": file}]))
    assert task["status"]["state"] == "input-required"


def test_streams_of_that_kit(older: Agent) -> None:
    (task,) = older.streamed("message/stream", spoken("stream"))
    assert (task["kind"], task["status"]["state"]) == ("task", "input-required")
    assert older.error("message/stream", {"invalid": "params"})["code"] == -32602
    assert older.error("tasks/resubscribe", {"id": "non-existent-task-id-1"})["code"] == -32001
    with older.stream("message/stream", spoken("long-stream")) as first:
        task_id = next(first)["id"]
        with older.stream("tasks/resubscribe", {"id": task_id}) as second:
            assert next(second)["id"] == task_id
        older.call("tasks/cancel", {"id": task_id})
