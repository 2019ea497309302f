"""A crew as an object, one as a function, and crews that cannot run here."""

from crewai import LLM, Agent, Crew, Task
from pydantic import BaseModel

number = 1


class Answer(BaseModel):
    answer: int


def _crew(agent: Agent, **fields: object) -> Crew:
    task = Task(
        name="count", description="Count {what}.", expected_output="A number", agent=agent, output_pydantic=Answer
    )
    return Crew(agents=[agent], tasks=[task], **fields)


def counter() -> Agent:
    return Agent(role="Counter of {what}", goal="Count", backstory="You count.", llm="openai/gpt-4o-mini")


counting = _crew(Agent(role="Counter of {what}", goal="Count", backstory="You count.", llm="openai/gpt-4o-mini"))


def made() -> Crew:
    return _crew(counter())


def as_json() -> Crew:
    task = Task(description="Count {what}.", expected_output="A number", agent=counter(), output_json=Answer)
    return Crew(agents=[counter()], tasks=[task])


def with_memory() -> Crew:
    return _crew(counter(), memory=True)


def with_address() -> Crew:
    model = LLM(model="openai/gpt-4o-mini", base_url="http://127.0.0.1:9/v1")
    return _crew(Agent(role="x", goal="y", backstory="z", llm=model))


def failing() -> Crew:
    raise RuntimeError("no crew today")
