"""One container from its creation to its removal."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from django.conf import settings

from aipartnerupflow.executors import Context, ExecutorError
from tasks.executors.command.guarded_process import LineLog, text_of
from tasks.executors.docker.daemon import NOT_FOUND, Daemon, DaemonRefused, connected
from tasks.executors.docker.order import ATTEMPT, INSTALLATION, RUN, TASK, Order, description, labels

HEADER_BYTES: Final = 8
"""One byte for the stream, three that are zero, and the size of the payload in four."""


class Output:
    """The standard output and error of a container, in the order of their arrival. The first lines are published."""

    def __init__(self, *, most_bytes: int, log: Callable[[str], None]) -> None:
        self.is_flooding = False
        self._kept = bytearray()
        self._most_bytes = most_bytes
        self._lines = LineLog(log)
        self._header = b""
        self._left = 0

    @property
    def text(self) -> str:
        return text_of(self._kept)

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the stream, which may end anywhere."""
        payload = self._payload(chunk)
        room = self._most_bytes - len(self._kept)
        self.is_flooding = self.is_flooding or len(payload) > room
        self._kept += payload[:room]
        self._lines.feed(payload[:room])

    def close(self) -> None:
        """Publish a last line without a line end."""
        self._lines.close()

    def _payload(self, chunk: bytes) -> bytes:
        data, at, parts = self._header + chunk, 0, []
        while at < len(data):
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
            elif len(data) - at < HEADER_BYTES:
                break
            else:
                self._left = int.from_bytes(data[at + 4 : at + HEADER_BYTES], "big")
                at += HEADER_BYTES
        self._header = data[at:]
        return b"".join(parts)


PAUSE_SECONDS: Final = 0.01
"""Between two reads, so that many small writes of the container cost the worker no more than one."""


async def run(order: Order, context: Context, output: Output) -> Mapping[str, Any]:
    """Run the container and return its `State`, or an empty one if it was stopped because it wrote too much.

    However this ends, the container is killed and removed. Raises ExecutorError.
    """
    try:
        async with connected() as daemon:
            await _remove_earlier(daemon, context)
            async with _created(daemon, order, context) as name, daemon.attached(name) as frames:
                await context.begin()
                await daemon.start(name)
                async for chunk in frames:
                    output.feed(chunk)
                    if output.is_flooding:
                        return {}
                    await asyncio.sleep(PAUSE_SECONDS)
                return await daemon.ended(name)
    except DaemonRefused as refused:
        raise _failure(order.image, refused) from None
    finally:
        output.close()


async def _remove_earlier(daemon: Daemon, context: Context) -> None:
    """Remove the containers of earlier attempts at the task, whose worker died. A task may have several in one attempt."""
    ours = labels(context)
    for found in await daemon.labelled(*(f"{name}={ours[name]}" for name in (INSTALLATION, TASK))):
        if any(found["Labels"].get(name) != ours[name] for name in (RUN, ATTEMPT)):
            await daemon.remove(found["Id"])


@asynccontextmanager
async def _created(daemon: Daemon, order: Order, context: Context) -> AsyncIterator[str]:
    """Yield the name of a container that has not started."""
    name, what = f"aipartnerupflow-{uuid.uuid4()}", description(order, context)
    try:
        try:
            await daemon.create(name, what)
        except DaemonRefused as refused:
            if refused.status != NOT_FOUND or settings.APFLOW.executors.docker.pull != "missing":
                raise
            context.log(f"Pulling the image {order.image}")
            await daemon.pull(order.image)
            await daemon.create(name, what)
        yield name
    finally:
        await daemon.remove(name)


def _failure(image: str, refused: DaemonRefused) -> ExecutorError:
    if refused.status == NOT_FOUND and "image" in refused.message.lower():
        return ExecutorError(
            f"The image '{image}' is not on the worker's machine. The operator has to pull it (docker pull {image}), or set "
            f"executors.docker.pull to 'missing'. Docker says: {refused.message}",
            permanent=True,
        )
    is_ours = 400 <= refused.status < 500
    return ExecutorError(f"Docker did not run '{image}': {refused.message}", permanent=is_ours)
