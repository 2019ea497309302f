"""The page of a tree is read in parts, and its run goes on meanwhile."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from accounts.callers import LOCAL
from apflow_site.db import pools
from tasks.dashboard import views
from tasks.dashboard.picture import picture_of
from tasks.models import Run, Task
from tasks.status import Status
from tests.tasks.trees import ROOT, start, step, store

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_engines_nightly]


@sync_to_async
def run_of_two() -> Run:
    store(ROOT, step("a"), caller=LOCAL)
    return start(caller=LOCAL)


@sync_to_async
def a_starts(run: Run) -> None:
    Task.objects.filter(id="a").update(status=Status.IN_PROGRESS, attempt=1, started_at=datetime.now(UTC))
    Run.objects.filter(id=run.id).update(last_seq=1)


async def test_what_happens_between_two_reads_is_shown_or_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = await run_of_two()
    real, parts = pools.read, list[object]()

    async def read(function: Callable[..., object], *positional: Any, **named: Any) -> object:
        part = await real(function, *positional, **named)
        if function in (views._panel, picture_of):
            parts.append(part)
            if len(parts) == 1:
                await a_starts(run)
        return part

    monkeypatch.setattr(pools, "read", read)
    page = (await AsyncClient().get("/ui/tasks/a")).content.decode()
    assert len(parts) == 2
    _, panel = page.split('id="panel"')
    is_streamed = re.search(r'data-events="[^"]*[?]after=0"', page) is not None
    is_shown = 'aria-label="running"' in panel.partition("</h2>")[0]
    assert is_streamed or is_shown
