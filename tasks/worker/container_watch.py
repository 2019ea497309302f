"""Removes the containers of tasks whose worker died: those of `docker_executor` that no attempt in progress has."""

import asyncio
import logging
import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from django.db import DatabaseError, connection

from aipartnerupflow.executors import ExecutorError
from apflow_site.db.connections import refresh
from tasks.executors.docker.daemon import DaemonRefused, connected
from tasks.executors.docker.order import ATTEMPT, INSTALLATION, TASK, installation
from tasks.models import Task
from tasks.status import Status

logger = logging.getLogger(__name__)

SECONDS: Final = 5.0
"""Between two looks."""


def watch(is_over: threading.Event) -> None:
    """Until then, remove what is left of attempts that are over, on the machine of these workers."""
    could = True
    while not is_over.wait(SECONDS):
        try:
            refresh()
            sweep()
            could = True
        except (DatabaseError, ExecutorError, DaemonRefused) as error:
            if could:  # said once, not every time
                logger.warning("Could not look for containers: %s", error, extra={"event": "containers.failed"})
            could = False
            connection.close()


def sweep() -> None:
    """Remove the containers of attempts that are not in progress.

    Raises DatabaseError, and ExecutorError or DaemonRefused when Docker does not answer, or with an error.
    """
    if lost := _lost(asyncio.run(_ours())):
        for each in lost:
            logger.warning(
                "Removing the container of task %s: its worker has died",
                each["Labels"][TASK],
                extra={"event": "container.removed"},
            )
        asyncio.run(_remove(lost))


async def _ours() -> list[Mapping[str, Any]]:
    async with connected() as daemon:
        return await daemon.labelled(f"{INSTALLATION}={installation()}", TASK, ATTEMPT)


async def _remove(containers: Collection[Mapping[str, Any]]) -> None:
    async with connected() as daemon:
        for each in containers:
            await daemon.remove(each["Id"])


def _lost(containers: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the containers without an attempt. It is recorded before its container is made, so one that is not found is over."""
    by_attempt = [((each["Labels"][TASK], each["Labels"][ATTEMPT]), each) for each in containers]
    ids = {task_id for (task_id, _), _ in by_attempt}
    if not ids:
        return []
    at_work = Task.objects.filter(id__in=ids, status=Status.IN_PROGRESS).values_list("id", "attempt")
    wanted = {(task_id, str(attempt)) for task_id, attempt in at_work}
    return [each for attempt, each in by_attempt if attempt not in wanted]
