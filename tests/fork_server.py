"""Starts `aipartnerupflow` commands by fork, from a process that has imported their libraries already.

`python -m aipartnerupflow` spends most of its start on imports. A fork server spends that once per pytest process.
It imports nothing that reads settings, and runs each command in a child of its own, so that a command has its own
process, environment, standard streams, signals and exit code. What the command starts itself is started as always.

A shell asks for such a child by `tests/forked_command.py`, at the address that FORKS names.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from tempfile import TemporaryFile
from typing import IO, Any, Final, NoReturn

ROOT: Final = Path(__file__).parents[1]
FORKS: Final = "APFLOW_TEST_FORKS"
"""The environment variable with the address of a fork server, in shells."""
MODULE: Final = "aipartnerupflow"
MOST_BYTES: Final = 1 << 17
FIRST_FREE: Final = 1024
"""All open files of a fork server have lower numbers."""
NAME_LENGTH: Final = 15
"""As many characters of a process's name as Linux keeps."""
LIBRARIES: Final = """
    aipartnerupflow.cli aipartnerupflow.client aipartnerupflow.cli.watching apflow_site.config
    asgiref.sync cryptography.fernet cryptography.x509 django.contrib.postgres.fields django.contrib.postgres.forms
    django.core.cache django.core.mail django.core.management django.core.management.commands.migrate
    django.core.serializers.json django.db.backends.postgresql.base django.db.backends.sqlite3.base django.db.models
    django.forms django.http django.template.backends.django django.template.loader django.test django.urls
    django.utils.log httptools httpx jinja2 jmespath jsonschema_rs jwt markdown msgspec orjson prometheus_client psutil
    psycopg requests
    rich.console rich.panel rich.traceback uvicorn uvicorn.lifespan.on uvicorn.logging
    uvicorn.protocols.http.httptools_impl uvloop websockets whitenoise.base yaml
""".split()
PR_SET_NAME: Final = 15


class Forked:
    """A command that a fork server runs, with the interface of a `subprocess.Popen`."""

    def __init__(self, args: Sequence[str], reports: socket.socket) -> None:
        self.args = args
        self.returncode: int | None = None
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
    """The process that forks, and the socket on which it is asked to."""

    def __init__(self) -> None:
        self.address = f"apflow-{uuid.uuid4().hex}"
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as shells:
            shells.bind(f"\0{self.address}")
            shells.listen()
            numbers = [theirs.fileno(), shells.fileno()]
            command = [sys.executable, "-m", __name__, *map(str, numbers)]
            self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=numbers)

    def start(
        self, words: Sequence[str], *, env: Mapping[str, str], streams: Sequence[IO[Any] | int], name: str = ""
    ) -> Forked:
        """Run `python -m aipartnerupflow` with the words, in the root of the repository.

        `streams` are its standard input, output and error; `name` becomes the name of the process.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            numbers = [each if isinstance(each, int) else each.fileno() for each in (theirs, *streams)]
            request = json.dumps({"words": [*words], "env": dict(env), "name": name}).encode()
            socket.send_fds(self._control, [request], numbers)
        return Forked([sys.executable, "-m", MODULE, *words], ours)

    def close(self) -> None:
        self._control.close()
        self._process.wait()


@cache
def fork_server() -> ForkServer:
    """The one of this process. It ends when this process ends."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def run_command(
    *words: str, env: Mapping[str, str], given: str = "", stdout: IO[Any] | int | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `aipartnerupflow` with the words to its end. `given` is its standard input; its output goes to `stdout`, if given."""
    with TemporaryFile("w+") as typed, TemporaryFile() as printed, TemporaryFile() as errors:
        typed.write(given)
        typed.seek(0)
        streams = (typed, printed if stdout is None else stdout, errors)
        code = fork_server().start(words, env=env, streams=streams).wait()
        for file in (printed, errors):
            file.seek(0)
        return subprocess.CompletedProcess(words, code, printed.read().decode(), errors.read().decode())


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
                request, files, *_ = socket.recv_fds(shell, MOST_BYTES, 3)
                _fork(json.loads(request), [shell.detach(), *files], reports)
            if control in ready:
                request, files, *_ = socket.recv_fds(control, MOST_BYTES, 4)
                if not request:
                    break
                _fork(json.loads(request), files, reports)
    for pid in reports:
        os.kill(pid, signal.SIGKILL)


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


def _fork(request: dict[str, Any], files: list[int], reports: dict[int, socket.socket]) -> None:
    report, *streams = files
    if not (pid := os.fork()):
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(3, FIRST_FREE)
        _run(**request)
    for stream in streams:
        os.close(stream)
    reports[pid] = socket.socket(fileno=report)
    reports[pid].send(json.dumps(pid).encode())


def _run(words: list[str], env: dict[str, str], name: str = "", folder: str = "") -> NoReturn:
    """Be the command, in the folder if one is given. Never returns."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    sys.stdin, sys.stdout, sys.stderr = (_stream(number) for number in range(3))
    sys.argv = [MODULE, *words]
    if name:
        set_name(name)
    if folder:
        os.chdir(folder)
        sys.path[:0] = [folder, *env.get("PYTHONPATH", "").split(os.pathsep)]
    os._exit(_exit_code())


def _stream(number: int) -> IO[str]:
    """As Python opens the standard streams."""
    if not number:
        return open(number, closefd=False)
    is_terminal = os.isatty(number)
    errors = "backslashreplace" if number == 2 else "strict"
    return open(number, "w", buffering=1 if is_terminal or number == 2 else -1, errors=errors, closefd=False)


def _exit_code() -> int:
    """Run it to its end, with what Python does at the end of a process."""
    try:
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
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


def set_name(name: str) -> None:
    """What /proc/PID/comm shows of this process and of those that it forks."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:NAME_LENGTH], 0, 0, 0)


def _import_all() -> None:
    for library in LIBRARIES:
        import_module(library)
    rules = import_module("tasks.rules")
    for module in iter_modules(rules.__path__, "tasks.rules."):
        import_module(module.name)


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # what was imported is no garbage, and its pages stay shared
    with socket.socket(fileno=int(sys.argv[1])) as asked, socket.socket(fileno=int(sys.argv[2])) as shells:
        serve(asked, shells)
