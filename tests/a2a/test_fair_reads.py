"""Reads do their work for each task, run or event on database threads, where users take turns, and not on the event loop.

The work of the event loop is counted, in calls of functions: it may not grow with what is read.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any, Final

import orjson
import pytest
from channels.testing import WebsocketCommunicator
from django.conf import LazySettings
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.test import AsyncClient
from django.utils.timezone import now

from a2a.agui.endpoint import Stream, beginning
from a2a.agui.params import RunAgentInput
from a2a.agui.starting import Started
from a2a.endpoints.consumers import websockets
from a2a.live import sse
from a2a.methods import METHODS, SYSTEM_METHODS
from accounts.callers import LOCAL, Role
from apflow_site.db import pools
from apflow_site.db.calls import Call
from tasks.models import Experiment, Run, Task, TaskEvent
from tasks.services import trees
from tasks.services.evals import datasets
from tasks.status import Status
from tests.a2a.a2a_client import SECRET, token_of
from tests.sections import replace

Json = dict[str, Any]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_engines]
TASKS: Final = 200
ROOTS: Final = 60
MARGIN: Final = 100
"""The calls that two reads may differ by: how often the loop wakes up is a matter of luck. Work for each row takes several each."""
TREE: Final = {"task_id": "$root"}
RUN: Final = {"run_id": "$run"}
PAGE: Final = {"limit": "$limit"}
READS: Final[dict[str, Json | None]] = {
    "tasks.get": TREE,
    "tasks.detail": TREE,
    "tasks.tree": TREE,
    "tasks.children": TREE,
    "tasks.list": PAGE | {"root_only": False},
    "tasks.count": {},
    "questions.list": PAGE,
    "tasks.running.list": PAGE,
    "tasks.running.status": {"task_ids": "$ids"},
    "tasks.running.count": {},
    "flows.get": None,
    "flows.labels": None,
    "flows.list": PAGE,
    "flows.versions": None,
    "datasets.get": {"name": "$experiment"},
    "datasets.list": PAGE,
    "evals.get": PAGE | {"experiment_id": "$experiment"},
    "evals.list": PAGE,
    "schedules.get": None,
    "schedules.list": PAGE,
    "schedules.preview": {"cron": "* * * * *", "timezone": "UTC", "count": "$limit"},
    "schedules.runs": None,
    "tasks.scheduled.list": PAGE,
    "tasks.scheduled.due": PAGE,
    "tasks.scheduled.export-ical": PAGE,
    "runs.list": PAGE,
    "runs.get": RUN,
    "runs.tree": RUN,
    "runs.export": RUN | {"events": True},
    "runs.calls": RUN | PAGE,
    "runs.compare": {"a": "$run", "b": "$run"},
    "hooks.get": None,
    "hooks.list": {},
    "hooks.deliveries": None,
    "notifications.list": {},
    "webhooks.list": RUN,
    "home.get": {},
    "usage.get": {},
    "audit.list": PAGE,
    "rpc.discover": {},
    "system.health": {},
    "system.executors": {},
    "config.llm_key.get": {},
    "cache.list": {},
    "files.get": None,
    "files.link": None,
    "files.list": PAGE,
    "judges.list": None,
    "limits.list": {},
    "limits.get": None,
    "secrets.list": {},
}
"""The parameters of each method that reads; None: it reads one row, or a list that has a method of its own here."""


def stored(tasks: int) -> tuple[str, str]:
    """Store a tree that has run, with a result and an event for each task. Returns the ids of its root and of its run."""
    tree_of = [{"id": "root", "name": "root"}]
    tree_of += [{"id": f"t{n}", "name": f"t{n}", "parent_id": "root"} for n in range(tasks - 1)]
    execution = trees.execute_tree(caller=LOCAL, tasks=tree_of)
    run, ended = execution.run, now()
    tree = Task.objects.filter(root_id=run.root_id)
    tree.update(status=Status.COMPLETED, result={"said": "x" * 100}, started_at=ended, completed_at=ended)
    Run.objects.filter(id=run.id).update(
        status=Status.COMPLETED, finished_at=ended + timedelta(seconds=1), started_at=ended, last_seq=tasks + 1
    )
    event = {
        "run_id": run.id,
        "root_task_id": run.root_id,
        "status": "completed",
        "progress": 1.0,
        "tree_progress": 1.0,
    }
    event |= {"message": None, "error": None, "result": {"said": "x"}, "timestamp": ended.isoformat()}
    of_tasks = [(task_id, "task_completed") for task_id in tree.values_list("id", flat=True)]
    TaskEvent.objects.bulk_create(
        TaskEvent(
            run_id=run.id,
            task_id=task_id,
            seq=seq,
            created_at=ended,
            type=kind,
            payload=event | {"type": kind, "task_id": task_id, "seq": seq},
        )
        for seq, (task_id, kind) in enumerate([*of_tasks, (run.root_id, "final")], 1)
    )
    return run.root_id, run.id


def experiment(cases: int) -> str:
    """Store an experiment without a run, and a data set of the same name. Returns its id."""
    rows = [{"inputs": {"n": number}, "expected": number} for number in range(cases)]
    items = [{"number": number, "version": 1, "repeat": 0, **row} for number, row in enumerate(rows)]
    tree = [
        {"id": "each", "name": "Each", "params": {"for_each": {"items": items}}},
        {"id": "part", "name": "Part", "parent_id": "each", "schemas": {"method": "echo_executor"}},
    ]
    root = trees.create_tree(caller=LOCAL, tasks=tree).root
    datasets.save_dataset(caller=LOCAL, name=root.id, rows=rows)
    of_row = {"dataset": root.id, "dataset_version": 1, "flow": "f", "versions": [1], "repeats": 1, "cases": cases}
    evaluators = [{"name": "accuracy", "with": "exact"}]
    Experiment.objects.create(id=root.id, user_id=LOCAL.user_id, evaluators=evaluators, created_at=now(), **of_row)
    return root.id


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the calls of functions, in Python and C, on this thread."""
    calls = [0]

    def count(frame: FrameType, event: str, argument: object) -> None:
        calls[0] += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def filled(value: Any, names: Json) -> Any:
    """Put in what the names in the value stand for."""
    if isinstance(value, dict):
        return {name: filled(each, names) for name, each in value.items()}
    if isinstance(value, str) and value not in names:
        for name, found in names.items():
            value = value.replace(name, str(found))
        return value
    return names.get(value, value) if isinstance(value, str) else value


async def whole(response: HttpResponseBase) -> bytes:
    """Return the body, also that of a stream that ends."""
    if isinstance(response, StreamingHttpResponse):
        return b"".join([part async for part in response])
    assert isinstance(response, HttpResponse)
    return response.content


def requests() -> dict[str, tuple[str, Json | None]]:
    """Return all reads, and copies, which reply as much: the path, and the body if it is a POST."""
    found: dict[str, tuple[str, Json | None]] = {}
    for path, methods in (("/tasks", METHODS), ("/", METHODS), ("/system", SYSTEM_METHODS)):
        for name in methods:
            if (params := READS.get(name)) is not None:
                found[f"{path} {name}"] = path, {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}
    listed = {"includeArtifacts": True, "pageSize": "$limit"}
    for name, params in (
        ("GetTask", {"id": "$run"}),
        ("ListTasks", listed),
        ("tasks/get", {"id": "$run"}),
        ("SubscribeToTask", {"id": "$run", "after": 0}),
    ):
        found[f"/ {name}"] = "/", {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}
    for uri in ("task://$run", "task://$run/tree", "task://$run/events"):
        read = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": uri}}
        found[f"/mcp {uri}"] = "/mcp", read
    got = {"name": "get_run", "arguments": RUN | {"with_tree": True}}
    found["/mcp get_run"] = "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": got}
    runs = {"name": "list_runs", "arguments": PAGE}
    found["/mcp list_runs"] = "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": runs}
    for path in (
        "/tasks?includeArtifacts=true&pageSize=$limit",
        "/tasks/$run",
        "/v1/tasks/$run",
        "/api/tasks/$root/tree/",
        "/api/runs/$run/export/",
        "/ui/tasks/$root",
        "/ui/growth/$root",
        "/ui/runs/$run/",
        "/ui/runs/$run/download/",
        "/ui/runs/",
        "/tasks/$root/events",
        "/ui/events/run/$run",
    ):
        found[f"GET {path}"] = path, None
    copied = TREE | {"children": True}
    for params in (copied, copied | {"save": False}):
        request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.copy", "params": params}
        found[f"/tasks tasks.copy {params}"] = "/tasks", request
    found["/modules children"] = "/modules/apflow.task.children", TREE
    return found


def test_every_method_that_reads_is_here() -> None:
    assert READS.keys() == {
        name for name, method in {**METHODS, **SYSTEM_METHODS}.items() if method.role is Role.VIEWER
    }


async def test_the_event_loop_does_no_work_for_each_task_of_a_read(async_client: AsyncClient) -> None:
    large, small = await pools.write(stored, TASKS), await pools.write(stored, 2)
    roots = [(await pools.write(stored, 1))[0] for _ in range(ROOTS)]
    much: Json = {"$root": large[0], "$run": large[1], "$limit": 100, "$ids": roots}
    little: Json = {"$root": small[0], "$run": small[1], "$limit": 1, "$ids": roots[:1]}
    for names, cases in ((much, TASKS), (little, 2)):
        names["$experiment"] = await pools.write(experiment, cases)
    refused: dict[str, bytes] = {}
    heavier: dict[str, list[int]] = {}
    for name, (path, body) in requests().items():
        calls = []
        for names in (little, little, much, much):  # the first one fills caches
            with counted() as number:
                if body is None:
                    response = await async_client.get(filled(path, names))
                else:
                    response = await async_client.post(path, orjson.dumps(filled(body, names)), "application/json")
                content = await whole(response)
            if response.status_code != 200 or b'"error":{"code"' in content[:100]:
                refused[name] = content[:500]
            calls += number
        if min(calls[2:]) > min(calls[:2]) + MARGIN:
            heavier[name] = calls
    assert refused == {}
    assert heavier == {}


async def test_the_event_loop_does_no_work_for_each_event_that_a_front_end_gets_again() -> None:
    given = RunAgentInput.parse({"threadId": "t", "runId": "r", "messages": []})
    least = []
    for tasks in (2, TASKS):
        _, run_id = await pools.write(stored, tasks)
        calls = []
        for _ in range(3):  # the first one fills caches
            with counted() as number:
                started = Started(run_id=run_id)
                begun = await beginning(LOCAL, started)
                stream = Stream(caller=LOCAL, given=given, started=started, begun=begun)
                body = b"".join([part async for part in sse.replies(stream.events())])
            assert b"RUN_FINISHED" in body
            calls += number
        least.append(min(calls))
    assert least[1] <= least[0] + MARGIN


@asynccontextmanager
async def connected(
    path: str, headers: list[tuple[bytes, bytes]] | None = None
) -> AsyncIterator[WebsocketCommunicator]:
    """A WebSocket that takes all that it is sent."""
    socket = WebsocketCommunicator(websockets, path, headers)
    assert (await socket.connect())[0]
    yield socket
    await socket.disconnect()


async def test_between_two_past_events_that_a_web_socket_sends_other_work_goes_on() -> None:
    _, run_id = await pools.write(stored, TASKS)
    async with connected(f"/ws?run_id={run_id}&after=0") as socket:
        at_once = sent = 0
        while sent <= TASKS:  # the reply, and an event for each task
            await asyncio.sleep(0)
            at_once, sent = max(at_once, socket.output_queue.qsize() - sent), socket.output_queue.qsize()
    assert at_once <= 2


async def test_the_calls_of_a_web_socket_wait_with_those_of_its_user(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = replace(settings.APFLOW.auth, enabled=True, jwt_secret=SECRET)
    settings.APFLOW = replace(settings.APFLOW, auth=auth)
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "SIGNING_KEY": SECRET}
    users = []

    def noted(function: Any, done: Any) -> Call:
        call = Call(function, done)
        users.append(call.user_id)
        return call

    monkeypatch.setattr(pools, "Call", noted)
    async with connected("/ws", [(b"authorization", f"Bearer {token_of('alice')}".encode())]) as socket:
        users.clear()  # to authenticate the connection
        await socket.send_to(text_data='{"jsonrpc":"2.0","id":1,"method":"tasks.list","params":{}}')
        assert orjson.loads(await socket.receive_from(60))["id"] == 1
    assert users
    assert set(users) == {"alice"}
