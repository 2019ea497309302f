"""Workflows as a team writes them, for tests of the interfaces that start one."""

from dataclasses import dataclass
from datetime import date

from pydantic import BaseModel

from aipartnerupflow.workflows import ask, gather, step, workflow


class Page(BaseModel):
    title: str
    words: int


@dataclass
class Report:
    topic: str
    pages: list[Page]
    since: date | None = None


@step
def fetch(topic: str, number: int) -> Page:
    """Fetch a page."""
    return Page(title=f"{topic} {number}", words=100 * number)


@workflow
async def research(topic: str, depth: int = 2, since: date | None = None) -> Report:
    """Research a topic."""
    pages = await gather(*(fetch(topic, number) for number in range(1, depth + 1)), at_most=5)
    if depth > 5 and await ask("So many?", options=["yes", "no"]) == "no":
        raise ValueError("too deep")
    return Report(topic=topic, pages=pages, since=since)
