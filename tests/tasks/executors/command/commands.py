"""What the tests of commands share: shells that they may run, and a way to see what is left of them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import psutil
from django.conf import settings

from aipartnerupflow.executors import Context, Json
from tasks.executors.command.executor import Command
from tasks.executors.command.guarded_process import GUARD
from tests import sections


def allowing(*programs: str, **limits: Any) -> Any:
    """The settings with which tasks may run these programs."""
    return sections.replace(settings.APFLOW_COMMAND, allow=programs, **{"timeout_seconds": 200, **limits})


@dataclass(slots=True)
class Shell:
    """A command in progress: a script for /bin/sh, whose first line of output says that it is ready."""

    script: str
    context: Context
    inputs: Json = field(default_factory=dict)
    is_forced: Callable[[], bool] = lambda: False
    lines: list[str] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> asyncio.Task[Json]:
        context = replace(self.context, log=self.heard, is_forced=self.is_forced)
        return asyncio.create_task(Command().execute({"argv": ["/bin/sh", "-c", self.script], **self.inputs}, context))

    def heard(self, line: str) -> None:
        self.lines.append(line)
        self.ready.set()


def alive(lines: list[str]) -> list[psutil.Process]:
    """Those of these process ids, one or more a line, that are neither gone nor dead."""
    pids = [int(word) for line in lines for word in line.split() if word.isdigit()]
    assert pids
    found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return [process for process in found if not is_dead(process)]


def is_dead(process: psutil.Process) -> bool:
    """A zombie counts as dead: the init process of a container may leave them."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


OTHERS: Final[set[psutil.Process]] = set()
"""Processes of earlier tests, some of which are left as zombies."""


def children() -> list[psutil.Process]:
    """The guards that this test started and all below them, zombies too."""
    guards = [child for child in psutil.Process().children() if child not in OTHERS and _is_guard(child)]
    return guards + [each for guard in guards for each in guard.children(recursive=True)]


def _is_guard(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE or GUARD in process.cmdline()
    except psutil.NoSuchProcess:
        return False
