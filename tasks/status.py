"""The states of a task, a run and a tree. Free of Django, so that the tree rules stay pure."""

from enum import StrEnum


class Status(StrEnum):
    """Where a task, or a run of a tree, stands. Only tasks of trees with `params.when` are skipped."""

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
    """What a parked task waits for."""

    QUESTION = "question"
    TIME = "time"
    EVENT = "event"
    RUN = "run"


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
    """What happens to a task whose effect had begun when its worker died (`params.on_interrupt`)."""

    REPEAT = "repeat"
    FAIL = "fail"
    ASK = "ask"


class OnExpiry(StrEnum):
    """What happens to a task when its wait ends without what it waited for."""

    FAIL = "fail"
    RESUME = "resume"
