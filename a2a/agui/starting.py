"""Starts what a request of AG-UI asks for, in one transaction, or continues a run whose questions it answers."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Final

import orjson

from a2a.agui.params import (
    ActivityMessage,
    AssistantMessage,
    ContextEntry,
    DeveloperMessage,
    DocumentPart,
    FileSource,
    ForwardedProps,
    ImagePart,
    Message,
    Part,
    ReasoningMessage,
    Resume,
    RunAgentInput,
    SystemMessage,
    TextPart,
    Tool,
    ToolMessage,
    UrlSource,
    UserMessage,
    VideoPart,
    text_of,
)
from a2a.core.mapping import ANSWER, read_answer
from a2a.protocol.credentials import with_key
from a2a.protocol.message_handler import CHAT_EXECUTOR, Meaning, is_prompt, meaning_of
from a2a.protocol.messages import run_meaning, store_message
from a2a.protocol.params import RequestContext
from a2a.protocol.parts import of_file
from aipartnerupflow.a2a import Ask, AskForKey, Incoming, Reject, Reply, RunFlow, RunStored, RunTree
from tasks.models import Question, Run
from tasks.rules.exceptions import InvalidParams, StatusConflict
from tasks.rules.strict_json import Json
from tasks.services import flows, trees
from tasks.services.runs import cancels
from tasks.services.runs.run_inputs import with_tags
from tasks.services.trees import Execution
from tasks.services.trees.idempotency import KeyReused, Token, remembered
from tasks.services.waits.questions import check_may_answer, record_answer

DISMISSED: Final = "Cancelled: the question was dismissed"
NO_MODEL: Final = "not allowed here: only a language model could use it, and what runs is none"
NOT_OPEN: Final = "names no open question of this thread"
NOTHING: Final = "needs a message of the user; or send forwardedProps with tasks or a flow"
REUSED: Final = "was used for another request in this thread within the last 24 hours: use a new one"
ACCEPTED: Final = "is no text, image, document, or sound in wav or mp3 with its data; a language model gets only these"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The result of a request: a run, whose events after number `after` follow, or without one a `text` or an `error`.

    `is_chat`: messages were what it ran. `dismissed` are questions that will get no answer.
    """

    run_id: str | None = None
    after: int = 0
    is_chat: bool = False
    dismissed: tuple[str, ...] = ()
    text: str = ""
    error: str | None = None
    error_code: str = ""


def start(asked: RequestContext, given: RunAgentInput) -> Started:
    """Start it, or return the outcome of the first request with this runId in the thread.

    Raises InvalidParams, the errors of invalid trees, FlowNotFound, TaskNotFound, StatusConflict, RoleTooLow or LimitReached.
    """
    turn = turn_in(given.messages)
    # A repetition may have more messages and another state: those that the first answer brought.
    request = [
        given.forwarded_props,
        [[entry.interrupt_id, entry.status, entry.payload] for entry in given.resume or ()],
        turn.id if turn else None,
    ]
    key = sha256(orjson.dumps([given.thread_id, given.run_id])).hexdigest()
    request_hash = sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()
    try:
        return remembered(
            partial(_start, asked, given),
            caller=asked.caller,
            token=Token(key=f"ag-ui:{key}", request_hash=request_hash),
            outcome_of=asdict,
            restore=lambda outcome: Started(**outcome),
        )
    except KeyReused:
        raise InvalidParams([("runId", REUSED)]) from None


def _start(asked: RequestContext, given: RunAgentInput) -> Started:
    wanted = given.wanted
    if given.resume:
        if not wanted.is_empty or wanted.tags is not None:
            raise InvalidParams([("forwardedProps", "not allowed with resume, which continues a run")])
        return _resume(asked, given, given.resume)
    if wanted.is_empty:
        return run_message(asked, given)
    _refuse_tools(given)
    common: Json = {"caller": asked.caller, "context_id": given.thread_id, "llm_key": asked.llm_key}
    try:
        if wanted.flow is None:
            verb: Callable[..., Execution] = partial(trees.execute_tree, tasks=wanted.tasks, **common)
        else:
            verb = partial(flows.run_flow, name=wanted.flow, version=wanted.version, inputs=wanted.inputs, **common)
        return Started(run_id=_run_tagged(verb, wanted).run.id)
    except InvalidParams as error:
        raise InvalidParams([(f"forwardedProps.{field}", reason) for field, reason in error.problems]) from None


def _run_tagged(verb: Callable[..., Execution], wanted: ForwardedProps) -> Execution:
    return verb() if wanted.tags is None else with_tags(verb, wanted.tags)


# --- messages ---


def run_message(
    asked: RequestContext,
    given: RunAgentInput,
    *,
    store: Callable[[Run, Json], None] = store_message,
    is_strict: bool = False,
) -> Started:
    """Do what the newest message of the user means to A2A, with the whole conversation if a language model answers it.

    `store` stores the message with its run. `is_strict`: instructions for a model are refused where there is none.
    """
    question = asked_in(given.messages)
    if question is None:
        raise InvalidParams([("messages", NOTHING)])
    text = text_of(question.content)
    sent = [{"text": text}, *map(of_file, files_of(question))]
    message = {"messageId": question.id, "role": "ROLE_USER", "parts": sent}
    history = earlier_texts(given.messages, until=question)
    meaning = meaning_of(
        Incoming(message=message | {"contextId": given.thread_id}, context_id=given.thread_id, history=history)
    )
    meaning = _with_conversation(meaning, given, text, is_strict=is_strict)
    meaning = with_key(meaning, user_id=asked.caller.user_id, sent=asked.llm_key)
    match meaning:
        case RunTree() | RunFlow() | RunStored():
            run = _run_tagged(partial(run_meaning, meaning, asked, context_id=given.thread_id), given.wanted).run
            if run.context_id != given.thread_id:
                raise StatusConflict(
                    f"Task '{run.target_id}' already runs in another thread. Wait for its end, or run a copy.",
                    data={"task_id": run.target_id},
                )
            store(run, message)
            return Started(run_id=run.id, is_chat=True)
        case Ask(text=text):
            return Started(text=text)
        case Reply(parts=parts):
            words = (part["text"] if "text" in part else orjson.dumps(part.get("data")).decode() for part in parts)
            return Started(text="\n".join(words))
        case AskForKey(text=text):
            return Started(error=text, error_code="llm_key_required")
        case Reject(text=text):
            return Started(error=text, error_code="rejected")


def _with_conversation(meaning: Meaning, given: RunAgentInput, text: str, *, is_strict: bool) -> Meaning:
    """Let the language model that answers the text read the whole conversation, and offer it the tools of the front end."""
    tasks = meaning.tasks if isinstance(meaning, RunTree) and meaning.with_history else None
    task: Json = tasks[0] if isinstance(tasks, list) and len(tasks) == 1 else {}
    is_chat = task.get("schemas", {}).get("method") == CHAT_EXECUTOR and is_prompt(task.get("inputs", {}), text)
    if not is_chat or (given.tools and "tools" in task["inputs"]):  # it has tools of its own
        if isinstance(meaning, RunTree | RunFlow | RunStored):
            _refuse_tools(given, takes_files=True, is_strict=is_strict)
        return meaning
    # The conversation has the files, too.
    inputs: Json = {name: value for name, value in task["inputs"].items() if name not in ("prompt", "text", "files")}
    inputs["history"] = conversation(given.messages, given.context or ())
    if given.tools:
        inputs["tools"] = tools_of(given.tools)
    return RunTree(tasks=[task | {"inputs": inputs}])


def _refuse_tools(given: RunAgentInput, *, takes_files: bool = False, is_strict: bool = False) -> None:
    """Raise InvalidParams for what only a language model could use. `takes_files`: what runs has got the files of the message."""
    turn = turn_in(given.messages)
    has_others = turn is not None and has_files(turn, without=FileSource if takes_files else ())
    is_instructed = any(isinstance(each, DeveloperMessage | SystemMessage) for each in given.messages)
    found = [
        ("tools", bool(given.tools)),
        ("context", bool(given.context)),
        ("messages", isinstance(turn, ToolMessage) or has_others or (is_strict and is_instructed)),
    ]
    if problems := [(name, NO_MODEL) for name, is_there in found if is_there]:
        raise InvalidParams(problems)


# --- answers ---


def _resume(asked: RequestContext, given: RunAgentInput, entries: Sequence[Resume]) -> Started:
    """Record the answers, and cancel the tasks whose questions were dismissed; all questions are of one run."""
    of_thread = Question.objects.for_caller(asked.caller).for_people().filter(run__context_id=given.thread_id)
    known = of_thread.select_related("run").in_bulk({entry.interrupt_id for entry in entries})
    found = []
    for index, entry in enumerate(entries):
        if entry.interrupt_id not in known:
            raise InvalidParams([(f"resume[{index}].interruptId", NOT_OPEN)])
        check_may_answer(asked.caller, known[entry.interrupt_id])
        found.append(known[entry.interrupt_id])
    run_ids = {question.run_id for question in found}
    if len(run_ids) > 1:
        raise InvalidParams([("resume", "its interrupts are of different runs: answer those of one")])
    for index, (question, entry) in enumerate(zip(found, entries, strict=True)):
        if entry.status == "cancelled":
            cancels.ask(caller=asked.caller, task_ids=[question.task_id], force=False, message=DISMISSED)
            continue
        payload = entry.payload
        is_object = isinstance(payload, dict) and (question.schema is not None or ANSWER in payload)
        answer, comment = read_answer(question, payload) if is_object else (payload, None)
        try:
            record_answer(question, answer=answer, by=asked.caller.user_id, comment=comment)
        except InvalidParams as error:
            place = f"resume[{index}].payload"
            raise InvalidParams([(f"{place}: {field}", reason) for field, reason in error.problems]) from None
    run = Run.objects.get(id=run_ids.pop())
    dismissed = tuple(entry.interrupt_id for entry in entries if entry.status == "cancelled")
    return Started(run_id=run.id, after=run.last_seq, dismissed=dismissed)


# --- the messages of a thread as a language model reads them ---


def conversation(messages: Sequence[Message], context: Sequence[ContextEntry]) -> list[Json]:
    """Return the messages in OpenAI's format, after one that has the context of the front end. Raises InvalidParams."""
    of_front_end = "\n".join(f"{entry.description}: {entry.value}" for entry in context)
    found: list[Json] = [{"role": "system", "content": of_front_end}] if of_front_end else []
    for index, message in enumerate(messages):
        place = f"messages[{index}].content"
        match message:
            case UserMessage(content=content):
                own: Any = content
                if not isinstance(content, str):
                    own = [_part(part, f"{place}[{at}]") for at, part in enumerate(content)]
                found.append({"role": "user", "content": own})
            case ToolMessage(content=content, tool_call_id=call_id, error=error):
                found.append({"role": "tool", "tool_call_id": call_id, "content": error or text_of(content)})
            case AssistantMessage():
                calls = [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {"name": call.function.name, "arguments": call.function.arguments},
                    }
                    for call in message.tool_calls or ()
                ]
                answer: Json = {"role": "assistant", "content": message.content}
                found.append(answer | {"tool_calls": calls} if calls else answer)
            case ActivityMessage() | ReasoningMessage():  # a front end keeps them for itself
                continue
            case _:
                found.append({"role": message.__struct_config__.tag, "content": message.content})
    return found


def tools_of(given: Sequence[Tool]) -> list[Json]:
    """Return the tools of a front end in OpenAI's format."""
    nothing: Json = {"type": "object", "properties": {}}
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or nothing,
                **({"strict": True} if tool.strict else {}),
            },
        }
        for tool in given
    ]


def asked_in(messages: Sequence[Message]) -> UserMessage | None:
    """Return the newest message of the user."""
    return next((each for each in reversed(messages) if isinstance(each, UserMessage)), None)


def turn_in(messages: Sequence[Message]) -> Message | None:
    """Return the message that asks for this run: the newest one of the user, or of a tool of the front end."""
    return next((each for each in reversed(messages) if isinstance(each, UserMessage | ToolMessage)), None)


def has_files(message: Message, *, without: type[FileSource] | tuple[()] = ()) -> bool:
    """Return whether the message has more than text, and than what has this kind of source."""
    content = getattr(message, "content", None)
    parts: list[Part] = content if isinstance(content, list) else []
    return any(not isinstance(part, TextPart) and not isinstance(part.source, without) for part in parts)


def files_of(message: UserMessage) -> list[Json]:
    """Return the files in a message whose sources are files of this server."""
    parts = message.content if isinstance(message.content, list) else []
    return [
        part.source.file for part in parts if not isinstance(part, TextPart) and isinstance(part.source, FileSource)
    ]


def earlier_texts(messages: Sequence[Message], *, until: Message | None) -> list[Json]:
    """Return the texts before a message, as messages of A2A."""
    before = list(messages[: messages.index(until)]) if until is not None else list(messages)
    roles = {UserMessage: "ROLE_USER", AssistantMessage: "ROLE_AGENT"}
    return [
        {"role": roles[type(each)], "parts": [{"text": text}]}
        for each in before
        if isinstance(each, UserMessage | AssistantMessage) and (text := text_of(each.content))
    ]


def _part(part: Part, place: str) -> Json:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    match part:
        case VideoPart():
            raise InvalidParams([(place, ACCEPTED)])
        case _ if isinstance(part.source, FileSource):
            return {"type": "file", "file": part.source.file}
        case ImagePart(source=UrlSource(value=url)):
            return {"type": "image_url", "image_url": {"url": url}}
        case DocumentPart(source=UrlSource(value=url)):
            return {"type": "file", "file": {"file_data": url}}
        case _:  # data that is no file by now (`attachments`), or the address of a sound
            raise InvalidParams([(place, ACCEPTED)])
