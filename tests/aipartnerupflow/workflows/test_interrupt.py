"""Code that works without end is interrupted by a signal, and its workflow fails, whatever it catches."""

import signal
import threading
from collections.abc import Iterator

import pytest

from aipartnerupflow.workflows import gather, step, workflow
from aipartnerupflow.workflows.loop import Blocked, interrupt
from aipartnerupflow.workflows.testing import play

BEGUN = threading.Event()


@step
def nothing() -> None:
    """Do nothing."""


@workflow
async def spin() -> None:
    await nothing()
    BEGUN.set()
    while True:
        pass


@workflow
async def spin_in_a_branch() -> None:
    async def branch() -> None:
        await nothing()
        BEGUN.set()
        try:
            while True:
                pass
        except Exception:  # noqa: BLE001  (as the code of a user may)
            await nothing()

    await gather(branch(), nothing())


@pytest.fixture(autouse=True)
def interrupted() -> Iterator[None]:
    """Send the signal as soon as the code works without end."""
    main, before = threading.get_ident(), signal.signal(signal.SIGUSR1, interrupt)
    BEGUN.clear()

    def send() -> None:
        assert BEGUN.wait(60)
        signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("endless", [spin, spin_in_a_branch])
async def test_it_is_stopped_where_it_works(endless: object) -> None:
    with pytest.raises(Blocked, match=r"test_interrupt\.py:\d+: the code of the workflow works on without waiting"):
        await play(endless())  # type: ignore[operator]


async def test_the_signal_does_nothing_outside_of_a_workflow() -> None:
    BEGUN.set()
    signal.raise_signal(signal.SIGUSR1)
