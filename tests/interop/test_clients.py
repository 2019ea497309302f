"""The official clients of A2A, 1.x and 0.3, go their way through a real server: by JSON-RPC, by HTTP+JSON and by gRPC."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import text
from tests.interop.environments import Json, python_with, run
from tests.interop.promises import ALL_SECONDS, CHEAP, TEXTS, assert_all_work, assert_keeps_texts, assert_says_hello
from tests.receiver import Receiver, receiving
from tests.servers import Server, until

BINDINGS = ["JSONRPC", "HTTP+JSON"]
ERRORS_OF_0_3 = {"JSONRPC": "A2AClientJSONRPCError", "HTTP+JSON": "A2AClientHTTPError"}
STATUSES = ("404", "409", "400", "400", "text/event-stream")
"""What the client of 0.3 keeps of errors over HTTP+JSON: it does not read their bodies."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def of_1_0() -> Path:
    return python_with("a2a-sdk-1.3.0", "a2a-sdk[grpc]==1.3.0")


@pytest.fixture(scope="module")
def of_0_3() -> Path:
    return python_with("a2a-sdk-0.3.26", "a2a-sdk[http-server]==0.3.26")


def received(receiver: Receiver, task_id: str, end: str) -> list[Json]:
    """What was sent about the task, once its end is there."""
    until(lambda: any(end in str(event) for event in receiver.events()), seconds=60, what="the end at the receiver")
    for delivery in receiver.received:
        assert delivery.headers["authorization"] == "Bearer a-credential"
        assert delivery.headers["x-a2a-notification-token"] == "a-token"
    assert all(task_id in str(event) for event in receiver.events())
    return receiver.events()


@pytest.mark.nightly
@pytest.mark.parametrize("version", ["1_0", "0_3"])
def test_every_example_of_the_card_works(
    server: Server, receiver: Receiver, of_1_0: Path, of_0_3: Path, version: str
) -> None:
    python = {"1_0": of_1_0, "0_3": of_0_3}[version]
    arguments = (server.url, "JSONRPC", receiver.url, "all")
    assert_all_work(run(python, f"client_{version}.py", *arguments, seconds=ALL_SECONDS)["skills"])


def test_the_program_of_the_how_to(server: Server, of_1_0: Path) -> None:
    program = text("docs/how-to/a2a.md", "With the official client", "python").replace(
        "http://localhost:8000", server.url
    )
    done = subprocess.run([of_1_0, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=240)
    assert "TASK_STATE_COMPLETED" in done.stdout


@pytest.mark.parametrize("binding", [*BINDINGS, "GRPC"])
def test_the_client_of_1_0(server: Server, receiver: Receiver, of_1_0: Path, binding: str) -> None:
    seen = run(of_1_0, "client_1_0.py", server.url, binding, receiver.url, ",".join(CHEAP))
    card, push = seen.pop("card"), seen.pop("push")
    assert_says_hello(seen["ask"].pop("says"))
    errors = assert_keeps_texts(seen.pop("errors"))
    assert (card["name"], card["streaming"]) == ("aipartnerupflow", True)
    kinds = seen["stream"].pop("kinds")
    assert (kinds[0], kinds[-2:]) == ("task", ["artifact_update", "status_update"])
    assert seen == {
        "send": {"state": "TASK_STATE_COMPLETED", "artifacts": [True]},
        "tree": "TASK_STATE_COMPLETED",
        "stream": {"last": "TASK_STATE_COMPLETED"},
        "ask": {"state": "TASK_STATE_INPUT_REQUIRED"},
        "skills": dict.fromkeys(CHEAP, "TASK_STATE_COMPLETED"),
        "answer": "TASK_STATE_COMPLETED",
        "get": "TASK_STATE_COMPLETED",
        "list": {"ids": True, "total": 1},
        # gRPC has no address under which the server could link to files, unless server.public_url is set.
        "files": [] if binding == "GRPC" else [["report.pdf", "application/pdf", "%PDF of 1.0"]],
        "resubscribe": {"first": "task", "last": "TASK_STATE_COMPLETED"},
        "cancel": "TASK_STATE_CANCELED",
    }
    assert errors[:2] == ["TaskNotFoundError", "TaskNotCancelableError"]
    assert (push["id"], push["url"], push["listed"]) == ("mine", True, 1)
    events = received(receiver, push["task"], "TASK_STATE_COMPLETED")
    assert {next(iter(event)) for event in events} <= {"statusUpdate", "artifactUpdate"}


@pytest.mark.parametrize(("binding", "error"), list(ERRORS_OF_0_3.items()))
def test_the_client_of_0_3(server: Server, receiver: Receiver, of_0_3: Path, binding: str, error: str) -> None:
    seen = run(of_0_3, "client_0_3.py", server.url, binding, receiver.url, ",".join(CHEAP))
    card, push = seen.pop("card"), seen.pop("push")
    assert_says_hello(seen["ask"].pop("says"))
    errors = assert_keeps_texts(seen.pop("errors"), TEXTS if binding == "JSONRPC" else STATUSES)
    assert (card["name"], card["streaming"]) == ("aipartnerupflow", True)
    kinds = seen["stream"].pop("kinds")
    assert (kinds[0], kinds[-2:]) == ("task", ["artifact-update", "status-update"])
    assert seen == {
        "send": {"state": "completed", "artifacts": [True]},
        "stream": {"last": "completed"},
        "ask": {"state": "input-required"},
        "skills": dict.fromkeys(CHEAP, "completed"),
        "answer": "completed",
        "get": "completed",
        # Over HTTP+JSON this client encodes the base64 of its own types once more.
        "files": [["report.pdf", "application/pdf", "%PDF of 0.3" if binding == "JSONRPC" else "JVBERiBvZiAwLjM="]],
        "resubscribe": {"first": "task", "last": "completed"},
        "cancel": "canceled",
    }
    assert errors[:3] == [error, error, error]
    assert (push["id"], push["url"]) == ("mine", True)
    assert {event["kind"] for event in received(receiver, push["task"], "'state': 'completed'")} == {"task"}
