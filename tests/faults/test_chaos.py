"""Everything at once: many clients do whatever they like to the same trees, while workers are killed.

CHAOS_SECONDS says how long (60), CHAOS_SEED which way (1).
"""

import os
import random
import threading
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.faults.judge import assert_nothing_broke, assert_sound, await_rest, counted, tell
from tests.faults.test_workers import clusters
from tests.servers import Json, Server, real_server

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
CLIENTS = 8
TIMES_OUT = 0.2
REFUSALS = {-32001, -32006, -32008, -32009}
"""No such task any more; it stands otherwise; its tree is executing; it has dependants."""

pytestmark = [pytest.mark.nightly, pytest.mark.both_engines, pytest.mark.timeout(SECONDS + 540)]


class Client(threading.Thread):
    """One of many. `trees` are the ids of the tasks of all trees that there ever were, the root first."""

    def __init__(self, url: str, number: int, trees: list[list[str]], *, ends_at: float) -> None:
        super().__init__()
        self.replies: Counter[int] = Counter()
        self.faults: list[Any] = []
        self._http = httpx.Client(base_url=url, timeout=60)
        self._draw = random.Random(f"{SEED}/{number}")
        self._trees, self._ends_at = trees, ends_at

    def run(self) -> None:
        with self._http:
            while time.monotonic() < self._ends_at:
                self._call(*self._choose())

    def _call(self, method: str, params: Json) -> None:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = self._http.post("/tasks", json=request).json()
        code = reply.get("error", {}).get("code", 0)
        self.replies[code] += 1
        if code and code not in REFUSALS:
            self.faults.append((method, params, reply))

    def _choose(self) -> tuple[str, Json]:
        draw = self._draw
        if len(self._trees) < CLIENTS:
            return "tasks.execute", {"tasks": self._new_tree()}
        tree = draw.choice(self._trees)
        root, task = tree[0], draw.choice(tree)
        choices: list[tuple[int, str, Json]] = [
            (15, "tasks.execute", {}),
            (25, "tasks.execute", {"task_id": draw.choice([root, task])}),
            (25, "tasks.cancel", {"task_ids": [task], "force": draw.random() < 0.3}),
            (5, "tasks.copy", {"task_id": draw.choice([root, task]), "children": True}),
            (5, "tasks.delete", {"task_id": draw.choice([root, task]), "force": draw.random() < 0.5}),
            (5, "tasks.update", {"task_id": task, "inputs": {"seconds": draw.uniform(0, 0.3)}}),
            (10, "tasks.answer", {"task_id": task, "answer": "yes"}),
            (10, "tasks.tree", {"task_id": task}),
        ]
        ((_, method, params),) = draw.choices(choices, [weight for weight, _, _ in choices])
        return method, params or {"tasks": self._new_tree()}

    def _new_tree(self) -> list[Json]:
        draw = self._draw
        ids = [f"{draw.getrandbits(48):012x}" for _ in range(draw.randint(1, 7))]
        self._trees.append(ids)
        tasks: list[Json] = []
        for number, task_id in enumerate(ids):
            asks = draw.random() < 0.1
            inputs: Json = {"question": "Well?"} if asks else {"seconds": draw.uniform(0, 0.4)}
            before = [each for each in ids[1:number] if draw.random() < 0.4]
            tasks.append(
                {
                    "id": task_id,
                    "name": "approval_executor" if asks else "scripted_executor",
                    "parent_id": ids[0] if number else None,
                    "inputs": inputs,
                    "dependencies": [{"id": each, "required": draw.random() < 0.7} for each in before],
                    "priority": draw.randint(0, 3),
                    "params": {"timeout_seconds": draw.choice([TIMES_OUT, 5])},
                }
            )
        return tasks


def test_whatever_happens_every_run_ends_once_or_waits_for_an_answer(database: str) -> None:
    draw = random.Random(SEED)
    with real_server(database) as server:
        ends_at = time.monotonic() + SECONDS
        trees: list[list[str]] = []
        clients = [Client(server.url, number, trees, ends_at=ends_at) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        kills = _kill_workers(server, draw, ends_at)
        for client in clients:
            client.join()
        assert [fault for client in clients for fault in client.faults] == []
        await_rest(server)
        replies = sum((client.replies for client in clients), Counter[int]())
        tell(
            f"{replies.total()} calls, {kills} kills; runs: {counted(server, 'status')}, {counted(server, 'losses')} by lost workers"
        )
        assert_sound(server)
        assert_nothing_broke(server)


def _kill_workers(server: Server, draw: random.Random, ends_at: float) -> int:
    """Some process of the cluster every four seconds. Returns how many."""
    kills = 0
    while time.monotonic() < ends_at:
        time.sleep(4)
        draw.choice(clusters(server)).kill()
        kills += 1
    return kills
