"""Words of crews, graphs and thinking models as messages: from our events alone, without a server."""

from itertools import count
from typing import Any

from a2a.agui.state import Shown, Tree
from a2a.agui.translation import Translator
from tasks.models import Run
from tests.a2a.agui.front_end import checked

Json = dict[str, Any]
NOW = "2026-11-27T10:00:00+00:00"


def translator(executor_id: str, *, target_id: str = "root") -> Translator:
    tree = Tree(run=Run(id="run", target_id=target_id))
    tree.tasks = {"root": Shown(0, "root", None, None), "crew": Shown(1, "crew", executor_id, None)}
    return Translator(tree=tree, always_answers=False)


def translated(translator: Translator, *events: Json) -> list[Json]:
    numbers = count(1)
    common = {"run_id": "run", "task_id": "crew", "timestamp": NOW, "status": "in_progress", "progress": 0.0}
    common |= {"tree_progress": 0.0, "message": None, "result": None, "error": None}
    found = [list(translator.of(common | {"seq": next(numbers)} | event)) for event in events]
    shown = [checked(event.to_json()) for events in found for event in events]
    return [event for event in shown if event["type"] not in ("STATE_DELTA", "STEP_STARTED", "STEP_FINISHED")]


def words(agent: str, call_id: str, text: str, *, kind: str = "answer") -> Json:
    by = {"call_id": call_id, "model": "m", "agent": agent, "crew_task": None, "step": None, "kind": kind}
    return {"type": "token", "message": text, "result": by}


def done(result: Any) -> Json:
    return {"type": "task_completed", "status": "completed", "progress": 1.0, "result": result}


def test_each_agent_of_a_crew_speaks_in_messages_with_its_name() -> None:
    said = [words("Ann", "1", "Once "), words("Bob", "2", "No."), words("Ann", "1", "more."), words("Ann", "3", "End.")]
    events = translated(translator("crewai_executor"), *said, done({"result": "End."}))
    starts = {event["messageId"]: event["name"] for event in events if event["type"] == "TEXT_MESSAGE_START"}
    assert list(starts.values()) == ["Ann", "Bob", "Ann"]
    texts = dict.fromkeys(starts, "")
    for event in events:
        if event["type"] == "TEXT_MESSAGE_CONTENT":
            texts[event["messageId"]] += event["delta"]
    assert list(texts.values()) == ["Once more.", "No.", "End."], "the answer is not said twice"
    assert sorted(event["messageId"] for event in events if event["type"] == "TEXT_MESSAGE_END") == sorted(starts)
    assert {event["subagentRunId"] for event in events} == {"crew"}


def test_an_answer_that_no_agent_said_is_a_message_of_the_crew() -> None:
    events = translated(translator("crewai_executor"), words("Ann", "1", "Thought."), done({"result": "Answer."}))
    assert [event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"] == ["Thought.", "Answer."]


def test_thoughts_that_come_with_the_answer_follow_it() -> None:
    result = {"content": "Yes.", "reasoning": "It was asked."}
    events = translated(translator("llm_executor", target_id="crew"), words("llm", "1", "Yes."), done(result))
    assert [event["type"].removeprefix("TEXT_") for event in events] == [
        *("MESSAGE_START", "MESSAGE_CONTENT", "MESSAGE_END"),
        *("REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT"),
        *("REASONING_MESSAGE_END", "REASONING_END"),
    ]
    assert events[5]["delta"] == "It was asked."


def test_thoughts_are_streamed_as_they_arrive_and_not_said_again() -> None:
    result = {"content": "Yes.", "reasoning": "It was asked."}
    thoughts = [words("llm", "1", each, kind="reasoning") for each in ("It was ", "asked.")]
    events = translated(
        translator("llm_executor", target_id="crew"), *thoughts, words("llm", "1", "Yes."), done(result)
    )
    assert [event["type"].removeprefix("TEXT_") for event in events] == [
        *("REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT"),
        *("REASONING_MESSAGE_END", "REASONING_END", "MESSAGE_START", "MESSAGE_CONTENT", "MESSAGE_END"),
    ]
    assert [event["delta"] for event in events if "delta" in event] == ["It was ", "asked.", "Yes."]


def test_the_agents_of_a_crew_think_in_messages_of_their_own() -> None:
    said = [("Ann", "1", "Hm."), ("Bob", "2", "Oh."), ("Ann", "1", " Well."), ("Ann", "3", "Again.")]
    thoughts = [words(agent, call, text, kind="reasoning") for agent, call, text in said]
    events = translated(translator("crewai_executor"), *thoughts, words("Bob", "2", "No."), done({"result": "No."}))
    texts = dict[str, str]()
    for event in events:
        if event["type"] == "REASONING_MESSAGE_CONTENT":
            texts[event["messageId"]] = texts.get(event["messageId"], "") + event["delta"]
    assert list(texts.values()) == ["Hm. Well.", "Oh.", "Again."]
    ended = [event["messageId"] for event in events if event["type"] == "REASONING_END"]
    assert sorted(ended) == sorted(texts)
    assert {event["subagentRunId"] for event in events} == {"crew"}
