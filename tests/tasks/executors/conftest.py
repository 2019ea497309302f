"""A context whose reports are kept, modules that a test writes, and a web server that gives the answers that a test sets."""

import importlib
import ssl
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pytest_django import Settings

from aipartnerupflow.executors import Context
from tasks import executors
from tasks.executors.plugins import installed_plugins, plugins
from tests.llm_site import LlmSite, running_llm_site
from tests.own_code import own_code
from tests.ports import free_port


@pytest.fixture
def reports() -> list[tuple[float, str]]:
    return []


@pytest.fixture
def logs() -> list[str]:
    return []


@pytest.fixture
def context(reports: list[tuple[float, str]], logs: list[str]) -> Context:
    """The context of a task without dependencies; `dataclasses.replace` makes another."""
    return Context(
        task_id="task-1",
        run_id="run-1",
        root_task_id="task-1",
        user_id="alice",
        name="a task",
        params={},
        schemas={},
        dependency_results={},
        attempt=1,
        report=lambda fraction, message: reports.append((fraction, message)),
        log=logs.append,
    )


class Died(Exception):
    """The worker died before it was committed that the effect begins."""


async def count_around_begin(
    execute: Callable[[Context], Awaitable[object]], context: Context, count: Callable[[], int]
) -> tuple[int, list[int], int]:
    """Return how many effects there are when a worker has died before their beginning was committed, when another one commits it, and at the end."""

    async def die() -> None:
        raise Died

    with pytest.raises(Died):
        await execute(replace(context, begin=die))
    without_begin, at_begin = count(), list[int]()

    async def begin() -> None:
        at_begin.append(count())

    await execute(replace(context, begin=begin))
    return without_begin, at_begin, count()


def forget_registry() -> None:
    for cached in (plugins, executors.executor_ids, executors.disabled_executors, executors.get_executor):
        cached.cache_clear()


@pytest.fixture
def registry() -> Iterator[None]:
    """A registry that is read again, before the test and after it, with what is installed."""
    _forget_all()
    yield
    _forget_all()


def _forget_all() -> None:
    installed_plugins.cache_clear()
    forget_registry()


InstallModule = Callable[[str, str], None]


@pytest.fixture
def install_module(
    registry: None, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InstallModule]:
    """Write a module and name it in `executors.modules`, as an operator does."""
    written: list[str] = []

    def install(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        written.append(name)
        settings.APFLOW_EXECUTOR_MODULES = (*settings.APFLOW_EXECUTOR_MODULES, name)

    settings.APFLOW_EXECUTOR_MODULES = ()
    monkeypatch.syspath_prepend(tmp_path)
    yield install
    for name in written:
        sys.modules.pop(name, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class Web:
    """A real server on loopback: `status`, `headers` and `chunks` are what it answers next."""

    port: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    hangs: bool = False
    arrived: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    received: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.status, self.chunks = status, [body]
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def handler_for(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            web.received.append(Received(method=self.command, path=self.path, headers=headers, body=body))
            web.arrived.set()
            if web.hangs:
                web.closing.wait()
                return
            self.send_response(web.status)
            for name, value in web.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for chunk in [] if self.command == "HEAD" else web.chunks:
                    self.wfile.write(chunk)
            except OSError:
                return  # the client had enough, as some tests want

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler


@contextmanager
def serving(web: Web, tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_for(web)) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        web.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield web
        finally:
            web.closing.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web()) as web:
        yield web


@pytest.fixture
def allow_loopback(settings: Settings) -> None:
    settings.APFLOW_ALLOW_PRIVATE = ("127.0.0.1",)
    settings.APFLOW_REST_ALLOWED_PORTS = range(1, 65536)


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the code of the server's operator notes what it did, and waits."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="package")
def publisher_port() -> int:
    """The port of this machine to which tasks of the server may send requests, by its name `localhost`."""
    return free_port()


@pytest.fixture(scope="package")
def llm_site(models_folder: Path, publisher_port: int) -> Iterator[LlmSite]:
    """Its operator has crews, graphs, tools and workflows. All tests with models share it: its libraries take ten seconds to load."""
    rest = {
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "localhost",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": f"80,443,{publisher_port}",
    }
    with running_llm_site(own_code(models_folder) | rest) as site:
        yield site


@pytest.fixture
def site(llm_site: LlmSite) -> LlmSite:
    """A server whose providers have forgotten what earlier tests made of them."""
    llm_site.llm.forget()
    llm_site.mock.state.reset()
    return llm_site
