"""Starts `aipartnerupflow` commands by fork, from a process that has imported their libraries already.

`python -m aipartnerupflow` spends most of its start on imports. A fork server spends that once per pytest process.
It imports nothing that reads settings, and runs each command in a child of its own, so that a command has its own
process, environment, standard streams, signals and exit code. The processes of ours that a server starts, such as its
worker cluster and several web processes, are forked in the same way; all else that a command starts is started as
always.

A shell asks for such a child by `tests/forked_command.py`, at the address that FORKS names, and so does a server for its
processes.
"""

import atexit
import ctypes
import gc
import json
import multiprocessing.popen_spawn_posix
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fcntl import F_DUPFD, fcntl
from functools import cache, partial
from importlib import import_module
from multiprocessing.heap import BufferWrapper
from pathlib import Path
from pkgutil import iter_modules
from tempfile import TemporaryFile
from typing import IO, Any, Final, NoReturn

from tests.warm_project import LIBRARIES_OF_MODELS, import_project

ROOT: Final = Path(__file__).parents[1]
FORKS: Final = "APFLOW_TEST_FORKS"
"""The environment variable with the address of a fork server, in shells."""
FORKED_MODULE: Final = "APFLOW_TEST_MODULE"
"""The environment variable with the module that `tests/forked_command.py` runs instead of MODULE."""
MODULE: Final = "aipartnerupflow"
CLUSTER: Final = "tasks.worker.cluster"
QUARANTINE: Final = "tasks.worker.quarantine"
NURSERY: Final = "tasks.pools.nursery"
MOST_BYTES: Final = 1 << 17
MOST_FILES: Final = 64
FIRST_GIVEN: Final = 3
"""The number of the file that a program gets beside its standard streams."""
FIRST_FREE: Final = 1024
"""All open files of a fork server have lower numbers: on many machines a process may have no more files than this."""
OWN_FILES: Final = 2
"""The control and the address of a fork server, which have the numbers before that."""
NAME_LENGTH: Final = 14
"""As many characters of a name that is given as processes show; Linux keeps one more, which says what they are."""
OF_SERVER: Final = "s"
LETTERS: Final[Mapping[str, str]] = {CLUSTER: "c", QUARANTINE: "q", NURSERY: "n"}
"""Program of a process that a server starts → the last letter of its name."""
GROUP_LEADERS: Final = frozenset({CLUSTER, QUARANTINE})
"""As `tasks.worker.watches` starts them."""
MODELS: Final = "APFLOW_TEST_MODELS"
"""The environment variable of servers that call language models: their fork server has imported the libraries for it."""
LIBRARIES: Final = """
    aipartnerupflow.cli aipartnerupflow.client aipartnerupflow.cli.watching apflow_site.config
    asgiref.sync cryptography.fernet cryptography.x509 django.contrib.postgres.fields django.contrib.postgres.forms
    django.core.cache django.core.mail django.core.management django.core.management.commands.migrate
    django.core.serializers.json django.db.backends.postgresql.base django.db.backends.sqlite3.base django.db.models
    django.forms django.http django.template.backends.django django.template.loader django.test django.urls
    django.utils.log httptools httpx jinja2 jmespath jsonschema_rs jwt markdown msgspec orjson prometheus_client psutil
    psycopg requests
    rich._emoji_codes rich.console rich.panel rich.traceback typer._adapters uvicorn uvicorn.lifespan.on uvicorn.logging
    uvicorn.loops.uvloop uvicorn.protocols.http.auto uvicorn.protocols.http.httptools_impl
    uvicorn.protocols.websockets.auto uvloop websockets whitenoise.middleware yaml
""".split()
DATABASE: Final = "AIPARTNERUPFLOW_DATABASE_URL"
ENGINES: Final = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}
"""Scheme of a URL → engine."""
WITH_MODELS: Final = " with models"
MORE: Final[Mapping[str, Callable[[], object]]] = {
    **{engine: partial(import_project, engine) for engine in ENGINES.values()},
    **{engine + WITH_MODELS: partial(import_project, engine, LIBRARIES_OF_MODELS) for engine in ENGINES.values()},
    "mcp": partial(import_module, "mcp.server.fastmcp"),
}
"""The project, for databases of an engine, and perhaps what calls models; or the SDK of MCP, for servers over pipes."""
PR_SET_NAME: Final = 15
KEPT: Final[list[object]] = []
"""Shared memory. `multiprocessing` frees it in a child, and would close its file by the number, which is another file there."""


class Forked:
    """A command that a fork server runs, with the interface of a `subprocess.Popen`."""

    def __init__(self, args: Sequence[str], reports: socket.socket) -> None:
        self.args = args
        self.returncode: int | None = None
        self.lifeline: int | None = None
        """The other end of its standard input."""
        self._reports = reports
        self.pid: int = json.loads(reports.recv(MOST_BYTES))

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._reports, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(json.loads(self._reports.recv(MOST_BYTES)))
            self._reports.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks, and the sockets on which it is asked to. `start` starts it, and gets its ends of both."""

    def __init__(self, start: Callable[[socket.socket, socket.socket], "subprocess.Popen[bytes] | Forked"]) -> None:
        self.address = f"apflow-{uuid.uuid4().hex}"
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as shells:
            shells.bind(f"\0{self.address}")
            shells.listen()
            self._process = start(theirs, shells)

    def start(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        streams: Sequence[IO[Any] | int],
        name: str = "",
        folder: str = "",
    ) -> Forked:
        """Run `python -m aipartnerupflow` with the words, in the root of the repository.

        `streams` are its standard input, output and error; `name` becomes the name of the process. With a `folder` it is
        there, and imports from it and from the PYTHONPATH of `env`.
        """
        return self.fork({"words": words, "env": dict(env), "name": name, "folder": folder}, *streams)

    def with_more(self, what: str) -> "ForkServer":
        """Another one, which has also imported what MORE says."""
        return ForkServer(partial(self.fork, {"more": what}))

    def fork(self, request: Mapping[str, Any], *files: IO[Any] | socket.socket | int) -> Forked:
        """Ask for a child with these files open; `_run` has what it can be asked."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            numbers = [each if isinstance(each, int) else each.fileno() for each in (theirs, *files)]
            socket.send_fds(self._control, [json.dumps(request).encode()], numbers)
        return Forked([sys.executable, "-m", MODULE, *request.get("words", ())], ours)

    def close(self) -> None:
        self._control.close()
        self._process.wait()


def _first(control: socket.socket, shells: socket.socket) -> "subprocess.Popen[bytes]":
    numbers = [control.fileno(), shells.fileno()]
    return subprocess.Popen([sys.executable, "-m", __name__, *map(str, numbers)], cwd=ROOT, pass_fds=numbers)


@cache
def fork_server(more: str = "") -> ForkServer:
    """The one of this process that has imported these, beside what all commands need. It ends when this process ends."""
    server = fork_server().with_more(more) if more else ForkServer(_first)
    atexit.register(server.close)
    return server


def fork_server_for(env: Mapping[str, str]) -> ForkServer:
    """The one for commands with this environment: of the engine that it names, and with models if it says so."""
    engine = ENGINES.get(env.get(DATABASE, "").partition(":")[0], "")
    return fork_server(engine + WITH_MODELS if engine and MODELS in env else engine)


def run_command(
    *words: str, env: Mapping[str, str], given: str = "", stdout: IO[Any] | int | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `aipartnerupflow` with the words to its end. `given` is its standard input; its output goes to `stdout`, if given."""
    return _run_to_end({"words": words}, env=env, given=given, stdout=stdout)


def run_code(code: str, *words: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run `python -c` with the code and the words to its end."""
    return _run_to_end({"words": words, "code": code}, env=env)


def printed_by(code: str, *words: str, env: Mapping[str, str]) -> str:
    """What `run_code` prints. Raises AssertionError if it fails."""
    done = run_code(code, *words, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run_to_end(
    request: Mapping[str, Any], *, env: Mapping[str, str], given: str = "", stdout: IO[Any] | int | None = None
) -> "subprocess.CompletedProcess[str]":
    with TemporaryFile("w+") as typed, TemporaryFile() as printed, TemporaryFile() as errors:
        typed.write(given)
        typed.seek(0)
        streams = (typed, printed if stdout is None else stdout, errors)
        code = fork_server_for(env).fork({**request, "env": dict(env)}, *streams).wait()
        for file in (printed, errors):
            file.seek(0)
        return subprocess.CompletedProcess(request["words"], code, printed.read().decode(), errors.read().decode())


def serve(control: socket.socket, shells: socket.socket) -> None:
    """Fork a child for each request, and report its pid and then its exit code, until the tests are over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the children get it too, and the tests decide
    reports: dict[int, socket.socket] = {}
    with _child_signals() as ended, selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(shells, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if ended in ready:
                ended.recv(MOST_BYTES)
                _report_ends(reports)
            if shells in ready:
                shell, _ = shells.accept()
                request, files = _asked(shell)
                if request:
                    _fork(json.loads(request), [shell.detach(), *files], reports, shells)
                else:
                    shell.close()
            if control in ready:
                request, files, *_ = socket.recv_fds(control, MOST_BYTES, MOST_FILES)
                if not request:
                    break
                _fork(json.loads(request), files, reports, shells)
    for pid in reports:
        os.kill(pid, signal.SIGKILL)


def _asked(shell: socket.socket) -> tuple[bytes, list[int]]:
    """The request of a shell and its files; no bytes if it has died."""
    try:
        request, files, *_ = socket.recv_fds(shell, MOST_BYTES, MOST_FILES)
    except ConnectionError:
        return b"", []
    return request, files


def _child_signals() -> socket.socket:
    """A socket that gets a byte for every signal that a child has ended."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(theirs.detach())
    return ours


def _report_ends(reports: dict[int, socket.socket]) -> None:
    while reports:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with reports.pop(pid) as report, suppress(OSError):  # nobody has to wait for it
            report.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())


def _fork(request: dict[str, Any], files: list[int], reports: dict[int, socket.socket], shells: socket.socket) -> None:
    report, *others = files
    leads_group = request.get("module") in GROUP_LEADERS
    if not (pid := os.fork()):
        if leads_group:
            os.setpgid(0, 0)
        if "more" in request:
            _serve_with_more(request["more"], *others)
        address = shells.getsockname()[1:].decode()
        _keep(others, request.pop("numbers", range(len(others))))
        _run(address, **request)
    if leads_group:
        with suppress(PermissionError, ProcessLookupError):  # it has done so itself, and gone on
            os.setpgid(pid, pid)
    for file in others:
        os.close(file)
    reports[pid] = socket.socket(fileno=report)
    try:
        reports[pid].send(json.dumps(pid).encode())
    except ConnectionError:  # the shell has died since it asked
        os.kill(pid, signal.SIGKILL)


def _keep(files: Sequence[int], numbers: Sequence[int]) -> None:
    """Have these files open under these numbers, and no others."""
    first = FIRST_FREE - OWN_FILES - len(files)
    high = [fcntl(file, F_DUPFD, first) for file in files]
    os.closerange(0, first)
    for file, number in zip(high, numbers, strict=True):
        os.dup2(file, number)
    os.closerange(first, FIRST_FREE)


def _serve_with_more(what: str, control: int, shells: int) -> NoReturn:
    """Be a fork server that has imported this, too. Never returns."""
    first = FIRST_FREE - OWN_FILES
    ours = [os.dup2(number, first + place) for place, number in enumerate((control, shells))]
    os.closerange(3, first)
    MORE[what]()
    KEPT.append(BufferWrapper._heap._arenas)  # type: ignore[attr-defined]
    gc.freeze()
    serve(*(socket.socket(fileno=number) for number in ours))
    os._exit(0)


def _run(
    address: str,
    words: list[str],
    env: dict[str, str],
    name: str = "",
    folder: str = "",
    module: str = MODULE,
    code: str = "",
) -> NoReturn:
    """Be the command, or the code, in the folder if one is given. Never returns. `address` is that of this fork server."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    sys.stdin, sys.stdout, sys.stderr = (_stream(number) for number in range(3))
    sys.argv = ["-c" if code else module, *words]
    if name:
        set_name(name, LETTERS.get(module, OF_SERVER))
        PartByFork.take_over(address, name)
        WebByFork.take_over(address, name)
    if folder:
        os.chdir(folder)
        sys.path[:0] = [folder, *env.get("PYTHONPATH", "").split(os.pathsep)]
    run = partial(exec, code, {"__name__": "__main__"}) if code else partial(_run_module, module)
    os._exit(_exit_code(run))


def _forked_at(address: str, request: Mapping[str, Any], files: Sequence[int], args: Sequence[str]) -> Forked:
    """A child of the fork server at the address, in the folder where this process is, with these files open."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.connect(f"\0{address}")
    socket.send_fds(server, [json.dumps({**request, "folder": str(Path.cwd())}).encode()], files)
    return Forked(args, server)


class PartByFork(subprocess.Popen[bytes]):
    """In a server and its processes: the programs of ours that they start are forked by the fork server of the server."""

    address = name = ""

    @classmethod
    def take_over(cls, address: str, name: str) -> None:
        """Be `subprocess.Popen` in this process, whose name begins as given."""
        cls.address, cls.name = address, name
        subprocess.Popen = cls  # type: ignore[misc]

    def __new__(cls, args: Any, *others: Any, **options: Any) -> Any:
        if isinstance(args, list) and args[1:3] == ["-P", "-m"] and args[3] in LETTERS:
            return cls._forked(args, options)
        return super().__new__(cls)

    @classmethod
    def _forked(cls, args: list[str], options: Mapping[str, Any]) -> Forked:
        """The program, with the file that it gets, or with a pipe for its standard input."""
        module, *words = args[3:]
        given = options.get("pass_fds", ())
        words = [str(FIRST_GIVEN) if word in map(str, given) else word for word in words]
        standard_input, ours = os.pipe()
        request = {"words": words, "env": dict(options["env"]), "name": cls.name, "module": module}
        part = _forked_at(cls.address, request, [standard_input, 1, 2, *given], args)
        os.close(standard_input)
        if options["stdin"] == subprocess.PIPE:
            part.lifeline = ours
        else:
            os.close(ours)  # the end of an empty file
        return part


class WebByFork(multiprocessing.popen_spawn_posix.Popen):
    """In a server with several web processes: one of these, which uvicorn lets `multiprocessing` start."""

    address = name = ""

    @classmethod
    def take_over(cls, address: str, name: str) -> None:
        cls.address, cls.name = address, name
        multiprocessing.popen_spawn_posix.Popen = cls  # type: ignore[misc]

    def _launch(self, process: object) -> None:
        multiprocessing.resource_tracker.ensure_running()  # which is started as always
        spawn = multiprocessing.util.spawnv_passfds
        multiprocessing.util.spawnv_passfds = self._fork  # type: ignore[assignment]
        try:
            super()._launch(process)  # type: ignore[misc]
        finally:
            multiprocessing.util.spawnv_passfds = spawn

    def _fork(self, _: str, args: Sequence[str], numbers: Sequence[int]) -> int:
        """Have the code after `-c` run with these open files, and return the process id."""
        code, word = args[-2:]
        kept = [*range(3), *sorted(set(numbers))]
        request = {"code": code, "words": [word], "env": dict(os.environ), "name": self.name, "numbers": kept}
        self._forked = _forked_at(self.address, request, kept, args)
        return self._forked.pid

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if self.returncode is None:
            self.returncode = self._forked.poll() if flag == os.WNOHANG else self._forked.wait()
        return self.returncode


def _stream(number: int) -> IO[str]:
    """As Python opens the standard streams."""
    if not number:
        return open(number, closefd=False)
    is_terminal = os.isatty(number)
    errors = "backslashreplace" if number == 2 else "strict"
    return open(number, "w", buffering=1 if is_terminal or number == 2 else -1, errors=errors, closefd=False)


def _run_module(module: str) -> None:
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _exit_code(run: Callable[[], object]) -> int:
    """Run it to its end, with what Python does at the end of a process."""
    try:
        run()
        code: Any = 0
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        _end()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001  (whatever it is: the interpreter of the command would show it and end)
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    _end()
    return code if isinstance(code, int) else int(code is not None)


def _end() -> None:
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as an interpreter that ends does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def set_name(name: str, what: str) -> None:
    """What /proc/PID/comm shows of this process and of those that it forks."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, (name[:NAME_LENGTH] + what).encode(), 0, 0, 0)


def _import_all() -> None:
    for library in LIBRARIES:
        import_module(library)
    _build_commands()
    rules = import_module("tasks.rules")
    for module in iter_modules(rules.__path__, "tasks.rules."):
        import_module(module.name)


def _build_commands() -> None:
    """Let Typer build the 80 commands here, as it does at every start: that takes 50 ms."""
    typer: Any = import_module("typer.main")
    typer.get_command = cache(typer.get_command)
    typer.get_command(import_module("aipartnerupflow.cli").app)


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # what was imported is no garbage, and its pages stay shared
    with socket.socket(fileno=int(sys.argv[1])) as asked, socket.socket(fileno=int(sys.argv[2])) as shells:
        serve(asked, shells)
