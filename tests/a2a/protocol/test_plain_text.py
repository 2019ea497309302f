"""Text messages: which skill they run with which inputs, and the answers to those that run none."""

from typing import Any

import pytest
from django.conf import LazySettings

from a2a.protocol.message_handler import decide
from a2a.protocol.skills import skills
from aipartnerupflow.a2a import Ask, Incoming, RunStored, RunTree
from tasks.rules.exceptions import InvalidParams
from tests.a2a.a2a_client import Json
from tests.a2a.protocol.test_agent_card import configure

SAID: Json = {"role": "ROLE_USER", "parts": [{"text": "Hello"}]}
ANSWERED: Json = {"role": "ROLE_AGENT", "parts": [{"text": "Hello to you"}]}


def meaning_of(text: str, metadata: Json | None = None, history: Any = ()) -> object:
    message = {"parts": [{"text": text}], "metadata": metadata or {}}
    return decide(Incoming(message=message, history=history))


def run_of(text: str, metadata: Json | None = None, history: Any = ()) -> tuple[str, Json]:
    """The executor and the inputs of the only task."""
    meaning = meaning_of(text, metadata, history)
    assert isinstance(meaning, RunTree), meaning
    assert isinstance(meaning.tasks, list)
    (task,) = meaning.tasks
    return task["schemas"]["method"], task["inputs"]


def asked(text: str) -> str:
    meaning = meaning_of(text)
    assert isinstance(meaning, Ask), meaning
    return meaning.text


@pytest.mark.parametrize(
    ("text", "executor", "inputs"),
    [
        ("Echo: hi there", "echo_executor", {"text": "hi there"}),
        ("echo hi there", "echo_executor", {"text": "hi there"}),
        ("echo_executor hi", "echo_executor", {"text": "hi"}),
        ("ECHO", "echo_executor", {}),
        ('echo {"a": 1}', "echo_executor", {"a": 1}),
        ("Sleep: 3", "sleep_executor", {"seconds": 3}),
        ('sleep_executor: {"seconds": 3, "steps": 2}', "sleep_executor", {"seconds": 3, "steps": 2}),
        ("System information cpu", "system_info_executor", {"resource": "cpu"}),
        ("REST request: https://example.com/", "rest_executor", {"url": "https://example.com/"}),
        ("Approval: Publish it?", "approval_executor", {"question": "Publish it?"}),
        ("Language model: Name three rivers.", "llm_executor", {"prompt": "Name three rivers."}),
        ('Language model: {"a": 1}', "llm_executor", {"prompt": '{"a": 1}'}),
        ('Language model: {"a"', "llm_executor", {"prompt": '{"a"'}),
        ("Tree writer: a report", "generate_executor", {"requirement": "a report"}),
        ('{"skill": "echo_executor", "inputs": {"a": 1}}', "echo_executor", {"a": 1}),
        ('  {"skill": "echo_executor", "a": 1}\n', "echo_executor", {"a": 1}),
    ],
)
def test_a_text_names_a_skill_and_has_its_input(text: str, executor: str, inputs: Json) -> None:
    assert run_of(text) == (executor, inputs)


@pytest.mark.parametrize(
    ("skill", "text", "inputs"),
    [
        ("echo_executor", "hi", {"text": "hi"}),
        ("echo_executor", '{"a": 1}', {"a": 1}),
        ("sleep_executor", "3", {"seconds": 3}),
        ("sleep_executor", "Have a rest.", {"text": "Have a rest."}),
        ("llm_executor", '{"prompt": "Hi", "seed": 1}', {"prompt": "Hi", "seed": 1}),
    ],
)
def test_a_skill_may_be_named_beside_the_text(skill: str, text: str, inputs: Json) -> None:
    assert run_of(text, {"skillId": skill}) == (skill, inputs)


def test_a_text_may_be_a_tree_or_name_a_stored_one() -> None:
    tasks = [{"name": "a"}]
    assert meaning_of('{"tasks": [{"name": "a"}]}') == RunTree(tasks=tasks)
    assert meaning_of('Execute a task tree: {"tasks": [{"name": "a"}]}') == RunTree(tasks=tasks)
    assert meaning_of('{"task_id": "t"}') == RunStored(task_id="t")
    assert meaning_of("tree:t") == RunStored(task_id="t", copy_execution=True, copy_children=True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sleep well", 'seconds: the value is not of type "number"'),
        ("sleep_executor {", "seconds"),
        ("Execute a task tree", '"tasks" is a required property'),
        ("A2A agent: hello", '"agent_url" is a required property'),
        ('{"tasks": [', "is no valid JSON"),
        ('{"unknown": 1}', "names nothing to run"),
    ],
)
def test_an_input_that_does_not_fit_is_asked_for_again(text: str, why: str) -> None:
    assert why in asked(text)


def test_hello_is_answered_with_the_skills_and_an_example_of_each() -> None:
    answer = asked("hello")
    assert not answer.startswith("{")
    for skill in skills():
        assert f"- {skill.name}: " in answer
        assert skill.example is None or f"Example: {skill.example}\n" in answer


@pytest.mark.parametrize("text", ["echoes of the past", "sleeper", "unknown skill", ""])
def test_a_text_without_a_skill_at_its_beginning_runs_none(text: str) -> None:
    assert asked(text) == asked("hello")


@pytest.mark.crews
def test_each_example_is_a_text_that_runs_its_skill() -> None:
    found = {skill.id: skill.example for skill in skills() if skill.example is not None}
    assert {"echo_executor", "crewai_executor", "generate_executor", "llm_executor"} <= found.keys()
    assert not {"a2a_executor", "python_executor", "command_executor"} & found.keys()
    runs = {skill_id: meaning_of(example) for skill_id, example in found.items()}
    assert [skill_id for skill_id, meaning in runs.items() if not isinstance(meaning, RunTree)] == []
    del found["execute-task-tree"]
    assert {skill_id: run_of(example)[0] for skill_id, example in found.items()} == {name: name for name in found}


@pytest.mark.crews
def test_examples_name_no_model_if_the_server_has_one(settings: LazySettings) -> None:
    settings.APFLOW_LLM = settings.APFLOW_LLM.model_copy(update={"default_model": "openai/gpt-4o-mini"})
    assert "Language model: Name three rivers." in [skill.example for skill in skills()]
    settings.APFLOW_LLM = settings.APFLOW_LLM.model_copy(update={"default_model": None, "demo": False})
    without = {skill.id for skill in skills() if skill.example is None}
    assert {"llm_executor", "generate_executor", "crewai_executor", "batch_crewai_executor"} <= without


# --- with a2a.text_executor ---


@pytest.fixture
def chatting(settings: LazySettings) -> None:
    configure(settings, a2a={"text_executor": "llm_executor"})


@pytest.mark.usefixtures("chatting")
@pytest.mark.parametrize("text", ["hello", "Sleep is important.", "echo", '{"a": 1}', '{"tasks": [', "{x}"])
def test_a_text_is_for_the_configured_executor(text: str) -> None:
    assert run_of(text) == ("llm_executor", {"prompt": text})


@pytest.mark.usefixtures("chatting")
def test_braces_in_a_text_are_no_placeholders_unless_there_is_something_to_fill_in() -> None:
    text = "What does {{ name }} mean in Jinja?"
    assert run_of(text) == ("llm_executor", {"prompt": "{{text}}", "text": text})
    meaning = decide(Incoming(message={"parts": [{"text": "Sum up {{r}}"}]}, references={"r": "a page"}))
    assert isinstance(meaning, RunTree) and isinstance(meaning.tasks, list)
    assert meaning.tasks[0]["inputs"] == {"prompt": "Sum up {{r}}", "r": "a page"}


@pytest.mark.usefixtures("chatting")
def test_skills_can_still_be_named_clearly() -> None:
    assert run_of("Echo: hello") == ("echo_executor", {"text": "hello"})
    assert run_of("echo_executor hello") == ("echo_executor", {"text": "hello"})
    assert run_of('{"skill": "echo_executor", "inputs": {}}') == ("echo_executor", {})


@pytest.mark.usefixtures("chatting")
def test_a_text_for_the_model_brings_the_conversation_with_it() -> None:
    history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello to you"}]
    inputs = {"prompt": "What did I say?", "history": history}
    assert run_of("What did I say?", history=[SAID, ANSWERED]) == ("llm_executor", inputs)
    named = run_of("Language model: What did I say?", history=[SAID, ANSWERED])
    assert named == ("llm_executor", inputs)
    assert run_of("Echo: hello", history=[SAID]) == ("echo_executor", {"text": "hello"})


def test_a_skill_must_be_a_text() -> None:
    with pytest.raises(InvalidParams):
        meaning_of('{"skill": 7}')
