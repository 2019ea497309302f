"""The first page: what failed since the last visit, what waits for a person, and forms that retry what failed with corrected inputs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.inbox import entries
from tasks.dashboard.pages import Context, page, redirect_with_message, render_page
from tasks.dashboard.schema_form import PREFIX, Field, fields_of, read_inputs
from tasks.models import Run
from tasks.rules.exceptions import InvalidParams, TasksError
from tasks.rules.strict_json import Json
from tasks.services import history
from tasks.services.history.run_counts import HOUR, FailureGroup, failures_by_bar, hour_of, runs_to_retry
from tasks.services.upkeep.home import LAST_VISIT, MOST_RETRIED, Home, mark_seen, moment_of, retry_run, shared_inputs
from tasks.services.upkeep.home import home as read_home

TEMPLATE: Final = "dashboard/home.html"
ANSWERED_HERE: Final = 3
"""The number of questions on the page."""
RUNS_SHOWN: Final = 10
PROBLEMS_SHOWN: Final = 5
MOST_BARS: Final = 56
FEWEST_BARS: Final = 6
LEAST_SCALE: Final = 4
"""A bar of the chart has its full height with so many failures, or more."""
WHOLE: Final = "start"
"""The choice to run whole trees again, and not only what has not completed."""
VALUES_NAMED: Final = 3
LONGEST_VALUE: Final = 60
SPAN_WORDS: Final = {LAST_VISIT: "Last visit", "1h": "1 h", "24h": "24 h", "7d": "7 d"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The group that is open: the runs that can be retried, the first of them with their names, and the form for their inputs."""

    count: int
    is_more: bool
    rows: Sequence[history.RunFacts]
    fields: Sequence[Field]


@page()
async def home(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /`: what happened since `?since=`; `?group=` is the key of the group that is open."""
    context = await pools.read(_context, caller, request.GET)
    return await render_page(request, caller, TEMPLATE, context)


@page("POST")
async def seen(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Let the next visit begin with what the page has not shown yet."""
    await pools.write(mark_seen, caller=caller, until=_moment(request.POST, "until"))
    return redirect_with_message(request, "/", "Marked as seen. The next visit begins here.")


@page("POST", needs=Role.OPERATOR)
async def retry(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Retry the runs of a group that the page has shown, or the newest of them (`then=one`), with the corrected inputs."""
    key, post = request.POST.get("group", ""), request.POST
    wanted: dict[str, Any] = {"key": key, "since": _moment(post, "from"), "until": _moment(post, "until")}
    most = 1 if post.get("then") == "one" else MOST_RETRIED
    runs = await pools.read(partial(runs_to_retry, caller=caller, most=MOST_RETRIED, **wanted))
    shared = await pools.read(shared_inputs, runs)
    texts = {name.removeprefix(PREFIX): str(text) for name, text in post.items() if name.startswith(PREFIX)}
    inputs, problems = read_inputs(shared.schema, texts)
    if problems:
        context = await pools.read(_context, caller, post, texts=texts, problems=problems)
        return await render_page(request, caller, TEMPLATE, context, status=422)
    started, refused = 0, []
    for run in runs[:most]:
        try:
            execution = await pools.write(
                retry_run, caller=caller, run=run, inputs=inputs, is_whole=post.get("begin") == WHOLE
            )
        except InvalidParams as error:
            refused.append("; ".join(f"{field}: {reason}" for field, reason in error.problems))
        except TasksError as error:
            refused.append(error.message)
        else:
            started += execution.started
    for reason, count in Counter(refused).most_common(PROBLEMS_SHOWN):
        messages.warning(
            request, f"{count:,} could not be retried: {reason}" if count > 1 else f"Not retried: {reason}"
        )
    level = messages.SUCCESS if started else messages.INFO
    many = "No run was" if not started else "1 run was" if started == 1 else f"{started:,} runs were"
    left = await pools.read(partial(runs_to_retry, caller=caller, most=MOST_RETRIED, **wanted))
    rest = f" {len(left):,} of this group are left." if left and not refused else ""
    address = f"/?{urlencode({'since': post.get('since', LAST_VISIT), 'group': key if left else ''})}"
    return redirect_with_message(request, address, f"{many} retried.{rest}", level=level)


def _moment(given: QueryDict, name: str) -> datetime:
    """Return a time that the page has written into its form. Raises InvalidParams."""
    try:
        return moment_of(given.get(name, ""))
    except ValueError:
        raise InvalidParams([(name, "must be a time in ISO 8601")]) from None


NO_TEXTS: Final[Mapping[str, str]] = {}


def _context(
    caller: Caller,
    query: QueryDict,
    *,
    texts: Mapping[str, str] = NO_TEXTS,
    problems: Mapping[str, str] = NO_TEXTS,
) -> Context:
    since = query.get("since", "").strip() or LAST_VISIT
    found = read_home(caller=caller, since=since)
    key, bars = query.get("group") or None, _bars(caller, found)
    now, before = found.totals, found.week_before
    groups = [
        (
            group,
            bars.get(group.key),
            _opened(caller, found, group, texts=texts, problems=problems) if group.key == key else None,
        )
        for group in found.groups
    ]
    return {
        "place": "home",
        "found": found,
        "groups": groups,
        "is_open": any(opened for _, _, opened in groups),
        "since": since,
        "spans": SPAN_WORDS,
        "is_chosen": since not in SPAN_WORDS,
        "is_whole": query.get("begin") == WHOLE,
        "bar_count": _bar_count(found)[0],
        "questions": entries(caller=caller, limit=ANSWERED_HERE),
        "comparisons": [
            Comparison(name="Cost", now=now.cost_usd, before=before.cost_usd, is_cost=True),
            Comparison(name="Tokens", now=now.total_tokens, before=before.total_tokens),
            Comparison(name="Runs", now=now.runs, before=before.runs),
            Comparison(name="Failed", now=now.failed, before=before.failed),
        ],
    }


def _opened(
    caller: Caller, found: Home, group: FailureGroup, *, texts: Mapping[str, str], problems: Mapping[str, str]
) -> Opened:
    runs = runs_to_retry(caller=caller, key=group.key, since=found.since, until=group.last_at, most=MOST_RETRIED + 1)
    first = runs[:MOST_RETRIED]
    shared = shared_inputs(first)
    rules = shared.schema.get("properties", {})
    hinted = {name: _hinted(rule, shared.values.get(name, Counter()), first) for name, rule in rules.items()}
    return Opened(
        count=len(first),
        is_more=len(runs) > len(first),
        rows=history.with_facts(first[:RUNS_SHOWN]),
        fields=fields_of({"properties": hinted}, texts, problems),
    )


def _hinted(rule: Json, values: Counter[str], runs: Sequence[Run]) -> Json:
    """Return the rule of an input, described by the values that the runs had."""
    if not values:
        return rule
    named = [
        (value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}…", count)
        for value, count in values.most_common(VALUES_NAMED)
    ]
    if len(values) == 1:
        ((value, count),) = named
        was = f"was {value}" + ("" if len(runs) == 1 else " in all" if count == len(runs) else f" in {count:,}")
    else:
        rest = len(values) - len(named)
        was = "was " + ", ".join(f"{value} in {count:,}" for value, count in named)
        was += f", and {rest:,} others" if rest else ""
    return rule | {"description": was}


def _bar_count(found: Home) -> tuple[int, int]:
    """Return the number of bars in a chart of the page, and the hours of each. The last hour is not over."""
    hours = (hour_of(found.until) - hour_of(found.since)) // HOUR + 1
    width = -(-hours // MOST_BARS)
    return -(-hours // width), width


def _bars(caller: Caller, found: Home) -> dict[str, str]:
    """Map the key of each group to its chart, if the time is long enough for one: the path of the bars, whose height is 1."""
    count, width = _bar_count(found)
    if count < FEWEST_BARS or not found.groups:
        return {}
    charts = dict[str, str]()
    keys = [group.key for group in found.groups]
    for key, bars in failures_by_bar(caller=caller, keys=keys, since=found.since, width=width).items():
        most = max([LEAST_SCALE, *bars.values()])
        charts[key] = "".join(f"M{x} {1 - bars[x] / most:.3f}h.85V1H{x}z" for x in sorted(bars))
    return charts


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A number and that of the week before, with the percentage of each of the larger one. `change` is in percent; None if there was none before."""

    name: str
    now: Any
    before: Any
    is_cost: bool = False

    @property
    def change(self) -> int | None:
        return round(100 * (self.now - self.before) / self.before) if self.before else None

    @property
    def widths(self) -> tuple[float, float]:
        most = max(self.now, self.before)
        return (round(100 * self.now / most, 1), round(100 * self.before / most, 1)) if most else (0.0, 0.0)
