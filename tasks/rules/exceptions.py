"""Domain exceptions. Each docstring is the default message.

`a2a.core.errors` maps each exception to its code on the wire.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

RETRY_SECONDS: Final = 5
"""The seconds that a client should wait before it retries a request that met a limit."""

MOST_LISTED: Final = 3
"""The maximum number of problems that the message of InvalidParams names."""


class TasksError(Exception):
    """The request could not be carried out."""

    def __init__(self, message: str = "", *, data: Any = None) -> None:
        self.message = message or (self.__class__.__doc__ or "").strip()
        self.data = data
        super().__init__(self.message)


class InvalidParams(TasksError):
    """The parameters are not valid."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        """`problems` are (field, reason) pairs; the field is a path such as `tasks[2].priority`."""
        self.problems = list(problems)
        listed = [f"{field}: {reason}" for field, reason in self.problems[:MOST_LISTED]]
        if len(self.problems) > MOST_LISTED:
            listed.append(f"and {len(self.problems) - MOST_LISTED:,} more")
        super().__init__(
            f"Invalid params: {'; '.join(listed)}",
            data=[{"field": field, "reason": reason} for field, reason in self.problems],
        )


class ResponseTooLarge(InvalidParams):
    """The response would have more bytes than `limits.response_bytes`."""

    def __init__(self, limit: int) -> None:
        reason = (
            f"ask for more than the {limit:,} bytes that a response may have (limits.response_bytes). Ask for less: "
            "a smaller limit, fewer calls in a batch, or single tasks with tasks.get."
        )
        super().__init__([("params", reason)])


class ResponsesTooLarge(ResponseTooLarge):
    """The large responses of the process would have more bytes than `limits.all_responses_bytes`."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.message = (
            f"This server process is sending as many large responses as it may ({limit:,} bytes, "
            "limits.all_responses_bytes; half of it to one user). Try again when they have been sent, or ask for less."
        )
        self.data = {"retry_after_seconds": RETRY_SECONDS}


def _did_you_mean(close_matches: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(map(repr, close_matches))}?" if close_matches else ""


class TaskNotFound(TasksError):
    """Task not found."""

    hint: ClassVar[str] = "Check the id, and that the task belongs to you."

    def __init__(self, task_id: str) -> None:
        super().__init__(f"Task '{task_id}' not found. {self.hint}", data={"task_id": task_id})


class RunNotFound(TasksError):
    """Run not found."""

    def __init__(self, run_id: str, *, close_matches: Sequence[str] = ()) -> None:
        hint = _did_you_mean(close_matches) or "Check the id, and that the run belongs to you."
        super().__init__(f"Run '{run_id}' not found. {hint}", data={"run_id": run_id})


class CallNotFound(TasksError):
    """Model call not found."""

    def __init__(self, call_id: str) -> None:
        hint = "Check the id, which runs.calls lists, and that the run belongs to you."
        super().__init__(f"Model call '{call_id}' not found. {hint}", data={"call_id": call_id})


class FlowNotFound(TasksError):
    """Flow not found."""

    def __init__(
        self,
        name: str,
        *,
        version: int | None = None,
        newest: int = 0,
        label: str | None = None,
        close_matches: Sequence[str] = (),
    ) -> None:
        """Give `version` if the flow has no such version, or no longer, and `label` if it has no such label."""
        if label is not None:
            hint = _did_you_mean(close_matches) or "flows.labels lists those that it has."
            super().__init__(f"Flow '{name}' has no label '{label}'. {hint}", data={"flow": name, "label": label})
        elif version is None:
            hint = _did_you_mean(close_matches) or "Check the name, and that the flow belongs to you."
            super().__init__(f"Flow '{name}' not found. {hint}", data={"flow": name})
        else:
            message = f"Flow '{name}' has no version {version:,}; its newest is {newest:,}. flows.versions lists those that are kept."
            super().__init__(message, data={"flow": name, "version": version})


class DatasetNotFound(TasksError):
    """Data set not found."""

    def __init__(
        self, name: str, *, version: int | None = None, newest: int = 0, close_matches: Sequence[str] = ()
    ) -> None:
        """Give `version` if the data set has no such version, or no longer."""
        if version is None:
            hint = _did_you_mean(close_matches) or "Check the name, and that the data set belongs to you."
            super().__init__(f"Data set '{name}' not found. {hint}", data={"dataset": name})
        else:
            message = f"Data set '{name}' has no version {version:,}, or no longer; its newest is {newest:,}."
            super().__init__(message, data={"dataset": name, "version": version})


class ExperimentNotFound(TasksError):
    """Experiment not found."""

    def __init__(self, experiment_id: str) -> None:
        hint = "Check the id, and that the experiment belongs to you."
        super().__init__(f"Experiment '{experiment_id}' not found. {hint}", data={"experiment_id": experiment_id})


class ScheduleNotFound(TasksError):
    """Schedule not found."""

    def __init__(self, schedule_id: str) -> None:
        hint = "Check the id, and that the schedule belongs to you."
        super().__init__(f"Schedule '{schedule_id}' not found. {hint}", data={"schedule_id": schedule_id})


class NotificationNotFound(TasksError):
    """Notification not found."""

    def __init__(self, name: str) -> None:
        super().__init__(f"You have no notification '{name}'. Check the name.", data={"name": name})


class HookNotFound(TasksError):
    """Inbound hook not found."""

    def __init__(self, name: str) -> None:
        super().__init__(f"You have no inbound hook '{name}'. Check the name.", data={"name": name})


class DeliveryNotFound(TasksError):
    """Delivery not found."""

    def __init__(self, name: str, delivery: int) -> None:
        super().__init__(
            f"The inbound hook '{name}' has no delivery {delivery}. hooks.deliveries lists those that are kept.",
            data={"name": name, "delivery": delivery},
        )


class LimitNotFound(TasksError):
    """Named limit not found."""

    def __init__(self, name: str, *, close_matches: Sequence[str] = ()) -> None:
        hint = _did_you_mean(close_matches) or "limits.list has the names."
        super().__init__(f"There is no limit '{name}'. {hint}", data={"name": name})


class FileNotFound(TasksError):
    """File not found."""

    def __init__(self, file_id: str) -> None:
        hint = "Check the id, and that the file belongs to you."
        super().__init__(f"File '{file_id}' not found. {hint}", data={"file_id": file_id})


class FileTooLarge(TasksError):
    """The file is larger than `limits.file_bytes`, or than was announced."""


class StoreUnavailable(TasksError):
    """The store of the files does not answer, or its disk fails."""


class StoreFull(StoreUnavailable):
    """The disk has no room for the bytes of a file."""

    def __init__(self) -> None:
        super().__init__("The disk of the server has no room for this file. Try again later.")


class FileDiffers(TasksError):
    """The bytes of a file are not those that were announced."""


class CircularDependency(TasksError):
    """The dependencies form a cycle."""

    def __init__(self, cycle: Sequence[str], *, remedy: str = "Remove one of these dependencies.") -> None:
        """`cycle` is the path, with its first id repeated at the end."""
        super().__init__(f"Circular dependency: {' -> '.join(cycle)}. {remedy}", data={"cycle": list(cycle)})


class ExecutorNotFound(TasksError):
    """The executor is not registered or not enabled."""

    def __init__(
        self,
        executor_id: str,
        *,
        task: str | None = None,
        close_matches: Sequence[str] = (),
        enable_with: str | None = None,
    ) -> None:
        """`task` is the id or name by which the request refers to the task."""
        subject = f"Task '{task}': executor" if task else "Executor"
        hint = f" {_did_you_mean(close_matches)}" if close_matches else ""
        hint += f" Enable it with: {enable_with}" if enable_with else ""
        data: Mapping[str, Any] = {
            "executor_id": executor_id,
            "task": task,
            "close_matches": list(close_matches),
            "enable_with": enable_with,
        }
        super().__init__(f"{subject} '{executor_id}' is not registered or not enabled.{hint}", data=data)


class RoleTooLow(TasksError):
    """Your role does not allow this."""


class SchemaMismatch(TasksError):
    """The task does not fit its schema."""


class StatusConflict(TasksError):
    """The task's status does not allow this."""


class AlreadyExecuting(TasksError):
    """The tree is already executing."""


class CannotDelete(TasksError):
    """The task cannot be deleted."""


class InvalidParent(TasksError):
    """A task names a parent that is not in the request."""


class InvalidDependency(TasksError):
    """A task names a dependency that is not in the request."""


class InvalidTree(TasksError):
    """The tasks do not form one tree."""


class GenerationFailed(TasksError):
    """The model returned no valid tree."""


class LimitReached(TasksError):
    """A limit is reached."""


class TooManyWaits(Exception):
    """A user has as many waits as are allowed, so a task cannot begin another one."""

    def __init__(self, user_id: str) -> None:
        super().__init__(f"User '{user_id}' has too many open questions and waits (limits.waits_per_user).")


class LeaseLost(Exception):
    """Another worker has claimed the run; what this worker has not yet written is discarded."""
