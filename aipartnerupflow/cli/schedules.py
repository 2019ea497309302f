"""`aipartnerupflow schedules …`: runs at times."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.files import InputsFile, RunInputs, Tags, inputs_of, read_tasks
from aipartnerupflow.cli.flows import PREFIX
from aipartnerupflow.cli.options import asks
from aipartnerupflow.cli.output import clean, note, put, table
from aipartnerupflow.cli.show import moment
from aipartnerupflow.program import command as command_line

if TYPE_CHECKING:
    from aipartnerupflow.client import Client
    from aipartnerupflow.client.types import (
        Schedule,
        ScheduleDeleted,
        ScheduledRun,
        ScheduledRuns,
        SchedulePreview,
        Schedules,
    )

schedules = typer.Typer(no_args_is_help=True, help="Run trees at times: every day at six, every ten minutes, or once.")


class Overlap(StrEnum):
    """The action at a time when an earlier run has not ended."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_PREVIOUS = "cancel_previous"
    ALLOW = "allow"


class CatchUp(StrEnum):
    """The missed times that are run."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


Id = Annotated[str, typer.Argument(metavar="ID", help="Schedule id.")]
File = Annotated[
    Path | None,
    typer.Argument(
        help='JSON or YAML file of the tree: one task, a list of tasks, or {"tasks": …}; or flow:NAME. - is standard input.'
    ),
]
StoredTask = Annotated[
    str | None, typer.Option("--task", metavar="ID", help="Run a copy of this stored tree each time.")
]
FlowName = Annotated[str | None, typer.Option("--flow", help="Run this flow each time.")]
FlowVersion = Annotated[int | None, typer.Option(min=1, help="Version of the flow (default: the newest each time).")]
Name = Annotated[str | None, typer.Option(help="Name (default: that of the tree).")]
Cron = Annotated[
    str | None, typer.Option(help='Minute, hour, day of month, month, day of week, such as "0 6 * * 1-5"; or @daily.')
]
Every = Annotated[int | None, typer.Option("--every", min=1, metavar="SECONDS", help="Run at this interval.")]
At = Annotated[str | None, typer.Option(help="Run once, at this time, such as 2027-01-31T06:00.")]
Zone = Annotated[
    str | None, typer.Option("--timezone", help="Time zone of the times, such as Europe/Berlin (default: UTC).")
]
Starts = Annotated[str | None, typer.Option("--from", help="No run before this time.")]
Ends = Annotated[str | None, typer.Option("--until", help="No run after this time.")]
MaxRuns = Annotated[int | None, typer.Option(min=1, help="End after this many runs.")]
OnOverlap = Annotated[
    Overlap | None, typer.Option("--overlap", help="The action if an earlier run has not ended (default: skip).")
]
OnMissed = Annotated[CatchUp | None, typer.Option("--catch-up", help="The missed times to run (default: none).")]
Window = Annotated[
    int | None,
    typer.Option(min=0, metavar="SECONDS", help="Run missed times of the last so many seconds (default: 3600)."),
]
Jitter = Annotated[
    int | None, typer.Option(min=0, metavar="SECONDS", help="Start up to this much later, to spread runs.")
]
PauseAfter = Annotated[int | None, typer.Option(min=1, help="Pause after this many failed runs in a row.")]


def show_schedules(answer: "Schedules") -> None:
    """Print a table of schedules."""
    made = table("ID", "NAME", "WHEN", "NEXT", "LAST", "RUNS", folded=("NAME", "WHEN"))
    for each in answer["schedules"]:
        last = f"{moment(each['last_run_at'])} {each['last_status'] or ''}".strip() if each["last_run_at"] else "never"
        made.add_row(
            each["id"], clean(each["name"]), clean(each["in_words"]), _next(each), last, f"{each['run_count']:,}"
        )
    put(made)
    if not answer["schedules"]:
        note(f"No schedules yet. Store one: {command_line('schedules', 'create', 'tree.json', '--cron', '0 6 * * *')}")


def show_schedule(answer: "Schedule") -> None:
    """Print when the schedule runs."""
    note(f"{clean(answer['name'])} ({answer['id']}): {clean(answer['in_words'])}. Next run: {clean(_next(answer))}.")
    if answer["pause_reason"]:
        note(f"Paused: {clean(answer['pause_reason'])}")


def show_runs(answer: "ScheduledRuns") -> None:
    """Print a table of what a schedule did."""
    made = table("TIME", "OUTCOME", "STATUS", "TASK", "WHY", folded=("WHY",))
    for run in answer["runs"]:
        made.add_row(
            moment(run["scheduled_for"]),
            run["outcome"],
            run["status"] or "",
            clean(run["task_id"] or ""),
            clean(run["reason"] or ""),
        )
    put(made)
    if not answer["runs"]:
        note("Nothing yet.")


def show_run(answer: "ScheduledRun") -> None:
    """Print what a trigger did."""
    note(
        f"{answer['outcome'].capitalize()}: {clean(answer['reason'] or answer['task_id'] or 'waits for an earlier run')}"
    )


def show_preview(answer: "SchedulePreview") -> None:
    """Print the next times."""
    note(clean(answer["in_words"]))
    for each in answer["times"]:
        output.out().print(datetime.fromisoformat(each["local"]).strftime("%a %Y-%m-%d %H:%M:%S %z"))


def show_deleted(answer: "ScheduleDeleted") -> None:
    note(f"Deleted the schedule {clean(answer['schedule_id'])}. Its trees and runs are kept.")


@schedules.command("create")
@asks(show_schedule)
def create(
    client: "Client",
    file: File = None,
    task: StoredTask = None,
    flow: FlowName = None,
    flow_version: FlowVersion = None,
    name: Name = None,
    inputs: RunInputs = None,
    inputs_file: InputsFile = None,
    tags: Tags = None,
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    timezone: Zone = None,
    starts_at: Starts = None,
    ends_at: Ends = None,
    max_runs: MaxRuns = None,
    overlap: OnOverlap = None,
    catch_up: OnMissed = None,
    catch_up_window: Window = None,
    jitter: Jitter = None,
    pause_after_failures: PauseAfter = None,
    paused: Annotated[bool, typer.Option("--paused", help="Start no run until it is resumed.")] = False,
    user: Annotated[str | None, typer.Option("--user", help="Owner of the schedule. Administrators only.")] = None,
) -> Any:
    """Store a schedule for a tree in a file, a stored tree, or a flow."""
    if file is not None and str(file).startswith(PREFIX):
        flow, file = flow or str(file).removeprefix(PREFIX), None
    fields = _fields(
        tasks=None if file is None else read_tasks(file),
        task_id=task,
        flow=flow,
        flow_version=flow_version,
        name=name,
        inputs=inputs_of(inputs, inputs_file, to=client),
        tags=tags,
        cron=cron,
        every_seconds=every,
        at=at,
        timezone=timezone,
        starts_at=starts_at,
        ends_at=ends_at,
        max_runs=max_runs,
        overlap=overlap,
        catch_up=catch_up,
        catch_up_window_seconds=catch_up_window,
        jitter_seconds=jitter,
        pause_after_failures=pause_after_failures,
    )
    return client.create_schedule(is_paused=paused, user_id=user, **fields)


@schedules.command("update")
@asks(show_schedule)
def update(
    client: "Client",
    schedule_id: Id,
    file: Annotated[Path | None, typer.Option("--tasks", help="JSON or YAML file of another tree.")] = None,
    name: Name = None,
    inputs: RunInputs = None,
    inputs_file: InputsFile = None,
    tags: Tags = None,
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    timezone: Zone = None,
    starts_at: Starts = None,
    ends_at: Ends = None,
    max_runs: MaxRuns = None,
    overlap: OnOverlap = None,
    catch_up: OnMissed = None,
    catch_up_window: Window = None,
    jitter: Jitter = None,
    pause_after_failures: PauseAfter = None,
) -> Any:
    """Change a schedule. Omitted options keep their values."""
    fields = _fields(
        tasks=None if file is None else read_tasks(file),
        name=name,
        inputs=inputs_of(inputs, inputs_file, to=client),
        tags=tags,
        cron=cron,
        every_seconds=every,
        at=at,
        timezone=timezone,
        starts_at=starts_at,
        ends_at=ends_at,
        max_runs=max_runs,
        overlap=overlap,
        catch_up=catch_up,
        catch_up_window_seconds=catch_up_window,
        jitter_seconds=jitter,
        pause_after_failures=pause_after_failures,
    )
    return client.update_schedule(schedule_id, **fields)


@schedules.command("list")
@asks(show_schedules, piped=lambda answer: output.as_lines(answer["schedules"]))
def list_schedules(
    client: "Client",
    paused: Annotated[
        bool | None, typer.Option("--paused/--active", help="Only paused schedules, or only active ones.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only those of this user. Administrators only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of schedules.")] = 100,
) -> Any:
    """List schedules, the newest first."""
    return client.schedules(is_paused=paused, user_id=user, limit=limit)


@schedules.command("get")
@asks(show_schedule)
def get(client: "Client", schedule_id: Id) -> Any:
    """Show a schedule. With --json, also its tree."""
    return client.schedule(schedule_id)


@schedules.command("delete")
@asks(show_deleted)
def delete(client: "Client", schedule_id: Id) -> Any:
    """Delete a schedule. Its trees and runs are kept."""
    return client.delete_schedule(schedule_id)


@schedules.command("pause")
@asks(show_schedule)
def pause(
    client: "Client",
    schedule_id: Id,
    reason: Annotated[str | None, typer.Option(help="Why, for those who read it.")] = None,
) -> Any:
    """Start no run of a schedule until it is resumed."""
    return client.pause_schedule(schedule_id, reason=reason)


@schedules.command("resume")
@asks(show_schedule)
def resume(client: "Client", schedule_id: Id) -> Any:
    """Continue a paused schedule with its next time."""
    return client.resume_schedule(schedule_id)


@schedules.command("trigger")
@asks(show_run)
def trigger(client: "Client", schedule_id: Id, overlap: OnOverlap = None) -> Any:
    """Run a schedule now."""
    return client.trigger_schedule(schedule_id, overlap=None if overlap is None else overlap.value)


@schedules.command("backfill")
@asks(show_runs, piped=lambda answer: output.as_lines(answer["runs"]))
def backfill(
    client: "Client",
    schedule_id: Id,
    since: Annotated[str, typer.Option("--from", help="First time, such as 2026-11-01T00:00.")],
    until: Annotated[str, typer.Option("--to", help="Last time; not in the future.")],
    overlap: Annotated[
        Overlap | None, typer.Option(help="The action if an earlier run has not ended (default: queue).")
    ] = None,
) -> Any:
    """Run past times that have had no run."""
    chosen: Any = None if overlap is None else overlap.value
    return client.backfill_schedule(schedule_id, since=since, until=until, overlap=chosen)


@schedules.command("preview")
@asks(show_preview)
def preview(
    client: "Client",
    schedule_id: Annotated[str | None, typer.Argument(metavar="ID", help="Schedule id, or give times.")] = None,
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    timezone: Zone = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="The number of times.")] = 5,
) -> Any:
    """Show the next times of a schedule, or of one that is not stored."""
    timing = _fields(cron=cron, every_seconds=every, at=at, timezone=timezone)
    return client.preview_schedule(schedule_id, count=count, **timing)


@schedules.command("runs")
@asks(show_runs, piped=lambda answer: output.as_lines(answer["runs"]))
def runs(
    client: "Client",
    schedule_id: Id,
    before: Annotated[str | None, typer.Option(help="Only times before this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of times.")] = 20,
) -> Any:
    """Show what a schedule did at its times, the newest first."""
    return client.schedule_runs(schedule_id, before=before, limit=limit)


def _fields(**given: Any) -> Any:
    """Return the given options by name."""
    return {name: getattr(value, "value", value) for name, value in given.items() if value is not None}


def _next(schedule: "Schedule") -> str:
    if schedule["is_paused"]:
        return "paused"
    return "none" if schedule["next_run_at"] is None else moment(schedule["next_run_at"])
