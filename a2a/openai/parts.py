"""Responses: each is a part of a run, which begins with the run or with an answer, and ends with the run or the next question.

No table has them. The id names the run and the number of the event after which the part begins, and the message that
began it, which the run has anyway (`a2a.models.Message`), has the facts that the wire repeats.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db.models import Sum
from msgspec import Struct

from a2a.core.exceptions import ResponseNotFound
from a2a.models import Message
from a2a.protocol.messages import store_message
from accounts.callers import Caller
from tasks.models import ModelCall, Question, Run
from tasks.rules.strict_json import Json

FACTS: Final = "openai"
"""The name of the facts in the metadata of a message."""
ID: Final = re.compile(r"resp_([0-9a-f-]{36})(?:_([0-9]{1,9}))?")
CALL: Final = re.compile(r"ask_([0-9]{1,9})_(\S{1,64})")
"""The id of a question as the call of a function: the number of the event that asks it, and its own id."""
ASK: Final = "ask"
"""The name of the function that a run calls to ask a person."""
USAGE: Final = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")


class Facts(Struct, frozen=True, kw_only=True):
    """The fields of a request that its response repeats."""

    model: str
    instructions: str | None = None
    metadata: dict[str, str] = {}
    previous_response_id: str | None = None
    background: bool = False
    tools: list[Json] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A response: the events of the run after number `after`, up to its end or the first question to the caller."""

    run: Run
    after: int
    facts: Facts
    created_at: datetime

    @property
    def id(self) -> str:
        return id_of(self.run.id, self.after)


def id_of(run_id: str, after: int) -> str:
    return f"resp_{run_id}_{after}" if after else f"resp_{run_id}"


def call_id_of(event: Json) -> str:
    """Return the id of the call by which the event asks a person."""
    return f"ask_{event['seq']}_{event['result']['question_id']}"


def record(run: Run, *, after: int, text: str, facts: Facts) -> str:
    """Store the message that begins a part of the run, and return the id of the response."""
    shown = msgspec.to_builtins(facts)
    message = {"messageId": id_of(run.id, after), "role": "ROLE_USER", "parts": [{"text": text}]}
    store_message(run, message | {"metadata": {FACTS: shown}})
    return id_of(run.id, after)


def find(caller: Caller, response_id: str) -> Part:
    """Raise ResponseNotFound, also for one of another owner."""
    named = ID.fullmatch(response_id)
    run = named and Run.objects.for_caller(caller).filter(id=named[1]).first()
    if named and run:
        for message in Message.objects.filter(run=run).order_by("id"):
            facts = _facts_in(message.body) if message.body["messageId"] == response_id else None
            if facts is not None:
                return Part(run=run, after=int(named[2] or 0), facts=facts, created_at=message.created_at)
    raise ResponseNotFound(response_id)


def _facts_in(body: Json) -> Facts | None:
    """Return the facts in a message; None if it began no response: other clients choose ids and metadata, too."""
    try:
        return msgspec.convert((body.get("metadata") or {}).get(FACTS), Facts)
    except msgspec.ValidationError:
        return None


def newest_facts(run: Run) -> Facts | None:
    """Return the facts of the newest response of a run; None if it has none."""
    bodies = Message.objects.filter(run=run).order_by("-id").values_list("body", flat=True)
    return next((facts for body in bodies if (facts := _facts_in(body)) is not None), None)


def asks_caller(event: Json, caller: Caller, run: Run) -> bool:
    """Return whether a response to this caller ends with the event: it asks a question that the caller may answer.

    By the event alone, since a response that is read again must end at the same place, answered or not.
    """
    asked = event["result"]
    if event["type"] != "log" or not isinstance(asked, dict) or "required" not in asked:
        return False
    is_first = "is_reminder" not in asked and "escalated_to" not in asked
    return is_first and Question(run=run, assignees=asked.get("assignees")).may_be_answered_by(caller)


def usage_of(run_id: str) -> dict[str, int] | None:
    """Return the tokens of the run's model calls so far; None if it made none."""
    calls: Any = ModelCall.objects.filter(run_id=run_id)
    sums = calls.aggregate(**{name: Sum(name) for name in USAGE})
    return None if sums["total_tokens"] is None else {name: sums[name] or 0 for name in USAGE}
