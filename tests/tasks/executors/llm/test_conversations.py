"""Conversations that go on from task to task: what the model gets of them, how much, and of whom."""

from typing import Any

import pytest

from tests.llm_formats import Says
from tests.llm_site import WITH_KEY, LlmSite

EXECUTOR = "llm_executor"
Json = dict[str, Any]


def talk(site: LlmSite, name: str, prompt: str, answer: str, *, user_id: str = "alice", **more: Any) -> list[str]:
    """Ask in a conversation. Returns what the model read before, as its first words."""
    site.llm.will(Says(text=answer))
    params = {"conversation": name, **more.pop("params", {})}
    done = site.run(EXECUTOR, {"prompt": prompt, **more}, WITH_KEY, params=params, user_id=user_id)
    assert done.task["status"] == "completed", done.task["error"]
    messages = site.llm.asked[-1].body["messages"]
    return [f"{message['role']}: {message['content']}" for message in messages]


def test_a_model_gets_what_was_said_and_its_own_answers(site: LlmSite) -> None:
    assert talk(site, "rivers", "A river?", "The Rhine.") == ["user: A river?"]
    assert talk(site, "rivers", "Where is it?", "In Europe.") == [
        "user: A river?",
        "assistant: The Rhine.",
        "user: Where is it?",
    ]
    third = talk(site, "rivers", "And {{what}}?", "The Elbe.", system="Be brief.", what="{{now}}")
    assert third[0] == "system: Be brief."
    assert third[-2:] == ["assistant: In Europe.", "user: And {{now}}?"]
    assert talk(site, "rivers", "Thanks.", "Bye.")[-3:-1] == ["user: And {{now}}?", "assistant: The Elbe."]


def test_a_conversation_is_that_of_one_owner(site: LlmSite) -> None:
    talk(site, "secret", "Mine.", "Yours.")
    assert talk(site, "secret", "And I?", "Nothing.", user_id="bob") == ["user: And I?"]
    assert talk(site, "other", "Here?", "Nothing.") == ["user: Here?"]


def test_only_the_newest_tokens_come_along(site: LlmSite) -> None:
    for number in range(3):
        talk(site, "long", f"{number} " + "q" * 38, "a" * 40)
    bounded = talk(site, "long", "Now?", "Yes.", params={"conversation_tokens": 40})
    assert [each.split()[1] for each in bounded] == ["1", "a" * 40, "2", "a" * 40, "Now?"]


def test_a_failed_task_says_nothing(site: LlmSite) -> None:
    site.llm.will(Says(status=400, error="Odd."))
    site.error_of(EXECUTOR, {"prompt": "Lost."}, WITH_KEY, params={"conversation": "faults"}, user_id="alice")
    assert talk(site, "faults", "Again?", "Yes.") == ["user: Again?"]


def test_a_conversation_ends_with_its_trees(site: LlmSite) -> None:
    site.llm.will(Says(text="Kept?"))
    done = site.run(EXECUTOR, {"prompt": "Keep."}, WITH_KEY, params={"conversation": "gone"}, user_id="alice")
    site.server.rpc("tasks.delete", {"task_id": done.task["id"], "force": True})
    assert talk(site, "gone", "What?", "Nothing.") == ["user: What?"]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"conversation": 7}, "params.conversation must be a name of 1 to 255 characters"),
        ({"conversation": ""}, "params.conversation must be a name of 1 to 255 characters"),
        ({"conversation": "a", "conversation_tokens": 0}, "params.conversation_tokens must be an integer from 1 to"),
        ({"conversation_tokens": 10}, "params.conversation_tokens is for params.conversation, which is missing"),
        ({"conversation": "a", "pool": "process"}, "needs the pool 'loop', and the task runs in 'process'"),
    ],
)
def test_what_is_wrong_is_refused_when_it_is_sent(site: LlmSite, params: Json, says: str) -> None:
    assert says in str(site.refusal_of(EXECUTOR, inputs={"prompt": "x"}, params=params)["data"])
