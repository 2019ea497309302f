"""The cases of experiments as flat rows, one for each run of the flow: for data frames and CSV."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Any, Final

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that begins so for a formula."""


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


def columns_of(inputs: Iterable[str], scores: Iterable[str]) -> list[str]:
    """Return the names of the columns of rows with these inputs and scores."""
    named = [column for name in scores for column in (name, f"{name}.reason")]
    return [
        "row",
        *(f"inputs.{name}" for name in inputs),
        "expected",
        "tags",
        "variant",
        "version",
        "repeat",
        "status",
        "task_id",
        *named,
    ]


def as_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, has_header: bool = True) -> str:
    """Return rows as CSV (RFC 4180). Values that are no texts are JSON, and a text that may be a formula begins with an apostrophe."""
    text = StringIO()
    writer = csv.writer(text)
    if has_header:
        writer.writerow(map(_cell, columns))
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
