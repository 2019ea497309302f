"""The pages of data sets: the list, one version with its rows and what changed in it, and forms that add rows from runs and files."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import orjson
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.conversation import diff
from tasks.dashboard.flows import chosen
from tasks.dashboard.json_text import format_json, pretty
from tasks.dashboard.pages import Context, page, read_page, redirect_with_message, render_page
from tasks.dashboard.schema_form import read_json
from tasks.models import Dataset, DatasetVersion, Flow
from tasks.rules.dataset_files import Unreadable, problems_of_shape, rows_in
from tasks.rules.exceptions import InvalidParams, RunNotFound, TasksError
from tasks.rules.strict_json import Json
from tasks.rules.tags import tags_in
from tasks.services.evals import datasets, rows_of_runs
from tasks.services.evals.datasets import Saved
from tasks.storage import loads

PAGE: Final = 50
VERSIONS: Final = 20
CHANGES_SHOWN: Final = 50
NAMES_OFFERED: Final = 200
PROBLEMS_SHOWN: Final = 10
DOCUMENT_BYTES: Final = 64 * 1024
"""YAML and lists of JSON are read with the line of each row, which takes a second for so much."""
ROWS_TEMPLATE: Final = "dashboard/dataset_rows.html"
UPLOAD_TEMPLATE: Final = "dashboard/dataset_upload.html"


@read_page("dashboard/datasets.html")
def overview(request: HttpRequest, caller: Caller) -> Context:
    """`GET /ui/datasets/`: the data sets that the caller may see, by name."""
    cursor = request.GET.get("cursor", "")
    listed, next_cursor = datasets.list_datasets(caller=caller, limit=PAGE, cursor=cursor or None)
    rows = [(each, address_of(caller, each.dataset)) for each in listed]
    return {"place": "flows", "rows": rows, "next_cursor": next_cursor, "cursor": cursor}


@read_page("dashboard/dataset.html")
def dataset(request: HttpRequest, caller: Caller, name: str) -> Context:
    """`GET /ui/datasets/{name}/`: a version with its rows, those with `?tag=`; `?against=` shows what changed since that one."""
    found, shown = datasets.get_version(caller=caller, name=name, **chosen(request))
    tag, against = request.GET.get("tag", ""), _number(request.GET.get("against", ""))
    numbered = [(number, row) for number, row in enumerate(shown.rows, 1) if not tag or tag in row.get("tags", ())]
    first = PAGE * max(0, _number(request.GET.get("page", "")) - 1)
    changes: Sequence[Any] = ()
    if against:
        before = datasets.get_version(caller=caller, name=name, user_id=found.user_id, version=against)[1]
        changes = datasets.changes(before.rows, shown.rows)
    versions = DatasetVersion.objects.filter(dataset_id=found.id).defer("rows").order_by("-number")
    tags = sorted({each for row in shown.rows for each in row.get("tags", ())})
    number: Json = {} if shown.number == found.version else {"version": shown.number}
    of_page: Json = number | ({"tag": tag} if tag else {})
    return {
        "place": "flows",
        "dataset": found,
        "version": shown,
        "versions": [
            (
                each,
                address_of(caller, found, version=each.number),
                address_of(caller, found, **number, against=each.number),
            )
            for each in versions[:VERSIONS]
        ],
        "rows": numbered[first : first + PAGE],
        "matching": len(numbered),
        "tag": tag,
        "tags": [(each, address_of(caller, found, **number, tag=each)) for each in tags],
        "against": against,
        "changes": [_change(*each) for each in changes[:CHANGES_SHOWN]],
        "change_count": len(changes),
        "address": address_of(caller, found, **number),
        "before": address_of(caller, found, **of_page, page=first // PAGE) if first else "",
        "after": address_of(caller, found, **of_page, page=first // PAGE + 2) if first + PAGE < len(numbered) else "",
        "is_own": found.user_id == caller.user_id,
        "delete_address": address_of(caller, found, "delete_dataset"),
    }


@page("POST", needs=Role.OPERATOR)
async def delete(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Delete a data set with its versions."""
    await pools.write(datasets.delete_dataset, caller=caller, name=name, user_id=chosen(request)["user_id"])
    return redirect_with_message(request, reverse("dashboard:datasets"), f"Deleted the data set {name}.")


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def add_rows(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`/ui/datasets-add/?run=…`: the rows that runs or trees make, to be added to a data set. `expected` of one can be edited."""
    sent = request.POST if request.method == "POST" else request.GET
    run_ids = sent.getlist("run")
    if not 1 <= len(run_ids) <= PAGE:
        raise InvalidParams([("run", f"1 to {PAGE} runs at once")])
    if request.method != "POST":
        context = await pools.read(partial(_form_of_runs, caller, run_ids, {}))
        return await render_page(request, caller, ROWS_TEMPLATE, context)
    own = {field: sent.get(field, "").strip() for field in ("name", "tags", "expected", "expects")}
    tags = tags_in(own["tags"])
    try:
        expected = {"expected": read_json(own["expected"])} if own["expected"] else {}
    except ValueError as error:
        context = await pools.read(partial(_form_of_runs, caller, run_ids, own, {"expected": str(error)}))
        return await render_page(request, caller, ROWS_TEMPLATE, context, status=422)
    try:
        if len(run_ids) > 1:
            add = partial(rows_of_runs.add_runs, run_ids=run_ids, expected=own["expects"], tags=tags)
            added = await pools.write(partial(add, caller=caller, name=own["name"]))
            saved, message = added.saved, _said(added)
        else:
            flow, (row,) = await pools.read(partial(rows_of_runs.rows_of, caller=caller, run_ids=run_ids))
            row = {name: row[name] for name in ("inputs", "source")} | expected | ({"tags": tags} if tags else {})
            saved = await pools.write(
                partial(rows_of_runs.add_row, caller=caller, name=own["name"], flow=flow, row=row)
            )
            message = _said_of_row(saved)
    except RunNotFound:
        raise
    except InvalidParams as error:
        problems = dict(error.problems)
    except TasksError as error:
        problems = {"": error.message}
    else:
        return redirect_with_message(request, address_of(caller, saved.dataset), message)
    context = await pools.read(partial(_form_of_runs, caller, run_ids, own, problems))
    return await render_page(request, caller, ROWS_TEMPLATE, context, status=422)


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def upload(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`/ui/datasets-upload/`: save a file as the next version of a data set."""
    own = {field: (request.POST or request.GET).get(field, "").strip() for field in ("name", "flow")}
    context: Context = {"place": "flows", "own": own, "appends": "append" in request.POST, "problems": ()}
    if request.method == "POST":
        file = request.FILES.get("file")
        name, content = ("", b"") if file is None else (file.name or "", file.read())
        try:
            rows = await pools.read(_rows_of_file, name, content)
            save = partial(datasets.save_dataset, caller=caller, name=own["name"], rows=[each.row for each in rows])
            saved = await pools.write(partial(save, appends=context["appends"], flow=own["flow"] or None))
        except Unreadable as error:
            context["problems"] = [f"{name}{'' if error.line is None else f':{error.line}'}: {error}"]
        except InvalidParams as error:
            context["problems"] = [_at_line(name, rows, *each) for each in error.problems]
        except TasksError as error:
            context["problems"] = [error.message]
        else:
            done = "Saved" if saved.is_new else "Nothing was saved: these are the rows of"
            message = f"{done} version {saved.version.number:,}: {saved.version.count:,} rows."
            return redirect_with_message(request, address_of(caller, saved.dataset), message)
    context |= await pools.read(partial(_names, caller))
    return await render_page(request, caller, UPLOAD_TEMPLATE, context, status=422 if context["problems"] else 200)


def address_of(caller: Caller, found: Dataset, view: str = "dataset", **query: Any) -> str:
    """Return the address of a page of the data set; with its owner, where that is another user."""
    others = {"user": found.user_id} if found.user_id != caller.user_id else {}
    return reverse(f"dashboard:{view}", args=[found.name], query={**others, **query} or None)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _change(before: Json | None, after: Json | None) -> tuple[str, Json, Any]:
    """Return the verb, the row, and the lines of a row that was changed."""
    if before is None or after is None:
        return ("removed", before or {}, ()) if after is None else ("added", after, ())
    texts = ({name: value for name, value in row.items() if name != "inputs"} for row in (before, after))
    return "changed", after, diff(*map(pretty, texts))


def _form_of_runs(caller: Caller, run_ids: Sequence[str], own: Json, problems: Json | None = None) -> Context:
    flow, rows = rows_of_runs.rows_of(caller=caller, run_ids=run_ids)
    expected = rows[0].get("expected", ...)
    text = "" if expected is ... else format_json(expected)
    return _names(caller, flow) | {
        "run_ids": run_ids,
        "flow": flow,
        "rows": rows,
        "own": {"expected": text, "expects": rows_of_runs.ANSWER} | own,
        "problems": problems or {},
    }


def _names(caller: Caller, flow: str | None = None) -> Context:
    """Return the names that a form offers: of the caller's data sets, those that can have the inputs of the flow, and flows."""
    found = Dataset.objects.filter(user_id=caller.user_id).order_by("name")
    found = found if flow is None else found.filter(flow__in=["", flow])
    flows = Flow.objects.filter(user_id=caller.user_id).order_by("name")
    return {
        "place": "flows",
        "names": list(found.values_list("name", flat=True)[:NAMES_OFFERED]),
        "flow_names": list(flows.values_list("name", flat=True)[:NAMES_OFFERED]),
    }


def _said(added: rows_of_runs.Added) -> str:
    new = added.runs - added.known
    there = f" {added.known:,} of the {added.runs:,} runs have the inputs of another row." if added.known else ""
    if not added.saved.is_new:
        return f"Nothing was added.{there}"
    return f"Saved version {added.saved.version.number:,} with {new:,} new row{'' if new == 1 else 's'}.{there}"


def _said_of_row(saved: Saved) -> str:
    if not saved.is_new:
        return "Nothing was added: it has this row already."
    of_row = "the row with these inputs has been replaced" if saved.replaced else "1 new row"
    return f"Saved version {saved.version.number:,}: {of_row}."


def _rows_of_file(name: str, content: bytes) -> Sequence[Any]:
    """Return the rows of an uploaded file. Raises Unreadable."""
    if not content:
        raise Unreadable("Choose a file with rows.")
    if len(content) > DOCUMENT_BYTES and not name.lower().endswith((".csv", ".jsonl", ".ndjson")):
        raise Unreadable(
            f"it has more than {DOCUMENT_BYTES:,} bytes. Save it as JSONL or CSV, or use the command line."
        )
    loads.spend(len(content))
    rows = rows_in(content, name)
    for each in rows:
        for field, reason in problems_of_shape(each.row):
            raise Unreadable(f"{field}: {reason}" if field else reason, each.line)
        try:
            read_json(orjson.dumps(each.row).decode())
        except (ValueError, orjson.JSONEncodeError) as error:
            raise Unreadable(str(error), each.line) from None
    return rows


def _at_line(name: str, rows: Sequence[Any], place: str, reason: str) -> str:
    """Name the line of a row in a problem: `rows.csv:7: inputs.who: …` for `rows[5].inputs.who`."""
    numbered = rows_of_runs.NUMBERED.match(place)
    if numbered is None:
        return f"{place}: {reason}"
    return f"{name}:{rows[int(numbered[1])].line}: {place[numbered.end() :].lstrip('.')}: {reason}"
