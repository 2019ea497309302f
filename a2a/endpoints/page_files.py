"""Files that the pages of the dashboard offer, authenticated by the session."""

from functools import partial

import orjson
from django.http import HttpRequest, HttpResponse

from a2a.methods.runs import native_export
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.dashboard.json_text import file_name
from tasks.dashboard.pages import page
from tasks.services.history import past_trees


@page()
async def run_file(request: HttpRequest, caller: Caller, run_id: str) -> HttpResponse:
    """`GET /ui/runs/{id}/download/`: the whole run as a JSON file."""
    body = await pools.read(partial(_run_file, caller=caller, run_id=run_id))
    response = HttpResponse(body, content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{file_name(run_id, "run", "json")}"'
    return response


def _run_file(*, caller: Caller, run_id: str) -> bytes:
    return orjson.dumps(native_export(past_trees.for_file(caller=caller, run_id=run_id)), option=orjson.OPT_INDENT_2)
