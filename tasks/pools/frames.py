"""The messages between a worker and a process of its pool: typed, in MessagePack, each after its length."""

import asyncio
import struct
from dataclasses import asdict, fields
from typing import Any, Final, TypeVar

import msgspec
import orjson

from aipartnerupflow.executors import Context, Escalation, ExecutorError, Json, Parked, Reply, Spawn, Stopped, Wait
from tasks.executors.workflows import StepRaised
from tasks.rules.stored_results import stored_form

ORDER: Final = struct.Struct("!cIi")
FORK: Final = b"F"
"""Comes with the descriptors of a socket for the new process and of a pipe for what it prints."""
KILL: Final = b"K"
ENDED: Final = b"E"
"""A message of the nursery. The exit code is negative for a signal."""


LENGTH: Final = struct.Struct("!I")
M = TypeVar("M")


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """The base of all messages."""


# --- From the worker ---


class Job(Message, frozen=True, kw_only=True):
    """Execute this. The fields after `max_result_bytes` are those of the context."""

    executor_id: str
    inputs: Json
    memory_bytes: int
    max_processes: int
    max_result_bytes: int
    task_id: str
    run_id: str
    root_task_id: str
    user_id: str
    name: str
    params: Json
    schemas: Json
    dependency_results: Json
    attempt: int
    reply: Reply | None
    config: Json = {}
    must_begin: bool = False
    """Whether the worker is to store that the work begins."""
    secrets: list[str] = []
    """The named secrets in the inputs, to mask them in log lines."""
    trace: str | None = None
    """The span of the task, as a traceparent, from which its requests continue."""


OF_CONTEXT: Final = [field.name for field in fields(Context) if field.name in Job.__struct_fields__]
"""The fields of a context that a job has."""


class Cancel(Message, frozen=True, kw_only=True):
    """Stop the job."""

    is_forced: bool
    is_given_up: bool


class Heard(Message, frozen=True, kw_only=True):
    """A part of a model's answer to the call `number`."""

    number: int
    text: str


class Used(Message, frozen=True, kw_only=True):
    """The cost of the call `number` of a model. The worker has counted it already."""

    number: int
    usage: Json


class Answer(Message, frozen=True, kw_only=True):
    """The result or the error of the call `number`."""

    number: int
    value: Any = None
    error: "Failed | Halted | None" = None


# --- From the process ---


class Begun(Message, frozen=True, kw_only=True):
    """The job has arrived and begins now."""


class Progress(Message, frozen=True, kw_only=True):
    fraction: float
    message: str


class Line(Message, frozen=True, kw_only=True):
    """A log line of the task."""

    text: str


class Spent(Message, frozen=True, kw_only=True):
    usage: Json


class Call(Message, frozen=True, kw_only=True):
    """Do this in the worker, as `tasks.pools.line` does."""

    number: int
    name: str
    arguments: Json


class Withdrawn(Message, frozen=True, kw_only=True):
    """Cancel the call `number`; it is answered all the same."""

    number: int


class Completed(Message, frozen=True, kw_only=True):
    """The job's result, or the fields of its Spawn, as JSON text."""

    result: bytes
    is_spawn: bool = False


class Failed(Message, frozen=True, kw_only=True):
    """An ExecutorError."""

    message: str
    permanent: bool
    retry_after_seconds: float | None
    raised: tuple[str, list[Any]] | None = None
    """The exception of a StepRaised."""


class Halted(Message, frozen=True, kw_only=True):
    """A Stopped."""

    result: Any
    token_usage: Json | None


class Asked(Message, frozen=True, kw_only=True):
    """A Parked."""

    question: str
    options: list[str] | None
    schema: Json | None = None
    assignees: list[str] | None = None
    remind_after_seconds: list[float] = []
    escalation: Escalation | None = None
    expires_after_seconds: float | None
    memo: bytes
    wait: Wait


class Cancelled(Message, frozen=True, kw_only=True):
    """The job has stopped."""


class Raised(Message, frozen=True, kw_only=True):
    """Any other exception: its type, and its traceback for the log."""

    kind: str
    traceback: str


class Ended(Message, frozen=True, kw_only=True):
    """The job is over. `grown_bytes`: how much memory the process takes more than when it was started.

    `is_stained`: the job has left processes, which were killed, so the process takes no other job.
    """

    end: Completed | Failed | Halted | Asked | Cancelled | Raised
    grown_bytes: int
    is_stained: bool = False


FromWorker = Job | Cancel | Heard | Used | Answer
FromProcess = Begun | Progress | Line | Spent | Call | Withdrawn | Ended

TO_PROCESS: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)
TO_WORKER: Final[msgspec.msgpack.Decoder[FromProcess]] = msgspec.msgpack.Decoder(FromProcess)
ENCODER: Final = msgspec.msgpack.Encoder()


class TooLong(Exception):
    """A message has more bytes than allowed."""


def encoded(message: Message) -> bytes:
    """Return the message with its length. Raises TypeError, ValueError (UnicodeEncodeError) or OverflowError for what is not JSON."""
    body = ENCODER.encode(message)
    return LENGTH.pack(len(body)) + body


async def read(
    reader: asyncio.StreamReader, decoder: "msgspec.msgpack.Decoder[M]", *, max_bytes: int | None = None
) -> M | None:
    """Return the next message; None when the other side is gone. Raises TooLong, msgspec.MsgspecError."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if max_bytes is not None and length > max_bytes:
            raise TooLong(length)
        return decoder.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def completion_of(result: Any, *, max_bytes: int) -> Completed:
    """Raise ExecutorError if the result is not JSON, or too large."""
    if isinstance(result, Spawn):
        return Completed(result=stored_form(asdict(result), max_bytes=max_bytes), is_spawn=True)
    return Completed(result=stored_form(result, max_bytes=max_bytes))


def result_of(completed: Completed) -> Any:
    result = orjson.loads(completed.result)
    return Spawn(**result) if completed.is_spawn else result


def failure_of(error: ExecutorError) -> Failed:
    return Failed(
        message=clean(str(error)),
        permanent=error.permanent,
        retry_after_seconds=error.retry_after_seconds,
        raised=error.raised if isinstance(error, StepRaised) else None,
    )


def halt_of(stopped: Stopped) -> Halted:
    return Halted(result=stopped.result, token_usage=stopped.token_usage)


def question_of(parked: Parked) -> Asked:
    return Asked(
        question=clean(parked.question),
        options=None if parked.options is None else list(parked.options),
        schema=parked.schema,
        assignees=None if parked.assignees is None else list(parked.assignees),
        remind_after_seconds=list(parked.remind_after_seconds),
        escalation=parked.escalation,
        expires_after_seconds=parked.expires_after_seconds,
        memo=parked.memo.encode(),
        wait=parked.wait,
    )


def parked_of(asked: Asked) -> Parked:
    parked = Parked(asked.question, options=asked.options, expires_after_seconds=asked.expires_after_seconds)
    parked.schema, parked.assignees = asked.schema, asked.assignees
    parked.remind_after_seconds, parked.escalation = asked.remind_after_seconds, asked.escalation
    parked.memo, parked.wait = asked.memo.decode(), asked.wait
    return parked


def error_of(failed: Failed | Halted) -> ExecutorError | Stopped:
    if isinstance(failed, Halted):
        return Stopped(result=failed.result, token_usage=failed.token_usage)
    if failed.raised is not None:
        return StepRaised(failed.message, failed.raised)
    return ExecutorError(failed.message, permanent=failed.permanent, retry_after_seconds=failed.retry_after_seconds)


def clean(text: str) -> str:
    """Return the text without lone surrogates, which UTF-8 does not have."""
    return text.encode("utf-8", "replace").decode()
