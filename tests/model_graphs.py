"""Graphs that call models, as users write them. Not imported by tests: `create_react_agent` warns of its successor."""

import os
from typing import Any, TypedDict

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import create_react_agent
from pydantic import BaseModel

from aipartnerupflow.executors import current_context, wait_for
from aipartnerupflow.models import run_clients

model = ChatOpenAI(model="gpt-4o-mini", **run_clients())


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"It is warm in {city}."


agent = create_react_agent(model, [weather], prompt="Be brief.")


def plain(state: MessagesState) -> Any:
    return {"messages": [model.invoke(state["messages"])]}


async def awaits(state: MessagesState) -> Any:
    return {"messages": [await model.ainvoke(state["messages"])]}


async def streams(state: MessagesState) -> Any:
    whole: Any = None
    async for part in model.astream(state["messages"]):
        whole = part if whole is None else whole + part
    return {"messages": [whole]}


async def blocks(state: MessagesState) -> Any:
    return {"messages": [model.invoke(state["messages"])]}


def one(name: str, node: Any) -> StateGraph[Any]:
    return StateGraph(MessagesState).add_node(name, node).add_edge(START, name)


plain_node = one("plain", plain)
async_node = one("awaits", awaits)
streaming = one("streams", streams)
blocking = one("blocks", blocks)


class Answer(BaseModel):
    """The answer."""

    rivers: list[str]


class Wanted(TypedDict, total=False):
    answer: Answer


def structured(state: Wanted) -> Wanted:
    found: Any = model.with_structured_output(Answer).invoke([HumanMessage("Name rivers.")])
    return {"answer": found}


structured_output = StateGraph(Wanted).add_node("structured", structured).add_edge(START, "structured")
own_key = create_react_agent(
    ChatOpenAI(model="gpt-4o-mini", api_key="sk-of-the-operator", base_url=os.environ.get("OPENAI_BASE_URL")),
    [weather],
)


class Answers(TypedDict, total=False):
    user: str
    secret: str


def uses_context(state: Answers) -> Answers:
    context = current_context()
    context.log(f"for {context.user_id}")
    return {"user": context.user_id, "secret": wait_for(context.secret("crm_token"))}


def hides_secret(state: Answers) -> Answers:
    return {"user": str(len(wait_for(current_context().secret("crm_token"))))}


in_context = StateGraph(Answers).add_node("uses", uses_context).add_edge(START, "uses")
careful = StateGraph(Answers).add_node("hides", hides_secret).add_edge(START, "hides")
