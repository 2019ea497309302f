"""Kill processes of a server, and measure when the trees that they worked on move again."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil

from tests.faults.judge import Queried
from tests.faults.rows import percentile
from tests.fork_server import CLUSTER, QUARANTINE
from tests.servers import Server, until

WEIGHTS = {"worker": 60, "quarantine": 60, "cluster": 30, "top": 5}
"""How often a process of which role is chosen, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A kill, and the runs that were in hand. Times are seconds since the epoch, by this machine's clock.

    `gone_at`: when the last process that worked on them had ended. What is written later is by others.
    """

    role: str
    killed_at: float
    gone_at: float
    runs: Sequence[str]


def victims(server: Server) -> dict[str, list[psutil.Process]]:
    """The living processes by role: `cluster` has the supervising process and the pusher."""
    found: dict[str, list[psutil.Process]] = {role: [] for role in WEIGHTS}
    pids = {pid for (pid,) in server.query("SELECT pid FROM tasks_workerprocess")}
    for process in server.processes():
        try:
            is_quarantine, is_of_cluster = server.runs(process, QUARANTINE), server.runs(process, CLUSTER)
        except psutil.NoSuchProcess:
            continue
        if is_quarantine:
            found["quarantine"].append(process)
        elif is_of_cluster:
            found["worker" if process.pid in pids else "cluster"].append(process)
        elif process.pid == server.pid:
            found["top"].append(process)
    return found


def kill_one(server: Server, draw: random.Random) -> Kill:
    """Kill -9 a process of the server, of a random role."""
    processes = {role: each for role, each in victims(server).items() if each}
    (role,) = draw.choices(list(processes), [WEIGHTS[role] for role in processes])
    victim = draw.choice(processes[role])
    descendants = [victim, *victim.children(recursive=True)]
    runs = _held_by(server, {process.pid for process in descendants})
    killed_at = time.time()
    victim.kill()
    until(lambda: not any(map(is_alive, descendants)), seconds=60, what=f"the end of what {role} had started")
    return Kill(role=role, killed_at=killed_at, gone_at=time.time(), runs=runs)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _held_by(server: Server, pids: set[int]) -> list[str]:
    rows = server.query("SELECT id, lease_owner FROM tasks_run WHERE finished_at IS NULL AND lease_owner LIKE '%%/%%'")
    return [run_id for run_id, owner in rows if int(owner.split("/")[1]) in pids]


def recoveries(server: Queried, kills: Sequence[Kill]) -> list[float]:
    """The seconds from each kill to the next event of each tree that was in hand and had not finished."""
    return [seconds for kill in kills for seconds in recoveries_of(server, kill)]


def recoveries_of(server: Queried, kill: Kill) -> list[float]:
    later = ([at for at in event_times(server, run_id) if at > kill.gone_at] for run_id in kill.runs)
    return [min(times) - kill.killed_at for times in later if times]


def by_role(server: Queried, kills: Sequence[Kill]) -> str:
    """How many kills there were of each role, and the longest recovery."""
    parts = []
    for role in sorted({kill.role for kill in kills}):
        its = [kill for kill in kills if kill.role == role]
        seconds = recoveries(server, its)
        slowest = f" (p99 {percentile(seconds, 0.99):.1f} s)" if seconds else ""
        parts.append(f"{role} {len(its)}{slowest}")
    return ", ".join(parts)


def event_times(server: Queried, run_id: str) -> list[float]:
    return [_epoch(at) for (at,) in server.query("SELECT created_at FROM tasks_taskevent WHERE run_id = %s", run_id)]


def _epoch(stored: Any) -> float:
    """A time of the database, in seconds; SQLite has texts in UTC."""
    at = datetime.fromisoformat(stored).replace(tzinfo=UTC) if isinstance(stored, str) else stored
    seconds: float = at.timestamp()
    return seconds
