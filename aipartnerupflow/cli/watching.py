"""Commands that follow a run to its end; the exit code reports how it ended."""

import asyncio
import os
import termios
import time
import tty
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import typer

from aipartnerupflow.cli import live, output, show
from aipartnerupflow.cli.live import LiveTree, View, names_of, view_of
from aipartnerupflow.cli.options import ExitCode, Server, refuse
from aipartnerupflow.client import AsyncClient, Client, NotFound, RpcError, Unreachable

if TYPE_CHECKING:
    from aipartnerupflow.client import Call
    from aipartnerupflow.client.types import Event, Task

T = TypeVar("T")
REST_SECONDS: Final = 1.0
"""The minimum time between two loads of a tree that grows."""
LOGGED: Final = frozenset({"log", "task_failed", "task_retry", "task_cancelled"})
"""The events that `follow` prints, unless it prints all."""
KEYS_AT_ONCE: Final = 4096
REST_SHARE: Final = 5
"""A load that takes long is followed by a pause of so many times its duration."""


class Ending(NamedTuple):
    """The end of a run. `final` is None if the client had received every event before."""

    final: "Event | None"
    tree: "Task"

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.OK if self.final is None or self.final["status"] == "completed" else ExitCode.FAILED

    def show_to_people(self) -> None:
        if self.final is not None:
            show.ended(self.final, self.tree)


def run(
    server: Server,
    call: "Call[Any]",
    *,
    is_watched: bool,
    is_awaited: bool,
    timeout_seconds: float | None,
    as_json: bool,
) -> ExitCode:
    """Send the call, which starts a run. Unless it is watched, its end is text in a pipe, too.

    Raises RpcError, or typer.Exit if options contradict each other.
    """
    if not is_awaited and (is_watched or timeout_seconds is not None):
        refuse("--no-wait returns at once, so it cannot be combined with --watch or --timeout.")
    with Client(server.url, token=server.token) as client:
        started = client.send(call)
    if is_watched or not as_json:  # events contain no warnings
        output.warn(started.get("warnings", []))
    if not is_awaited:
        output.answer(started, shown=show.started, piped=show.started, as_json=as_json)
        return ExitCode.OK
    ending = ended(
        server, started["root_task_id"], is_watched=is_watched, timeout_seconds=timeout_seconds, as_json=as_json
    )
    if is_watched:
        return _report(ending, as_json=as_json)
    status = ending.final["status"] if ending.final else started["status"]
    reply = started | {"success": status == "completed", "status": status, "task": ending.tree}
    if as_json:
        output.as_document(reply)
    else:
        ending.show_to_people()
    return ending.exit_code


def ended(
    server: Server, root_id: str, *, timeout_seconds: float | None, as_json: bool, is_watched: bool = False
) -> Ending:
    """Follow a run that has started to its end. Raises RpcError, or typer.Exit at the timeout and at Ctrl+C."""
    following = _follow(server, root_id, is_watched=is_watched, as_json=as_json)
    return _await(following, task_id=root_id, timeout_seconds=timeout_seconds)


def watch(server: Server, task_id: str, *, after: int, timeout_seconds: float | None, as_json: bool) -> ExitCode:
    """Follow the latest run of the task's tree. Raises RpcError."""
    with Client(server.url, token=server.token) as client:
        check_has_run(client, task_id)
    following = _follow(server, task_id, after=after, is_watched=True, as_json=as_json)
    return _report(_await(following, task_id=task_id, timeout_seconds=timeout_seconds), as_json=as_json)


def check_has_run(client: Client, task_id: str) -> None:
    """Raise NotFound, with the command to run the tree, if it has never run.

    The status of a root is that of its latest run; it is pending if there is none.
    """
    root_id = client.get(task_id)["root_task_id"]
    [state] = client.status([root_id])
    if state["status"] == "pending" and not state["is_running"]:
        raise NotFound(f"Task '{root_id}' has not run yet. Run it: {show.command('run', root_id)}")


def _await(work: Coroutine[Any, Any, T], *, task_id: str, timeout_seconds: float | None) -> T:
    """Wait for the work. Raises typer.Exit at the timeout and at Ctrl+C; neither affects the run."""
    try:
        return asyncio.run(asyncio.wait_for(work, timeout_seconds))
    except TimeoutError:
        why, code = f"Timed out after {timeout_seconds:g} s", ExitCode.TIMED_OUT
    except KeyboardInterrupt:
        why, code = "Interrupted", ExitCode.INTERRUPTED
    output.note(
        f"{why}. The run continues.",
        f"Watch it:  {show.command('watch', task_id)}",
        f"Cancel it: {show.command('cancel', task_id)}",
    )
    raise typer.Exit(code)


async def _follow(server: Server, task_id: str, *, after: int = 0, is_watched: bool, as_json: bool) -> Ending:
    event = None
    async with AsyncClient(server.url, token=server.token) as client:
        root = await client.load(AsyncClient.tree(task_id))
        with view_of(root, is_watched=is_watched, as_json=as_json) as view:
            async with (
                aclosing(client.follow(root["id"], after=after)) as events,
                _growing(client, root["id"], view) as grown,
                _answering(client, view),
            ):
                async for event in events:
                    view.tell(event)
                    if event["type"] == "task_spawned" and view.is_tree:
                        grown.set()
            tree = await client.load(AsyncClient.tree(root["id"]))
            view.grow(tree)
        return Ending(event, tree)


@asynccontextmanager
async def _growing(client: AsyncClient, root_id: str, view: View) -> AsyncIterator[asyncio.Event]:
    """Yield an event to set when the tree has grown: the view then gets the new tree, at most once a second."""
    grown = asyncio.Event()

    async def keep_current() -> None:
        while await grown.wait():
            grown.clear()
            began = time.monotonic()
            try:
                view.grow(await client.tree(root_id))
            except Unreachable:  # the stream ends the command if the server stays away
                grown.set()
            await asyncio.sleep(max(REST_SECONDS, REST_SHARE * (time.monotonic() - began)))

    keeping = asyncio.create_task(keep_current())
    try:
        yield grown
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
    if not keeping.cancelled():
        keeping.result()


@asynccontextmanager
async def _answering(client: AsyncClient, view: View) -> AsyncIterator[None]:
    """Let the person at the terminal answer questions below the tree."""
    keyboard = 0
    if not isinstance(view, LiveTree) or not os.isatty(keyboard) or _is_in_background(keyboard):
        yield
        return
    prompt = view.prompt = live.Prompt()
    answers = asyncio.Queue[tuple[str, Any]]()

    def read() -> None:
        keys = os.read(keyboard, KEYS_AT_ONCE)
        if not keys:
            loop.remove_reader(keyboard)
        elif (task_id := view.asking()) and (answer := prompt.take(keys)) is not None:
            answers.put_nowait((task_id, answer))

    async def send() -> None:
        while True:
            task_id, answer = await answers.get()
            try:
                await client.answer(task_id, answer)
                prompt.note = ""
            except RpcError as error:  # the answer is not allowed, or the server is away: the question stays
                prompt.note = output.clean(error.message)

    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, read)
    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        sending.cancel()
        await asyncio.wait([sending])
    if not sending.cancelled():
        sending.result()


def _is_in_background(keyboard: int) -> bool:
    """Return whether a shell runs this command in the background, where it may not touch the terminal."""
    try:
        return os.tcgetpgrp(keyboard) != os.getpgrp()
    except OSError:  # no shell controls this terminal
        return False


def _report(ending: Ending, *, as_json: bool) -> ExitCode:
    if output.is_for_people(as_json=as_json):
        ending.show_to_people()
    return ending.exit_code


def follow(server: Server, task_id: str, *, is_all: bool, as_json: bool) -> None:
    """Print the lines of the latest run, and those that come until it ends.

    A root has those of all tasks, another task its own. Raises RpcError.
    """
    with Client(server.url, token=server.token) as client:
        check_has_run(client, task_id)
        root = client.tree(task_id)
        names, out = names_of(root), output.out()
        for event in client.follow(root["id"]):
            is_wanted = is_all or event["type"] in LOGGED
            if not is_wanted or task_id not in (root["id"], event["task_id"]):
                continue
            if as_json:
                output.as_lines(event)
            else:
                name = names.get(event["task_id"], event["task_id"])
                at = datetime.fromisoformat(event["timestamp"]).astimezone()
                kind = "" if event["type"] == "log" else f"{event['type'].removeprefix('task_')}: "
                text = output.clean(event["error"] or event["message"] or "")
                out.print(f"{at:%H:%M:%S}.{at.microsecond // 1000:03} {at:%Z}  {name}  {kind}{text}", soft_wrap=True)
