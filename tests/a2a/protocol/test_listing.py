"""A2A, ListTasks: pages and times. Databases that keep times as text compare text."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from a2a.protocol.operations import list_tasks
from a2a.protocol.params import ListTasks, RequestContext
from accounts.callers import LOCAL
from tasks.models import Run
from tasks.status import Status
from tasks.storage.bulk import insert_many
from tests.a2a.a2a_client import ECHO, SLOW, Agent, Json, data, text
from tests.servers import until

pytestmark = pytest.mark.both_engines

MANY_PAGES = 20
ASKED = RequestContext(caller=LOCAL, url=str, version="1.0")
ASKS_TWICE: Json = {
    "tasks": [
        {"id": "last", "name": "sleep_executor", "inputs": {"seconds": 60}, "dependencies": ["second"]},
        {
            "id": "second",
            "name": "approval_executor",
            "parent_id": "last",
            "inputs": {"question": "And now?"},
            "dependencies": ["first"],
        },
        {"id": "first", "name": "approval_executor", "parent_id": "second", "inputs": {"question": "Now?"}},
    ]
}
WHOLE_SECOND = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def working(alice: Agent) -> Iterator[list[Json]]:
    """Tasks at work in a context of their own, until the test is over."""
    context = f"context-{uuid.uuid4()}"
    ids = [alice.start(data(SLOW, contextId=context))["id"] for _ in range(3)]
    until(lambda: {alice.state(each) for each in ids} == {"TASK_STATE_WORKING"}, seconds=60, what="the tasks at work")
    yield [alice.get(task_id) for task_id in ids]
    for task_id in ids:
        alice.post("CancelTask", {"id": task_id})


def pages_of(alice: Agent, context: str) -> Iterator[list[str]]:
    """The ids, page by page, for as long as a list of a few Tasks may reasonably be."""
    token = ""
    for _ in range(MANY_PAGES):
        page = alice.call("ListTasks", {"contextId": context, "pageSize": 1, "pageToken": token})
        yield [task["id"] for task in page["tasks"]]
        token = page["nextPageToken"]
        if not token:
            return


def test_pages_end_though_their_tasks_do_not(alice: Agent, working: list[Json]) -> None:
    times = {task["id"]: task["status"]["timestamp"] for task in working}
    pages = [times[task_id] for (task_id,) in pages_of(alice, working[0]["contextId"])]
    assert pages == sorted(times.values(), reverse=True)


def test_a_list_from_the_time_of_a_task_on_holds_that_task(alice: Agent, working: list[Json]) -> None:
    for task in working:
        params = {"contextId": task["contextId"], "statusTimestampAfter": task["status"]["timestamp"]}
        assert task["id"] in [each["id"] for each in alice.call("ListTasks", params)["tasks"]]


def listed(alice: Agent, context: str, **params: str) -> list[str]:
    return [task["id"] for task in alice.call("ListTasks", {"contextId": context, **params})["tasks"]]


def test_what_asks_moves_to_the_front_each_time_and_when_it_goes_on(alice: Agent) -> None:
    context = f"context-{uuid.uuid4()}"
    asking = alice.send(data(ASKS_TWICE, contextId=context))
    other = alice.send(data(ECHO, contextId=context))
    assert listed(alice, context) == [other["id"], asking["id"]]
    again = alice.send(text("yes", taskId=asking["id"]))
    assert again["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    assert listed(alice, context) == [asking["id"], other["id"]]
    assert listed(alice, context, statusTimestampAfter=again["status"]["timestamp"]) == [asking["id"]]
    third = alice.send(data(ECHO, contextId=context))
    alice.start(text("yes", taskId=asking["id"]))
    order = [asking["id"], third["id"], other["id"]]
    until(lambda: listed(alice, context) == order, seconds=60, what="the task that goes on, in front")
    alice.call("CancelTask", {"id": asking["id"]})


def test_what_has_no_tree_yet_moves_to_the_front_too(alice: Agent) -> None:
    context = f"context-{uuid.uuid4()}"
    asking = alice.send(text("what?", contextId=context))
    other = alice.send(data(ECHO, contextId=context))
    assert listed(alice, context) == [other["id"], asking["id"]]
    again = alice.send(text("what?", taskId=asking["id"]))
    assert listed(alice, context) == [asking["id"], other["id"]]
    assert again["status"]["timestamp"] > asking["status"]["timestamp"]
    assert listed(alice, context, statusTimestampAfter=again["status"]["timestamp"]) == [asking["id"]]


@pytest.mark.django_db
@pytest.mark.parametrize("microsecond", [0, 1, 500_000])
def test_no_fraction_of_a_second_is_special(microsecond: int) -> None:
    moment = WHOLE_SECOND.replace(microsecond=microsecond)
    names = ["a", "b", "c", "later", "sooner"]
    starts = dict.fromkeys(names, moment) | {
        "later": moment + timedelta(microseconds=1),
        "sooner": moment - timedelta(microseconds=1),
    }
    insert_many([run_of(name, start) for name, start in starts.items()], Run)
    given = ListTasks(page_size=1, context_id="fractions")
    found = []
    for _ in range(MANY_PAGES):
        page = list_tasks(ASKED, given)
        found += [task["id"] for task in page["tasks"]]
        if not page["nextPageToken"]:
            break
        given = ListTasks(page_size=1, context_id="fractions", page_token=page["nextPageToken"])
    assert found == ["later", "c", "b", "a", "sooner"]
    after = ListTasks(context_id="fractions", status_timestamp_after=moment.isoformat())
    assert [task["id"] for task in list_tasks(ASKED, after)["tasks"]] == ["later", "c", "b", "a"]


def run_of(name: str, started_at: datetime) -> Run:
    return Run(
        id=name,
        root_id=f"root-{name}",
        target_id=f"root-{name}",
        user_id=LOCAL.user_id,
        context_id="fractions",
        status=Status.IN_PROGRESS,
        created_at=WHOLE_SECOND - timedelta(days=1),
        started_at=started_at,
    )
