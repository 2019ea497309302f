"""A steady load for an installation that suffers: trees that are sent until they are accepted, and what became known of them."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.acceptance.effects import Effects
from tests.faults.installation import Installation
from tests.faults.judge import assert_sound, await_rest, begun_again, completed_twice, lost
from tests.faults.kills import Kill, recoveries
from tests.faults.rows import Row

STEPS = 8
PAUSE_SECONDS = 0.5


class Load(threading.Thread):
    """Sends a tree every half a second. `waits` has the seconds until each was accepted."""

    def __init__(self, made: Installation, effects: Effects) -> None:
        super().__init__(name="load")
        self.accepted: list[str] = []
        self.waits: list[float] = []
        self.error: BaseException | None = None
        self._made, self._effects = made, effects
        self._is_over = threading.Event()

    def run(self) -> None:
        draw = random.Random(2)
        try:
            while not self._is_over.wait(PAUSE_SECONDS):
                name = f"tree{len(self.accepted)}"
                tree = self._effects.chain(name, STEPS, seconds=draw.uniform(0.05, 0.5))
                self.waits.append(self._made.execute_in_time(tree, key=name, seconds=180))
                self.accepted.append(name)
        except BaseException as error:
            self.error = error
            raise

    def end(self) -> None:
        self._is_over.set()
        self.join()
        assert self.error is None, self.error


@contextmanager
def loaded(made: Installation, effects: Effects) -> Iterator[Load]:
    """The load goes on within the block, and has ended after it."""
    load = Load(made, effects)
    load.start()
    try:
        yield load
    finally:
        load.end()


def let_pass(seconds: float) -> None:
    """The time that a fault lasts, or that passes between two of them."""
    time.sleep(seconds)


def judged(made: Installation, load: Load, effects: Effects, *, kills: Sequence[Kill] = (), **fields: Any) -> Row:
    """The row of a load that has ended, once all trees have; `fields` are those of `Row`."""
    await_rest(made)
    waits = f"a tree is accepted within {max(load.waits):.1f} s; answers: {made.answered()}"
    note = "; ".join(part for part in (fields.pop("note", ""), waits) if part)
    row = Row(
        lost=lost(made, load.accepted),
        twice=completed_twice(made),
        again=begun_again(effects),
        recovery=recoveries(made, kills),
        engine="postgres",
        note=note,
        **fields,
    )
    assert_sound(made)
    return row
