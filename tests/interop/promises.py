"""What each official client gets from this agent: an answer to `hello`, examples that work, and the texts of errors."""

from collections.abc import Sequence
from typing import Final

ALL_SECONDS: Final = 280
CHEAP: Final = ("aggregate_results_executor", "echo_executor", "execute-task-tree", "system_info_executor")
"""The skills whose examples run on every push."""
ELSEWHERE: Final = {
    "grpc_executor": "grpc.example.com",
    "rest_executor": "example.com",
    "scrape_executor": "example.com",
    "websocket_executor": "echo.example.com",
}
"""The skills whose examples need another server, which the text of a failure names."""
TEXTS: Final = (
    "Task 'nowhere' not found. Check the id, and that the task belongs to you.",
    "has finished, so it cannot be cancelled.",
    "Executor 'nothing' is not registered or not enabled.",
    "Executor 'nothing' is not registered or not enabled.",
    "has finished. Call GetTask for its result.",
)
"""The errors that each client causes: an unknown task, a late cancellation, an unknown skill, the same in a stream, a late subscription."""


def assert_says_hello(answer: str) -> None:
    for skill in ("Echo", "Sleep", "Language model", "Crew of agents", "Execute a task tree"):
        assert f"- {skill}: " in answer
    assert "Example: Echo: hello" in answer


def assert_keeps_texts(errors: Sequence[Sequence[str]], expected: Sequence[str] = TEXTS) -> list[str]:
    """Return the classes of the errors."""
    kinds, texts = zip(*errors, strict=True)
    assert [text for text, part in zip(texts, expected, strict=True) if part not in text] == []
    return list(kinds)


def assert_all_work(skills: dict[str, str]) -> None:
    assert {*CHEAP, "crewai_executor", "generate_executor", "llm_executor", "approval_executor"} <= skills.keys()
    failed = {skill: outcome for skill, outcome in skills.items() if "complete" not in outcome.lower()}
    assert failed.keys() <= ELSEWHERE.keys(), failed
    assert all(ELSEWHERE[skill] in outcome for skill, outcome in failed.items())
