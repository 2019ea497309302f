"""The crew."""

from typing import Any

from crewai import LLM, Agent, Crew, Process, Task
from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.project import CrewBase, agent, before_kickoff, crew, task
from crewai.tools import tool


@tool("letters")
def letters(text: str) -> str:
    """Counts the letters of a text."""
    return str(len(text))


@CrewBase
class ReportCrew:
    """Report crew"""

    agents: list[BaseAgent]
    tasks: list[Task]

    @before_kickoff
    def in_capitals(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs | {"topic": inputs["topic"].upper()}

    @agent
    def researcher(self) -> Agent:
        return Agent(config=self.agents_config["researcher"], tools=[letters], verbose=True)  # type: ignore[attr-defined]

    @agent
    def reporter(self) -> Agent:
        return Agent(config=self.agents_config["reporter"], llm=LLM(model="openai/gpt-4", temperature=0.25))  # type: ignore[attr-defined]

    @task
    def research_task(self) -> Task:
        return Task(config=self.tasks_config["research_task"])  # type: ignore[attr-defined, call-arg]

    @task
    def reporting_task(self) -> Task:
        return Task(config=self.tasks_config["reporting_task"])  # type: ignore[attr-defined, call-arg]

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks, process=Process.sequential, verbose=True)
