"""Files of data sets: CSV, JSONL, YAML or JSON, with the line of each row."""

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from aipartnerupflow.cli.files import parsed, read_bytes
from aipartnerupflow.cli.options import refuse

INPUT: Final = "inputs."
COLUMNS: Final = "The columns are inputs.NAME for each input, expected and tags."


class Row(NamedTuple):
    """A row as it is sent, and its line in the file, from 1."""

    line: int
    row: Any


def read_rows(file: Path) -> list[Row]:
    """Read the rows of a data set; the end of the name says what the file is. Raises typer.Exit, with the line of a fault."""
    content = read_bytes(file)
    kind = file.suffix.lower()
    if kind not in (".csv", ".jsonl", ".ndjson"):
        return _rows_of_document(content, file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse(f"Cannot read {file}: byte {error.start:,} is not UTF-8.")
    rows = list((_rows_of_csv if kind == ".csv" else _rows_of_lines)(text, file))
    if not rows:
        refuse(f"{file} has no rows.")
    return rows


def _rows_of_csv(text: str, file: Path) -> Iterator[Row]:
    """Yield the rows. A cell is JSON; if it is not valid JSON, it is a text, as with `--input`. An empty one is left out."""
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            begun, line = line, reader.line_num + 1
            if not any(cells):
                continue
            if header is None:
                header = [each.strip() for each in cells]
                _check_header(header, f"{file}:{begun}")
                continue
            if len(cells) != len(header):
                refuse(f"{file}:{begun}: the row has {len(cells):,} cells, and the first line has {len(header):,}.")
            yield Row(begun, _row_of(dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        refuse(f"{file}:{reader.line_num}: {error}.")


def _check_header(header: list[str], place: str) -> None:
    if doubled := sorted({name for name in header if header.count(name) > 1}):
        refuse(f"{place}: the column '{doubled[0]}' appears twice.")
    for name in header:
        if name not in ("expected", "tags") and (not name.startswith(INPUT) or name == INPUT):
            refuse(f"{place}: unknown column '{name}'. {COLUMNS}")
    if not any(name.startswith(INPUT) for name in header):
        refuse(f"{place}: there is no column with an input. {COLUMNS}")


def _row_of(cells: dict[str, str]) -> dict[str, Any]:
    given = {name: _value(text) for name, text in cells.items() if text.strip() and name != "tags"}
    row: dict[str, Any] = {
        "inputs": {name.removeprefix(INPUT): value for name, value in given.items() if name != "expected"}
    }
    if "expected" in given:
        row["expected"] = given["expected"]
    if tags := cells.get("tags", "").replace(",", " ").split():
        row["tags"] = tags
    return row


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _rows_of_lines(text: str, file: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield Row(number, orjson.loads(line))
            except orjson.JSONDecodeError as error:
                refuse(f"{file}:{number}: {error}")


def _rows_of_document(content: bytes, file: Path) -> list[Row]:
    """Return the rows of a list, or of an object with it as `rows`, as `datasets show` prints it."""
    document = parsed(content, file)
    rows = document.get("rows") if isinstance(document, dict) else document
    if not isinstance(rows, list) or not rows:
        refuse(f"{file} has no rows: it must be a list of rows, or an object with them as 'rows'.")
    lines = _lines_of(content)
    return [Row(lines[number] if number < len(lines) else 1, row) for number, row in enumerate(rows)]


def _lines_of(content: bytes) -> list[int]:
    """Return the line on which each row begins. JSON is YAML, too; without positions there is none."""
    import yaml
    from yaml.nodes import MappingNode, SequenceNode

    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return []
    if isinstance(node, MappingNode):
        node = next((value for key, value in node.value if key.value == "rows"), None)
    return [each.start_mark.line + 1 for each in node.value] if isinstance(node, SequenceNode) else []
