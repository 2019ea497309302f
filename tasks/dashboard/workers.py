"""The page of workers and the queue, for administrators."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.pages import page, shown
from tasks.services.upkeep.workforce import workforce

TEMPLATE: Final = "dashboard/workers.html"
WAITS: Final = {
    "question": "People's answers",
    "time": "Times",
    "event": "Events",
    "run": "Other trees",
}


@page(needs=Role.ADMIN)
async def overview(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/workers/`: the workers, how many runs they have, and what waits."""
    found = await pools.read(workforce)
    parked = [(WAITS.get(kind, kind), count) for kind, count in found.parked.items()]
    return await shown(request, caller, TEMPLATE, {"place": "workers", "found": found, "parked": parked})
