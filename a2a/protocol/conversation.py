"""The past of a message: the conversation of its context, its request, and the Tasks that it names."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import orjson
from django.conf import settings
from msgspec import UnsetType

from a2a.models import Message
from a2a.protocol.parts import is_data
from a2a.protocol.queries import find_run
from accounts.callers import Caller
from tasks.executors import answer_in
from tasks.models import Run, Task, TaskEvent
from tasks.rules.strict_json import Json
from tasks.services.trees.pending_runs import CREDENTIALS
from tasks.status import Status
from tasks.storage.loads import size_of

MOST_RUNS: Final = 50
BYTES_EACH_CHARACTER: Final = 4
MOST_BYTES_BESIDES: Final = 4096
"""The overhead in bytes that a stored message or event may add to its text."""
USER: Final = "ROLE_USER"
AGENT: Final = "ROLE_AGENT"
ROLES: Final = {USER: "user", AGENT: "assistant"}


def earlier_messages(caller: Caller, *, context_id: str, until: Run | None) -> list[Json]:
    """Return the messages of the caller's own Tasks in a context and the answers, oldest first, each with one text part.

    The newest `a2a.conversation_characters` of the newest MOST_RUNS Tasks.
    `until` is the Task that the new message belongs to, if there is one.
    """
    most = settings.APFLOW.a2a.conversation_characters
    if not most or not context_id:
        return []
    found = Run.objects.filter(user_id=caller.user_id, context_id=context_id).order_by("-created_at", "-id")
    runs = [run for run in found[:MOST_RUNS] if until is None or run.id != until.id]
    left, messages = most, list[Json]()
    for role, text in _backwards(runs, most) if runs else ():
        left -= len(text)
        if left < 0:
            break
        messages.insert(0, {"role": role, "parts": [{"text": text}]})
    return messages


def as_prompt(messages: Iterable[Json]) -> list[Json]:
    """Return the messages in the format of language models."""
    return [{"role": ROLES[each["role"]], "content": each["parts"][0]["text"]} for each in messages]


def _backwards(runs: Sequence[Run], most: int) -> Iterator[tuple[str, str]]:
    """Yield role and text of the messages and answers in these runs, newest first. Longer ones than `most` are left out."""
    most_bytes = BYTES_EACH_CHARACTER * most + MOST_BYTES_BESIDES
    messages: defaultdict[str, list[Json]] = defaultdict(list)
    short = Message.objects.annotate(size=size_of("body")).filter(size__lte=most_bytes, run__in=runs)
    for run_id, body in short.order_by("id").values_list("run_id", "body"):
        messages[run_id].append(body)
    done = {run.id: run for run in runs if run.status == Status.COMPLETED}
    short_events = TaskEvent.objects.annotate(size=size_of("payload")).filter(size__lte=most_bytes)
    events = dict(short_events.filter(run_id__in=done, type="final").values_list("run_id", "payload"))
    targets = {run.target_id for run in done.values()}
    executors = dict(Task.objects.filter(id__in=targets).values_list("id", "executor_id"))
    answers: dict[str, str] = {}  # run id → its result as text
    for run_id, event in events.items():
        if (result := event["result"]) is not None:
            executor_id = executors.get(done[run_id].target_id)
            answers[run_id] = answer_in(result, executor_id=executor_id) or orjson.dumps(result).decode()
    for run in runs:
        if answer := answers.get(run.id):
            yield AGENT, answer
        for each in reversed(messages[run.id]):
            # A message without text is its data as JSON. Files have neither.
            texts = [part["text"] for part in each["parts"] if "text" in part]
            texts = texts or [orjson.dumps(part["data"]).decode() for part in each["parts"] if is_data(part)]
            if text := "\n".join(texts):
                yield each["role"], text


def request_of(run: Run) -> Json:
    """Return the client's latest message with a data part, else the one after which the key was asked for."""
    messages: list[Json] = list(Message.objects.filter(run=run).order_by("id").values_list("body", flat=True))
    logged = TaskEvent.objects.filter(run_id=run.id, type="log").values_list("payload", flat=True)
    questions = [event["result"] for event in logged if isinstance(event["result"], dict)]
    asked = {each["question_id"] for each in questions if each.get("required") == CREDENTIALS}
    first = next((place for place, each in enumerate(messages) if each["messageId"] in asked), len(messages))
    requests = [place for place, each in enumerate(messages) if each["role"] == "ROLE_USER"]
    with_data = [place for place in requests if any(map(is_data, messages[place]["parts"]))]
    return messages[with_data[-1] if with_data else [place for place in requests if place < first][-1]]


def references_of(caller: Caller, named: Sequence[str] | UnsetType) -> dict[str, Any]:
    """Return the results of the tasks in `referenceTaskIds`, by these ids. Raises TaskNotFound."""
    runs = {task_id: find_run(caller=caller, task_id=task_id) for task_id in named or ()}
    finals = dict(
        TaskEvent.objects.filter(run_id__in={run.id for run in runs.values()}, type="final").values_list(
            "run_id", "payload"
        )
    )
    return {task_id: finals[run.id]["result"] for task_id, run in runs.items() if run.id in finals}
