"""Files that commands read: trees, flows and inputs, as JSON or YAML; and the inputs in options."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from aipartnerupflow.cli.options import Server, refuse

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

TasksFile = Annotated[
    Path,
    typer.Argument(
        help='JSON or YAML file: one task, a list of tasks, or {"tasks": …}. A dash (-) reads standard input.'
    ),
]
RunInputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        help="An input of the run, for {{run.inputs.NAME}}. VALUE is JSON; if it is not valid JSON, it is a text. "
        "@FILE sends a local file, and several of the same NAME are a list; @@ begins a text with @. May be repeated.",
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="A tag of the run, by which `runs list` finds it. May be repeated."),
]
InputsFile = Annotated[
    Path | None,
    typer.Option("--inputs-file", help="JSON or YAML file with the inputs of the run; --input has precedence."),
]
SET_BY_SERVER: Final = ("user_id", "version", "newest_version", "created_at")
"""Fields of a flow that the server sets, as `flows show` prints it."""
OF_FLOW: Final = ("name", "description", "inputs_schema", "is_tool", "tasks")


def read_object(option: str, text: str | None) -> dict[str, Any] | None:
    """Return the JSON object that an option has; None without one. Raises typer.Exit."""
    if text is None:
        return None
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        refuse(f"{option} is not JSON: {error}.")
    if not isinstance(given, dict):
        refuse(f"{option} must be an object.")
    return given


def read_tasks(file: Path) -> Any:
    """Read one task, a list of tasks, or `{"tasks": …}`. Raises typer.Exit if that is impossible."""
    given = without_schema(read_document(file))
    return given["tasks"] if isinstance(given, dict) and given.keys() == {"tasks"} else given


def read_flow(file: Path) -> dict[str, Any]:
    """Read a flow: an object with its fields, or only its tasks. Raises typer.Exit if that is impossible."""
    return flow_in(read_document(file), file)


def flow_in(document: Any, file: Path) -> dict[str, Any]:
    """Return the flow in the document of a file. Raises typer.Exit for a field that a flow does not have."""
    given = without_schema(document)
    if not isinstance(given, dict) or "tasks" not in given:
        return {"tasks": given}
    flow = {name: value for name, value in given.items() if name not in SET_BY_SERVER}
    if unknown := [name for name in flow if name not in OF_FLOW]:
        refuse(f"{file}: unknown field '{unknown[0]}'. A flow has the fields {', '.join(OF_FLOW)}.")
    return flow


def without_schema(document: Any) -> Any:
    """Return the document without `$schema`, by which editors find the schema of the file."""
    if not isinstance(document, dict):
        return document
    return {name: value for name, value in document.items() if name != "$schema"}


def inputs_of(given: list[str] | None, file: Path | None = None, *, to: "Server | Client") -> dict[str, Any] | None:
    """Read the inputs of a run from the file and from `--input`, which overrides it. A value @FILE is uploaded to the server.

    Raises typer.Exit if that is impossible; then no file is sent.
    """
    if not given and file is None:
        return None
    pairs = [each.partition("=") for each in given or ()]
    if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
        refuse(f"--input {wrong[0]} has no value: write NAME=VALUE.")
    known = {} if file is None else read_document(file)
    if not isinstance(known, dict):
        refuse(f"{file} must have an object: the inputs of the run by name.")
    local = [(name, Path(text[1:])) for name, _, text in pairs if text.startswith("@") and not text.startswith("@@")]
    if missing := [(name, path) for name, path in local if not path.is_file()]:
        name, path = missing[0]
        refuse(f"--input {name}: there is no file {path} here. Write --input {name}=@@{path} for the text @{path}.")
    for name, _, text in pairs:
        try:
            known[name] = orjson.loads(text)
        except orjson.JSONDecodeError:
            known[name] = text[1:] if text.startswith("@@") else text
    return known | _sent(local, to)


def _sent(files: Sequence[tuple[str, Path]], to: "Server | Client") -> dict[str, Any]:
    """Send local files, and return their values by the names of the inputs, several of one as a list. Raises typer.Exit."""
    if not files:
        return {}
    from aipartnerupflow.client import Client

    with nullcontext(to) if isinstance(to, Client) else Client(to.url, token=to.token) as client:
        sent = defaultdict[str, list[Any]](list)
        for name, path in files:
            try:
                sent[name].append(client.upload(path))
            except OSError as error:
                refuse(f"--input {name}: cannot read {path}: {error.strerror or error}.")
        return {name: values if len(values) > 1 else values[0] for name, values in sent.items()}


def read_document(file: Path) -> Any:
    """Read JSON or YAML; `-` is standard input. Raises typer.Exit, with the line of a fault, if that is impossible."""
    return parsed(read_bytes(file), file)


def read_bytes(file: Path) -> bytes:
    """Return the content of the file; `-` is standard input. Raises typer.Exit if that is impossible."""
    try:
        return typer.get_binary_stream("stdin").read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        refuse(f"Cannot read {file}: {error.strerror or error}.")
    except ValueError as error:
        refuse(f"Cannot read {file}: {error}")


def parsed(content: bytes, file: Path) -> Any:
    """Return the value of JSON or YAML. Raises typer.Exit, with the line of a fault, if it is neither."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if file.suffix == ".json" or content.lstrip()[:1] in (b"{", b"["):
            refuse(f"Cannot read {file}: {error}")
    from tasks.rules.yaml_text import NotYaml, read_yaml

    try:
        return read_yaml(content)
    except NotYaml as error:
        refuse(f"Cannot read {file}: {error}")
