"""Count the layers of ours that a request passes: send one `tasks.get` through the ASGI application, in this process, and watch it.

    python scripts/count_frames.py

Prints the modules of ours that it enters, in order, and the two stacks where they are deepest. The exit code is 1 when there are
more than LIMITS allows.

A *frame* is a call of a Python function whose code is in one of our packages; an awaiting coroutine is one, too. Frames of
Django, asgiref and other libraries between them are not counted. Only frames that are on the stack at the same time count, so
there are two numbers: the deepest stack on the event loop and the deepest one on the thread that reads the database. Django
carries a request out in an asyncio task of its own, so the code that awaits this task is another stack.

A *module* is a file of ours in which any function is entered between the request and the end of its response, on whichever
thread; properties of settings and the converters of model fields count like any other function. Code that only runs when a
module is imported, and methods that dataclasses generate, do not count. A first request, which is not counted, fills the caches
that live as long as the process. Authentication is off, and the database is SQLite.
"""

import asyncio
import os
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

import orjson

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = frozenset(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
)
LIMITS: Final = {"modules": 25, "frames on the event loop": 8, "frames on the database's thread": 8}
"""Two of the last are the thread itself, which was four of `concurrent.futures`."""


@dataclass(frozen=True, slots=True)
class Passage:
    """What a request passed. `modules` are in the order of their first call, the stacks from the outside in."""

    modules: list[str]
    loop: list[str]
    database: list[str]

    def parts(self) -> dict[str, list[str]]:
        """By the names that LIMITS has for them."""
        return dict(zip(LIMITS, (self.modules, self.loop, self.database), strict=True))


@dataclass(slots=True)
class Watch:
    """A profile function for all threads; it looks while `is_on`."""

    loop_thread: int
    is_on: bool = False
    modules: dict[str, None] = field(default_factory=dict)
    deepest: dict[bool, list[str]] = field(default_factory=lambda: {True: [], False: []})

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if not (self.is_on and event == "call" and (module := _module(frame))):
            return
        self.modules.setdefault(module)
        is_loop = threading.get_ident() == self.loop_thread
        stack = list(_own_frames(frame))[::-1]
        if len(stack) > len(self.deepest[is_loop]):
            self.deepest[is_loop] = stack


def _module(frame: FrameType) -> str | None:
    """Return the file of ours that the code is from, such as `a2a/core/http.py`."""
    path = frame.f_code.co_filename
    if not path.startswith(f"{ROOT}/") or frame.f_code.co_name == "<module>":
        return None
    name = path.removeprefix(f"{ROOT}/")
    return name if name.partition("/")[0] in PACKAGES else None


def _own_frames(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        if module := _module(frame):
            yield f"{module}: {frame.f_code.co_qualname}"
        frame = frame.f_back


async def passage_of(application: Any, task_id: str) -> Passage:
    """Send the request twice, and watch the second."""
    watch = Watch(threading.get_ident())
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        await _send(application, task_id)
        watch.is_on = True
        reply = await _send(application, task_id)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    if reply["result"]["id"] != task_id:
        raise RuntimeError(f"tasks.get answered {reply}")
    return Passage([*watch.modules], watch.deepest[True], watch.deepest[False])


async def _send(application: Any, task_id: str) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.get", "params": {"task_id": task_id}}
    body = orjson.dumps(call)
    headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body))}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/tasks",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    requests = iter([{"type": "http.request", "body": body, "more_body": False}])
    answers: list[Any] = []

    async def receive() -> Any:
        for message in requests:
            return message
        await asyncio.Event().wait()  # the client stays

    async def send(message: Any) -> None:
        answers.append(message)

    await application(scope, receive, send)
    return orjson.loads(b"".join(message.get("body", b"") for message in answers))


def main() -> int:
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIPARTNERUPFLOW_DATA_DIR"] = folder
        passage = asyncio.run(passage_of(*_prepared()))
    for name, lines in passage.parts().items():
        print(f"{len(lines)} {name}, at most {LIMITS[name]}:", *(f"  {line}" for line in lines), sep="\n")  # noqa: T201
    return int(any(len(lines) > LIMITS[name] for name, lines in passage.parts().items()))


def _prepared() -> tuple[Any, str]:
    """Return the application, on a new database with one task."""
    from django.core.management import call_command  # noqa: PLC0415

    from accounts.callers import LOCAL  # noqa: PLC0415
    from apflow_site.asgi import answer_requests, application  # noqa: PLC0415  Django is set up by it
    from tasks.services.trees import create_tree  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    answer_requests()
    return application, create_tree(caller=LOCAL, tasks=[{"name": "a"}]).root.id


if __name__ == "__main__":
    sys.exit(main())
