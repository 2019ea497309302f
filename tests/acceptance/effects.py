"""The judge of what ran: a file that executors append to, apart from the database that is judged."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Effects:
    """Lines such as `start step1` and `end step1`, in the order in which it happened."""

    file: Path

    def lines(self) -> list[str]:
        return self.file.read_text().splitlines() if self.file.exists() else []

    def counts(self, what: str) -> Counter[str]:
        """How often each task did that: `start`, `end`, `cancel` or `give-up`."""
        return Counter(line.removeprefix(f"{what} ") for line in self.lines() if line.startswith(f"{what} "))

    def step(self, name: str, *, seconds: float = 0.0, **fields: Any) -> Json:
        """A task that leaves its lines here."""
        inputs = {"effects": str(self.file), "seconds": seconds}
        return {"id": name, "name": name, "schemas": {"method": "scripted_executor"}, "inputs": inputs, **fields}

    def gated(self, step: Json) -> Json:
        """The task, which now does not end before `open_gate`, however fast or slow the machine."""
        return step | {"inputs": step["inputs"] | {"gate": str(self._gate)}}

    def open_gate(self) -> None:
        self._gate.touch()

    @property
    def _gate(self) -> Path:
        return self.file.with_name("gate")

    def chain(self, name: str, length: int, *, seconds: float, gated: int | None = None) -> list[Json]:
        """`name-1`, `name-2` …, one after the other, under the group `name`; the one with the number `gated` waits for `open_gate`."""
        names = [f"{name}-{number}" for number in range(1, length + 1)]
        steps = [
            self.step(step, seconds=seconds, parent_id=name, dependencies=[before] if before else [])
            for before, step in zip([None, *names], names, strict=False)
        ]
        if gated is not None:
            steps[gated - 1] = self.gated(steps[gated - 1])
        return [{"id": name, "name": name}, *steps]
