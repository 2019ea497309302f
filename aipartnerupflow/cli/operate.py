"""Commands to operate and inspect a server: doctor, explain, config, executors, open, migrate, audit."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import (
    AsJson,
    ConfigFile,
    ExitCode,
    Server,
    ServerUrl,
    TaskId,
    Token,
    asks,
    configure,
    exit_codes,
    refuse,
    to_server,
)
from aipartnerupflow.cli.output import clean, note, put, table
from aipartnerupflow.cli.show import moment
from aipartnerupflow.program import command as command_line

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

config_commands = typer.Typer(no_args_is_help=True, help="Show the settings of this installation.")
maintenance_commands = typer.Typer(no_args_is_help=True, help="Pause the workers of this installation.")
COLOURS = {"green": ("✓", "green"), "yellow": ("!", "yellow"), "red": ("✗", "red")}
STATUSES = {"green": "ok", "yellow": "warn", "red": "fail"}


def _show_lines(lines: Iterable[str]) -> None:
    for line in lines:
        output.line(line)


def doctor(as_json: AsJson = False, config: ConfigFile = None) -> None:
    """Check this installation and suggest fixes. Exits 1 if a check fails."""
    if config is not None:
        os.environ["AIPARTNERUPFLOW_CONFIG"] = str(config.resolve())
    from aipartnerupflow.doctor import RED, examine

    findings = list(examine())
    if as_json:
        names = ("name", "colour", "message", "fix")
        shown = ({name: getattr(finding, name) for name in names} for finding in findings)
        output.as_document([each | {"status": STATUSES[each["colour"]]} for each in shown])
    else:
        for finding in findings:
            sign, style = COLOURS[finding.colour]
            output.line(f"{sign} {finding.name:<14} {finding.message}", style=style)
            if finding.fix:
                output.line(f"  {'':<14} {finding.fix}")
    is_red = any(finding.colour == RED for finding in findings)
    raise typer.Exit(ExitCode.FAILED if is_red else ExitCode.OK)


@asks(_show_lines, piped=_show_lines)
def explain(client: "Client", task_id: TaskId) -> Any:
    """Explain why a task is waiting, has failed or was not run."""
    from aipartnerupflow.client.calls import Call
    from aipartnerupflow.explain import code_for, deaths_of, may_ask, started_by
    from aipartnerupflow.explain import explain as sentences

    root = client.tree(task_id)
    [state] = client.status([root["id"]])
    events = client.detail(task_id)["events"]
    health: Any = client.send(Call("system.health", {}, path="/system"))
    messages = [event["message"] for event in events if event["message"]]
    details = {each: client.detail(each) for each in may_ask(task_id, root)}
    newest = client.runs(task_id=task_id, limit=1)["runs"]
    said = sentences(
        task_id,
        root,
        is_running=state["is_running"],
        checks=health["checks"],
        last_message=messages[-1] if messages else "",
        questions={each: found["question"] for each, found in details.items() if found["question"]},
        waits={each: found["wait"] | {"run": found["child_run"]} for each, found in details.items() if found["wait"]},
    )
    if not newest:
        return said
    run = client.get_run(newest[0]["id"])
    return [*said, *code_for(run), *deaths_of(run["suspicion"]), *started_by(newest[0])]


@asks(show.executors)
def executors(client: "Client") -> Any:
    """List the executors of a server."""
    from aipartnerupflow.client.calls import Call

    found: Any = client.send(Call("system.executors", {}, path="/system"))
    names = ("id", "enabled", "extra", "description")
    return [{name: each[name] for name in names} for each in found]


@to_server
def open_(
    server: Server,
    task_id: TaskId,
    launch: Annotated[bool, typer.Option("--launch/--print", help="Open a browser, or only print the URL.")] = True,
) -> None:
    """Open a task's tree in the dashboard."""
    from urllib.parse import quote

    url = f"{server.url}/ui/tasks/{quote(task_id)}"
    typer.echo(url)
    if launch:
        typer.launch(url)


def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be applied, and apply nothing.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 if migrations are pending, and apply nothing.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Apply pending database migrations. `serve` and `worker` do this when they start."""
    from aipartnerupflow import server

    configure(config, {})
    if plan or check:
        pending = server.pending_migrations()
        for name, operations in pending:
            output.line("\n  ".join([name, *operations]) if plan else name)
        raise typer.Exit(ExitCode.FAILED if check and pending else ExitCode.OK)
    server.prepare(waits=True)
    typer.echo("The database is up to date.")


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")],
    config: ConfigFile = None,
) -> None:
    """Back up the SQLite database, also while it is in use."""
    from aipartnerupflow import server

    configure(config, {})
    size = server.back_up(file.absolute())
    typer.echo(f"{file}: {size / 2**20:.1f} MiB. Back up the encryption keys separately (llm.encryption_keys).")
    typer.echo("Back up the files, too, before the database and again after it (files.folder, files.store).")


@maintenance_commands.command("on")
def maintenance_on(config: ConfigFile = None) -> None:
    """Begin maintenance: workers claim no run and send no webhook; running trees finish."""
    from aipartnerupflow import server

    configure(config, {})
    server.prepare()
    server.set_maintenance(is_on=True)
    typer.echo(f"Maintenance is on. End it: {command_line('maintenance', 'off')}")


@maintenance_commands.command("off")
def maintenance_off(config: ConfigFile = None) -> None:
    """End maintenance: workers continue with the runs that wait."""
    from aipartnerupflow import server

    configure(config, {})
    server.prepare()
    typer.echo("Maintenance is off." if server.set_maintenance(is_on=False) else "Maintenance was not on.")


@config_commands.command("show")
def show_config(as_json: AsJson = False, config: ConfigFile = None) -> None:
    """Show every setting with its value and its source. Secrets are masked."""
    configure(config, {})
    from apflow_site.config import shown

    found = list(shown(os.environ))
    output.answer(found, shown=partial(show.rows, nothing=""), as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add these commands to the main command."""
    for command in (doctor, explain, executors, migrate, backup):
        app.command()(command)
    app.command("open")(open_)
    app.add_typer(config_commands, name="config")
    app.add_typer(maintenance_commands, name="maintenance")


PAGE: Final = 1000
"""The most entries that a server returns in one reply."""


def audit(
    since: Annotated[
        str | None, typer.Option(help="First time, in UTC, such as 2026-11-01 or 2026-11-01T06:00.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    action: Annotated[
        str | None, typer.Option(help="Only this action, such as login.failed, or all of a kind, such as user.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The largest number of entries.")] = 100,
    as_json: AsJson = False,
    url: ServerUrl = None,
    token: Token = None,
    config: ConfigFile = None,
) -> None:
    """Show the audit log, newest entry first: logins, and who changed or deleted what."""
    after = None
    if since:
        try:
            after = datetime.fromisoformat(since)
        except ValueError:
            refuse(f"--since: '{since}' is not a time. Use ISO 8601, such as 2026-11-01 or 2026-11-01T06:00.")
        after = after if after.tzinfo else after.replace(tzinfo=UTC)
    wanted = {"user_id": user, "action": action}
    if url is None:
        configure(config, {})
        found = _from_database(after, limit=limit, **wanted)
    else:
        with exit_codes():
            found = _from_server(url, token, after, limit=limit, **wanted)
    output.answer(found, shown=show_entries, as_json=as_json)


def _from_database(
    after: datetime | None, *, limit: int, user_id: str | None, action: str | None
) -> list[dict[str, Any]]:
    from aipartnerupflow import server

    server.prepare()
    from accounts import audit  # needs Django's apps
    from tasks.services.upkeep.audit_entries import native_of

    if action is not None and not audit.is_action(action):
        refuse(f"There is no action '{action}'. Actions: {', '.join(audit.Action)}.")
    return [native_of(entry) for entry in audit.entries(since=after, actor=user_id, action=action)[:limit]]


def _from_server(
    url: str, token: str | None, after: datetime | None, *, limit: int, **wanted: str | None
) -> list[dict[str, Any]]:
    """Raise RpcError."""
    from aipartnerupflow.client import Client

    found: list[Any] = []
    cursor: str | None = ""
    since = after.isoformat() if after else None
    with Client(url, token=token) as client:
        while cursor is not None and len(found) < limit:
            page = client.audit(since=since, limit=min(limit - len(found), PAGE), cursor=cursor, **wanted)
            found += page["entries"]
            cursor = page["next_cursor"]
    return found


def show_entries(entries: Iterable[dict[str, Any]]) -> None:
    made = table("TIME", "ACTION", "USER", "ADDRESS", "TARGET", "DETAILS")
    for entry in entries:
        details = " ".join(f"{name}={value}" for name, value in entry["details"].items())
        texts = (entry[name] for name in ("action", "user_id", "address", "target"))
        made.add_row(moment(entry["at"]), *(clean(text) for text in texts), clean(details))
    if made.row_count:
        put(made)
    else:
        note("No entries.")
