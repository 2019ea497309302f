"""Many rows are stored with few statements."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.callers import LOCAL
from tasks.models import Task
from tasks.services import trees

TASKS = 2_000
REPEATED = re.compile(r"(\d+) times: INSERT")
"""Django's log of one statement that is executed for each row."""

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


def test_a_large_tree_is_stored_whole_and_not_row_by_row() -> None:
    tasks = [{"id": "root", "name": "root"}, *({"name": f"t{n}", "parent_id": "root"} for n in range(TASKS))]
    with CaptureQueriesContext(connection) as queries:
        root = trees.create_tree(caller=LOCAL, tasks=tasks).root
    names = Task.objects.tree(root.id).values_list("name", flat=True)
    assert list(names) == ["root", *(f"t{n}" for n in range(TASKS))]
    repeated = [int(found[1]) for query in queries if (found := REPEATED.match(query["sql"]))]
    assert sum(repeated) < TASKS / 2
