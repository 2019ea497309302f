"""Starts what a request of OpenAI's wires asks for, or answers the question of a run, in one transaction."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import transaction

from a2a.agui.params import (
    AssistantMessage,
    DeveloperMessage,
    FunctionCall,
    Message,
    RunAgentInput,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    text_of,
)
from a2a.agui.starting import earlier_texts, has_files, run_message
from a2a.core.exceptions import ModelNotFound
from a2a.core.mapping import ANSWER, read_answer
from a2a.openai.params import Wanted
from a2a.openai.parts import CALL, Facts, Part, find, newest_facts, record
from a2a.protocol.conversation import as_prompt, earlier_messages
from a2a.protocol.params import RequestContext
from a2a.protocol.skills import TEXT_INPUTS, object_in
from tasks.executors import describe, executor_ids
from tasks.ids import new_id
from tasks.models import Question, Run, TaskEvent
from tasks.rules.exceptions import InvalidParams, StatusConflict
from tasks.rules.places import escaped
from tasks.rules.strict_json import Json, MalformedJson
from tasks.rules.tree import WORKFLOW
from tasks.services import flows, trees
from tasks.services.flows import get_version, names_taken
from tasks.services.trees import Execution
from tasks.services.waits.questions import check_may_answer, record_answer

AGENT: Final = "agent"
"""The model that is the agent of this server: it runs what a message in A2A runs."""
FLOW: Final = "flow:"
HISTORY: Final = "history"
OFFERED: Final = frozenset({HISTORY, "context_id"})
"""The inputs that a flow with these names gets from the conversation."""
NO_QUESTION: Final = "names no open question of a run of yours"
NO_MODEL: Final = "not allowed with this model: only a language model that answers messages could use it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs that a flow or workflow takes: their names (None: any), their schemas, and those that it cannot do without."""

    subject: str
    names: Collection[str] | None
    schemas: Json
    required: Collection[str]


@transaction.atomic
def start(asked: RequestContext, wanted: Wanted) -> str:
    """Start or continue a run, and return the id of the response.

    Raises InvalidParams, ResponseNotFound, FlowNotFound, StatusConflict, RoleTooLow, LimitReached, or the errors of invalid trees.
    """
    previous = None if wanted.previous is None else find(asked.caller, wanted.previous)
    last = wanted.messages[-1] if wanted.messages else None
    if isinstance(last, ToolMessage) and (named := CALL.fullmatch(last.tool_call_id)):
        return _answer(asked, wanted, last, seq=int(named[1]), question_id=named[2], previous=previous)
    if previous is not None and previous.run.finished_at is None:
        raise StatusConflict(
            f"Response '{previous.id}' has not ended: its run is {previous.run.status}. Wait for it, answer its question, or cancel it."
        )
    if wanted.model == AGENT:
        return _start_agent(asked, wanted, previous)
    if wanted.model.startswith(FLOW):
        return _start_flow(asked, wanted, previous, name=wanted.model.removeprefix(FLOW))
    if wanted.model.startswith(WORKFLOW) and wanted.model in executor_ids():
        return _start_workflow(asked, wanted, previous)
    raise ModelNotFound(wanted.model)


# --- flows and workflows ---


def _start_flow(asked: RequestContext, wanted: Wanted, previous: Part | None, *, name: str) -> str:
    context_id = previous.run.context_id if previous else new_id()
    _, version = get_version(caller=asked.caller, name=name, key=context_id)
    names, schema = names_taken(version), version.inputs_schema or {}
    takes = Inputs(
        subject=wanted.model, names=names, schemas=schema.get("properties", {}), required=schema.get("required", ())
    )
    reads_history = names is not None and HISTORY in names
    offered: Json = {}
    if reads_history:
        past = earlier_messages(asked.caller, context_id=context_id, until=None) if previous else []
        history = [*past, *earlier_texts(wanted.messages, until=_question(wanted))]
        offered = {HISTORY: as_prompt(history), "context_id": context_id}
    text = _single_text(wanted, previous, reads_history=reads_history)
    return _run(
        asked,
        wanted,
        partial(flows.run_flow, name=name, inputs=_inputs(wanted, text, takes), offered=offered),
        context_id=context_id,
    )


def _start_workflow(asked: RequestContext, wanted: Wanted, previous: Part | None) -> str:
    schema = describe(wanted.model)["input_schema"]
    schemas = schema.get("properties", {})
    names = None if schema.get("additionalProperties") else schemas
    takes = Inputs(subject=wanted.model, names=names, schemas=schemas, required=schema.get("required", ()))
    given = _inputs(wanted, _single_text(wanted, previous, reads_history=False), takes)
    name = wanted.model.removeprefix(WORKFLOW)
    task = {"name": name, "schemas": {"method": wanted.model}, "inputs": escaped(given)}
    return _run(asked, wanted, partial(trees.execute_tree, tasks=[task]), context_id=new_id())


def _run(asked: RequestContext, wanted: Wanted, verb: Callable[..., Execution], *, context_id: str) -> str:
    run = verb(caller=asked.caller, context_id=context_id, llm_key=asked.llm_key).run
    # Not the inputs: they may have secrets.
    text = wanted.model if wanted.inputs is not None else _said(wanted)
    return record(run, after=0, text=text or wanted.model, facts=facts_of(wanted))


def _said(wanted: Wanted) -> str:
    """Return the text that the run was asked; empty for a JSON object, which is inputs."""
    question = _question(wanted)
    text = text_of(question.content).strip() if question else ""
    return "" if _object_in(text) is not None else text


def _single_text(wanted: Wanted, previous: Part | None, *, reads_history: bool) -> str | None:
    """Return the newest text of the user. Raises InvalidParams for what a flow or workflow cannot be given."""
    problems: list[tuple[str, str]] = []
    question = _question(wanted)
    if wanted.tools:
        problems.append(("tools", NO_MODEL))
    if wanted.instructions is not None:
        problems.append(("instructions", NO_MODEL))
    if previous is not None and not reads_history:
        problems.append(
            ("previous_response_id", f"{wanted.model} has no input '{HISTORY}', so it reads no conversation")
        )
    for index, message in enumerate(wanted.messages):
        place = f"{wanted.place}[{index}]"
        is_text = isinstance(message, UserMessage) and not has_files(message)
        if message is question and not is_text:
            problems.append((place, "has more than text, and only a language model that answers messages could use it"))
        elif isinstance(message, SystemMessage | DeveloperMessage | ToolMessage):
            problems.append((place, NO_MODEL))
        elif message is not question and not reads_history:
            problems.append(
                (place, f"{wanted.model} reads one message of the user: it has no input '{HISTORY}' for others")
            )
    if problems:
        raise InvalidParams(problems)
    return None if question is None else text_of(question.content)


def _inputs(wanted: Wanted, text: str | None, takes: Inputs) -> Json:
    """Return the inputs that a request gives: `inputs`, and the text as the inputs that it has as a JSON object, or as the text input.

    An object counts as inputs if one of its names is that of an input: a misspelt one beside it is then refused by its name.
    """
    given = wanted.inputs or {}
    if text is None or (wanted.inputs is not None and not text):
        return given
    found = _object_in(text.strip())
    if found is not None and (takes.names is None or not found.keys().isdisjoint(takes.names)):
        return found | given
    return {_text_input(takes, wanted.place, given): text} | given


def _object_in(text: str) -> Json | None:
    with suppress(MalformedJson):
        return object_in(text, nesting=settings.APFLOW.limits.nesting)
    return None


def _text_input(takes: Inputs, place: str, given: Json) -> str:
    """Return the name of the input that receives a text. Raises InvalidParams if that is not clear."""
    left = [name for name in takes.names or () if name not in given and name not in OFFERED]
    texts = [name for name in left if _takes_text(takes.schemas.get(name, {}))]
    named = [name for name in TEXT_INPUTS if name in texts]
    needed = [name for name in texts if name in takes.required]
    for choice in (named[:1], needed, texts):
        if len(choice) == 1:
            return choice[0]
    has = f"several inputs for a text ({', '.join(texts[:10])})" if texts else "no input for a text"
    raise InvalidParams([(place, f"is a text, and {takes.subject} has {has}: send a JSON object of its inputs")])


def _takes_text(schema: Any) -> bool:
    """Return whether an input with this schema may be any text that may be shown."""
    if not isinstance(schema, dict):
        return schema is True
    kinds = schema.get("type", "string")
    return not schema.get("writeOnly") and (kinds == "string" or (isinstance(kinds, list) and "string" in kinds))


def _question(wanted: Wanted) -> UserMessage | None:
    return next((each for each in reversed(wanted.messages) if isinstance(each, UserMessage)), None)


# --- the agent ---


def _start_agent(asked: RequestContext, wanted: Wanted, previous: Part | None) -> str:
    """Run what a message in A2A runs; a language model reads the whole conversation."""
    if wanted.inputs is not None:
        raise InvalidParams([("inputs", "allowed with flow:NAME and workflow:NAME only")])
    messages: list[Message] = [*_past(asked, previous), *wanted.messages]
    if wanted.instructions is not None:
        messages.insert(0, SystemMessage(id=new_id(), content=wanted.instructions))
    given = RunAgentInput(
        thread_id=previous.run.context_id if previous else new_id(),
        run_id=new_id(),
        messages=messages,
        tools=wanted.tools or None,
    )
    begun: list[str] = []
    new = wanted.messages[-1] if wanted.messages else None

    def store(run: Run, _: Json) -> None:
        text = text_of(getattr(new, "content", None)) or AGENT
        begun.append(record(run, after=0, text=text, facts=facts_of(wanted)))

    try:
        started = run_message(asked, given, store=store, is_strict=True)
    except InvalidParams as error:  # the places in it count the past, too
        place = wanted.place if wanted.place != "messages" else "messages"
        named = [(place if field.startswith("messages") else field, reason) for field, reason in error.problems]
        raise InvalidParams(named) from None
    if not begun:
        raise InvalidParams([("model", started.error or f"the agent runs nothing for this message: {started.text}")])
    return begun[0]


def _past(asked: RequestContext, previous: Part | None) -> list[Message]:
    """Return the conversation up to a response. If it ended with calls of the client's functions, these are its last message."""
    if previous is None:
        return []
    past: list[Message] = []
    found = earlier_messages(asked.caller, context_id=previous.run.context_id, until=None)
    final = TaskEvent.objects.filter(run_id=previous.run.id, type="final").values_list("payload", flat=True).first()
    ended: Any = final["result"] if final else None
    result: Json = ended if isinstance(ended, dict) else {}
    calls = result.get("tool_calls")
    for each in as_prompt(found):
        kind = UserMessage if each["role"] == "user" else AssistantMessage
        past.append(kind(id=new_id(), content=each["content"]))
    if calls:
        if past and isinstance(past[-1], AssistantMessage):
            past.pop()  # the calls as text
        made = [
            ToolCall(id=call["id"], function=FunctionCall(**{n: call["function"][n] for n in ("name", "arguments")}))
            for call in calls
        ]
        past.append(AssistantMessage(id=new_id(), content=result.get("content") or None, tool_calls=made))
    return past


# --- answers ---


def _answer(
    asked: RequestContext, wanted: Wanted, output: ToolMessage, *, seq: int, question_id: str, previous: Part | None
) -> str:
    """Record the answer to a question of a run, which continues. The messages before it are not read: the run has them.

    Raises InvalidParams, RoleTooLow, or StatusConflict for a question that has been answered.
    """
    place = f"{wanted.place}[{len(wanted.messages) - 1}]"
    questions = Question.objects.for_caller(asked.caller).for_people().select_related("run")
    question = questions.filter(id=question_id).first()
    event = (
        question and TaskEvent.objects.filter(run_id=question.run_id, seq=seq).values_list("payload", flat=True).first()
    )
    is_asked = event and isinstance(event["result"], dict) and event["result"].get("question_id") == question_id
    facts = newest_facts(question.run) if question and is_asked else None
    if question is None or facts is None:
        raise InvalidParams([(f"{place}.call_id" if wanted.place == "input" else f"{place}.tool_call_id", NO_QUESTION)])
    if previous is not None and previous.run.id != question.run_id:
        raise InvalidParams([("previous_response_id", "is a response of another run than the one that asks")])
    others: Sequence[tuple[str, bool]] = [
        ("model", wanted.model != facts.model),
        ("inputs", wanted.inputs is not None),
        ("instructions", wanted.instructions not in (None, facts.instructions)),
        ("tools", bool(wanted.tools) and _shown(wanted) != facts.tools),
    ]
    if problems := [
        (name, "the run continues with what it began with: send that") for name, is_other in others if is_other
    ]:
        raise InvalidParams(problems)
    check_may_answer(asked.caller, question)
    text = text_of(output.content)
    found = _object_in(text.strip())
    is_form = found is not None and (question.schema is not None or ANSWER in found)
    answer, comment = read_answer(question, found or {}) if is_form else (text, None)
    try:
        record_answer(question, answer=answer, by=asked.caller.user_id, comment=comment)
    except InvalidParams as error:
        output_place = f"{place}.output" if wanted.place == "input" else f"{place}.content"
        raise InvalidParams([(output_place, f"{field} {reason}") for field, reason in error.problems]) from None
    return record(question.run, after=seq, text=text, facts=facts_of(wanted))


def facts_of(wanted: Wanted) -> Facts:
    return Facts(
        model=wanted.model,
        instructions=wanted.instructions,
        metadata=wanted.metadata,
        previous_response_id=wanted.previous,
        background=wanted.is_background,
        tools=_shown(wanted),
    )


def _shown(wanted: Wanted) -> list[Json]:
    return [{"type": "function", **msgspec.to_builtins(tool)} for tool in wanted.tools]
