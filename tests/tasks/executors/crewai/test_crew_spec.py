"""What `params.works` may say, as a table: the guide's sample, what is filled in, and every refusal by name."""

from typing import Any

import pytest

from aipartnerupflow.executors import Executor, ExecutorError
from tasks.executors.crewai.crew_spec import CrewSpec, parse_works, works_and_inputs
from tasks.executors.crewai.executor import BatchCrewAi, CrewAi

Json = dict[str, Any]
GUIDE = {"agents": {"researcher": {"role": "Research Analyst", "llm": "openai/gpt-4"}}}
AGENTS: Json = {"r": {"role": "Reader"}, "w": {"role": "Writer"}}
NUMBER: Json = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
LATER: Json = {"description": "Write", "agent": "w"}
LOOK: Json = {"description": "Look up {topic}", "agent": "r"}


def parse(works: object, **inputs: Any) -> CrewSpec:
    return parse_works(works, name="CrewAI Task", inputs=inputs, tools={"search": "x.y"})


def test_the_sample_of_the_guide_gets_what_it_leaves_out() -> None:
    works = parse(GUIDE)
    [agent], [task] = works.agents, works.tasks
    assert (agent.role, agent.llm, agent.tools) == ("Research Analyst", "openai/gpt-4", ())
    assert "Research Analyst" in agent.goal and "Research Analyst" in agent.backstory
    assert (task.name, task.agent, task.description) == ("researcher", "researcher", "CrewAI Task")
    assert task.expected_output


def test_without_tasks_each_agent_does_what_name_and_inputs_say() -> None:
    works = parse({"agents": AGENTS}, topic="ri{v}ers")
    assert [task.agent for task in works.tasks] == ["r", "w"]
    assert works.tasks[0].description == 'CrewAI Task\n\nWhat there is to work with:\n{"topic":"ri{v}ers"}'


def test_inputs_fill_every_text() -> None:
    agent = {"role": "Reader of {topic}", "goal": "{{topic}}", "backstory": "{found.x}"}
    task = {"description": "{topic}", "expected_output": "On {topic}: {{found}}", "agent": "r"}
    works = parse({"agents": {"r": agent}, "tasks": {"t": task}}, topic="rivers", found={"x": "{topic}"})
    assert (works.agents[0].role, works.agents[0].goal) == ("Reader of rivers", "rivers")
    assert works.agents[0].backstory == "{topic}"
    assert works.tasks[0].expected_output == 'On rivers: {"x":"{topic}"}'


def test_tasks_keep_their_order_and_their_context() -> None:
    tasks = {
        "b": LOOK,
        "a": {**LOOK, "agent": "w", "context": ["b"], "tools": ["search"]},
        "c": {**LOOK, "context": []},
    }
    works = parse({"agents": AGENTS, "tasks": tasks}, topic="t")
    assert [(task.name, task.context) for task in works.tasks] == [("b", None), ("a", ("b",)), ("c", ())]
    assert works.tools == {"search"}


@pytest.mark.parametrize(
    ("works", "says"),
    [
        (None, "params.works must be an object"),
        ([], "params.works must be an object"),
        ({}, "params.works.agents needs at least one agent"),
        ({"agents": {}}, "params.works.agents needs at least one agent"),
        ({"agents": []}, "params.works.agents must be an object"),
        ({"agent": AGENTS}, "params.works.agent is not known. Did you mean 'agents'?"),
        ({"agents": {"r": {}}}, "params.works.agents.r.role must be a non-empty text"),
        ({"agents": {"r": {"role": " "}}}, "params.works.agents.r.role must be a non-empty text"),
        ({"agents": {"r": {"role": 1}}}, "params.works.agents.r.role must be a non-empty text"),
        ({"agents": {"r": "x"}}, "params.works.agents.r must be an object"),
        ({"agents": {"r": {"rol": "x"}}}, "params.works.agents.r.rol is not known. Did you mean 'role'?"),
        (
            {"agents": {"r": {"role": "x", "step_callback": "os.system"}}},
            "r.step_callback is refused: works are data, and run no code",
        ),
        (
            {"agents": {"r": {"role": "x", "knowledge_sources": []}}},
            "r.knowledge_sources is refused: it calls a model of embeddings",
        ),
        ({"agents": {"r": {"role": "x", "mcps": ["a"]}}}, "r.mcps is refused"),
        ({"agents": {"r": {"role": "x", "allow_code_execution": True}}}, "cannot run code"),
        ({"agents": {"r": {"role": "x", "allow_delegation": "yes"}}}, "r.allow_delegation must be true or false"),
        ({"agents": {"r": {"role": "x", "max_iter": 0}}}, "r.max_iter must be a whole number from 1 to 100"),
        ({"agents": {"r": {"role": "x", "max_iter": True}}}, "r.max_iter must be a whole number from 1 to 100"),
        ({"agents": {"r": {"role": "x", "llm": {"model": "y"}}}}, "r.llm must be a non-empty text"),
        ({"agents": {"r": {"role": "x", "tools": "search"}}}, "r.tools must be a list of names"),
        ({"agents": {"r": {"role": "x", "tools": ["serch"]}}}, "Did you mean 'search'?"),
        ({"agents": {"r": {"role": "x", "tools": ["os.system"]}}}, "names 'os.system', but there is no such tool"),
        ({"agents": {"r": {"role": "x {topic}"}}}, "r.role has a template that cannot be filled: no value for 'topic'"),
        ({"agents": AGENTS, "tasks": []}, "params.works.tasks must be an object"),
        ({"agents": AGENTS, "tasks": {"t": {"agent": "r"}}}, "t.description must be a non-empty text"),
        ({"agents": AGENTS, "tasks": {"t": {"description": "x"}}}, "t.agent must be a non-empty text"),
        (
            {"agents": AGENTS, "tasks": {"t": {"description": "x", "agent": "q"}}},
            "names 'q', but there is no such agent",
        ),
        (
            {"agents": AGENTS, "tasks": {"t": {**LOOK, "output_file": "/etc/passwd"}}},
            "t.output_file is refused: a crew has no files",
        ),
        ({"agents": AGENTS, "tasks": {"t": {**LOOK, "callback": "os.system"}}}, "t.callback is refused"),
        ({"agents": AGENTS, "memory": True}, "params.works.memory is refused: it calls a model of embeddings"),
        ({"agents": AGENTS, "process": "consensual"}, "process must be one of sequential, hierarchical"),
        ({"agents": AGENTS, "manager_agent": "r"}, "manager_agent is refused: use manager_llm"),
        ({"agents": AGENTS, "planning": 1}, "planning must be true or false"),
        ({"agents": AGENTS, "max_rpm": 0}, "params.works.max_rpm must be a whole number from 1 to 10000"),
        ({"agents": {"r": {"role": "x", "temperature": 7}}}, "r has a parameter of the model that does not fit"),
        ({"agents": {"r": {"role": "x", "reasoning": "yes"}}}, "r.reasoning must be true or false"),
        ({"agents": AGENTS, "tasks": {"t": {**LOOK, "human_input": True}}}, "t.human_input is refused: no person"),
        ({"agents": AGENTS, "tasks": {"t": {**LATER, "guardrail": 1}}}, "t.guardrail must be a non-empty text"),
        (
            {"agents": AGENTS, "tasks": {"t": {**LATER, "output_json": {"type": "array"}}}},
            "t.output_json must be the JSON Schema of an object",
        ),
        (
            {"agents": AGENTS, "tasks": {"t": {**LATER, "output_json": {"type": "object", "required": 7}}}},
            "t.output_json is no JSON Schema",
        ),
        (
            {"agents": AGENTS, "tasks": {"t": {**LATER, "output_json": NUMBER, "output_pydantic": NUMBER}}},
            "t.output_json and output_pydantic mean the same here",
        ),
        (
            {
                "agents": AGENTS,
                "tasks": {"t": {**LATER, "async_execution": True}, "u": {**LATER, "async_execution": True}},
            },
            "u.async_execution is refused, because 't' has it too",
        ),
        (
            {
                "agents": AGENTS,
                "tasks": {
                    "t": {**LATER, "async_execution": True},
                    "u": {**LATER, "async_execution": True, "context": ["t"]},
                    "v": LATER,
                },
            },
            "u.context names 't', which runs at the same time",
        ),
        ({"agents": AGENTS, "tasks": {"t": LOOK}}, "t.description has a template that cannot be filled"),
        (
            {"agents": AGENTS, "tasks": {"t": {"description": "x", "agent": "r", "context": ["u"]}, "u": LOOK}},
            "t.context names 'u', but there is no such task before this one",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name(works: object, says: str) -> None:
    with pytest.raises(ExecutorError) as caught:
        parse(works)
    assert says in str(caught.value)
    assert caught.value.permanent


def test_a_hierarchical_crew_has_a_manager_and_tasks_without_agents() -> None:
    works = parse({"agents": AGENTS, "process": "hierarchical", "tasks": {"t": {"description": "Look"}}})
    assert (works.is_hierarchical, works.manager_llm, works.tasks[0].agent) == (True, None, None)
    assert works.models == [None, None, None]


def test_without_inputs_templates_are_left_for_the_run() -> None:
    works = parse_works({"agents": {"r": {"role": "On {topic}"}}}, name="x", inputs=None, tools={})
    assert works.agents[0].role == "On {topic}"


@pytest.mark.parametrize("executor", [CrewAi(), BatchCrewAi()])
def test_works_may_be_inputs_too(executor: Executor) -> None:
    executor.check_with_inputs({}, dict(executor.example))
    executor.check_with_inputs({"works": executor.example["works"]}, {"works": "of art, a mere text"})
    with pytest.raises(ExecutorError, match=r"^params\.works must be an object"):
        executor.check_with_inputs({}, {"topic": "rivers"})
    with pytest.raises(ExecutorError, match=r"^inputs\.works must be an object"):
        executor.check_with_inputs({}, {"works": 7})


def test_works_in_the_inputs_are_no_value_for_templates() -> None:
    assert works_and_inputs({}, {"works": GUIDE, "a": 1}) == (GUIDE, "inputs.works", {"a": 1})
    assert works_and_inputs({"works": GUIDE}, {"works": 7}) == (GUIDE, "params.works", {"works": 7})
