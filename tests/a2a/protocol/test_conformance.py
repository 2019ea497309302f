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
from tests.servers import PYTHON, ROOT, free_port, new_database, running

pytestmark = pytest.mark.both_engines_nightly

numbers = count(0x10000000)


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
