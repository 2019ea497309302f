"""Flows find their runs by an index, on both databases."""

from functools import partial

import pytest

from benchmarks.scale import rows
from benchmarks.scale.questions import plans_of
from tasks.models import Run
from tasks.services.flows import save_flow
from tasks.services.flows.flow_grid import COLUMNS, grid_of
from tasks.services.flows.flow_runs import newest_runs, runs_of
from tests.tasks.plans import reads_a_table
from tests.tasks.trees import BOB

pytestmark = [
    pytest.mark.both_engines,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("free_plans"),
]


def test_the_runs_of_flows_are_found_by_their_index() -> None:
    rows.fill(2_000)
    tasks = [{"name": "echo_executor"}]
    ids = [save_flow(caller=BOB, name=f"many-{number}", tasks=tasks).flow.id for number in range(30)]
    run_ids = list(Run.objects.order_by("created_at").values_list("id", flat=True)[: 60 * len(ids)])
    for number, flow_id in enumerate(ids):
        Run.objects.filter(id__in=run_ids[number :: len(ids)]).update(flow_id=flow_id, flow_version=1)
    for look in (
        partial(newest_runs, ids, each=20),
        lambda: list(runs_of(ids[3])[:COLUMNS]),
        lambda: grid_of(list(runs_of(ids[3])[:COLUMNS]), []),
        lambda: runs_of(ids[3]).count(),
    ):
        plans = "\n\n".join(plans_of(look))
        assert "run_of_flow" in plans
        assert not reads_a_table(plans), plans
