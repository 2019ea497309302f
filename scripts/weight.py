"""Weigh the code: print what a reader has to open and to hold in mind, and what a request passes.

    python scripts/weight.py [--modules]

Prints a table of figures with their limits; `--modules` also lists the modules behind them. The exit code is 1 if a figure is
above its limit. A limit leaves room to breathe: raise it with a reason, and lower it when much has become lighter.

The figures are of the Python code of the product, without migrations and without the client's generated types. A *helper with
one caller* is a private function or method whose name occurs once in its module besides its definition. A *module passed* is a
file of ours in which a function is entered while a request is answered, or a run is worked on, on whichever thread; code that
runs when a module is imported, and methods that dataclasses generate, do not count. Requests go through the ASGI application in
this process, without authentication and on SQLite; the first ones, which fill the caches of the process, do not count. A *module
that lists a task's fields* has twelve or more of their names in lists of seven or more: such a list is one more place for a new
field. A name by itself, such as "status", is a use. The fields of a schedule do not count: they are those of another record.
"""

import ast
import asyncio
import os
import re
import sys
import tempfile
import threading
import tomllib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, Final

import orjson

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = tuple(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"])
GENERATED: Final = ROOT / "aipartnerupflow/client/types.py"
MANY_FIELDS: Final = 12
SHORT_LIST: Final = 7
COLUMN_LIST: Final = re.compile(r"\A\s*(INSERT|SELECT|UPDATE|\w+(\.\w+)?,\s)")
LIMITS: Final = {
    "lines": 117_200,
    "files": 702,
    "helpers with one caller, per 1,000 lines": 11.5,
    "modules passed by tasks.get": 27,
    "modules passed by tasks.execute, web": 55,
    "modules passed by a run of one echo task, worker": 66,
    "modules that list a task's fields": 8,
}


def sources() -> dict[str, str]:
    """Return the text of each module of the product by its path."""
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for path in found
        if "migrations" not in path.parts and path != GENERATED
    }


def helpers_with_one_caller(tree: ast.Module) -> Iterator[str]:
    """Yield the names of private functions and methods of a module that occur once in it."""
    uses = Counter(
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
    )
    functions = (node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    yield from (name for name in functions if name[0] == "_" and name[-2:] != "__" and uses[name] == 1)


def fields_listed(tree: ast.Module, fields: frozenset[str]) -> int:
    """Return how many of the names a module has in lists: classes, calls, assignments, dicts, tuples and column lists.

    A list of fewer than SHORT_LIST of them does not count.
    """
    lists = (_names_in(node) & fields for node in ast.walk(tree))
    return len(set[str]().union(*(names for names in lists if len(names) >= SHORT_LIST)))


def _names_in(node: ast.AST) -> set[str]:
    """Return the names that this piece of syntax lists."""
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.For():
            targets = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
            targets += [target for part in node.body if isinstance(part, ast.Assign) for target in part.targets]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            return names | {target.attr for target in targets if isinstance(target, ast.Attribute)}
        case ast.Call():
            return {keyword.arg for keyword in node.keywords if keyword.arg} | _texts(node.args)
        case ast.Dict():
            return _texts(node.keys)
        case ast.List() | ast.Tuple() | ast.Set():
            return _texts(node.elts)
        case ast.Constant(value=str(text)) if COLUMN_LIST.search(text):
            return set(re.findall(r"\w+", text))
    return set()


def _texts(nodes: Iterable[ast.expr | None]) -> set[str]:
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


class Watch:
    """A profile function for all threads: it notes the modules of ours that are entered while it `is_on`."""

    def __init__(self) -> None:
        self.is_on = False
        self.modules: dict[str, None] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        path = frame.f_code.co_filename
        if self.is_on and event == "call" and path.startswith(f"{ROOT}/") and frame.f_code.co_name != "<module>":
            name = path.removeprefix(f"{ROOT}/")
            if name.partition("/")[0] in PACKAGES:
                self.modules.setdefault(name)

    async def passed(self, work: Callable[[], Awaitable[Any]]) -> list[str]:
        """Return the modules that the work enters, in the order in which it does."""
        self.modules, self.is_on = {}, True
        try:
            await work()
        finally:
            self.is_on = False
        return [*self.modules]


async def modules_passed(application: Any) -> dict[str, list[str]]:
    """Return the modules that requests and a run pass, by the names that LIMITS has for them.

    Each passes them twice: what a thread in the background did meanwhile by chance does not count.
    """
    from tasks.queue import leases  # noqa: PLC0415  Django is set up by now
    from tasks.worker.worker import Worker  # noqa: PLC0415

    watch = Watch()
    threading.setprofile(watch)
    sys.setprofile(watch)
    echo = {"tasks": [{"name": "echo", "schemas": {"method": "echo_executor"}, "inputs": {"x": 1}}]}
    worker = Worker(cluster_id=leases.process_name(), linger_seconds=0)
    try:
        task_id = (await call(application, "tasks.execute", echo))["task_id"]
        await worker.work()
        await call(application, "tasks.get", {"task_id": task_id})
        works = (
            lambda: call(application, "tasks.get", {"task_id": task_id}),
            lambda: call(application, "tasks.execute", echo),
            worker.work,
        )
        first, second = [[await watch.passed(work) for work in works] for _ in range(2)]
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    passed = [[module for module in each if module in again] for each, again in zip(first, second, strict=True)]
    return dict(zip([name for name in LIMITS if "passed" in name], passed, strict=True))


async def call(application: Any, method: str, params: Any) -> Any:
    """Send a call, and return its result."""
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
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
    return orjson.loads(b"".join(message.get("body", b"") for message in answers))["result"]


def figures() -> tuple[dict[str, float], dict[str, list[str]]]:
    """Return the figures, and the modules behind some of them."""
    from django.core.management import call_command  # noqa: PLC0415

    from apflow_site.asgi import answer_requests, application  # noqa: PLC0415  Django is set up by it

    call_command("migrate", verbosity=0)
    answer_requests()
    passed = asyncio.run(modules_passed(application))
    texts = sources()
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = sum(text.count("\n") for text in texts.values())
    helpers = sum(len(list(helpers_with_one_caller(tree))) for tree in trees.values())
    responses = import_module("a2a.methods.responses")
    fields = frozenset(responses.Task.__struct_fields__) - set(responses.TaskSchedule.__struct_fields__)
    spelling = [path for path, tree in trees.items() if fields_listed(tree, fields) >= MANY_FIELDS]
    lists = {**passed, "modules that list a task's fields": spelling}
    weighed = {
        "lines": lines,
        "files": len(texts),
        "helpers with one caller, per 1,000 lines": round(helpers * 1000 / lines, 1),
    }
    return weighed | {name: len(modules) for name, modules in lists.items()}, lists


def main() -> int:
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIPARTNERUPFLOW_DATA_DIR"] = folder
        weighed, lists = figures()
    for name, figure in weighed.items():
        print(f"{figure:>8,}  {name} (at most {LIMITS[name]:,})")  # noqa: T201
    if "--modules" in sys.argv:
        for name, modules in lists.items():
            print(f"\n{name}:", *modules, sep="\n  ")  # noqa: T201
    return int(any(figure > LIMITS[name] for name, figure in weighed.items()))


if __name__ == "__main__":
    sys.exit(main())
