"""Sessions of the server: what they are held to beside the plans that PostgreSQL thinks best."""

from functools import partial

import pytest
from django.db import connection

from accounts.callers import LOCAL
from apflow_site.db import sessions
from benchmarks.scale import rows
from benchmarks.scale.questions import plans_of
from tasks.models import Run
from tasks.services.trees import queries
from tests.tasks.plans import reads_a_table

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


def test_plans_that_are_made_while_tables_are_small_are_as_good_when_they_have_grown() -> None:
    """PostgreSQL keeps the plan of a prepared statement, and would read a small table whole."""
    rows.fill(30)
    sessions.set_up_session(connection)
    for look in (
        partial(queries.list_tasks, caller=LOCAL, limit=20),
        partial(queries.latest_runs, caller=LOCAL, root_ids=list(Run.objects.values_list("root_id", flat=True)[:20])),
    ):
        plans = "\n\n".join(plans_of(look))
        assert plans
        assert not reads_a_table(plans), plans
