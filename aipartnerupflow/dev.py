"""The development server: serves the code of a folder, and takes up each change of it.

The first process imports the server once, and never code of the folder. For each version of the code it forks a
process that imports the code, forks a worker cluster and serves. A new version takes milliseconds to start, inherits
nothing of the one before, and replaces it only when it serves: code with an error changes nothing. The workers of the
version before finish their runs first.
"""

import gc
import importlib
import keyword
import multiprocessing
import os
import re
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import PathFinder
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django_q.signals import post_spawn
from rich.console import Console

from aipartnerupflow import taken_name
from apflow_site.config import PREFIX
from apflow_site.db.connections import name_sessions
from apflow_site.edge.handler import load_views
from apflow_site.embedded_worker import EmbeddedWorker
from apflow_site.web_server import WebConfig, WebServer
from tasks.executors import disabled_executors, executor_ids, get_executor
from tasks.executors.llm.loading import load_now
from tasks.executors.plugins import plugins
from tasks.executors.workflows import WorkflowTask
from tasks.own_process import Forked, end_with_parent
from tasks.pools import nursery
from tasks.pools.process import FORKED_NURSERIES, PRELOADED
from tasks.queue import leases
from tasks.worker import cluster
from tasks.worker.supervisor import Watched

LEFT_OUT: Final = frozenset({"__main__", "conftest", "node_modules", "setup", "tests", "venv"})
"""The names of files and folders that are no code of the server."""
STARTUP_FAILED: Final = 3
FORK: Final = multiprocessing.get_context("fork")

console = Console()


class Broken(Exception):
    """The code of the folder cannot be used. The text says why, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The offers of the folder by kind, the faults of files that are left out, and the other modules that it needs."""

    workflows: list[str]
    functions: list[str]
    executors: list[str]
    graphs: list[str]
    crews: list[str]
    faults: list[str]
    libraries: list[str]

    def __str__(self) -> str:
        kinds = {name: getattr(self, name) for name in ("workflows", "functions", "executors", "graphs", "crews")}
        return "; ".join(f"{name}: {', '.join(names)}" for name, names in kinds.items() if names) or "nothing"


@dataclass(slots=True, kw_only=True)
class Version:
    """The process of one version of the code."""

    process: ForkProcess
    reports: Connection
    changed: list[str]
    began_at: float = field(default_factory=time.monotonic)
    cluster_pid: int = 0
    live_at: str = ""
    """The time at which it was taken up."""


def run(folder: Path, options: WebConfig) -> None:
    """Serve the code of the folder until SIGTERM or SIGINT."""
    options.load()
    options.get_loop_factory()
    load_views()
    load_now("tasks.worker.process.this_process")
    gc.collect()
    gc.freeze()
    warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)  # of idle threads
    DevServer(folder, options).run()


class DevServer:
    """The first process: it watches the folder, and replaces one version by the next."""

    def __init__(self, folder: Path, options: WebConfig) -> None:
        self._folder = folder
        self._options = options
        self._socket = options.bind_socket()
        self._changes, changes = FORK.Pipe(duplex=False)
        FORK.Process(target=_watch, args=[folder, changes], daemon=True).start()
        self._changes.recv()  # it watches
        self._current: Version | None = None
        self._next: Version | None = None
        self._retired: list[Version] = []
        self._changed: set[str] = set()
        self._signals: list[int] = []
        self._known_faults: list[str] = []

    def run(self) -> None:
        woken, wakes = socket.socketpair()
        wakes.setblocking(False)
        woken.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: self._signals.append(number))
        self._start()
        while self._current or self._next or self._retired:
            versions = [each for each in (self._current, self._next, *self._retired) if each]
            ready = wait(
                [woken, self._changes, *(v.reports for v in versions), *(v.process.sentinel for v in versions)]
            )
            if woken in ready:
                woken.recv(4096)
                self._stop()
            if self._changes in ready:
                self._changed |= set(self._changes.recv())
            for version in versions:
                if version.reports in ready:
                    self._hear(version)
                elif version.process.sentinel in ready:
                    self._ended(version)
            if self._changed and self._next is None and not self._signals:
                self._start()

    def _start(self) -> None:
        """Start the next version. The first one leaves out files with faults; later ones are refused for them."""
        ours, theirs = FORK.Pipe(duplex=False)
        arguments = [self._folder, self._options, self._socket, theirs, self._current is not None]
        process = FORK.Process(target=_serve, args=arguments)
        process.start()
        theirs.close()
        self._next = Version(process=process, reports=ours, changed=sorted(self._changed))
        self._changed = set()

    def _hear(self, version: Version) -> None:
        try:
            message = version.reports.recv()
        except EOFError:
            self._ended(version)
            return
        match message:
            case Broken():
                files = ", ".join(version.changed)
                console.print(f"{_now()}  {files}: not taken up; the code before it goes on.", style="yellow", **PLAIN)
                console.print(str(message), style="red", **PLAIN)
            case (Found() as found, int(pid)):
                version.cluster_pid = pid
                self._take_over(version, found)

    def _take_over(self, version: Version, found: Found) -> None:
        """Retire the version before this one, which serves now."""
        before, self._current, self._next = self._current, version, None
        version.live_at = _now()
        if before is not None:
            self._retired.append(before)
            os.kill(before.process.pid or 0, signal.SIGHUP)
            seconds = time.monotonic() - version.began_at
            console.print(f"{_now()}  {', '.join(version.changed)}: live after {seconds:.1f} s", style="green", **PLAIN)
        console.print(f"Found       {found}", **PLAIN)
        if str(found) == "nothing":
            console.print(
                f"            Mark a function with @workflow or @python_function in a file of {self._folder}.", **PLAIN
            )
        for fault in found.faults:
            if fault not in self._known_faults:
                console.print(fault, style="red", **PLAIN)
        self._known_faults = found.faults
        self._import(found.libraries)

    def _import(self, libraries: list[str]) -> None:
        """Import what the code needs, so that the next version has it already. A signal ends this early."""
        for name in libraries:
            if self._signals:
                return
            if name not in sys.modules:
                console.print(f"            Importing {name}, for the versions to come. Changes wait for it.", **PLAIN)
                with suppress(Exception):  # then each version imports it
                    importlib.import_module(name)

    def _ended(self, version: Version) -> None:
        version.process.join()
        version.reports.close()
        if version in self._retired:
            self._retired.remove(version)
            if not self._signals:
                console.print(f"{_now()}  No run uses the code of {version.live_at} any more.", style="dim", **PLAIN)
        elif version is self._next:
            self._next = None
            if self._current is None and not self._signals:
                sys.exit(STARTUP_FAILED)
        else:
            self._current = None
            if not self._signals and self._next is None:
                console.print(
                    f"{_now()}  The server ended with code {version.process.exitcode}; it starts again.",
                    style="red",
                    **PLAIN,
                )
                self._start()

    def _stop(self) -> None:
        """Let all versions drain; at the second signal, end them at once."""
        if not self._signals:
            return
        for version in (self._current, self._next):
            if version is not None and version.process.is_alive():
                os.kill(version.process.pid or 0, self._signals[-1])
        for version in self._retired:
            with_all = signal.SIGTERM if len(self._signals) == 1 else signal.SIGKILL
            with suppress(ProcessLookupError):
                os.killpg(version.cluster_pid, with_all)


PLAIN: Final[Mapping[str, Any]] = {"markup": False, "highlight": False, "soft_wrap": True}


def _now() -> str:
    return time.strftime("%H:%M:%S")


def _watch(folder: Path, changes: Connection) -> None:
    """Send the names of files that change, until the first process ends."""
    from watchfiles import PythonFilter, watch  # in this process only

    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the first process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    changes.send([])
    is_code = PythonFilter(extra_extensions=(".yaml", ".yml"))  # crews are YAML, too
    for changed in watch(folder, watch_filter=is_code, raise_interrupt=False, ignore_permission_denied=True):
        changes.send(sorted({os.path.relpath(path, folder) for _, path in changed}))


# One version


def _serve(folder: Path, options: WebConfig, listener: socket.socket, reports: Connection, is_strict: bool) -> None:
    """Be the process of a version: import the code, fork the workers, and serve."""
    os.setsid()  # Ctrl+C is for the first process, which decides
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        found, paths = _load(folder, is_strict=is_strict)
    except Broken as fault:
        reports.send(fault)
        return
    os.environ[leases.SUPERVISOR_VARIABLE] = leases.process_name()
    workers = EmbeddedWorker.cluster = Watched("tasks.worker.cluster", fork=partial(_fork_cluster, paths))
    signal.signal(signal.SIGHUP, lambda *_: _retire(workers))
    with suppress(KeyboardInterrupt):
        _Web(options, on_start=lambda: reports.send((found, workers.pid))).run(sockets=[listener])


class _Web(WebServer):
    def __init__(self, options: WebConfig, *, on_start: Callable[[], None]) -> None:
        super().__init__(options)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._on_start()


def _retire(workers: Watched) -> None:
    """Handle SIGHUP: another version serves now."""
    workers.retire()
    os.kill(os.getpid(), signal.SIGTERM)


def _fork_cluster(paths: list[str | None], cluster_id: str) -> Forked:
    """Fork the cluster, whose workers fork a nursery for each path."""
    lifeline, ours = os.pipe()

    def be_cluster() -> None:
        os.setsid()
        os.close(ours)
        os.dup2(lifeline, 0)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        post_spawn.connect(lambda **_: _fork_nurseries(paths), weak=False)
        name_sessions("worker")
        cluster.main(cluster_id)

    forked = Forked(be_cluster)
    os.close(lifeline)
    return forked


def _fork_nurseries(paths: list[str | None]) -> None:
    """Fork them from this worker, before it has threads."""
    for path in paths:
        ours, theirs = socket.socketpair()

        def be_nursery(theirs: socket.socket = theirs, ours: socket.socket = ours) -> None:
            for control in (ours, *(other for _, other in FORKED_NURSERIES.values())):
                control.close()
            nursery.main(theirs.detach(), None)

        FORKED_NURSERIES[path] = (Forked(be_nursery), ours)
        theirs.close()


# The code of the folder


def _load(folder: Path, *, is_strict: bool) -> tuple[Found, list[str | None]]:
    """Import the code, and make what it offers known in this process and those that it starts.

    Returns what is found, and the paths of the nurseries that it needs. Raises Broken if `is_strict`, else leaves out
    files with faults.
    """
    before = set(sys.modules)
    sys.dont_write_bytecode = True  # Python takes a file for unchanged if its size and second are
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.path.append(str(folder))  # last, so that it hides nothing
    names, faults = _modules_of(folder)
    has_taken_names = bool(faults)
    modules: list[ModuleType] = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except (Exception, SystemExit) as error:  # the code may raise anything while it is imported
            fault = _fault(error, folder, name)
            if is_strict:
                raise Broken(fault) from error
            faults.append(fault)
    graphs = dict(_graphs_of(modules))
    crews = dict(_crews_of(modules))
    sound: list[str] = []
    for module in modules:
        try:
            _offer([*sound, module.__name__], graphs, crews)
        except ImproperlyConfigured as error:
            fault = str(error).replace(f"{folder}{os.sep}", "")
            if is_strict:
                raise Broken(fault) from error
            faults.append(fault)
        else:
            sound.append(module.__name__)
    _offer(sound, graphs, crews)
    own = {module.__name__ for module in modules}
    offered = {name: cls for name, cls in plugins().executors.items() if cls.__module__ in own}
    workflows = sorted(cls.workflow.__name__ for cls in offered.values() if issubclass(cls, WorkflowTask))
    executors = sorted(name for name, cls in offered.items() if not issubclass(cls, WorkflowTask))
    functions = sorted(name for name, function in plugins().functions.items() if function.__module__ in own)
    needed = {"crewai_executor": crews, "langgraph_executor": graphs}
    paths = [PRELOADED[name] for name, offered in needed.items() if offered]
    for path in paths:
        load_now(path)
    if not has_taken_names:  # for the processes that are not forked: they find it before what is installed
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))
    roots = {name.partition(".")[0] for name in names}
    libraries = [name for name in sys.modules if name not in before and name.partition(".")[0] not in roots]
    found = Found(
        workflows=workflows,
        functions=functions,
        executors=executors,
        graphs=sorted(graphs),
        crews=sorted(crews),
        faults=faults,
        libraries=libraries,
    )
    return found, [None, *paths]


def _offer(modules: list[str], graphs: dict[str, str], crews: dict[str, str]) -> None:
    """Set the settings, as a configuration file would. Raises ImproperlyConfigured."""
    executors = settings.APFLOW.executors
    settings.APFLOW_EXECUTOR_MODULES = [
        *executors.modules,
        *(each for each in modules if each not in executors.modules),
    ]
    settings.APFLOW_LANGGRAPH = executors.langgraph.model_copy(
        update={"graphs": {**graphs, **(executors.langgraph.graphs or {})}}
    )
    settings.APFLOW_WORKFLOWS_REPLAY = True
    settings.APFLOW_CREWAI = executors.crewai.model_copy(update={"crews": {**crews, **(executors.crewai.crews or {})}})
    values = {
        "EXECUTORS_MODULES": settings.APFLOW_EXECUTOR_MODULES,
        "EXECUTORS_LANGGRAPH_GRAPHS": [f"{name}={path}" for name, path in settings.APFLOW_LANGGRAPH.graphs.items()],
        "EXECUTORS_CREWAI_CREWS": [f"{name}={path}" for name, path in settings.APFLOW_CREWAI.crews.items()],
    }
    os.environ.update({f"{PREFIX}{name}": ",".join(value) for name, value in values.items() if value})
    for cached in (plugins, executor_ids, disabled_executors, get_executor):
        cached.cache_clear()
    executor_ids()


def _modules_of(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the modules and packages of the folder, and the faults of files that cannot be imported."""
    names, faults = list[str](), list[str]()

    def look(place: Path, package: str) -> None:
        for path in sorted(place.iterdir()):
            name = path.stem if path.is_file() else path.name
            is_package = path.joinpath("__init__.py").is_file()
            if not (is_package or (path.is_file() and path.suffix == ".py" and name != "__init__")):
                continue
            if name.startswith((".", "test_")) or name.endswith("_test") or name in LEFT_OUT:
                continue
            if fault := _fault_of_name(name, folder, is_top=not package):
                faults.append(f"{path.relative_to(folder)}: left out, because {fault}")
                continue
            names.append(f"{package}{name}")
            if is_package:
                look(path, f"{package}{name}.")

    look(folder, "")
    return names, faults


def _fault_of_name(name: str, folder: Path, *, is_top: bool) -> str | None:
    """Return why a module cannot have this name."""
    if not name.isidentifier() or keyword.iskeyword(name):
        return "its name is no name of a Python module. Use letters, digits and _, such as my_flow.py."
    if not is_top:
        return None
    if ours := taken_name(name):
        return ours
    if name in sys.stdlib_module_names:
        return f"Python's standard library has a module '{name}'. Rename the file."
    others = [each for each in sys.path if Path(each).resolve() != folder]
    if name in sys.modules or PathFinder.find_spec(name, others) is not None:
        return f"an installed package is named '{name}'. Rename the file."
    return None


def _fault(error: BaseException, folder: Path, module: str) -> str:
    """Return where and why a module cannot be imported: file, line and message, and the line itself."""
    if isinstance(error, SyntaxError) and error.filename:
        place, line, text = Path(error.filename), error.lineno, error.text or ""
        message = error.msg
    else:
        frames = [
            each for each in traceback.extract_tb(error.__traceback__) if Path(each.filename).is_relative_to(folder)
        ]
        if not frames:
            return f"{module.replace('.', '/')}.py: {type(error).__name__}: {error}"
        place, line, text = Path(frames[-1].filename), frames[-1].lineno, frames[-1].line or ""
        message = str(error)
        if re.match(rf"{re.escape(str(folder))}.+:\d+: ", message):  # as `@workflow` raises it
            return message.replace(f"{folder}{os.sep}", "")
    shown = place.relative_to(folder) if place.is_relative_to(folder) else place
    return f"{shown}:{line}: {type(error).__name__}: {message}\n    {text.strip()}"


def _graphs_of(modules: list[ModuleType]) -> Iterator[tuple[str, str]]:
    """Yield the name and path of each graph of LangGraph; of a builder only if no compiled graph of it is there."""
    if (langgraph := sys.modules.get("langgraph.graph.state")) is None:
        return
    values = [(module, name, value) for module in modules for name, value in vars(module).items() if name[0] != "_"]
    compiled = [each for each in values if isinstance(each[2], langgraph.Pregel)]
    built = [getattr(value, "builder", None) for _, _, value in compiled]
    builders = [
        each for each in values if isinstance(each[2], langgraph.StateGraph) and not any(each[2] is b for b in built)
    ]
    seen = set[int]()
    for module, name, value in (*compiled, *builders):
        if id(value) not in seen:
            seen.add(id(value))
            yield name, f"{module.__name__}:{name}"


def _crews_of(modules: list[ModuleType]) -> Iterator[tuple[str, str]]:
    """Yield the name and path of each class with @CrewBase, Crew and class of a Flow."""
    if (crewai := sys.modules.get("crewai")) is None:
        return
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, type):
                is_flow = issubclass(value, crewai.Flow)
                is_crew = (is_flow or getattr(value, "is_crew_class", False)) and value.__module__ == module.__name__
            else:
                is_crew = isinstance(value, crewai.Crew)
            if is_crew and name[0] != "_":
                yield name, f"{module.__name__}:{name}"
