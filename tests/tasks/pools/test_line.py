"""The worker's end of a line to a process."""

import asyncio

from aipartnerupflow.executors.testing import context
from tasks.executors.workflows import StepRaised
from tasks.pools import frames
from tasks.pools.line import _Job


async def test_a_call_that_is_withdrawn_before_it_begins_is_answered() -> None:
    """Otherwise the process waits for the answer until it is killed."""
    sent: list[bytes] = []
    answered = asyncio.Event()

    def send(message: bytes) -> None:
        sent.append(message)
        answered.set()

    job = _Job(context(), send=send)
    job.heed(frames.Call(number=1, name="secret", arguments={"name": "TOKEN", "host": None}))
    job.heed(frames.Withdrawn(number=1))
    await answered.wait()
    halted = frames.Halted(result=None, token_usage=None)
    assert sent == [frames.encoded(frames.Answer(number=1, error=halted))]


def test_the_exception_of_a_step_comes_from_another_process_as_it_is() -> None:
    failure = frames.failure_of(StepRaised("refuse() raised Refused: no", ("Refused", ["no", {"left": 3}])))
    sent = frames.ENCODER.encode(frames.Ended(end=failure, grown_bytes=0))
    ended = frames.TO_WORKER.decode(sent)
    assert isinstance(ended, frames.Ended)
    assert isinstance(ended.end, frames.Failed)
    error = frames.error_of(ended.end)
    assert isinstance(error, StepRaised)
    assert (str(error), error.raised) == ("refuse() raised Refused: no", ("Refused", ["no", {"left": 3}]))
