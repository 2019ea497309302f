"""Files of data sets: CSV, JSONL, YAML or JSON, with the line of each row."""

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import PurePath
from typing import Any, Final, NamedTuple, NoReturn

import orjson
import yaml
from yaml.nodes import MappingNode, SequenceNode

from tasks.rules.yaml_text import NotYaml, read_yaml

INPUT: Final = "inputs."
FIELDS: Final = ("inputs", "expected", "tags", "source")
COLUMNS: Final = "The columns are inputs.NAME for each input, expected and tags."


class Row(NamedTuple):
    """A row as it is sent, and its line in the file, from 1."""

    line: int
    row: Any


class Unreadable(ValueError):
    """The file is no data set. The message says why, and `line` where that is known."""

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.line = line


def rows_in(content: bytes, name: str) -> list[Row]:
    """Return the rows of a file; the end of its name says what it is. Raises Unreadable."""
    kind = PurePath(name).suffix.lower()
    if kind not in (".csv", ".jsonl", ".ndjson"):
        return _rows_of_document(content, is_json=kind == ".json")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse(f"byte {error.start:,} is not UTF-8.")
    rows = list((_rows_of_csv if kind == ".csv" else _rows_of_lines)(text))
    if not rows:
        refuse("there are no rows.")
    return rows


def problems_of_shape(row: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a row, by field."""
    if not isinstance(row, dict):
        yield "", f"must be an object with {', '.join(FIELDS)}"
        return
    yield from ((name[:100], f"is not known; a row has {', '.join(FIELDS)}") for name in row if name not in FIELDS)
    if not isinstance(row.get("inputs"), dict):
        yield "inputs", "is required, and must be an object"
    tags, source = row.get("tags", []), row.get("source", {"run_id": ""})
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        yield "tags", "must be a list of texts"
    if not (isinstance(source, dict) and source.keys() == {"run_id"} and isinstance(source["run_id"], str)):
        yield "source", "must be an object with run_id, a text"


def refuse(why: str, line: int | None = None) -> NoReturn:
    raise Unreadable(why, line)


def _rows_of_csv(text: str) -> Iterator[Row]:
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
                _check_header(header, begun)
                continue
            if len(cells) != len(header):
                refuse(f"the row has {len(cells):,} cells, and the first line has {len(header):,}.", begun)
            yield Row(begun, _row_of(dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        refuse(f"{error}.", reader.line_num)


def _check_header(header: list[str], line: int) -> None:
    if doubled := sorted({name for name in header if header.count(name) > 1}):
        refuse(f"the column '{doubled[0]}' appears twice.", line)
    for name in header:
        if name not in ("expected", "tags") and (not name.startswith(INPUT) or name == INPUT):
            refuse(f"unknown column '{name}'. {COLUMNS}", line)
    if not any(name.startswith(INPUT) for name in header):
        refuse(f"there is no column with an input. {COLUMNS}", line)


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


def _rows_of_lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield Row(number, orjson.loads(line))
            except orjson.JSONDecodeError as error:
                refuse(f"{error}", number)


def _rows_of_document(content: bytes, *, is_json: bool) -> list[Row]:
    """Return the rows of a list, or of an object with it as `rows`, as `datasets show` prints it."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if is_json or content.lstrip()[:1] in (b"{", b"["):
            refuse(f"{error}", error.lineno)
        try:
            document = read_yaml(content)
        except NotYaml as fault:
            refuse(f"{fault}")
    rows = document.get("rows") if isinstance(document, dict) else document
    if not isinstance(rows, list) or not rows:
        refuse("there are no rows: it must be a list of rows, or an object with them as 'rows'.")
    lines = _lines_of(content)
    return [Row(lines[number] if number < len(lines) else 1, row) for number, row in enumerate(rows)]


def _lines_of(content: bytes) -> list[int]:
    """Return the line on which each row begins. JSON is YAML, too; without positions there is none."""
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return []
    if isinstance(node, MappingNode):
        node = next((value for key, value in node.value if key.value == "rows"), None)
    return [each.start_mark.line + 1 for each in node.value] if isinstance(node, SequenceNode) else []
