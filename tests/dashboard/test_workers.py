"""The page of the workers."""

import re
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import AsyncClient

from tasks.models import WorkerProcess

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
