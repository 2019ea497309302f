"""The page of the workers."""

import re
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import AsyncClient
from pytest_django import Settings

from tasks.models import Question, Run, WorkerProcess
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
