"""A message handler of the operator's: what it decides itself, and what it leaves to the server."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from pytest_django import Settings

from a2a.protocol.message_handler import meaning_of
from aipartnerupflow.a2a import Decision, Default, Incoming, Reject, RunTree
from tests.sections import replace


def translate(incoming: Incoming) -> Decision:
    """Text names an executor; anything else is for the server."""
    word = incoming.message["parts"][0].get("text")
    if word is None:
        return Default()
    if word == "nothing":
        return Reject(text="There is nothing to run.")
    data = {"skill": f"{word}_executor", "inputs": {}}
    return Default(incoming=dataclasses.replace(incoming, message={"parts": [{"data": data}]}))


@pytest.fixture(autouse=True)
def configured(settings: Settings) -> None:
    a2a = replace(settings.APFLOW.a2a, message_handler=f"{__name__}.translate")
    settings.APFLOW = replace(settings.APFLOW, a2a=a2a)


def executor_of(meaning: object) -> str:
    assert isinstance(meaning, RunTree)
    assert isinstance(meaning.tasks, list)
    return str(meaning.tasks[0]["schemas"]["method"])


def test_what_the_handler_decides_counts() -> None:
    assert meaning_of(Incoming(message={"parts": [{"text": "nothing"}]})) == Reject(text="There is nothing to run.")


def test_the_default_is_the_servers_own_decision() -> None:
    message = {"parts": [{"data": {"skill": "echo_executor", "inputs": {}}}]}
    assert executor_of(meaning_of(Incoming(message=message))) == "echo_executor"


def test_the_default_takes_another_message() -> None:
    assert executor_of(meaning_of(Incoming(message={"parts": [{"text": "sleep"}]}))) == "sleep_executor"


SAID: Sequence[Any] = (
    {"role": "ROLE_USER", "parts": [{"text": "I like tea."}]},
    {"role": "ROLE_AGENT", "parts": [{"text": "So do I."}]},
)
AS_PROMPT = [{"role": "user", "content": "I like tea."}, {"role": "assistant", "content": "So do I."}]


def bot(incoming: Incoming) -> Decision:
    """A bot with tools, and a task that stores what it says under the name of the conversation."""
    chat = {"prompt": incoming.text, "tools": ["echo_executor"]}
    return RunTree(
        with_history=incoming.text != "Forget it.",
        tasks=[
            {"id": "say", "name": "Say", "schemas": {"method": "llm_executor"}, "inputs": chat},
            {"id": "own", "name": "Own", "parent_id": "say", "schemas": {"method": "llm_executor"}, "inputs": chat | {"history": []}},
            {"id": "other", "name": "Other", "parent_id": "say", "schemas": {"method": "llm_executor"}, "inputs": {"prompt": "Sum up"}},
            {"id": "keep", "name": "Keep", "parent_id": "say", "inputs": {"of": incoming.context_id}},
        ],
    )  # fmt: skip


def test_a_bot_with_tools_reads_the_conversation(settings: Settings) -> None:
    a2a = replace(settings.APFLOW.a2a, message_handler=f"{__name__}.bot")
    settings.APFLOW = replace(settings.APFLOW, a2a=a2a)

    def histories(text: str) -> list[Any]:
        incoming = Incoming(message={"parts": [{"text": text}]}, context_id="c", history=SAID)
        meaning = meaning_of(incoming)
        assert isinstance(meaning, RunTree) and isinstance(meaning.tasks, list)
        assert meaning.tasks[3]["inputs"] == {"of": "c"}
        return [task["inputs"].get("history") for task in meaning.tasks]

    assert histories("What do I like?") == [AS_PROMPT, [], None, None]
    assert histories("Forget it.") == [None, [], None, None]
