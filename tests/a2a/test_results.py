import pytest

from a2a.results import TaskListResult, as_a2a_tasks
from accounts.callers import LOCAL
from tasks.models import Task

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_task_that_was_deleted_while_it_was_listed_is_left_out() -> None:
    gone = Task(id="gone", root_id="gone", name="gone", user_id="local")
    assert await as_a2a_tasks(LOCAL, TaskListResult(native=[], tasks=[gone])) == []
