"""T1: processes of one server are killed again and again while it works: `serve` itself, its cluster, workers, quarantines."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.faults.judge import assert_sound, await_rest, begun_again, completed_twice, lost
from tests.faults.kills import Kill, by_role, kill_one, recoveries, victims
from tests.faults.rows import Report, Row, percentile, size
from tests.ports import free_port
from tests.servers import Server, real_server, until

KILLS = size("KILLS", 500)
EACH_SECONDS = 2.0
TREES_A_KILL = 4
STEPS = 12
RECOVERY_SECONDS = 10.0

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.faults,
    pytest.mark.both_engines,
    pytest.mark.timeout(KILLS * 6 + 600),
]


class Phoenix:
    """A server that is started again whenever its first process is killed, with the same data and port."""

    def __init__(self, database: str, data_dir: Path) -> None:
        self._database, self._data_dir, self._port = database, data_dir, free_port()
        self._stack = ExitStack()
        self.server = self._start()

    def kill(self, draw: random.Random) -> Kill:
        """Wait for a worker, then kill a process: a cluster that is killed during each start never runs a task."""
        until(lambda: victims(self.server)["worker"], seconds=60, what="a worker")
        kill = kill_one(self.server, draw)
        if kill.role == "top":
            self.close()
            self.server = self._start()
        return kill

    def close(self) -> None:
        self._stack.close()

    def _start(self) -> Server:
        return self._stack.enter_context(real_server(self._database, data_dir=self._data_dir, port=self._port))


@contextmanager
def phoenix(database: str, data_dir: Path) -> Iterator[Phoenix]:
    bird = Phoenix(database, data_dir)
    try:
        yield bird
    finally:
        bird.close()


def test_random_kills(database: str, effects: Effects, tmp_path: Path, report: Report) -> None:
    draw = random.Random(1)
    accepted: list[str] = []
    kills: list[Kill] = []
    with phoenix(database, tmp_path) as bird:
        for _ in range(KILLS):
            for _ in range(TREES_A_KILL):
                name = f"tree{len(accepted)}"
                tree = effects.chain(name, STEPS, seconds=draw.uniform(0.05, 0.2))
                bird.server.rpc("tasks.execute", {"tasks": tree})
                accepted.append(name)
                time.sleep(EACH_SECONDS / TREES_A_KILL)
            kills.append(bird.kill(draw))
        await_rest(bird.server)
        # How soon `serve` starts again is up to who watches it, here the test: that is in the note only.
        seconds = recoveries(bird.server, [kill for kill in kills if kill.role != "top"])
        report(
            Row(
                id="T1",
                fault="A random process is killed, every two seconds if there is a worker by then",
                size=f"{KILLS} kills, {len(accepted)} trees of {STEPS} steps",
                lost=lost(bird.server, accepted),
                twice=completed_twice(bird.server),
                again=begun_again(effects),
                recovery=seconds,
                note=by_role(bird.server, kills),
            )
        )
        assert_sound(bird.server)
        assert percentile(seconds, 0.99) <= RECOVERY_SECONDS
