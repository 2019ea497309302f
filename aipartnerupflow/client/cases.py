"""The cases of experiments as flat rows, one for each run of the flow: for data frames.

The server has the same function for CSV: this package depends on httpx only, and importing it would load that.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def flat(cases: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each run of each case of `evals.get`: `row` from 0, `inputs.NAME`, `expected`, `tags`, and `NAME` and `NAME.reason` of each score."""
    for case in cases:
        of_case = {"row": case["number"], **{f"inputs.{name}": value for name, value in case["inputs"].items()}}
        of_case |= {"expected": case.get("expected"), "tags": list(case.get("tags", ()))}
        for run in case["runs"]:
            row = of_case | {name: run[name] for name in ("variant", "version", "repeat", "status", "task_id")}
            for name, score in run["scores"].items():
                row |= {name: score["value"], f"{name}.reason": score["reason"]}
            yield row
