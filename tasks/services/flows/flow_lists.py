"""Lists of flows and of their versions."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import orjson
from django.db.models import F, Q, QuerySet

from accounts.callers import Caller
from tasks.models import Flow, FlowVersion, Run
from tasks.models.flows import FlowQuerySet
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services.flows import get_flow
from tasks.services.trees.queries import NOT_A_CURSOR
from tasks.status import Status
from tasks.storage import loads

AT_ONCE: Final = 100
"""Flows in one query: SQLite takes at most 500 parts."""
PART: Final = """SELECT * FROM (SELECT * FROM tasks_run WHERE flow_id = %s AND flow_id IS NOT NULL
ORDER BY created_at DESC, id DESC LIMIT %s) AS newest"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOfRun:
    """The flow of which a run was made, and the version. `name` is None if the flow has been deleted."""

    name: str | None
    version: int
    user_id: str


def flow_of(run: Run | None) -> FlowOfRun | None:
    """Return the flow of a run; None if it was made of none. A flow belongs to the owner of its runs."""
    if run is None or run.flow_id is None or run.flow_version is None:
        return None
    name = Flow.objects.filter(id=run.flow_id).values_list("name", flat=True).first()
    return FlowOfRun(name=name, version=run.flow_version, user_id=run.user_id)


def runs_of(flow_id: str) -> QuerySet[Run]:
    """Return the runs of a flow, newest first, in the order of their index."""
    return Run.objects.filter(flow_id=flow_id).order_by("-created_at", "-id")


def newest_runs(flow_ids: Sequence[str], *, each: int) -> Mapping[str, list[Run]]:
    """Map each flow that has run to its newest runs, newest first: at most `each`."""
    found: defaultdict[str, list[Run]] = defaultdict(list)
    for start in range(0, len(flow_ids), AT_ONCE):
        chunk = flow_ids[start : start + AT_ONCE]
        params = [value for flow_id in chunk for value in (flow_id, each)]
        for run in Run.objects.raw(" UNION ALL ".join([PART] * len(chunk)), params):
            found[str(run.flow_id)].append(run)
    for runs in found.values():
        runs.sort(key=lambda run: (run.created_at, run.id), reverse=True)
    return found


def seconds_of(run: Run) -> float | None:
    """Return how long a run took from its start to its end; None if it did not start or has not ended."""
    if run.started_at is None or run.finished_at is None:
        return None
    return max(0.0, (run.finished_at - run.started_at).total_seconds())


def success_rate(runs: Sequence[Run]) -> float | None:
    """Return which part of the runs that have ended completed; None if none has ended. Cancelled ones do not count."""
    ended = [run.status == Status.COMPLETED for run in runs if run.status in (Status.COMPLETED, Status.FAILED)]
    return sum(ended) / len(ended) if ended else None


def median_cost(runs: Sequence[Run]) -> float | None:
    """Return the median cost in US dollars of the runs that completed and called models of known price."""
    usages = [run.token_usage or {} for run in runs if run.status == Status.COMPLETED]
    found = [usage["cost_usd"] for usage in usages if usage.get("cost_usd") is not None]
    return median(found) if found else None


def median_seconds(runs: Sequence[Run]) -> float | None:
    """Return the median duration of the runs that completed; None if none did."""
    found = [seconds for run in runs if run.status == Status.COMPLETED and (seconds := seconds_of(run)) is not None]
    return median(found) if found else None


DESCRIBED_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A flow with its newest version, without the tasks of that, and its newest runs."""

    flow: Flow
    version: FlowVersion
    runs: Sequence[Run]


def list_flows(
    *,
    caller: Caller,
    user_id: str | None = None,
    text: str = "",
    limit: int = 100,
    cursor: str | None = None,
    runs: int = 1,
) -> tuple[list[Listed], str | None]:
    """Return a page of the flows that the caller may see, by name, and the cursor of the next page (None at the end).

    `text` is a part of their names, and `runs` how many of each flow. A page that would be too large ends early. Raises InvalidParams for an invalid cursor.
    """
    rows = Flow.objects.for_caller(caller).order_by("name", "user_id")
    if user_id is not None:
        rows = rows.filter(user_id=user_id)
    if text:
        rows = rows.filter(name__icontains=text)
    if cursor:
        try:
            name, owner = orjson.loads(urlsafe_b64decode(cursor.encode()))
        except (ValueError, TypeError):
            raise InvalidParams([NOT_A_CURSOR]) from None
        if not (isinstance(name, str) and isinstance(owner, str)) or "\0" in f"{name}{owner}":
            raise InvalidParams([NOT_A_CURSOR])
        rows = rows.filter(Q(name__gt=name) | Q(name=name, user_id__gt=owner), name__gte=name)
    page = list(rows[: limit + 1])
    newest = FlowVersion.objects.filter(number=F("flow__version"))
    of_page = newest.filter(flow_id__in=[flow.id for flow in page[:limit]])
    sizes = dict(of_page.values_list("flow_id", loads.size_of("inputs_schema", "description")))
    fitting = loads.spend_on_page({flow.id: sizes.get(flow.id, 0) for flow in page[:limit]}, least=1)
    shown = page[: len(fitting)]
    ids = [flow.id for flow in shown]
    loaded = newest.filter(flow_id__in=ids).defer("definition").select_related("flow")
    versions = {str(version.flow.id): version for version in loaded}
    found = newest_runs(ids, each=runs)
    listed = [
        Listed(flow=flow, version=versions[flow.id], runs=found.get(flow.id, []))
        for flow in shown
        if flow.id in versions  # one that is deleted meanwhile has none
    ]
    if len(page) == len(shown):
        return listed, None
    return listed, urlsafe_b64encode(orjson.dumps([shown[-1].name, shown[-1].user_id])).decode()


def versions_of(*, caller: Caller, name: str, user_id: str | None = None) -> tuple[Flow, list[FlowVersion]]:
    """Return a flow and the versions that are kept, newest first, without their tasks. Raises FlowNotFound or ResponseTooLarge."""
    flow = get_flow(caller=caller, name=name, user_id=user_id)
    versions = FlowVersion.objects.of(flow)
    loads.spend_on(versions, "description")
    return flow, list(versions.defer("definition", "inputs_schema"))


def tools_of(*, caller: Caller, after: str, limit: int) -> list[FlowVersion]:
    """Return the newest versions of the caller's own flows that are tools, by name after this one, without their tasks.

    Raises ResponseTooLarge.
    """
    own = Flow.objects.filter(user_id=caller.user_id, is_tool=True)
    # Sorted here: databases have orders of their own.
    names = sorted(name for name in own.values_list("name", flat=True) if name > after)[:limit]
    return _with_flows(own.filter(name__in=names), names)


def tool_of(*, caller: Caller, name: str) -> FlowVersion | None:
    """Return the version of the caller's own flow that NAME or NAME@LABEL means, without its tasks, if the flow is a tool."""
    version = FlowVersion.objects.referred(Flow.objects.filter(user_id=caller.user_id, is_tool=True), name)
    loads.spend_on(version, "inputs_schema", "description")
    return version.defer("definition").select_related("flow").first()


def descriptions_of(*, user_id: str, most: int) -> list[Json]:
    """Return name, description and schema of the inputs of a user's flows, at most so many, those saved last first.

    A flow that says more than DESCRIBED_BYTES is named only.
    """
    flows = list(Flow.objects.filter(user_id=user_id, version__gt=0).order_by("-updated_at", "-id")[:most])
    newest = FlowVersion.objects.filter(flow_id__in=[flow.id for flow in flows], number=F("flow__version"))
    short = newest.annotate(size=loads.size_of("inputs_schema", "description")).filter(size__lte=DESCRIBED_BYTES)
    rows: Iterable[Any] = short.values("flow_id", "description", "inputs_schema")
    said = {row.pop("flow_id"): row for row in rows}
    return [{"name": flow.name} | said.get(flow.id, {}) for flow in flows]


def _with_flows(flows: FlowQuerySet, names: Sequence[str]) -> list[FlowVersion]:
    newest = FlowVersion.objects.filter(flow__in=flows, number=F("flow__version"))
    loads.spend_on(newest, "inputs_schema", "description")
    found = {version.flow.name: version for version in newest.defer("definition").select_related("flow")}
    return [found[name] for name in names if name in found]
