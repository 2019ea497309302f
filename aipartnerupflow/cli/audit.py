"""`aipartnerupflow audit`: the audit log of this installation, read from its database."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.options import AsJson, ConfigFile, configure, refuse
from aipartnerupflow.cli.output import clean, note
from aipartnerupflow.cli.tables import put, table

if TYPE_CHECKING:
    from accounts.models import AuditEntry


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
    config: ConfigFile = None,
) -> None:
    """Show the audit log, newest entry first: logins, and who changed or deleted what."""
    from aipartnerupflow import server

    after = _time(since) if since else None
    configure(config, {})
    server.prepare()
    from accounts import audit  # needs Django's apps

    if action is not None and not audit.is_action(action):
        refuse(f"There is no action '{action}'. Actions: {', '.join(audit.Action)}.")
    found = audit.entries(since=after, actor=user, action=action)[:limit]
    output.answer([_shown(entry) for entry in found], shown=_show, as_json=as_json)


def _show(entries: Iterable[dict[str, Any]]) -> None:
    made = table("TIME", "ACTION", "USER", "ADDRESS", "TARGET", "DETAILS")
    for entry in entries:
        details = " ".join(f"{name}={value}" for name, value in entry["details"].items())
        texts = (entry[name] for name in ("at", "action", "user", "address", "target"))
        made.add_row(*(clean(text) for text in texts), clean(details))
    if made.row_count:
        put(made)
    else:
        note("No entries.")


def _shown(entry: "AuditEntry") -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(timespec="seconds"),
        "action": entry.action,
        "user": entry.actor,
        "address": entry.address,
        "target": entry.target,
        "details": entry.details,
    }


def _time(text: str) -> datetime:
    """Raises typer.Exit if the text is no ISO 8601 time."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        refuse(f"--since: '{text}' is not a time. Use ISO 8601, such as 2026-11-01 or 2026-11-01T06:00.")
    return time if time.tzinfo else time.replace(tzinfo=UTC)
