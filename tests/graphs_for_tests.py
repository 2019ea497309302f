"""Graphs as users write them. Which nodes ran is in a file that the environment names."""

import asyncio
import operator
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

NODES = "GRAPH_NODES"
GATE = "GRAPH_GATE"


def note(name: str) -> None:
    """One line, in one write."""
    file = os.open(os.environ[NODES], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{name}\n".encode())
    finally:
        os.close(file)


class State(TypedDict, total=False):
    topic: str
    lines: Annotated[list[str], operator.add]


def plain(name: str) -> Any:
    def node(state: State) -> State:
        note(name)
        return {"lines": [f"{name}: {state.get('topic')}"]}

    return node


def gate(state: State) -> State:
    """Block until there is a file, as code that blocks does."""
    note("gate")
    while not Path(os.environ[GATE]).exists():
        time.sleep(0.01)
    return {"lines": ["gate"]}


async def patient_gate(state: State) -> State:
    note("patient_gate")
    while not Path(os.environ[GATE]).exists():  # noqa: ASYNC110, ASYNC240  (no event reports a file)
        await asyncio.sleep(0.01)
    return {"lines": ["gate"]}


def chain(*nodes: tuple[str, Any]) -> StateGraph[State]:
    """The nodes in a row."""
    builder = StateGraph(State)
    before = START
    for name, node in nodes:
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    builder.add_edge(before, END)
    return builder


builder = chain(("first", plain("first")), ("second", plain("second")))
compiled = builder.compile(checkpointer=InMemorySaver())
waits = chain(("first", plain("first")), ("gate", gate), ("last", plain("last"))).compile()
waits_patiently = chain(("first", plain("first")), ("gate", patient_gate), ("last", plain("last"))).compile()


def factory() -> StateGraph[State]:
    return chain(("made", plain("made")))


async def async_factory() -> StateGraph[State]:
    return chain(("made", plain("made")))


def asks_twice(state: State) -> State:
    note("asks")
    color = interrupt({"question": "Which color?", "options": ["red", "blue"]})
    size = interrupt("Which size?")
    return {"lines": [f"{color} {size}"]}


asking = chain(("first", plain("first")), ("asks", asks_twice), ("last", plain("last"))).compile()


def asks_about(what: str) -> Any:
    def node(state: State) -> State:
        note(what)
        return {"lines": [f"{what}={interrupt(f'{what}?')}"]}

    return node


def _parallel() -> StateGraph[State]:
    builder = StateGraph(State)
    for name in ("left", "right"):
        builder.add_node(name, asks_about(name))
        builder.add_edge(START, name)
        builder.add_edge(name, END)
    return builder


parallel = _parallel()
inner = chain(("inside", plain("inside")), ("asks", asks_twice)).compile()
outer = chain(("first", plain("first")), ("inner", inner), ("last", plain("last"))).compile()
stops = chain(("first", plain("first")), ("publish", plain("publish"))).compile(interrupt_before=["publish"])


class Form(TypedDict):
    name: str
    age: int


def asks_form(state: State) -> State:
    return {"lines": [str(interrupt("Who?", response_schema=Form))]}


form = chain(("asks", asks_form))


class Team(BaseModel):
    names: list[str]


def asks_team(state: State) -> State:
    team = interrupt({"question": "Who is in?"}, response_schema=Team)
    return {"lines": team.names}


team = chain(("asks", asks_team))


def fails_once(state: State) -> State:
    note("fails_once")
    if Path(os.environ[NODES]).read_text().count("fails_once") < 2:
        raise ValueError("not yet")
    return {"lines": ["at last"]}


failing = chain(("first", plain("first")), ("fails_once", fails_once))


def again(state: State) -> Command[Any]:
    return Command(goto="again", update={"lines": ["x"]})


endless = StateGraph(State).add_node("again", again).add_edge(START, "again")


def fan_out(state: State) -> list[Send]:
    return [Send("work", {"topic": topic}) for topic in (state.get("topic") or "").split()]


fan = StateGraph(State).add_node("work", plain("work")).add_conditional_edges(START, fan_out, ["work"])


class Large(TypedDict, total=False):
    size: int
    text: str


def large(state: Large) -> Large:
    return {"text": "x" * state["size"]}


class Thing:
    pass


def odd(state: State) -> Any:
    return {"topic": Thing()}


too_large = StateGraph(Large).add_node("large", large).add_edge(START, "large")
no_json = chain(("odd", odd))


@dataclass
class About:
    language: str


def greet(state: State, runtime: Runtime[About]) -> State:
    return {"lines": [{"en": "Hello", "de": "Hallo"}[runtime.context.language]]}


greeting = StateGraph(State, context_schema=About).add_node("greet", greet).add_edge(START, "greet")


@task
def double(number: int) -> int:
    note(f"double {number}")
    return 2 * number


@entrypoint()
def functional(numbers: list[int]) -> int:
    return sum(future.result() for future in [double(number) for number in numbers])


no_graph: Any = {"nodes": []}
