"""`aipartnerupflow audit`: the audit log, from the database of this installation, or from a server with `--url`."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.options import AsJson, ConfigFile, ServerUrl, Token, configure, exit_codes, refuse
from aipartnerupflow.cli.output import clean, note, put, table
from aipartnerupflow.cli.show import moment

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
    after = _time(since) if since else None
    wanted = {"user_id": user, "action": action}
    if url is None:
        configure(config, {})
        found = _from_database(after, limit=limit, **wanted)
    else:
        with exit_codes():
            found = _from_server(url, token, after, limit=limit, **wanted)
    output.answer(found, shown=_show, as_json=as_json)


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


def _show(entries: Iterable[dict[str, Any]]) -> None:
    made = table("TIME", "ACTION", "USER", "ADDRESS", "TARGET", "DETAILS")
    for entry in entries:
        details = " ".join(f"{name}={value}" for name, value in entry["details"].items())
        texts = (entry[name] for name in ("action", "user_id", "address", "target"))
        made.add_row(moment(entry["at"]), *(clean(text) for text in texts), clean(details))
    if made.row_count:
        put(made)
    else:
        note("No entries.")


def _time(text: str) -> datetime:
    """Raise typer.Exit if the text is no ISO 8601 time."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        refuse(f"--since: '{text}' is not a time. Use ISO 8601, such as 2026-11-01 or 2026-11-01T06:00.")
    return time if time.tzinfo else time.replace(tzinfo=UTC)
