"""Whole values of a task as files: what a page shows of a large one is only the beginning."""

import re
from typing import Any, Final

import orjson
from django.http import HttpRequest, HttpResponse

from accounts.callers import Caller
from apflow_site.db import pools
from tasks.dashboard.pages import page
from tasks.services.history.task_detail import detail
from tasks.services.secrets.write_only import for_pages
from tasks.services.trees.queries import get_task

KINDS: Final = ("result", "inputs", "resolved", "params", "schemas")
UNSAFE: Final = re.compile(r"[^\w.-]+", re.ASCII)
LONGEST_NAME: Final = 60


@page()
async def value(request: HttpRequest, caller: Caller, kind: str, task_id: str) -> HttpResponse:
    """`GET /ui/value/{kind}/{id}`: a value as JSON, or as text if it is one. `?download` makes browsers store it."""
    found = await pools.read(_value, caller=caller, task_id=task_id, kind=kind)
    is_text = isinstance(found, str)
    body = found.encode() if is_text else orjson.dumps(found, option=orjson.OPT_INDENT_2)
    response = HttpResponse(body, content_type=f"{'text/plain' if is_text else 'application/json'}; charset=utf-8")
    if "download" in request.GET:
        name = file_name(task_id, kind, "txt" if is_text else "json")
        response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def file_name(task_id: str, kind: str, ending: str) -> str:
    """Return a name for a file about a task, whose id may contain any character."""
    return f"{UNSAFE.sub('-', task_id)[:LONGEST_NAME]}-{kind}.{ending}"


def _value(*, caller: Caller, task_id: str, kind: str) -> Any:
    """Raise TaskNotFound."""
    if kind == "resolved":
        found = detail(caller=caller, task_id=task_id, is_page=True)
        return None if found.resolved_inputs is None else for_pages(found.task, found.resolved_inputs)
    task = get_task(caller=caller, task_id=task_id)
    return for_pages(task, task.inputs) if kind == "inputs" else getattr(task, kind)
