"""`Client` and `AsyncClient`: the same methods, blocking and for asyncio."""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import aclosing, closing
from functools import cache, wraps
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, Unpack, overload

import httpx

from . import calls, eval_calls, run_calls
from .calls import Call, Filters, Tasks
from .cases import flat
from .errors import InvalidRequest, named_errors
from .files import SLOW, Download, File, Source, Upload
from .handles import AsyncRun, AsyncWorkflowRun, P, R_co, Run, Workflow, WorkflowRun, starting
from .stream import TIMEOUT, Following, Patience
from .types import Event, FileValue, Json, ListedTask, Page

T = TypeVar("T")
H = TypeVar("H", httpx.Client, httpx.AsyncClient)

DEFAULT_URL = "http://127.0.0.1:8000"
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=2)
"""The limits of httpx, but idle connections are closed before the server closes them, after 5 seconds: a request just then would fail."""


@cache
def _tls_context() -> ssl.SSLContext:
    """Return one TLS context for all clients of a process: it takes 12 ms to load the certificates that the system trusts."""
    return httpx.create_ssl_context()


class method(Generic[P, T]):
    """Descriptor for a method of both clients.

    On an instance it sends the call; on the class it returns the `Call`.
    """

    def __init__(self, describe: Callable[P, Call[T]]) -> None:
        self.describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Callable[P, Call[T]]: ...
    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, client: "Client | AsyncClient | None", owner: type) -> Callable[P, Any]:
        if client is None:
            return self.describe

        @wraps(self.describe)
        def send(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(self.describe(*args, **kwargs))

        return send


class Methods(Generic[H]):
    """The methods and settings that both clients share."""

    execute = method(calls.execute)
    create = method(calls.create)
    get = method(calls.get)
    detail = method(calls.detail)
    tree = method(calls.tree)
    children = method(calls.children)
    count = method(calls.count)
    update = method(calls.update)
    delete = method(calls.delete)
    answer = method(calls.answer)
    send_event = method(calls.send_event)
    cancel = method(calls.cancel)
    copy = method(calls.copy)
    preview_copy = method(calls.preview_copy)
    generate = method(calls.generate)
    running = method(calls.running)
    running_count = method(calls.running_count)
    status = method(calls.status)
    home = method(calls.home)
    usage = method(calls.usage)
    audit = method(calls.audit)
    runs = method(run_calls.runs)
    get_run = method(run_calls.get_run)
    run_tree = method(run_calls.run_tree)
    export_run = method(run_calls.export_run)
    model_calls = method(run_calls.model_calls)
    set_feedback = method(run_calls.set_feedback)
    compare_runs = method(run_calls.compare_runs)
    fork = method(run_calls.fork)
    save_flow = method(run_calls.save_flow)
    run_flow = method(run_calls.run_flow)
    get_flow = method(run_calls.get_flow)
    flows = method(run_calls.flows)
    flow_versions = method(run_calls.flow_versions)
    delete_flow = method(run_calls.delete_flow)
    label_flow = method(run_calls.label_flow)
    undo_label = method(run_calls.undo_label)
    unlabel_flow = method(run_calls.unlabel_flow)
    flow_labels = method(run_calls.flow_labels)
    save_dataset = method(eval_calls.save_dataset)
    add_runs = method(eval_calls.add_runs)
    dataset = method(eval_calls.dataset)
    datasets = method(eval_calls.datasets)
    delete_dataset = method(eval_calls.delete_dataset)
    run_experiment = method(eval_calls.run_experiment)
    experiment = method(eval_calls.experiment)
    experiments = method(eval_calls.experiments)
    set_judge = method(eval_calls.set_judge)
    judges = method(eval_calls.judges)
    delete_judge = method(eval_calls.delete_judge)
    set_llm_key = method(calls.set_llm_key)
    llm_keys = method(calls.llm_keys)
    delete_llm_key = method(calls.delete_llm_key)
    questions = method(calls.questions)
    set_secret = method(calls.set_secret)
    secrets = method(calls.secrets)
    delete_secret = method(calls.delete_secret)
    limits = method(calls.limits)
    limit = method(calls.limit)
    set_limit = method(calls.set_limit)
    delete_limit = method(calls.delete_limit)
    cached = method(calls.cached)
    clear_cache = method(calls.clear_cache)
    create_file = method(calls.create_file)
    file = method(calls.file)
    files = method(calls.files)
    delete_file = method(calls.delete_file)
    link_file = method(calls.link_file)
    pause_flow = method(calls.pause_flow)
    resume_flow = method(calls.resume_flow)
    pause_executor = method(calls.pause_executor)
    resume_executor = method(calls.resume_executor)
    pause_provider = method(calls.pause_provider)
    resume_provider = method(calls.resume_provider)
    pause_user = method(calls.pause_user)
    resume_user = method(calls.resume_user)
    create_schedule = method(run_calls.create_schedule)
    schedule = method(run_calls.schedule)
    schedules = method(run_calls.schedules)
    update_schedule = method(run_calls.update_schedule)
    delete_schedule = method(run_calls.delete_schedule)
    pause_schedule = method(run_calls.pause_schedule)
    resume_schedule = method(run_calls.resume_schedule)
    trigger_schedule = method(run_calls.trigger_schedule)
    backfill_schedule = method(run_calls.backfill_schedule)
    preview_schedule = method(run_calls.preview_schedule)
    schedule_runs = method(run_calls.schedule_runs)
    set_notification = method(calls.set_notification)
    notifications = method(calls.notifications)
    test_notification = method(calls.test_notification)
    delete_notification = method(calls.delete_notification)
    set_hook = method(calls.set_hook)
    hook = method(calls.hook)
    hooks = method(calls.hooks)
    delete_hook = method(calls.delete_hook)
    hook_deliveries = method(calls.hook_deliveries)
    replay_delivery = method(calls.replay_delivery)
    webhooks = method(calls.webhooks)
    delete_webhook = method(calls.delete_webhook)

    _kind: type[H]
    """The class of the httpx client."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        timeout_seconds: float = 30,
        resume_seconds: float = 60,
    ) -> None:
        """`timeout_seconds` limits each call, `resume_seconds` the retries of a broken stream and of `load`.

        Raises InvalidRequest for a malformed URL or token.
        """
        self.url = url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self.resume_seconds = resume_seconds
        self._has_answered = False
        self._http: H = self._kind(
            base_url=_checked(self.url),
            headers=_headers(token),
            timeout=timeout_seconds,
            limits=LIMITS,
            verify=_tls_context(),
        )

    def _timeout(self, call: Call[Any]) -> float:
        return self.timeout_seconds + call.wait_seconds

    def _result(self, call: Call[T], response: httpx.Response) -> T:
        result = call.result(response)
        self._has_answered = True
        return result

    def _patience(self) -> Patience:
        return Patience(url=self.url, resume_seconds=self.resume_seconds, has_answered=True)

    def _following(self, task_id: str, *, after: int, tokens: bool = False) -> Following:
        return Following(
            url=self.url,
            task_id=task_id,
            seq=after,
            tokens=tokens,
            resume_seconds=self.resume_seconds,
            has_answered=self._has_answered,
        )


class Client(Methods[httpx.Client]):
    """A blocking client. Use it in a `with` statement, or call `close`. Threads may share one."""

    _kind = httpx.Client

    def send(self, call: Call[T]) -> T:
        """Send a call and return its result. Raises RpcError."""
        with named_errors(self.url):
            response = self._post(call)
        return self._result(call, response)

    def load(self, call: Call[T]) -> T:
        """Send a call that changes nothing, and return its result.

        If no server answers, such as during a restart, the call is repeated after increasing
        pauses, for up to `resume_seconds`. Raises RpcError.
        """
        patience = self._patience()
        while True:
            try:
                response = self._post(call)
                patience.check(response)
            except httpx.TransportError as error:
                time.sleep(patience.pause(error))
            else:
                return self._result(call, response)

    def _post(self, call: Call[Any]) -> httpx.Response:
        return self._http.post(call.path, json=call.to_json(), headers=call.headers, timeout=self._timeout(call))

    def list(self, **filters: Unpack[Filters]) -> Generator[ListedTask]:
        """Yield tasks, the newest first, loading a page at a time.

        Only roots, unless `root_only` is False.
        """
        call: Call[Page] | None = calls.page(**filters)
        while call is not None:
            page = self.send(call)
            yield from page["tasks"]
            call = calls.next_page(call, page)

    def case_rows(self, experiment_id: str) -> "Sequence[Json]":
        """Return all runs of an experiment as flat rows, which `pandas.DataFrame` takes: inputs, what is expected, tags and scores of each. Raises RpcError."""
        rows: list[Json] = []
        call = eval_calls.case_pages(experiment_id)
        while call is not None:
            page = self.send(call)
            rows += flat(page["results"])
            call = eval_calls.case_pages(experiment_id, page)
        return rows

    @overload
    def start(self, workflow: Workflow[P, R_co], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowRun[R_co]: ...
    @overload
    def start(
        self, tasks: Tasks | None = None, *, task_id: str | None = None, flow: str | None = None, **options: Any
    ) -> Run: ...
    def start(self, *given: Any, **options: Any) -> Any:  # type: ignore[misc]  # mypy does not see that it takes all of P
        """Run new tasks, a stored task, a flow or a workflow, and return a handle of the run at once.

        `inputs`, also called `run_inputs`, are the inputs of the run. Other `options` are those of `execute` or of `run_flow`. A workflow is a
        function with `@workflow`, which the server has, too. All other arguments are its own: `client.start(research, topic="rivers")`.
        Raises TypeError unless one of the four is given, and RpcError.
        """
        if given and hasattr(given[0], "as_task"):
            workflow, *args = given
            return WorkflowRun(self, self.send(calls.execute(workflow.as_task(*args, **options))), workflow)
        return Run(self, self.send(starting(*given, **options)))

    def stream(
        self, tasks: Tasks | None = None, *, task_id: str | None = None, flow: str | None = None, **options: Any
    ) -> Generator[Event]:
        """Run as `start` does, and yield every event up to `final`. The run starts at the first `next`."""
        yield from self.start(tasks, task_id=task_id, flow=flow, **options).events()

    def follow(self, task_id: str, *, after: int = 0, tokens: bool = False) -> Generator[Event]:
        """Yield the events of the task's latest run after sequence number `after`, up to `final`.

        With `tokens`, words of models are `token` events, which name their agent; without, `log` events. Resumes after a broken
        connection. Raises RpcError.
        """
        return self._follow(self._following(task_id, after=after, tokens=tokens))

    def _follow(self, following: Following) -> Generator[Event]:
        while not following.is_over:
            try:
                with self._http.stream("GET", following.path, headers=following.headers, timeout=TIMEOUT) as response:
                    if not following.opens(response):
                        response.read()
                        following.refuse(response)
                    for chunk in response.iter_bytes():
                        yield from following.take(chunk)
                        if following.is_over:
                            return
                following.closed()
            except httpx.TransportError as error:
                time.sleep(following.pause(error))

    def upload(self, source: Source, *, name: str | None = None, media_type: str | None = None) -> FileValue:
        """Send a local file, or bytes with a name, and return it as a value for inputs. It streams.

        Continues after a broken connection. Raises OSError and RpcError.
        """
        upload = Upload.of(source, name=name, media_type=media_type, patience=self._patience())
        with closing(upload.stream):
            upload.file_id = self.send(upload.create)["id"]
            value: FileValue | None = None
            while value is None:
                try:
                    upload.begin()
                    sent = self._http.put(upload.path, content=upload.parts(), headers=upload.headers, timeout=SLOW)
                    value = upload.value(sent)
                except httpx.TransportError as error:
                    time.sleep(upload.pause(error))
                    value = upload.take_up(self.load(calls.file(upload.file_id)))
            return value

    def download(self, file: File, target: str | os.PathLike[str]) -> Path:
        """Store a file, which is named by its id or as a value, at this path. It streams, and appears when it is complete.

        Continues after a broken connection. Raises OSError and RpcError.
        """
        download = Download.of(file, target, patience=self._patience())
        with closing(download):
            while True:
                try:
                    with self._http.stream("GET", download.path, headers=download.headers, timeout=TIMEOUT) as response:
                        if not download.opens(response):
                            response.read()
                            download.refuse(response)
                        for data in response.iter_raw():
                            download.take(data)
                    return download.complete()
                except httpx.TransportError as error:
                    time.sleep(download.pause(error))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Methods[httpx.AsyncClient]):
    """The client for asyncio. Use it in an `async with` statement, or call `aclose`."""

    _kind = httpx.AsyncClient

    async def send(self, call: Call[T]) -> T:
        """Send a call and return its result. Raises RpcError."""
        with named_errors(self.url):
            response = await self._post(call)
        return self._result(call, response)

    async def load(self, call: Call[T]) -> T:
        """Like `Client.load`."""
        patience = self._patience()
        while True:
            try:
                response = await self._post(call)
                patience.check(response)
            except httpx.TransportError as error:
                await asyncio.sleep(patience.pause(error))
            else:
                return self._result(call, response)

    async def _post(self, call: Call[Any]) -> httpx.Response:
        return await self._http.post(call.path, json=call.to_json(), headers=call.headers, timeout=self._timeout(call))

    async def list(self, **filters: Unpack[Filters]) -> AsyncGenerator[ListedTask]:
        """Like `Client.list`."""
        call: Call[Page] | None = calls.page(**filters)
        while call is not None:
            page = await self.send(call)
            for task in page["tasks"]:
                yield task
            call = calls.next_page(call, page)

    async def case_rows(self, experiment_id: str) -> "Sequence[Json]":
        """As `Client.case_rows`."""
        rows: list[Json] = []
        call = eval_calls.case_pages(experiment_id)
        while call is not None:
            page = await self.send(call)
            rows += flat(page["results"])
            call = eval_calls.case_pages(experiment_id, page)
        return rows

    @overload
    async def start(
        self, workflow: Workflow[P, R_co], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncWorkflowRun[R_co]: ...
    @overload
    async def start(
        self, tasks: Tasks | None = None, *, task_id: str | None = None, flow: str | None = None, **options: Any
    ) -> AsyncRun: ...
    async def start(self, *given: Any, **options: Any) -> Any:  # type: ignore[misc]
        """Like `Client.start`."""
        if given and hasattr(given[0], "as_task"):
            workflow, *args = given
            started = await self.send(calls.execute(workflow.as_task(*args, **options)))
            return AsyncWorkflowRun(self, started, workflow)
        return AsyncRun(self, await self.send(starting(*given, **options)))

    async def stream(
        self, tasks: Tasks | None = None, *, task_id: str | None = None, flow: str | None = None, **options: Any
    ) -> AsyncGenerator[Event]:
        """Like `Client.stream`."""
        run = await self.start(tasks, task_id=task_id, flow=flow, **options)
        async with aclosing(run.events()) as events:
            async for event in events:
                yield event

    def follow(self, task_id: str, *, after: int = 0, tokens: bool = False) -> AsyncGenerator[Event]:
        """Like `Client.follow`."""
        return self._follow(self._following(task_id, after=after, tokens=tokens))

    async def _follow(self, following: Following) -> AsyncGenerator[Event]:
        while not following.is_over:
            try:
                async with self._http.stream(
                    "GET", following.path, headers=following.headers, timeout=TIMEOUT
                ) as response:
                    if not following.opens(response):
                        await response.aread()
                        following.refuse(response)
                    async for chunk in response.aiter_bytes():
                        for event in following.take(chunk):
                            yield event
                        if following.is_over:
                            return
                following.closed()
            except httpx.TransportError as error:
                await asyncio.sleep(following.pause(error))

    async def upload(self, source: Source, *, name: str | None = None, media_type: str | None = None) -> FileValue:
        """Like `Client.upload`."""
        upload = Upload.of(source, name=name, media_type=media_type, patience=self._patience())

        async def parts() -> AsyncGenerator[bytes]:
            while data := await asyncio.to_thread(upload.read):
                yield data

        with closing(upload.stream):
            upload.file_id = (await self.send(upload.create))["id"]
            value: FileValue | None = None
            while value is None:
                try:
                    upload.begin()
                    sent = await self._http.put(upload.path, content=parts(), headers=upload.headers, timeout=SLOW)
                    value = upload.value(sent)
                except httpx.TransportError as error:
                    await asyncio.sleep(upload.pause(error))
                    value = upload.take_up(await self.load(calls.file(upload.file_id)))
            return value

    async def download(self, file: File, target: str | os.PathLike[str]) -> Path:
        """Like `Client.download`."""
        download = Download.of(file, target, patience=self._patience())
        with closing(download):
            while True:
                try:
                    async with self._http.stream(
                        "GET", download.path, headers=download.headers, timeout=TIMEOUT
                    ) as response:
                        if not download.opens(response):
                            await response.aread()
                            download.refuse(response)
                        async for data in response.aiter_raw():
                            await asyncio.to_thread(download.take, data)
                    return download.complete()
                except httpx.TransportError as error:
                    await asyncio.sleep(download.pause(error))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"'{url}' is not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidRequest(f"'{url}' is not the URL of a server. Use one such as {DEFAULT_URL}.")
    return url


def _headers(token: str | None) -> dict[str, str]:
    if token is None:
        return {}
    if not token.isascii() or not token.isprintable() or not token.strip():
        raise InvalidRequest(
            "The token is empty or has invalid characters. Use a token from POST /auth/login, or an API key."
        )
    return {"Authorization": f"Bearer {token}"}
