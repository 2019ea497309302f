"""Checks of files with flows and trees, without a server: what `flows validate` does."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from aipartnerupflow.cli.files import flow_in, parsed, read_bytes
from aipartnerupflow.cli.options import configure

PARTS: Final = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")
"""The parts of a path such as `tasks[2].inputs.url`."""
QUOTED: Final = re.compile(r"'([^']+)'")
UNNAMED: Final = "unnamed"
"""The name of a flow in whose file there is none: `flows save` has an option for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One problem of a file. `line` begins at 1; None if the file does not say where the field is."""

    line: int | None
    field: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of the check of one file."""

    file: str
    tasks: int
    errors: Sequence[Fault] = ()
    warnings: Sequence[str] = ()

    @property
    def is_valid(self) -> bool:
        """Whether the file can be saved as a flow, as far as this can be known without a server."""
        return not self.errors

    @property
    def lines(self) -> Iterator[str]:
        """The report for people and editors: `file:line: field: message`."""
        if self.is_valid:
            yield f"{self.file}: valid, {self.tasks:,} {'task' if self.tasks == 1 else 'tasks'}"
        for each in self.errors:
            place = self.file if each.line is None else f"{self.file}:{each.line}"
            yield f"{place}: {each.field}: {each.message}"

    @property
    def warning_lines(self) -> Iterator[str]:
        """The warnings, each with the file."""
        return (f"{self.file}: {warning}" for warning in self.warnings)

    def as_json(self) -> dict[str, Any]:
        """Return the report as one object of JSON."""
        return {"file": self.file, "valid": self.is_valid, "errors": [asdict(each) for each in self.errors]} | {
            "warnings": list(self.warnings)
        }


def validated(files: Sequence[Path], config: Path | None) -> list[Report]:
    """Check the files against the executors and limits of the configuration.

    Raises typer.Exit for a file that cannot be read, and for an invalid configuration.
    """
    contents = {file: read_bytes(file) for file in files}
    with TemporaryDirectory() as folder:  # the settings make secrets in the data folder
        configure(config, {"server.data_dir": folder})
        from aipartnerupflow.server import in_django

        return in_django(lambda: [_report(file, content) for file, content in contents.items()])


def _report(file: Path, content: bytes) -> Report:
    from a2a.methods.flows import SaveFlow
    from tasks.rules.exceptions import InvalidParams, TasksError
    from tasks.services.flows import checked_flow

    document = parsed(content, file)
    flow = flow_in(document, file)
    tasks, schema = flow["tasks"], flow.get("inputs_schema")
    lines, warnings = _Lines(content, document), list[str]()
    faults = dict[tuple[str, str], Fault]()  # both checks may find the same
    checks: list[Callable[[], Any]] = [
        lambda: SaveFlow.parse({"name": UNNAMED} | flow),
        lambda: warnings.extend(checked_flow(tasks, schema if isinstance(schema, dict) else None)[1]),
    ]
    for check in checks:
        try:
            check()
        except TasksError as error:
            found = [(_field_of_task(error.message, tasks), error.message)]
            if isinstance(error, InvalidParams):
                found = error.problems
            for field, reason in found:
                faults.setdefault((field, reason), Fault(line=lines.of(field), field=field, message=reason))
    errors = sorted(faults.values(), key=lambda fault: fault.line or 0)
    count = len(tasks) if isinstance(tasks, list) else 1
    return Report(file=str(file), tasks=count, errors=errors, warnings=warnings)


def _field_of_task(message: str, tasks: Any) -> str:
    """Return the path of the task that a message about a tree names first, or that of all."""
    raws = tasks if isinstance(tasks, list) else [tasks]
    for name in QUOTED.findall(message):
        for position, raw in enumerate(raws):
            if isinstance(raw, dict) and name in (raw.get("id"), raw.get("name")):
                return f"tasks[{position}]"
    return "tasks"


class _Lines:
    """Finds the line of a field in a file."""

    def __init__(self, content: bytes, document: Any) -> None:
        is_flow = isinstance(document, dict) and "tasks" in document
        self._above = "" if is_flow else "tasks" if isinstance(document, list) else "tasks[0]"
        """The path of the document: it may be only the tasks of a flow, or one task."""
        try:  # JSON is YAML but for tabs, which JSON has only between its values
            self._root: Node | None = yaml.compose(content.decode().replace("\t", " "), Loader=yaml.SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            self._root = None

    def of(self, field: str) -> int | None:
        """Return the line of the field, or of the nearest part around it; None for a file without lines."""
        if self._root is None:
            return None
        node, line = self._root, self._root.start_mark.line + 1
        for name, index in PARTS.findall(field.removeprefix(self._above)):
            found = _child(node, name, index)
            if found is None:
                break
            key, node = found
            line = key.start_mark.line + 1
        return line


def _child(node: Node, name: str, index: str) -> tuple[Node, Node] | None:
    """Return the key and the value of a field, or an item of a list twice."""
    if isinstance(node, MappingNode) and name:
        return next(((key, value) for key, value in node.value if key.value == name), None)
    if isinstance(node, MappingNode) and index == "0":  # a tree of one task need not be a list
        return node, node
    if isinstance(node, SequenceNode) and index and int(index) < len(node.value):
        return node.value[int(index)], node.value[int(index)]
    return None
