"""`aipartnerupflow flows …`, and `run flow:NAME`: saved definitions of trees."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.files import flow_in, read_flow, read_tasks
from aipartnerupflow.cli.options import AsJson, ConfigFile, ExitCode, asks, refuse
from aipartnerupflow.cli.output import clean, note, put, table
from aipartnerupflow.program import command as command_line

if TYPE_CHECKING:
    from aipartnerupflow.client import Call, Client
    from aipartnerupflow.client.types import Flow, FlowDeleted, Flows, FlowVersions, Labels, Pause, SavedFlow

flows = typer.Typer(no_args_is_help=True, help="Save, list and delete flows, which `run flow:NAME` runs with inputs.")

WORKFLOW: Final = "workflow:"
PREFIX: Final = "flow:"
IN_ARCHIVE: Final = "flow.json"
NewRun = Annotated[
    Path,
    typer.Argument(
        help='JSON or YAML file: one task, a list of tasks, or {"tasks": …}; flow:NAME; or workflow:NAME. A dash (-) reads standard input.'
    ),
]
FlowFile = Annotated[
    Path | None,
    typer.Argument(
        help="JSON or YAML file with name, description, inputs_schema and tasks. A dash (-) reads standard input."
    ),
]
Name = Annotated[str, typer.Argument(help="Name of the flow.")]
Version = Annotated[int | None, typer.Option("--version", min=1, help="Version of the flow (default: the newest).")]
Label = Annotated[str, typer.Argument(help="Label, such as production: `run flow:NAME@production` runs its version.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]
User = Annotated[str | None, typer.Option("--user", help="Owner of the flow (default: you). Administrators only.")]


def run_call(file: Path, inputs: dict[str, Any] | None, *, version: int | None, tags: list[str] | None) -> "Call[Any]":
    """Return the call that runs what `run` was given. Raises typer.Exit if that is impossible."""
    from aipartnerupflow.client import Client

    if (given := str(file)).startswith(PREFIX):
        return Client.run_flow(given.removeprefix(PREFIX), inputs, version=version, tags=tags)
    if version is not None:
        refuse("--version is for flows: aipartnerupflow run flow:NAME --version 2")
    if given.startswith(WORKFLOW):  # its arguments are the inputs of its task
        task = {"name": given.removeprefix(WORKFLOW), "schemas": {"method": given}, "inputs": inputs or {}}
        return Client.execute([task], tags=tags)
    return Client.execute(read_tasks(file), run_inputs=inputs, tags=tags)


def show_saved(answer: "SavedFlow") -> None:
    name = clean(answer["name"])
    if answer["is_new"]:
        run_it = command_line("run", clean(f"{PREFIX}{answer['name']}"))
        note(f"Saved version {answer['version']:,} of the flow {name}.", f"Run it: {run_it}")
    else:
        note(f"Version {answer['version']:,} of the flow {name} has this content already. Nothing was saved.")


def show_flows(answer: "Flows") -> None:
    from aipartnerupflow.cli.show import age

    made = table("NAME", "VERSION", "OWNER", "LAST RUN", "SAVED", "DESCRIPTION", folded=["DESCRIPTION"])
    for flow in answer["flows"]:
        run = flow["last_run"]
        last_run = f"{run['status']}, {age(run['created_at'])}" if run else "never"
        cells = (clean(flow["name"]), f"{flow['version']:,}", clean(flow["user_id"]), last_run)
        made.add_row(*cells, age(flow["updated_at"]), clean(flow["description"]))
    put(made)
    if not answer["flows"]:
        note(f"No flows yet. Save one: {command_line('flows', 'save', 'flow.yaml')}")
    if answer["next_cursor"] is not None:
        note("There are more. Raise --limit.")


def show_versions(answer: "FlowVersions") -> None:
    from aipartnerupflow.cli.show import moment

    made = table("VERSION", "SAVED", "DESCRIPTION", folded=["DESCRIPTION"])
    for version in answer["versions"]:
        made.add_row(f"{version['version']:,}", moment(version["created_at"]), clean(version["description"]))
    put(made)


def show_pause(answer: "Pause") -> None:
    from aipartnerupflow.cli.show import pause

    pause(answer)


def show_deleted(answer: "FlowDeleted") -> None:
    note(
        f"Deleted the flow {clean(answer['name'])} and its {answer['versions_deleted']:,} versions. "
        f"Its {answer['runs_kept']:,} runs are kept."
    )


@flows.command("list")
@asks(show_flows, piped=lambda answer: output.as_lines(answer["flows"]))
def list_flows(
    client: "Client",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of flows.")] = 100,
    user: Annotated[str | None, typer.Option("--user", help="Only flows of this user.")] = None,
) -> "Flows":
    """List flows by name, with their newest version and run."""
    return client.flows(limit=limit, user_id=user)


@flows.command("show")
@asks(output.as_document)
def show_flow(client: "Client", name: Name, version: Version = None, user: User = None) -> "Flow":
    """Print a flow as JSON, in the form that `flows save` reads."""
    return client.get_flow(name, version=version, user_id=user)


@flows.command("save")
@asks(show_saved)
def save(
    client: "Client",
    file: FlowFile = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Id of a stored task, whose tree becomes the flow.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the flow, instead of that in the file.")] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="Description of the flow, instead of that in the file.")
    ] = None,
    tool: Annotated[
        bool | None,
        typer.Option("--tool/--no-tool", help="Whether MCP clients get the flow as a tool (default: unchanged)."),
    ] = None,
) -> "SavedFlow":
    """Save the next version of a flow. If the content is that of the newest version, nothing is saved."""
    if (file is None) == (task is None):
        refuse("Give a file, or the id of a stored task with --task.")
    given = {"task_id": task} if file is None else read_flow(file)
    flags = {"name": name, "description": description, "is_tool": tool}
    given |= {key: value for key, value in flags.items() if value is not None}
    if not isinstance(given.get("name"), str):
        refuse("The flow has no name. Write it into the file, or use --name.")
    return client.save_flow(**given)


@flows.command("export")
@asks(output.as_document, piped=output.as_document)
def export(
    client: "Client",
    name: Name,
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="ZIP archive to write; it must not exist.")],
    version: Version = None,
    user: User = None,
) -> Any:
    """Store a flow in an archive, with the files that it names."""
    from aipartnerupflow.cli import archives

    flow = client.get_flow(name, version=version, user_id=user)
    return archives.write(client, archive, flow, name=IN_ARCHIVE, files=archives.files_named(client, flow))


@flows.command("import")
@asks(show_saved)
def import_(
    client: "Client",
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="Archive of `flows export`.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the flow, instead of that in the archive.")
    ] = None,
) -> "SavedFlow":
    """Save the flow of an archive as yours, with its files. They count as files that you have sent."""
    from aipartnerupflow.cli import archives

    with archives.sent(client, archive, name=IN_ARCHIVE) as document:
        flow = flow_in(document, archive) | ({} if name is None else {"name": name})
        return client.save_flow(**flow)


@flows.command("versions")
@asks(show_versions, piped=lambda answer: output.as_lines(answer["versions"]))
def versions(client: "Client", name: Name, user: User = None) -> "FlowVersions":
    """List the versions of a flow that are kept, newest first."""
    return client.flow_versions(name, user_id=user)


def show_labels(answer: "Labels") -> None:
    from aipartnerupflow.cli.show import age

    made = table("LABEL", "VERSION", "SHARES", "MOVED", "BY", "REASON", folded=["REASON"])
    for each in answer["labels"]:
        shares = ", ".join(f"{clean(taker)} {percent:g} %" for taker, percent in each["shares"].items())
        moved = each["moves"][0]
        cells = (clean(each["label"]), f"{each['version']:,}", shares, age(moved["at"]), clean(moved["by"]))
        made.add_row(*cells, clean(moved["reason"]))
    put(made)
    if not answer["labels"]:
        note(f"The flow {clean(answer['name'])} has no labels.")


@flows.command("labels")
@asks(show_labels, piped=lambda answer: output.as_lines(answer["labels"]))
def labels(client: "Client", name: Name, user: User = None) -> "Labels":
    """List the labels of a flow, with the version of each."""
    return client.flow_labels(name, user_id=user)


@flows.command("label")
@asks(show_labels, piped=lambda answer: output.as_lines(answer["labels"]))
def label(
    client: "Client",
    name: Name,
    label: Label,
    reason: Reason,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Version of the flow (default: unchanged).")
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(
            "--share",
            metavar="LABEL=PERCENT",
            help="Share of its callers that get another label's version; 0 for none. Replaces those before. May be repeated.",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="JSON",
            help='Experiment that a move needs, as {"dataset": …, "evaluator": …, "at_least": 0.9}; {} for none.',
        ),
    ] = None,
    user: User = None,
) -> "Labels":
    """Give a label a version, shares of its callers, or a policy. Runs that have started keep their version."""
    given = None if share is None else dict(_share(text) for text in share)
    shares = None if given is None else {taker: percent for taker, percent in given.items() if percent}
    required = None if policy is None else _object(policy)
    return client.label_flow(name, label, reason=reason, version=version, shares=shares, policy=required, user_id=user)


def _share(text: str) -> tuple[str, float]:
    taker, _, percent = text.partition("=")
    try:
        return taker, float(percent)
    except ValueError:
        refuse(f"--share {text}: give LABEL=PERCENT, as in candidate=10.")


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        refuse('--policy must be a JSON object, as in {"dataset": "rows", "evaluator": "accuracy", "at_least": 0.9}.')
    return found


@flows.command("undo-label")
@asks(show_labels, piped=lambda answer: output.as_lines(answer["labels"]))
def undo_label(client: "Client", name: Name, label: Label, reason: Reason, user: User = None) -> "Labels":
    """Give a label the version back that it had before its newest move."""
    return client.undo_label(name, label, reason=reason, user_id=user)


@flows.command("unlabel")
@asks(show_labels, piped=lambda answer: output.as_lines(answer["labels"]))
def unlabel(client: "Client", name: Name, label: Label, reason: Reason, user: User = None) -> "Labels":
    """Remove a label of a flow."""
    return client.unlabel_flow(name, label, reason=reason, user_id=user)


@flows.command("pause")
@asks(show_pause)
def pause(client: "Client", name: Name, user: User = None) -> "Pause":
    """Let no task of a flow start until it is resumed. Tasks at work continue."""
    return client.pause_flow(name, user_id=user)


@flows.command("resume")
@asks(show_pause)
def resume(client: "Client", name: Name, user: User = None) -> "Pause":
    """Let the tasks of a paused flow start, in their order."""
    return client.resume_flow(name, user_id=user)


@flows.command("delete")
@asks(show_deleted)
def delete(client: "Client", name: Name, user: User = None) -> "FlowDeleted":
    """Delete a flow and its versions. Its runs are kept."""
    return client.delete_flow(name, user_id=user)


@flows.command("validate")
def validate(
    files: Annotated[
        list[Path], typer.Argument(help="JSON or YAML files with flows or trees. A dash (-) reads standard input.")
    ],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check files of flows and trees without a server. Exits 1 if one is not valid."""
    from aipartnerupflow.cli import flow_files

    reports = flow_files.validated(files, config)
    if as_json:
        output.as_document([report.as_json() for report in reports])
    else:
        for report in reports:
            output.warn(report.warning_lines)
            for text in report.lines:
                output.line(text)
    raise typer.Exit(ExitCode.OK if all(report.is_valid for report in reports) else ExitCode.FAILED)
