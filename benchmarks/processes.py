"""The processes of a server, with their memory and processor time, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path
from string import digits
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
WORKER: Final = "tasks.worker"
"""Part of the command of the supervisor's processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of the server, in MiB and seconds.

    `cpu` includes ended children that it has waited for. `cpu_now` does not; the kernel counts it in nanoseconds, and the
    other in hundredths of a second.
    """

    pid: int
    name: str
    resident: float
    proportional: float
    own: float
    cpu: float
    cpu_now: float


def processes_below(pid: int) -> list[Process]:
    """All processes that descend from this one."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found, new = list[int](), {pid}
    while new:
        new = {each for each, parent in parents.items() if parent in new}
        found += sorted(new)
    return [process for each in found if (process := _process(each)) is not None]


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


def _process(pid: int) -> Process | None:
    folder = Path(f"/proc/{pid}")
    try:
        usage = (folder / "smaps_rollup").read_text()
        arguments = (folder / "cmdline").read_text().split("\0")
        ticks = sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:15]))
        now = sum(int((thread / "schedstat").read_text().split()[0]) for thread in (folder / "task").iterdir()) / 1e9
    except OSError:
        return None
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in usage.splitlines()[1:]}
    own = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Process(
        pid=pid,
        name=_name(arguments),
        resident=sizes["Rss"],
        proportional=sizes["Pss"],
        own=own,
        cpu=ticks / TICKS,
        cpu_now=now,
    )


def _name(arguments: list[str]) -> str:
    """The command without the interpreter, options, numbers and ids."""
    return " ".join(each for each in arguments[1:] if each and not each.startswith(("-", *digits)))


def cpu_of_web(port: int) -> float:
    """The processor time in seconds of the web processes of the server that this process has started on the port."""
    return sum(each.cpu for each in _server(port) if WORKER not in each.name)


def cpu_of_workers(port: int) -> float:
    """The processor time in seconds of the worker processes of that server."""
    return sum(each.cpu for each in _server(port) if WORKER in each.name)


def cpu_of_all(pid: int) -> float:
    """The processor time in seconds of this process and all below it."""
    return sum(each.cpu for each in (_process(pid), *processes_below(pid)) if each is not None)


def _server(port: int) -> list[Process]:
    for each in processes_below(os.getpid()):
        arguments = Path(f"/proc/{each.pid}/cmdline").read_text().split("\0")
        if str(port) in arguments:
            return [each, *processes_below(each.pid)]
    raise LookupError(f"No process of this benchmark serves port {port}")
