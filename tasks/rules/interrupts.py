"""The rules for a task whose worker died after its effect had begun: `params.on_interrupt`. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from tasks.rules.strict_json import Json
from tasks.status import Interruption, OnInterrupt

INTERRUPTED: Final = (
    "and repeating it may not be safe. Check whether it took effect, and execute it again if it did not "
    "(params.on_interrupt)."
)
"""The end of the error of each interrupted task, by which it is known."""
LOST: Final[Mapping[str, str]] = {
    Interruption.UNKNOWN: "the worker was lost during the task",
    Interruption.DIED: "the worker died during the task",
    Interruption.HOST_LOST: "the worker died during the task, with its whole server or machine",
    Interruption.EXPIRED: (
        "the worker lost its lease during the task, since the database did not answer it, or it stood still, "
        "for worker.lease_seconds"
    ),
    Interruption.RELEASED: "the worker was stopped during the task",
}
REPEAT, DONE, FAIL = "repeat", "done", "fail"
ANSWERS: Final = (REPEAT, DONE, FAIL)
MARK: Final = "$interrupted"
"""The field of a question's memo by which it is known as one about an interrupted task."""


class Task(Protocol):
    @property
    def parent_id(self) -> str | None: ...
    @property
    def params(self) -> Mapping[str, Any]: ...


def on_interrupt_of(task: Task, tasks: Mapping[str, Task]) -> OnInterrupt:
    """Return what the task says or, without a word of its own, the nearest task above it that does."""
    above: Task | None = task
    while above is not None:
        if (said := above.params.get("on_interrupt")) is not None:
            return OnInterrupt(said)
        above = None if above.parent_id is None else tasks.get(above.parent_id)
    return OnInterrupt.FAIL


def error_of(interruption: str) -> str:
    """Return the error of an interrupted task, by how its run lost its worker."""
    return f"Interrupted: {LOST[interruption]}, {INTERRUPTED}"


def question(name: str, *, interruption: str, executor_id: str, key: str, attempt: int, asked_at: datetime) -> str:
    """Return the text of the question whether an interrupted task is repeated."""
    return (
        f"'{name}' was interrupted: {LOST[interruption]}, and it is not known whether it took effect. "
        f"Executor: {executor_id}; attempt: {attempt}; idempotency key: {key}; found at {asked_at:%Y-%m-%d %H:%M:%S} UTC. "
        f"Answer '{REPEAT}' to do it again, '{DONE}' if it took effect (the task completes, and your comment is its result), "
        f"or '{FAIL}' to let the task fail."
    )


def memo_of(reply: Json | None) -> Json:
    """Return the memo of such a question. `reply` is what the executor had got before it was interrupted."""
    return {MARK: {"reply": reply}}


def asked_in(memo: object) -> Json | None:
    """Return {reply}; None if the memo is not that of a question about an interrupted task."""
    asked = memo.get(MARK) if isinstance(memo, dict) and memo.keys() == {MARK} else None
    return asked if isinstance(asked, dict) and asked.keys() == {"reply"} else None
