"""Rows of the table of faults: what a test measured, kept as JSON under `build/faults/` for `tests.faults.table`."""

import json
import math
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.servers import ROOT

FOLDER: Final = ROOT / "build" / "faults"
PREFIX: Final = "FAULTS_"
"""Of the environment variables that change sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one fault did.

    `lost` counts accepted trees that did not complete, `twice` tasks that completed more than once,
    `again` steps that were begun once more than they completed. `recovery` has the seconds from each
    kill to the next event of each tree that was in hand.
    """

    id: str
    fault: str
    size: str
    lost: int | None = None
    twice: int | None = None
    again: int | None = None
    recovery: Sequence[float] = field(default=())
    note: str = ""
    engine: str = ""
    """If it is not the one that the test runs on."""


Report = Callable[[Row], None]


def size(name: str, default: int) -> int:
    """The size of a test: FAULTS_`name` of the environment, or the one of the programme."""
    return int(os.environ.get(PREFIX + name, default))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of them."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def reporter(node_id: str, engine: str) -> Report:
    """A function that stores a row of this test; its seconds count from now."""
    begun = time.monotonic()

    def report(row: Row) -> None:
        stored = _summary(row) | circumstances() | {"command": _command(node_id, engine)}
        stored["seconds"] = round(time.monotonic() - begun)
        stored["engine"] = row.engine or engine
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{row.id}-{stored['engine']}.json").write_text(json.dumps(stored, indent=2) + "\n")
        print(json.dumps(stored))  # noqa: T201
        assert not row.lost, f"{row.lost} trees lost"
        assert not row.twice, f"{row.twice} tasks completed twice"

    return report


def stored_rows(folder: Path = FOLDER) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def _summary(row: Row) -> dict[str, Any]:
    times = row.recovery
    figures = {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "max": max(times)} if times else {}
    rounded = {name: round(value, 2) for name, value in figures.items()}
    return asdict(row) | {"recovery": {"trees": len(times)} | rounded}


def circumstances() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def _command(node_id: str, engine: str) -> str:
    sizes = {name: value for name, value in sorted(os.environ.items()) if name.startswith(PREFIX)}
    test_engine = {"TEST_ENGINE": "postgres"} if engine == "postgres" else {}
    variables = "".join(f"{name}={value} " for name, value in (test_engine | sizes).items())
    return f'{variables}make faults ARGS="{node_id}"'


def _commit() -> str:
    git = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
