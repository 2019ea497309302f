"""The page of the workers."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models.functions import Now
from django.test import AsyncClient
from pytest_django import Settings

from tasks.models import Question, Run, Task, WorkerProcess
from tasks.queue.leases import SUSPENDED
from tasks.status import WaitKind
from tests.sections import replace

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_engines_nightly]


async def test_a_worker_process_that_has_ended_is_not_shown_with_its_places() -> None:
    for number, (minutes, places) in enumerate([(0, 7), (0, 0), (10, 1000)]):
        at = Now() - timedelta(minutes=minutes)
        names = {"id": f"w{number}", "cluster_id": "c", "host": "here", "pid": number}
        await WorkerProcess.objects.acreate(**names, places=places, started_at=at, beat_at=at)
    page = (await AsyncClient().get("/ui/workers/")).content.decode()
    rows = re.findall(r"<td>here</td>.*?</tr>", page)
    states = {re.findall(r"<td>(working|draining|ended|no heartbeat)</td>", row)[0]: row for row in rows}
    assert states.keys() == {"working", "draining", "ended"}
    assert ">7</td>" in states["working"] and "1,000" not in states["ended"]


async def test_the_page_shows_what_waits_for_which_limit(settings: Settings) -> None:
    shared = {"crm": {"match": {"host": "crm.example.com"}, "at_once": 4}}
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, shared=shared))
    run = await Run.objects.acreate(root_id="r", target_id="r", user_id="alice", context_id="r", created_at=Now())
    for task_id in "ab":
        await Question.objects.acreate(
            run=run, task_id=task_id, text="for limit crm", kind=WaitKind.LIMIT, event="crm", asked_at=Now()
        )
    page = (await AsyncClient().get("/ui/workers/")).content.decode()
    (row,) = re.findall(r"<td>crm</td>.*?</tr>", page, re.DOTALL)
    assert "crm.example.com" in row
    assert re.findall(r'<td class="num">(\d+)</td>', row) == ["0", "2"]
    assert "Named limits</td>" in page


async def test_a_run_that_waits_for_code_is_named_with_the_version_and_the_workers_that_have_it() -> None:
    now = datetime.now(UTC)
    owned = {"root_id": "w", "user_id": "local", "created_at": now}
    task = {"name": "research", "executor_id": "workflow:research", "status": "in_progress", "updated_at": now}
    await Task.objects.acreate(id="w", position=0, inputs={"topic": "rivers"}, dependencies=[], **owned, **task)
    step = task | {"name": "fetch", "executor_id": "step_executor", "parent_id": "w", "spawned_by": "w"}
    inputs = {"function": "flows:fetch", "arguments": {"topic": "rivers", "number": 7}}
    call = {"path": "1", "hash": "0", "seen": [], "patches": [], "version": "1a2b", "run": "r"}
    await Task.objects.acreate(id="w/1", position=1, inputs=inputs, dependencies=[], call=call, **owned, **step)
    why = {"need": "workflow:research@1a2b", "difference": "the run called 1 fetch"}
    needs = {"needs": why["need"], "needed_for": {"since": now.isoformat(), "tasks": {"w": why}}}
    await Run.objects.acreate(
        id="r",
        target_id="w",
        context_id="r",
        lease_owner=SUSPENDED,
        status="in_progress",
        started_at=now,
        **owned,
        **needs,
    )
    process = {"cluster_id": "c", "host": "here", "pid": 7, "places": 7, "started_at": now, "beat_at": now}
    await WorkerProcess.objects.acreate(id="p", workflows={"workflow:research": "9f8e"}, **process)
    client = AsyncClient()

    async def page(path: str) -> str:
        return " ".join((await client.get(path)).content.decode().split())

    workers = await page("/ui/workers/")
    assert "<td>version 1a2b of workflow:research</td><td>no</td>" in workers
    assert '<span class="mono">research 9f8e</span>' in workers
    tree, panel, of_step = await page("/ui/tasks/w"), await page("/ui/panel/w"), await page("/ui/panel/w/1")
    assert "waits for version 1a2b of workflow:research since" in tree
    assert all(text in panel for text in ("which no worker has", "the run called 1 fetch", '<span class="mono">1a2b'))
    assert '<span class="by">&quot;rivers&quot;,7</span>' in tree
    assert "flows:fetch" in of_step and "<h3>Arguments</h3>" in of_step and "step_executor" not in of_step
    await WorkerProcess.objects.aupdate(workflows={"workflow:research": "1a2b"})
    assert "for a worker that has it, and a free place" in await page("/ui/panel/w")
    await Run.objects.aupdate(needs=None)
    assert "waits for version" not in await page("/ui/tasks/w")


async def test_a_step_whose_failure_ends_its_workflow_is_not_handled() -> None:
    now = datetime.now(UTC)
    owned = {"root_id": "w", "user_id": "local", "created_at": now, "dependencies": []}
    of_run = owned | {"target_id": "w", "context_id": "r", "started_at": now, "finished_at": now}
    del of_run["dependencies"]
    await Run.objects.acreate(id="r", status="failed", **of_run)
    root = {"name": "research", "executor_id": "workflow:research", "status": "failed", "inputs": {}, "updated_at": now}
    await Task.objects.acreate(id="w", position=0, **owned, **root)
    for number, seen in ((1, []), (2, ["1"])):
        step = {
            "name": f"fetch {number}",
            "executor_id": "step_executor",
            "parent_id": "w",
            "spawned_by": "w",
            "updated_at": now,
        }
        call = {"path": str(number), "hash": "0", "seen": seen, "patches": [], "version": "1a2b", "run": "r"}
        await Task.objects.acreate(
            id=f"w/{number}",
            position=number,
            inputs={"function": "flows:fetch"},
            params={"allow_failure": True},
            call=call,
            status="failed",
            error="no",
            **owned,
            **step,
        )
    tree = " ".join((await AsyncClient().get("/ui/tasks/w")).content.decode().split())
    looks = re.findall(r'aria-label="([a-z, ]+)"><use [^>]+></use></svg><a href="[^"]+">(fetch \d)</a>', tree)
    assert looks == [("failed, handled", "fetch 1"), ("failed", "fetch 2")]
