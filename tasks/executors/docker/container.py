"""One container from its creation to its removal."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from django.conf import settings

from aipartnerupflow.executors import Context, ExecutorError
from tasks.executors.docker.daemon import NOT_FOUND, Daemon, DaemonRefused, connected
from tasks.executors.docker.order import ATTEMPT, INSTALLATION, RUN, TASK, Order, description, labels
from tasks.executors.docker.output import Output

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
