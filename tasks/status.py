"""The states of a task, a run and a tree. Free of Django, so that the tree rules stay pure."""

from enum import StrEnum


class Status(StrEnum):
    """The status of a task, or of a run of a tree. Only tasks of trees with `params.when` are skipped."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.SKIPPED})


class WaitKind(StrEnum):
    """The kind of a parked task's wait."""

    QUESTION = "question"
    TIME = "time"
    EVENT = "event"
    RUN = "run"
    LIMIT = "limit"
    CALL = "call"


class Effect(StrEnum):
    """The effect of the attempt in hand at a task that is not safe to repeat. None: not known."""

    AWAITED = "awaited"
    """It has not begun: a worker stores its beginning first."""
    BEGUN = "begun"


class Interruption(StrEnum):
    """The ways in which a run loses its worker. An earlier version did not store which."""

    UNKNOWN = ""
    DIED = "died"
    HOST_LOST = "host"
    EXPIRED = "expired"
    RELEASED = "released"


class OnInterrupt(StrEnum):
    """The action on a task whose effect had begun when its worker died (`params.on_interrupt`)."""

    REPEAT = "repeat"
    FAIL = "fail"
    ASK = "ask"


class OnExpiry(StrEnum):
    """The action on a task whose wait ends without its event."""

    FAIL = "fail"
    RESUME = "resume"
