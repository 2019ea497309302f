"""Interrupts of a graph as questions of its task, and their answers as what the graph continues with."""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from langgraph.types import Command, Interrupt, StateSnapshot

from aipartnerupflow.executors import Json, Parked, Reply
from tasks.executors.langgraph.graphs import Graph
from tasks.executors.langgraph.results import as_json
from tasks.rules.forms import fault_of_form

QUESTION_CHARACTERS: Final = 10_000
CONTINUE: Final = "continue"


def question_in(state: StateSnapshot, reply: Reply | None, *, is_stopped: bool) -> Parked | None:
    """Return the next question of the interrupted graph; None if all are answered, or if it is not interrupted.

    `is_stopped`: whether it is at a breakpoint, if it has neither ended nor an interrupt.

    The memo of a question has the answers so far, by the ids of the interrupts.
    """
    answers = _answers(reply)
    for interrupt in state.interrupts:
        if interrupt.id not in answers:
            return _question(interrupt, answers)
    if is_stopped and state.next and not state.interrupts and _breakpoint(state) not in answers:
        text = f"The graph stops at a breakpoint before {', '.join(map(repr, state.next))}. Continue?"
        return Parked(text, options=[CONTINUE], memo={"answers": answers, "interrupt": _breakpoint(state)})
    return None


def continuation(state: StateSnapshot, reply: Reply | None) -> Command[Any] | None:
    """Return what the graph continues with: the answers to its interrupts, or None where it was at work."""
    answers = _answers(reply)
    pending = {each.id: answers[each.id] for each in state.interrupts if each.id in answers}
    return Command(resume=pending) if pending else None


def may_be_stopped(graph: Graph, state: StateSnapshot) -> bool:
    """Return whether the graph may be at a breakpoint. After a crash, nothing else says it."""
    before = graph.interrupt_before_nodes
    return bool(graph.interrupt_after_nodes) or before == "*" or any(node in before for node in state.next)


def _answers(reply: Reply | None) -> Json:
    if reply is None:
        return {}
    answers: Json = reply.memo["answers"] | {reply.memo["interrupt"]: reply.answer}
    return answers


def _breakpoint(state: StateSnapshot) -> str:
    """Return the checkpoint at which the graph stops: the same breakpoint later is another question."""
    return str(state.config["configurable"]["checkpoint_id"])


def _question(interrupt: Interrupt, answers: Json) -> Parked:
    value = as_json(interrupt.value)
    memo = {"answers": answers, "interrupt": interrupt.id}
    asked: Json = value if isinstance(value, dict) else {}
    text = asked.get("question", value)
    options, schema = asked.get("options"), interrupt.response_schema
    if not isinstance(text, str):
        text = orjson.dumps(text, option=orjson.OPT_INDENT_2).decode()
    if isinstance(schema, dict) and fault_of_form(schema) is None:
        return Parked(text[:QUESTION_CHARACTERS], schema=schema, memo=memo)
    return Parked(text[:QUESTION_CHARACTERS], options=options if _is_choice(options) else None, memo=memo)


def _is_choice(options: Any) -> bool:
    is_list = isinstance(options, Sequence) and not isinstance(options, str)
    return is_list and bool(options) and all(isinstance(option, str) and option for option in options)
