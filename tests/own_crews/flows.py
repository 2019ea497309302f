"""A flow of CrewAI's, which calls a model, and a crew within."""

from crewai import LLM, Agent, Crew, Task
from crewai.flow import Flow, listen, start
from crewai.flow.persistence import persist
from pydantic import BaseModel


class PoemState(BaseModel):
    topic: str = ""
    facts: str = ""
    poem: str = ""


class PoemFlow(Flow[PoemState]):
    @start()
    def look(self) -> str:
        self.state.facts = str(LLM(model="openai/gpt-4o-mini").call(f"Facts about {self.state.topic}"))
        return str(self.state.facts)

    @listen(look)
    async def write(self, facts: str) -> dict[str, object]:
        poet = Agent(role="Poet", goal="Write", backstory="You rhyme.")
        task = Task(name="poem", description=f"A poem of {facts}", expected_output="A poem", agent=poet)
        done = await Crew(agents=[poet], tasks=[task]).kickoff_async()
        self.state.poem = str(done)
        return {"poem": str(done), "lines": 1}


@persist()
class KeptFlow(Flow[PoemState]):
    @start()
    def look(self) -> str:
        return "x"


class KeptStepFlow(Flow[PoemState]):
    @start()
    @persist()
    def look(self) -> str:
        return "x"
