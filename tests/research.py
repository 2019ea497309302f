"""The workflow of a tutorial: it plans, lets agents answer, has the notes judged, asks a person, waits for a payment, and publishes."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from aipartnerupflow.workflows import agent, ask, event, gather, run, secret, workflow


@dataclass
class Plan:
    questions: list[str]


@dataclass
class Verdict:
    score: int
    missing: list[str]


class Declined(Exception):
    """A person has declined the report."""


async def note(question: str) -> str:
    return await agent("researcher", system="Answer in one paragraph.", prompt=question)


@workflow
async def research(topic: str, publish_to: str, rounds: int = 3) -> dict[str, Any]:
    """Research a topic, and publish a report that a person has approved and a customer has paid."""
    plan = await agent("planner", prompt=f"Which questions must a report on {topic} answer?", returns=Plan)
    notes = await gather(*(note(question) for question in plan.questions), at_most=5)
    for _ in range(rounds):
        verdict = await agent("judge", prompt="\n\n".join(["Rate the notes from 1 to 5.", *notes]), returns=Verdict)
        if verdict.score >= 3:
            break
        notes += await gather(*(note(question) for question in verdict.missing), at_most=5)
    report = await agent("writer", prompt="\n\n".join([f"Write a report on {topic}.", *notes]), temperature=0)
    if await ask(f"Publish the report on {topic}?", options=["yes", "no"]) == "no":
        raise Declined(topic)
    paid = await event("payment", match={"/order": topic}, timeout=timedelta(days=3))
    body = {"topic": topic, "report": report, "payment": paid.id}
    posted = await run("rest_executor", url=publish_to, method="POST", json=body, auth={"bearer": secret("publisher")})
    return {"status": posted["status_code"], "notes": len(notes)}
