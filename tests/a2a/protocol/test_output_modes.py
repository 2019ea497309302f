"""`acceptedOutputModes`: which parts a client receives."""

from typing import Any

import pytest

from a2a.core.exceptions import ContentTypeNotSupported
from a2a.protocol.parts import check_modes, in_modes
from tests.a2a.a2a_client import ECHO, Agent, Json, data

TEXT: Json = {"text": "Rivers are long."}
DATA: Json = {"data": {"content": "Rivers are long."}}
PICTURE: Json = {"raw": "AA==", "mediaType": "image/png"}
FILE: Json = {"raw": "AA=="}


def parts_in(modes: list[str], *parts: Json) -> Any:
    """The parts of the artifact that is left, if one is."""
    task = {"id": "1", "artifacts": [{"artifactId": "result", "parts": list(parts)}]}
    shown = in_modes({"task": task}, modes)["task"]
    return shown["artifacts"][0]["parts"] if "artifacts" in shown else None


@pytest.mark.parametrize(
    ("modes", "parts", "shown"),
    [
        ([], [TEXT, DATA], [TEXT, DATA]),
        (["*/*"], [TEXT, DATA, FILE], [TEXT, DATA, FILE]),
        (["text/plain"], [TEXT, DATA], [TEXT]),
        (["text/plain; charset=utf-8"], [TEXT, DATA], [TEXT]),
        (["TEXT/*"], [TEXT, DATA], [TEXT]),
        (["text"], [TEXT, DATA], [TEXT]),
        (["application/json"], [TEXT, DATA], [DATA]),
        (["application/json", "text/plain"], [TEXT, DATA], [TEXT, DATA]),
        (["text/plain"], [DATA], [{"text": '{"content":"Rivers are long."}'}]),
        (["application/json"], [TEXT], [{"data": "Rivers are long."}]),
        (["application/json"], [TEXT | {"metadata": {"a": 1}}], [{"data": "Rivers are long.", "metadata": {"a": 1}}]),
        (["text/plain", "image/*"], [TEXT, PICTURE], [TEXT, PICTURE]),
        (["text/plain"], [TEXT, PICTURE], [TEXT]),
        (["text/plain"], [PICTURE], None),
        (["text/plain"], [FILE], None),
    ],
)
def test_a_client_receives_what_it_accepts(modes: list[str], parts: list[Json], shown: list[Json] | None) -> None:
    assert parts_in(modes, *parts) == shown


def test_a_message_keeps_what_cannot_be_converted() -> None:
    message: Json = {"messageId": "1", "parts": [PICTURE]}
    assert in_modes({"message": message}, ["text/plain"]) == {"message": message}
    assert in_modes({"message": message | {"parts": [TEXT, PICTURE]}}, ["text/plain"])["message"]["parts"] == [TEXT]


@pytest.mark.parametrize("modes", [["image/png"], ["audio/*", "video/mp4"], [""]])
def test_a_client_that_accepts_nothing_is_refused(modes: list[str]) -> None:
    with pytest.raises(ContentTypeNotSupported):
        check_modes(modes)


def test_the_modes_of_a_message_apply_to_its_reply(alice: Agent) -> None:
    accepted = {"acceptedOutputModes": ["text/plain"]}
    task = alice.send(data(ECHO), **accepted)
    assert [each["parts"] for each in task["artifacts"]] == [[{"text": '{"say":"hello"}'}]]
    assert [each["parts"] for each in alice.get(task["id"])["artifacts"]] == [[{"data": {"say": "hello"}}]]
    streamed = alice.streamed("SendStreamingMessage", {"message": data(ECHO), "configuration": accepted})
    (update,) = [each["artifactUpdate"] for each in streamed if "artifactUpdate" in each]
    assert update["artifact"]["parts"] == [{"text": '{"say":"hello"}'}]
    before = alice.call("ListTasks", {})["totalSize"]
    refused = {"message": data(ECHO), "configuration": {"acceptedOutputModes": ["image/png"]}}
    assert alice.error("SendMessage", refused)["code"] == -32005
    assert alice.call("ListTasks", {})["totalSize"] == before
