"""The table of docs/reliability.md about another user's waits: what `test_bystanders` measured, kept as JSON under `build/bystanders/`.

python -m tests.acceptance.bystander_rows            print it
python -m tests.acceptance.bystander_rows --write    replace it in the page
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.faults import table
from tests.faults.rows import circumstances, percentile
from tests.servers import ROOT

FOLDER: Final = ROOT / "build" / "bystanders"
BEGIN: Final = "<!-- bystanders: written by python -m tests.acceptance.bystander_rows --write -->"
END: Final = "<!-- end of bystanders -->"
ENGINES: Final = ("sqlite", "postgres")
WORKERS: Final = int(os.environ.get("BYSTANDERS_WORKERS", "1"))
"""Worker processes of the server."""
ALONE: Final = "alone"
"""The row that all others are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long another user's rounds took beside one attack, in seconds, without what they take alone."""

    attack: str
    p50: float
    p99: float
    most: float
    rounds: int
    lost: int
    """Leases that ended before their runs."""
    replaced: int
    """Processes that were."""


def waits(attack: str, seconds: Sequence[float], *, alone: float, lost: int = 0, replaced: int = 0) -> Waits:
    longer = [round(max(0.0, each - alone), 3) for each in seconds] or [0.0]
    return Waits(
        attack=attack,
        p50=percentile(longer, 0.5),
        p99=percentile(longer, 0.99),
        most=max(longer),
        rounds=len(seconds),
        lost=lost,
        replaced=replaced,
    )


def store(row: Waits) -> None:
    engine = os.environ.get("TEST_ENGINE", ENGINES[0])
    stored = asdict(row) | circumstances() | {"engine": engine, "workers": WORKERS}
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{row.attack}-{engine}-{WORKERS}.json").write_text(json.dumps(stored, indent=2) + "\n")


def lines(stored: Sequence[dict[str, Any]]) -> list[str]:
    """A table of each number of worker processes; in it, those rows first in which somebody waits longest."""
    text = []
    for workers in sorted({row["workers"] for row in stored}):
        rows = [row for row in stored if row["workers"] == workers]
        found = {(row["attack"], row["engine"]): row for row in rows}
        attacks = {row["attack"] for row in rows}
        most = {attack: max(row["most"] for row in rows if row["attack"] == attack) for attack in attacks}
        ordered = sorted(attacks, key=lambda attack: (attack != ALONE, -most[attack], attack))
        heads = [f"{engine} p50 / p99 / max" for engine in ("SQLite", "PostgreSQL")]
        dates = sorted({row["date"] for row in rows})
        loads = [row["load"] for row in rows]
        text += [
            f"{workers} worker process{'es' if workers > 1 else ''}, {rows[0]['cores']} cores at load "
            f"{min(loads):.0f} to {max(loads):.0f}, {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}:",
            "",
            f"| one user's | {' | '.join(heads)} | leases lost | processes replaced |",
            "| --- | ---: | ---: | ---: | ---: |",
            *(line(attack, [found.get((attack, engine)) for engine in ENGINES]) for attack in ordered),
            "",
        ]
    return text[:-1]


def line(attack: str, rows: Sequence[dict[str, Any] | None]) -> str:
    times = [f"{row['p50']:.2f} / {row['p99']:.2f} / {row['most']:.2f} s" if row else "" for row in rows]
    counts = [str(sum(row[name] for row in rows if row)) for name in ("lost", "replaced")]
    return "| " + " | ".join([attack.replace("_", " "), *times, *counts]) + " |"


def stored_rows(folder: Path = FOLDER) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


if __name__ == "__main__":
    made = "\n".join(lines(stored_rows()))
    table.write(made, begin=BEGIN, end=END) if "--write" in sys.argv else print(made)  # noqa: T201
