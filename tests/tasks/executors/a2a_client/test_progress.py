"""What the responses of an agent come to."""

from typing import Any

import pytest

from tasks.executors.a2a_client.client import Progress, progress_of
from tests.tasks.executors.a2a_client.agents import Json, artifact, status, task


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
