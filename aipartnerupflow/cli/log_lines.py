"""`aipartnerupflow logs`: what the tasks of a run said, line by line."""

from datetime import datetime
from typing import TYPE_CHECKING, Final

from aipartnerupflow.cli import output
from aipartnerupflow.cli.live import names_of
from aipartnerupflow.cli.options import Server
from aipartnerupflow.cli.watching import check_has_run
from aipartnerupflow.client import Client

if TYPE_CHECKING:
    from aipartnerupflow.client.types import Event

SAID: Final = frozenset({"log", "task_failed", "task_retry", "task_cancelled"})


def follow(server: Server, task_id: str, *, is_all: bool, as_json: bool) -> None:
    """Print the lines of the latest run, and those that come until it ends.

    A root has those of all tasks, another task its own. Raises RpcError.
    """
    with Client(server.url, token=server.token) as client:
        check_has_run(client, task_id)
        root = client.tree(task_id)
        names, out = names_of(root), output.out()
        for event in client.follow(root["id"]):
            is_wanted = is_all or event["type"] in SAID
            if not is_wanted or task_id not in (root["id"], event["task_id"]):
                continue
            if as_json:
                output.as_lines(event)
            else:
                name = names.get(event["task_id"], event["task_id"])
                out.print(f"{_time(event)}  {name}  {_text(event)}", soft_wrap=True)


def _text(event: "Event") -> str:
    what = "" if event["type"] == "log" else f"{event['type'].removeprefix('task_')}: "
    return what + output.clean(event["error"] or event["message"] or "")


def _time(event: "Event") -> str:
    return datetime.fromisoformat(event["timestamp"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
