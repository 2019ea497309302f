"""The pages of schedules: the list, one with its history, and the form that makes and changes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.json_text import format_json
from tasks.dashboard.pages import Context, page, read_page, redirect_with_message, render_page
from tasks.dashboard.schema_form import read_json
from tasks.models import Firing, Schedule
from tasks.queue import clock
from tasks.rules.exceptions import InvalidParams, TasksError
from tasks.rules.firings import CatchUp, Outcome, Overlap
from tasks.rules.schedules import Timing, first_slots, in_words, known_zones
from tasks.rules.tags import tags_in
from tasks.services import schedules
from tasks.services.flows.flow_lists import list_flows
from tasks.services.schedules import Fired, Listed

LIST: Final = "dashboard/schedules.html"
ONE: Final = "dashboard/schedule.html"
FORM: Final = "dashboard/schedule_form.html"
PREVIEW: Final = "dashboard/schedule_preview.html"
PAGE: Final = 100
MOST_PAGES: Final = 10_000
HISTORY: Final = 50
NEXT: Final = 5
MOST_FLOWS: Final = 200
DID: Final = {
    Outcome.STARTED: "The run was submitted.",
    Outcome.QUEUED: "The run waits until the one before it has ended.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """A time in UTC, and as the clocks of a zone show it."""

    at: datetime
    local: datetime

    @property
    def shown(self) -> str:
        return (
            f"{self.local:%a} {self.local.day} {self.local:%b %Y, %H:%M:%S}".removesuffix(":00") + f" {self.local:%Z}"
        )


@read_page(LIST)
def overview(request: HttpRequest, caller: Caller) -> Context:
    """`GET /ui/schedules/`: the caller's schedules by the time of their next run; `?page=` has further ones."""
    text = request.GET.get("page", "1")
    number = int(text) if text.isdecimal() and len(text) < len(str(MOST_PAGES)) else 0
    if number < 1:
        raise InvalidParams([("page", f"must be a number from 1 to {MOST_PAGES - 1:,}")])
    found, has_more = schedules.next_schedules(caller=caller, limit=PAGE, start=PAGE * (number - 1))
    rows = []
    for each in found:
        zone, at = ZoneInfo(each.schedule.timezone), each.schedule.next_run_at
        next_time = None if at is None else Time(at=at, local=at.astimezone(zone))
        rows.append((each, in_words(each.schedule.timing), next_time))
    next_page = number + 1 if has_more else None
    return {"place": "schedules", "rows": rows, "next_page": next_page, "previous_page": number - 1}


@read_page(ONE)
def schedule(request: HttpRequest, caller: Caller, schedule_id: str) -> Context:
    """`GET /ui/schedules/<id>/`: a schedule, its next times, and what it did."""
    return _context(caller=caller, schedule_id=schedule_id)


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def new(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`/ui/schedules/new/`: the form for a schedule, perhaps of a task (`?task=`) or a flow (`?flow=`)."""
    if request.method == "POST":

        def create(fields: dict[str, Any]) -> Schedule:
            return schedules.create_schedule(caller=caller, fields=fields)

        return await _save(request, caller, create, schedule_id=None)
    chosen = {name: text for name in ("task_id", "flow") if (text := request.GET.get(name.removesuffix("_id")))}
    form = EMPTY | chosen | ({"subject": next(iter(chosen))} if chosen else {})
    return await _form(request, caller, form, {}, schedule_id=None)


@page("GET", "HEAD", "POST", needs=Role.OPERATOR)
async def edit(request: HttpRequest, caller: Caller, schedule_id: str) -> HttpResponse:
    """`/ui/schedules/<id>/edit/`: change a schedule."""
    found = (await pools.read(schedules.get_schedule, caller=caller, schedule_id=schedule_id)).schedule
    if request.method == "POST":

        def update(fields: dict[str, Any]) -> Schedule:
            return schedules.update_schedule(caller=caller, schedule_id=schedule_id, fields=fields)

        return await _save(request, caller, update, schedule_id=schedule_id)
    return await _form(request, caller, form_of(found), {}, schedule_id=schedule_id)


@page()
async def preview(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/schedules/preview/`: the next times of what is in the form, as a part of its page."""
    try:
        fields, problems = read(request.GET, only_timing=True)
        if problems:
            raise InvalidParams(list(problems.items()))
        timing, slots = await pools.read(schedules.preview, caller=caller, fields=fields, count=NEXT)
    except InvalidParams as error:
        return await render_page(request, caller, PREVIEW, {"problems": error.problems})
    return await render_page(request, caller, PREVIEW, {"words": in_words(timing), "times": _times(timing, slots)})


@page("POST", needs=Role.OPERATOR)
async def trigger(request: HttpRequest, caller: Caller, schedule_id: str) -> HttpResponse:
    """Run the schedule now."""
    firing: Firing = await pools.write(schedules.trigger_schedule, caller=caller, schedule_id=schedule_id)
    outcome = Outcome(firing.outcome)
    level = messages.SUCCESS if outcome in DID else messages.WARNING
    return _back(request, schedule_id, DID.get(outcome, f"{outcome.capitalize()}: {firing.reason}"), level=level)


@page("POST", needs=Role.OPERATOR)
async def pause(request: HttpRequest, caller: Caller, schedule_id: str) -> HttpResponse:
    """Pause the schedule."""
    await pools.write(schedules.pause_schedule, caller=caller, schedule_id=schedule_id)
    return _back(request, schedule_id, "Paused.")


@page("POST", needs=Role.OPERATOR)
async def resume(request: HttpRequest, caller: Caller, schedule_id: str) -> HttpResponse:
    """Resume the schedule."""
    await pools.write(schedules.resume_schedule, caller=caller, schedule_id=schedule_id)
    return _back(request, schedule_id, "Resumed.")


@page("POST", needs=Role.OPERATOR)
async def delete(request: HttpRequest, caller: Caller, schedule_id: str) -> HttpResponse:
    """Delete the schedule."""
    await pools.write(schedules.delete_schedule, caller=caller, schedule_id=schedule_id)
    return redirect_with_message(request, reverse("dashboard:schedules"), "Deleted the schedule. Its trees are kept.")


@page("POST", needs=Role.OPERATOR)
async def backfill(request: HttpRequest, caller: Caller, schedule_id: str) -> HttpResponse:
    """Run past times of the schedule that have had no run."""
    span = {"since": request.POST.get("since", ""), "until": request.POST.get("until", "")}
    try:
        made = await pools.write(schedules.backfill_schedule, caller=caller, schedule_id=schedule_id, **span)
    except InvalidParams as error:
        context = await pools.read(_context, caller=caller, schedule_id=schedule_id)
        return await render_page(request, caller, ONE, context | {"problem": error.message, "span": span}, status=422)
    many = "1 time" if len(made) == 1 else f"{len(made):,} times"
    return _back(
        request, schedule_id, f"{many} to run, one after the other." if made else "Every time has had its run."
    )


def _context(*, caller: Caller, schedule_id: str) -> Context:
    listed: Listed = schedules.get_schedule(caller=caller, schedule_id=schedule_id)
    found = listed.schedule
    history: list[Fired] = schedules.firings_of(caller=caller, schedule_id=schedule_id, limit=HISTORY)
    slots = (
        []
        if found.is_paused or found.is_finished
        else first_slots(found.timing, after=clock.database_time(), count=NEXT)
    )
    zone = ZoneInfo(found.timezone)
    return {
        "place": "schedules",
        "listed": listed,
        "schedule": found,
        "words": in_words(found.timing),
        "overlap": CHOICES["overlap"][found.overlap],
        "catch_up": CHOICES["catch_up"][found.catch_up],
        "tree": None if found.tasks is None else format_json(found.tasks),
        "inputs": None if found.inputs is None else format_json(found.inputs),
        "times": _times(found.timing, slots),
        "history": [
            (each, Time(at=each.firing.scheduled_for, local=each.firing.scheduled_for.astimezone(zone)))
            for each in history
        ],
        "most": HISTORY,
    }


def _times(timing: Timing, slots: list[datetime]) -> list[Time]:
    zone = ZoneInfo(timing.timezone)
    return [Time(at=slot, local=slot.astimezone(zone)) for slot in slots]


async def _save(
    request: HttpRequest, caller: Caller, save: Callable[[dict[str, Any]], Schedule], *, schedule_id: str | None
) -> HttpResponse:
    """Save the form, and redirect to the schedule; or show it again with the problems."""
    fields, problems = read(request.POST)
    if not problems:
        try:
            made = await pools.write(save, fields)
        except InvalidParams as error:
            problems = dict(error.problems)
        except TasksError as error:
            problems = {"": error.message}
        else:
            return _back(request, made.id, "Saved.")
    form = EMPTY | {name: text for name, text in request.POST.items() if isinstance(text, str)}
    return await _form(request, caller, form, problems, schedule_id=schedule_id)


async def _form(
    request: HttpRequest,
    caller: Caller,
    form: Mapping[str, str],
    problems: Mapping[str, str],
    *,
    schedule_id: str | None,
) -> HttpResponse:
    flows = await pools.read(list_flows, caller=caller, user_id=caller.user_id, limit=MOST_FLOWS)
    context = {
        "place": "schedules",
        "schedule_id": schedule_id,
        "form": form,
        "problems": problems,
        "other_problems": {name: reason for name, reason in problems.items() if name not in form},
        "choices": CHOICES,
        "zones": known_zones(),
        "flows": [listed.flow.name for listed in flows[0]],
    }
    return await render_page(request, caller, FORM, context, status=422 if problems else 200)


def _back(request: HttpRequest, schedule_id: str, message: str, *, level: int = messages.SUCCESS) -> HttpResponse:
    return redirect_with_message(request, reverse("dashboard:schedule", args=[schedule_id]), message, level=level)


Texts = Mapping[str, str]

CHOICES: Final[dict[str, dict[str, str]]] = {
    "subject": {"tasks": "A tree that is written here", "task_id": "Copies of a stored tree", "flow": "A flow"},
    "kind": {"cron": "By a cron expression", "every_seconds": "Every so many seconds", "at": "Once"},
    "overlap": {
        "skip": "Skip this time",
        "queue": "Run it afterwards",
        "cancel_previous": "Cancel the earlier run",
        "allow": "Run both",
    },
    "catch_up": {"none": "Skip them", "last": "Run the last one", "all": "Run all, the oldest first"},
}
#: Field → the least and the greatest number, and whether it may be empty.
NUMBERS: Final = {
    "flow_version": (1, 2**31 - 1, True),
    "every_seconds": (1, 2**31 - 1, False),
    "max_runs": (1, 2**31 - 1, True),
    "catch_up_window_seconds": (0, 366 * 86_400, False),
    "jitter_seconds": (0, 86_400, False),
    "pause_after_failures": (1, 2**31 - 1, True),
}
MOMENTS: Final = ("at", "starts_at", "ends_at")
LENGTHS: Final = {"name": 255, "cron": 255, "timezone": 64, "task_id": 255, "flow": 100}
EXAMPLE: Final = [{"id": "hello", "name": "echo_executor", "inputs": {"text": "Good morning"}}]
EMPTY: Final[dict[str, str]] = {
    "name": "",
    "subject": "tasks",
    "tasks": format_json(EXAMPLE),
    "task_id": "",
    "flow": "",
    "flow_version": "",
    "inputs": "",
    "tags": "",
    "kind": "cron",
    "cron": "0 6 * * 1-5",
    "every_seconds": "3600",
    "at": "",
    "timezone": "UTC",
    "starts_at": "",
    "ends_at": "",
    "max_runs": "",
    "overlap": Overlap.SKIP.value,
    "catch_up": CatchUp.NONE.value,
    "catch_up_window_seconds": "3600",
    "jitter_seconds": "0",
    "pause_after_failures": "",
}


def form_of(schedule: Schedule) -> dict[str, str]:
    """Return the texts of the form for a stored schedule."""
    subject = next(name for name in CHOICES["subject"] if getattr(schedule, name) is not None)
    kind = next(name for name in CHOICES["kind"] if getattr(schedule, name) is not None)
    zone = ZoneInfo(schedule.timezone)
    form = {"subject": subject, "kind": kind, "tags": " ".join(schedule.tags or ())}
    for name in EMPTY.keys() - form.keys():
        value = getattr(schedule, name)
        if isinstance(value, datetime):
            form[name] = value.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S").removesuffix(":00")
        elif isinstance(value, list | dict):
            form[name] = format_json(value)
        else:
            form[name] = "" if value is None else str(value)
    return form


def read(texts: Texts, *, only_timing: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of the schedule in the form, and the problems by field."""
    fields: dict[str, Any] = {}
    problems: dict[str, str] = {}
    kind = _choice("kind", texts)
    names = [kind, "timezone", "starts_at", "ends_at"]
    if not only_timing:
        subject = _choice("subject", texts)
        names += ["name", subject, "inputs", "tags", "overlap", "catch_up", "max_runs", "pause_after_failures"]
        names += ["catch_up_window_seconds", "jitter_seconds", *(["flow_version"] if subject == "flow" else [])]
    for name in names:
        try:
            value = _read_field(name, texts.get(name, "").strip())
        except ValueError as error:
            problems[name] = str(error)
        else:
            if value is not None or name not in ("name", "timezone"):
                fields[name] = value
    if kind == "every_seconds" and not fields.get("starts_at"):
        fields.pop("starts_at", None)  # that of the schedule: intervals count from it
    return fields, problems


def _choice(name: str, texts: Texts) -> str:
    given = texts.get(name, "")
    return given if given in CHOICES[name] else next(iter(CHOICES[name]))


def _read_field(name: str, text: str) -> Any:
    """Raise ValueError."""
    if name in NUMBERS:
        return _read_number(text, *NUMBERS[name])
    if name in CHOICES:
        return text if text in CHOICES[name] else next(iter(CHOICES[name]))
    if name in ("tasks", "inputs"):
        if not text and name == "inputs":
            return None
        value = read_json(text)
        if name == "inputs" and not isinstance(value, dict):
            raise ValueError("must be a JSON object")
        return value
    if name == "tags":
        return tags_in(text)
    if len(text) > LENGTHS.get(name, 64):
        raise ValueError(f"has more than {LENGTHS.get(name, 64)} characters")
    if not text and name in ("cron", "at", "task_id", "flow"):
        raise ValueError("required")
    return text or None


def _read_number(text: str, least: int, most: int, may_be_empty: bool) -> int | None:
    if not text and may_be_empty:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        raise ValueError(f"must be a whole number from {least:,} to {most:,}")
    return int(text)
