"""A2A 0.3, in both of its dialects, in terms of 1.0."""

from typing import Any

import pytest

from tasks.executors.a2a_client.progress import Progress, progress_of
from tasks.executors.a2a_client.versions import response_of, task_of
from tests.tasks.executors.a2a_client.agents import Json, artifact, status, task

MESSAGE: Json = {"messageId": "m", "role": "ROLE_AGENT"}


@pytest.mark.parametrize(
    ("of_json_rpc", "of_http", "part"),
    [
        ({"kind": "text", "text": "hi"}, {"text": "hi"}, {"text": "hi"}),
        ({"kind": "data", "data": {"data": 1}}, {"data": {"data": {"data": 1}}}, {"data": {"data": 1}}),
        (
            {"kind": "file", "file": {"bytes": "aGk=", "name": "a.txt", "mimeType": "text/plain"}},
            {"file": {"fileWithBytes": "aGk=", "name": "a.txt", "mimeType": "text/plain"}},
            {"raw": "aGk=", "filename": "a.txt", "mediaType": "text/plain"},
        ),
        (
            {"kind": "file", "file": {"uri": "https://example.com/a"}, "metadata": {"n": 1}},
            {"file": {"fileWithUri": "https://example.com/a"}, "metadata": {"n": 1}},
            {"url": "https://example.com/a", "metadata": {"n": 1}},
        ),
    ],
)
def test_a_part_is_the_same_in_every_dialect(of_json_rpc: Json, of_http: Json, part: Json) -> None:
    expected = {"message": MESSAGE | {"parts": [part]}}
    assert response_of({"kind": "message", "messageId": "m", "role": "agent", "parts": [of_json_rpc]}) == expected
    assert response_of({"message": MESSAGE | {"content": [of_http]}}) == expected
    assert response_of({"msg": MESSAGE | {"content": [of_http]}}) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("input-required", "INPUT_REQUIRED"),
        ("canceled", "CANCELED"),
        ("TASK_STATE_CANCELLED", "CANCELED"),
        ("TASK_STATE_AUTH_REQUIRED", "AUTH_REQUIRED"),
        ("unknown", "UNKNOWN"),
    ],
)
def test_states_have_the_names_of_1_0(old: str, new: str) -> None:
    assert task_of({"kind": "task", "id": "t", "status": {"state": old}}) == {
        "id": "t",
        "status": {"state": f"TASK_STATE_{new}"},
        "artifacts": [],
    }


@pytest.mark.parametrize("odd", [{}, {"kind": "cake"}, {"hello": 1}])
def test_what_is_nothing_of_a2as_is_nothing(odd: Json) -> None:
    assert response_of(odd) == {}


@pytest.mark.parametrize(
    ("responses", "text"),
    [
        ([artifact("a"), artifact("b", append=True)], "ab"),
        ([artifact("a"), artifact("b")], "b"),
        ([artifact("b", append=True)], "b"),
        ([{"task": task(artifacts=[artifact("a")["artifactUpdate"]["artifact"]])}, {"task": task("COMPLETED")}], "a"),
        ([{"task": task()}, status("COMPLETED", "That was all.")], "That was all."),
        ([{"task": task()}], ""),
    ],
)
def test_what_an_agent_tells_adds_up(responses: list[Json], text: str) -> None:
    progress = Progress()
    for response in responses:
        progress.take(response)
    assert progress.result()["text"] == text
    assert progress.task_id == "t-1"


@pytest.mark.parametrize(
    ("response", "news"),
    [
        (status("WORKING", "half", progress=0.5), (0.5, "half")),
        (status("WORKING", "much", progress=50), (None, "much")),
        (status("WORKING", progress=True), (None, "")),
        (status("WORKING", "x" * 5000), (None, "x" * 1000)),
        (artifact("a"), (None, "artifact: poem")),
        (artifact("a", append=True), (None, "")),
        ({"task": task("WORKING", "hi")}, (None, "")),
    ],
)
def test_news_are_a_fraction_and_a_line(response: Json, news: Any) -> None:
    assert progress_of(response) == news
