"""A workflow as code: plan, take notes, judge them, ask, wait for an event, and post. Run it with `aipartnerupflow dev`."""

from dataclasses import dataclass
from datetime import timedelta

from aipartnerupflow.workflows import agent, ask, event, gather, run, step, workflow

MODEL = "demo/demo"


@dataclass
class Plan:
    questions: list[str]


@dataclass
class Verdict:
    score: int
    missing: list[str]


@step(idempotent=True)
def report(topic: str, notes: list[str]) -> str:
    """Put the notes together."""
    return "\n\n".join([f"# {topic}", *notes])


@workflow
async def research(topic: str, rounds: int = 2, url: str = "https://httpbin.org/post") -> str:
    """Research a topic, and post the report once it is approved and ordered."""
    plan = await agent("plan", prompt=f"Questions about {topic}", returns=Plan, model=MODEL)
    questions, notes = plan.questions, list[str]()
    for _ in range(rounds):
        prompts = [f"Answer in a paragraph: {question}" for question in questions]
        notes += await gather(*(agent("note", prompt=prompt, model=MODEL) for prompt in prompts), at_most=5)
        verdict = await agent("judge", prompt=f"Is this complete? {notes}", returns=Verdict, model=MODEL)
        if verdict.score >= 3:
            break
        questions = verdict.missing
    text = await report(topic, notes)
    if await ask(f"Publish {len(notes)} notes on {topic}?", options=["yes", "no"]) == "no":
        return "not published"
    await event("order", match={"/topic": topic}, timeout=timedelta(days=3))
    await run("rest_executor", url=url, method="POST", json={"report": text})
    return text
