"""Words of a model as they arrive: events of the type `token`. Pure.

Clients that do not ask for this type get the words of answers as `log` events, which they have always been, and of
reasoning, which they have never seen, no words.
"""

from typing import Final

from tasks.rules.strict_json import Json

TOKEN: Final = "token"
ANSWER: Final = "answer"
REASONING: Final = "reasoning"
"""The kinds of words."""


def is_reasoning(event: Json) -> bool:
    """Return whether the event has words that a model thought, and not of its answer. Events that were stored before have no kind."""
    return bool(event["type"] == TOKEN and event["result"].get("kind") == REASONING)


def words_of(event: Json) -> str:
    """Return what the words of a `token` event belong to: the answer of a call, or its reasoning."""
    call_id: str = event["result"]["call_id"]
    return f"{call_id}-{REASONING}" if is_reasoning(event) else call_id


def as_sent(event: Json, *, has_tokens: bool) -> Json:
    """Return the event as a client gets it; `has_tokens`: it has asked for the type `token`."""
    if has_tokens or event["type"] != TOKEN:
        return event
    if is_reasoning(event):
        return event | {"type": "progress", "message": "", "result": None}
    return event | {"type": "log", "result": None}
