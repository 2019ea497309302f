"""Methods for judges of flows: they score a share of the runs of a flow that have completed, within a budget."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from a2a.core.parsing import Params, Text
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, method
from a2a.methods.params import FlowName
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import Judge as Row
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json
from tasks.services.evals import judges

JudgeName = Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Za-z0-9_.-]{1,64}$"})]


class SetJudge(Params, frozen=True, kw_only=True):
    """judges.set"""

    flow: FlowName
    name: JudgeName
    """The name of its scores, too."""
    evaluator: Literal["exact"] | Annotated[dict[str, Any], Meta(min_length=1, max_length=1)]
    """As the `with` of an evaluator of `evals.run`: one of `expression`, `schema`, `judge`, `flow`, `workflow` and `function`."""
    sample: Annotated[float, Meta(gt=0, le=100)]
    """The percentage of the completed runs that are judged."""
    cost_usd_per_day: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    """The most that it may spend on a day in UTC. Required for an evaluator that may call models: `judge`, `flow` and `workflow`."""
    below: float | None = None
    """The owner is informed once when the mean of the newest scores falls below this."""
    runs: Annotated[int, Meta(ge=1, le=1000)] = judges.RUNS
    """The mean covers this many of the newest scores."""
    user_id: Text | None = None


class ListJudges(Params, frozen=True, kw_only=True):
    """judges.list"""

    flow: FlowName
    user_id: Text | None = None


class OneJudge(ListJudges, frozen=True, kw_only=True):
    """judges.delete"""

    name: Text


class Alert(Response, frozen=True, kw_only=True):
    """The mean with which the owner was informed, and when."""

    mean: float
    at: str


class Judge(Response, frozen=True, kw_only=True):
    """A judge of a flow. `judged` counts the runs that it has scored, `not_scored` those for which it had no score, with the newest reason as `problem`, and `over_budget` those that were left out because the budget of the day was used up.

    `mean` is that of the newest `runs` scores that are numbers or booleans; null without any. `alert` is null if that is not below `below`.
    """

    flow: str
    user_id: str
    name: str
    evaluator: Json
    sample: float
    cost_usd_per_day: float | None
    below: float | None
    runs: int
    judged: int
    not_scored: int
    over_budget: int
    in_progress: int
    mean: float | None
    spent_today_usd: float
    problem: str | None
    alert: Alert | None


class Judges(Response, frozen=True, kw_only=True):
    """The judges of a flow, by name."""

    judges: list[Judge]


class JudgeDeleted(Response, frozen=True, kw_only=True):
    """Whether there was a judge with that name."""

    flow: str
    name: str
    deleted: bool


@method(
    "judges.set",
    role=OPERATOR,
    answer=Judge,
    rest=[
        Rest(
            "setJudge",
            "PUT flows/<flow>/judges/",
            errors=(errors.FlowNotFound, errors.ExecutorNotFound, errors.LimitReached),
            rules={"required": ["name", "evaluator", "sample"]},
        )
    ],
)
async def set_judge(caller: Caller, given: SetJudge) -> DataResult:
    """Let an evaluator score a share of the runs of a flow that complete from now on, or replace the judge with this name."""
    stored = await pools.write(
        judges.set_judge,
        caller=caller,
        flow=given.flow,
        name=given.name,
        evaluator=given.evaluator,
        sample=given.sample,
        cost_usd_per_day=given.cost_usd_per_day,
        below=given.below,
        runs=given.runs,
        user_id=given.user_id,
    )
    return DataResult(native=await pools.read(native_judge, stored))


@method(
    "judges.list",
    role=VIEWER,
    answer=Judges,
    rest=[Rest("listJudges", "GET flows/<flow>/judges/", errors=(errors.FlowNotFound,))],
)
def list_judges(caller: Caller, given: ListJudges) -> DataResult:
    """Return the judges of a flow with what they have found, by name."""
    found = judges.list_judges(caller=caller, flow=given.flow, user_id=given.user_id)
    return DataResult(native={"judges": [native_judge(each) for each in found]})


@method(
    "judges.delete",
    role=OPERATOR,
    answer=JudgeDeleted,
    rest=[Rest("deleteJudge", "DELETE flows/<flow>/judges/", errors=(errors.FlowNotFound,))],
)
async def delete_judge(caller: Caller, given: OneJudge) -> DataResult:
    """Delete a judge of a flow. Its scores stay."""
    deleted = await pools.write(
        judges.delete_judge, caller=caller, flow=given.flow, name=given.name, user_id=given.user_id
    )
    return DataResult(native={"flow": given.flow, "name": given.name, "deleted": deleted})


def native_judge(judge: Row) -> Json:
    """Return a judge with what it has found. It reads what the judge spends at present."""
    return {
        "flow": judge.flow.name,
        "user_id": judge.flow.user_id,
        "name": judge.name,
        "evaluator": judge.evaluator,
        "sample": judge.sample,
        "cost_usd_per_day": judge.cost_usd,
        "below": judge.below,
        "runs": judge.runs,
        "judged": judge.judged,
        "not_scored": judge.not_scored,
        "over_budget": judge.over_budget,
        "in_progress": len(judge.in_hand),
        "mean": judge.mean,
        "spent_today_usd": judges.spent_today(judge),
        "problem": judge.problem or None,
        "alert": judge.alert,
    }
