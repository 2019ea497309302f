"""The table of docs/reliability.md, from the rows that `make faults` stored.

python -m tests.faults.table            print it
python -m tests.faults.table --write    replace it in the page
"""

import re
import sys
from typing import Any, Final

from tests.faults.rows import stored_rows
from tests.servers import ROOT

PAGE: Final = ROOT / "docs" / "reliability.md"
BEGIN: Final = "<!-- faults: written by python -m tests.faults.table --write -->"
END: Final = "<!-- end of faults -->"
HEAD: Final = (
    "| | fault | engine | size | lost | completed twice | begun again | recovery p50 / p99 / max | seconds | measured |",
    "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
)


def line(row: dict[str, Any]) -> str:
    recovery = row["recovery"]
    times = " / ".join(f"{recovery[name]:.1f}" for name in ("p50", "p99", "max")) + " s" if "p50" in recovery else ""
    counts = ["" if row[name] is None else f"{row[name]:,}" for name in ("lost", "twice", "again")]
    size = "; ".join(part for part in (row["size"], row["note"]) if part)
    measured = f"{row['date']}, {row['commit']}, {row['cores']} cores at load {row['load']}"
    cells = [row["id"], row["fault"], row["engine"], size, *counts, times, f"{row['seconds']:,}", measured]
    return "| " + " | ".join(cells) + " |"


def table(rows: list[dict[str, Any]]) -> str:
    """The rows, and below them the command that repeats each."""
    ordered = sorted(rows, key=lambda row: (row["id"][0], int(re.sub(r"\D", "", row["id"]) or 0), row["id"]))
    commands = [f"{row['id']:4} {row['command']}" for row in ordered]
    return "\n".join([*HEAD, *map(line, ordered), "", "```text", *commands, "```"])


def write(text: str, *, begin: str = BEGIN, end: str = END) -> None:
    """Replace the table of the page."""
    before, _, rest = PAGE.read_text().partition(begin)
    _, found, after = rest.partition(end)
    assert found, f"{PAGE} needs the lines {begin!r} and {end!r}"
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


if __name__ == "__main__":
    made = table(stored_rows())
    write(made) if "--write" in sys.argv else print(made)  # noqa: T201
