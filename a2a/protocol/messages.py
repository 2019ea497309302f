"""Handles incoming messages: stores them with their run and executes them.

Each function is one transaction.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F
from msgspec import UNSET

from a2a.core.exceptions import TaskNotCancelable, UnsupportedOperation
from a2a.models import Message
from a2a.protocol.conversation import earlier_messages, references_of, request_of
from a2a.protocol.credentials import with_key
from a2a.protocol.message_handler import Meaning, meaning_of
from a2a.protocol.params import Message as GivenMessage
from a2a.protocol.params import RequestContext, SendMessage
from a2a.protocol.parts import readable
from a2a.protocol.push import add_config
from a2a.protocol.queries import find_run, message_of, task_of
from a2a.protocol.serialize import agent_message, asked_again, times_asked
from accounts.callers import Caller
from aipartnerupflow.a2a import Ask, AskForKey, Incoming, Reject, Reply, RunFlow, RunStored, RunTree
from tasks.ids import new_id
from tasks.models import Question, Run
from tasks.rules.exceptions import InvalidParams, TasksError
from tasks.rules.strict_json import Json
from tasks.services import flows, trees
from tasks.services.files.references import TREE, named_in, refer
from tasks.services.runs.run_inputs import with_inputs, with_tags
from tasks.services.trees import Execution, pending_runs
from tasks.services.trees.idempotency import remembered
from tasks.services.trees.pending_runs import CREDENTIALS, HOLDERS, INPUT
from tasks.services.waits.questions import check_may_answer, checked_answer, open_questions, record_answer
from tasks.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The outcome of a message: a run, or a reply without one.

    `task` is the Task at its start. `notes` are added to the metadata of the Task in the reply.
    """

    run: Run | None = None
    task: Json | None = None
    reply: Json | None = None
    notes: Json = field(default_factory=dict)


@transaction.atomic
def receive(asked: RequestContext, given: SendMessage, *, shows_task: bool) -> Received:
    """Execute a message, or return the outcome of the first request with its Idempotency-Key.

    `shows_task`: return the Task as it is at once. Raises TaskNotFound, UnsupportedOperation, and
    the errors of the message handler and of invalid trees.
    """

    def outcome_of(received: Received) -> Json:
        run_id = received.run.id if received.run else None
        return {"run_id": run_id, "reply": received.reply, "notes": received.notes}

    def restore(outcome: Json) -> Received:
        run_id = outcome["run_id"]
        run = None if run_id is None else find_run(caller=asked.caller, task_id=run_id)
        return Received(run=run, reply=outcome["reply"], notes=outcome["notes"])

    call = partial(_receive, asked, given)
    if asked.token is None:
        received = call()
    else:
        received = remembered(call, caller=asked.caller, token=asked.token, outcome_of=outcome_of, restore=restore)
    if not shows_task or received.run is None:
        return received
    run, task = task_of(run_id=received.run.id, history_length=given.configuration.history_length)
    return replace(received, run=run, task=with_notes(task, received))


def _receive(asked: RequestContext, given: SendMessage) -> Received:
    waiting = _waiting_run(asked.caller, given)
    if waiting is not None and not waiting.is_reserved:
        return _record_answer(waiting, asked, given)
    known = waiting.context_id if waiting else given.message.context_id
    context_id = known or new_id()
    incoming = Incoming(
        message=given.message.to_json(),
        context_id=context_id,
        metadata=given.metadata,
        references=references_of(asked.caller, given.message.reference_task_ids),
        is_follow_up=waiting is not None,
        history=earlier_messages(asked.caller, context_id=known, until=waiting),
    )
    meaning = _decide(incoming, asked, waiting)
    after = waiting.last_seq if waiting else 0
    match meaning:
        case Reply(parts=parts):
            reply = {"messageId": new_id(), "contextId": context_id, "role": "ROLE_AGENT", "parts": list(parts)}
            return Received(reply=reply)
        case Ask() | AskForKey() | Reject():
            run = waiting or pending_runs.reserve(caller=asked.caller, context_id=context_id)
            _store_given(run, asked, given, after=after)
            question_id, text = new_id(), meaning.text
            store_message(run, agent_message(text, message_id=question_id, run_id=run.id, context_id=run.context_id))
            if isinstance(meaning, Reject):
                pending_runs.end(run_id=run.id, status=Status.FAILED, message=text)
            else:
                required = CREDENTIALS if isinstance(meaning, AskForKey) else INPUT
                pending_runs.ask(run_id=run.id, question_id=question_id, text=text, required=required)
            return Received(run=run)
        case RunTree() | RunFlow() | RunStored():
            run, notes = _start(meaning, asked, given, context_id=context_id, waiting=waiting)
            _store_given(run, asked, given, after=after)
            if waiting is not None:
                earlier = list(Message.objects.filter(run=run).values_list("body", flat=True))
                refer(f"{TREE}{run.root_id}", named_in(earlier), owner=run.user_id, may_be_missing=True)
            return Received(run=run, notes=notes)


def go_on_with_key(*, user_id: str) -> None:
    """Start the A2A Tasks of a user that wait for an LLM key, after the user stored one."""
    asked = RequestContext(caller=Caller(user_id=user_id), url=str, version="1.0")
    waiting = Run.objects.unfinished().filter(user_id=user_id, lease_owner=HOLDERS[CREDENTIALS])
    for run in waiting.filter(root_id=F("id")).order_by("created_at"):
        # Another process started it, or the tree is no longer valid: a follow-up message gets the
        # error.
        with suppress(TasksError), transaction.atomic():
            history = earlier_messages(asked.caller, context_id=run.context_id, until=run)
            message = request_of(run)
            incoming = Incoming(message=message, context_id=run.context_id, is_follow_up=True, history=history)
            meaning = _decide(incoming, asked, run)
            if isinstance(meaning, RunTree | RunFlow | RunStored):
                run_meaning(meaning, asked, context_id=run.context_id, reserved_id=run.id)


@transaction.atomic
def call_off(*, run: Run) -> None:
    """Cancel a run that has no tree. Raises TaskNotCancelable if it has ended."""
    if not pending_runs.end(run_id=run.id, status=Status.CANCELLED, message="Cancelled by request"):
        raise not_cancelable(run)


def not_cancelable(run: Run) -> TaskNotCancelable:
    return TaskNotCancelable(f"Task '{run.id}' has finished, so it cannot be cancelled.")


def _waiting_run(caller: Caller, given: SendMessage) -> Run | None:
    """Return the waiting run to which a follow-up message belongs; None for a new request.

    Raises TaskNotFound, InvalidParams, or UnsupportedOperation if the run does not wait for the
    client.
    """
    message = given.message
    if not message.task_id:
        return None
    run = find_run(caller=caller, task_id=message.task_id)
    if message.context_id and message.context_id != run.context_id:
        raise InvalidParams(
            [("message.contextId", "is not the context of the task. Omit it, or send that of the task")]
        )
    if run.finished_at is not None:
        raise UnsupportedOperation(f"Task '{run.id}' has finished. Send a message without taskId for a new task.")
    if not run.is_reserved and not Question.objects.waiting().filter(run=run).exists():
        raise UnsupportedOperation(f"Task '{run.id}' is working and has no open question. Wait for it, or cancel it.")
    return run


def _record_answer(run: Run, asked: RequestContext, given: SendMessage) -> Received:
    """Record the message as the answer to an open question: that of `metadata.nodeId`, or the
    oldest. A wrong answer is asked for again.
    """
    node_id = (given.message.metadata or {}).get("nodeId")
    questions = open_questions(asked.caller, run_ids=[run.id], task_id=node_id if isinstance(node_id, str) else None)
    if not questions:
        raise InvalidParams(
            [("message.metadata.nodeId", "names no task with an open question. Omit it to answer the oldest one")]
        )
    question = questions[0]
    check_may_answer(asked.caller, question)
    answer = _answer_in(given.message, question)
    fault = None
    try:
        checked_answer(question, answer)
    except InvalidParams as error:
        fault = "; ".join(
            f"The {field} {reason}" if field == "answer" else f"{field}: {reason}" for field, reason in error.problems
        )
    message = message_of(question, context_id=run.context_id)
    known = Message.objects.filter(run=run).order_by("-id").first()
    times = times_asked(message, known.body if known else None)
    if not times:
        store_message(run, message)
    if fault is None:
        record_answer(question, answer=answer, by=asked.caller.user_id)
    _store_given(run, asked, given, after=run.last_seq)
    if fault is not None:
        store_message(run, asked_again(message, fault=fault, times=times or 1))
    return Received(run=run)


def _answer_in(message: GivenMessage, question: Question) -> Any:
    """Return the answer in a message: its data, or the member `answer` of it; else its text. A form may have a field of that name.

    A text means an option in upper or lower case. Raises the errors of `readable`.
    """
    parts = [readable(part, index) for index, part in enumerate(message.to_json()["parts"])]
    answer = next((part["data"] for part in parts if "data" in part), UNSET)
    if answer is UNSET:
        answer = "\n".join(part["text"] for part in parts)
    is_field = "answer" in (question.schema or {}).get("properties", {})
    if isinstance(answer, dict) and "answer" in answer and not is_field:
        answer = answer["answer"]
    options = question.options or ()
    if not isinstance(answer, str) or answer in options:
        return answer
    meant = [option for option in options if option.casefold() == answer.strip().casefold()]
    return meant[0] if len(meant) == 1 else answer


def _decide(incoming: Incoming, asked: RequestContext, waiting: Run | None) -> Meaning:
    """Return the decision of the message handler, or AskForKey if an LLM key is missing.

    A follow-up to AskForKey need not repeat the request: without data it runs the earlier one.
    """
    is_about_key = waiting is not None and waiting.lease_owner == HOLDERS[CREDENTIALS]
    if waiting is not None and is_about_key and not any("data" in part for part in incoming.message["parts"]):
        incoming = replace(incoming, message=request_of(waiting))
    return with_key(meaning_of(incoming), user_id=asked.caller.user_id, sent=asked.llm_key)


def with_notes(task: Json, received: Received) -> Json:
    return task | {"metadata": task["metadata"] | received.notes}


def _start(
    meaning: RunTree | RunFlow | RunStored,
    asked: RequestContext,
    given: SendMessage,
    *,
    context_id: str,
    waiting: Run | None,
) -> tuple[Run, Json]:
    """Run the tree. Returns its run, and notes for the metadata of the Task in the reply."""
    place = {"context_id": context_id, "reserved_id": waiting.id if waiting else None}
    verb = partial(run_meaning, meaning, asked, **place)
    tags: Any = None
    for name, metadata in (("message.metadata", given.message.metadata), ("metadata", given.metadata)):
        if metadata and "tags" in metadata:
            tags = metadata["tags"]
            if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
                raise InvalidParams([(f"{name}.tags", "must be a list of strings: the tags of the run")])
            break
    execution = verb() if tags is None else with_tags(verb, tags)
    run = execution.run
    if given.message.context_id not in ("", run.context_id) or (waiting and waiting.id != run.id):
        raise UnsupportedOperation(
            f"Task '{run.id}' already runs this tree, in another context. Subscribe to it, or run a copy."
        )
    notes: Json = {"warnings": execution.warnings} if execution.warnings else {}
    if any(sent != stored for sent, stored in execution.ids.items()):
        notes["ids"] = execution.ids
    return run, notes


def run_meaning(meaning: RunTree | RunFlow | RunStored, asked: RequestContext, **place: Any) -> Execution:
    """Run what a message means, at its `context_id`. Raises the errors of invalid trees."""
    common = {"caller": asked.caller, "llm_key": asked.llm_key, **place}
    if isinstance(meaning, RunFlow):
        return flows.run_flow(
            name=meaning.name, version=meaning.version, inputs=meaning.inputs, offered=meaning.offered, **common
        )
    if isinstance(meaning, RunTree):
        verb: Callable[..., Execution] = partial(trees.execute_tree, tasks=meaning.tasks)
    else:
        verb = partial(
            trees.execute_task,
            task_id=meaning.task_id,
            copy_execution=meaning.copy_execution,
            copy_children=meaning.copy_children,
        )
    return with_inputs(verb, meaning.inputs, **common) if meaning.inputs else verb(**common)


def _store_given(run: Run, asked: RequestContext, given: SendMessage, *, after: int) -> None:
    """Store the message of the client, and its push notification config."""
    store_message(run, given.message.to_json())
    if config := given.configuration.task_push_notification_config:
        add_config(run, config, caller=asked.caller, version=asked.version, after=after)


def store_message(run: Run, message: Json) -> None:
    """Store a message of a run, of the client or of the server."""
    body = message | {"taskId": run.id, "contextId": run.context_id}
    if not run.is_reserved:  # without a tree, nothing would delete the reference
        refer(f"{TREE}{run.root_id}", named_in(body), owner=run.user_id, may_be_missing=True)
    Message.objects.create(run=run, body=body, created_at=datetime.now(UTC))
