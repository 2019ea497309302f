"""Questions with assignees: who sees them, who may answer, and that nothing else of the tree is seen."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from orjson import loads

from accounts.callers import LOCAL, Caller, Role
from accounts.users import VIEWERS
from tasks.events import read as follow_log
from tasks.models import Assignee, Notification, Question, Run, Webhook
from tasks.rules.exceptions import InvalidParams, RoleTooLow, StatusConflict, TaskNotFound
from tasks.services import trees
from tasks.services.messages.notifications import MOST_OF_ROLES, set_notification
from tasks.services.messages.webhook_requests import request_of
from tasks.services.messages.webhooks import delete_webhook, webhooks_of
from tasks.services.trees import queries
from tasks.services.waits.questions import answer, count_inbox, inbox_of
from tests.tasks.trees import ADMIN, ALICE, BOB
from tests.workers import Json, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
CAROL = Caller(user_id="carol")
DORA = Caller(user_id="dora")
VERA = Caller(user_id="vera", role=Role.VIEWER)


def parked(worker: WorkerThread, *assignees: str, task_id: str = "ask") -> Run:
    inputs: Json = {"question": "Publish it?", "assignees": [*assignees]}
    task = {"id": task_id, "name": "approval_executor", "inputs": inputs}
    run = trees.execute_tree(caller=ALICE, tasks=[task]).run
    worker.work()
    return run


def listed(caller: Caller) -> list[str]:
    found = [question.task_id for question in inbox_of(caller)]
    assert count_inbox(caller, limit=100) == len(found)
    return found


def given(caller: Caller, value: Any = "yes", task_id: str = "ask") -> Question:
    return answer(caller=caller, task_id=task_id, answer=value)


@pytest.mark.both_engines
def test_an_assignee_answers_and_the_owner_only_sees(worker: WorkerThread) -> None:
    run = parked(worker, "bob", "dora")
    assert [listed(caller) for caller in (ALICE, BOB, CAROL, ADMIN)] == [["ask"], ["ask"], [], ["ask"]]
    with pytest.raises(RoleTooLow, match="Only its assignees may answer this question: bob, dora"):
        given(ALICE)
    with pytest.raises(TaskNotFound):
        given(CAROL)
    assert given(BOB).answered_by == "bob"
    worker.work()
    assert result_of(run).tasks["ask"].result == {"answer": "yes", "by": "bob"}
    assert listed(BOB) == listed(ALICE) == []
    assert Assignee.objects.count() == 0
    with pytest.raises(TaskNotFound):  # as it was before the question
        given(BOB)
    with pytest.raises(StatusConflict):
        given(ALICE)


@pytest.mark.both_engines
def test_an_assignee_sees_nothing_else_of_the_tree(worker: WorkerThread) -> None:
    parked(worker, "bob")
    with pytest.raises(TaskNotFound):
        queries.get_task(caller=BOB, task_id="ask")
    assert not Question.objects.for_caller(BOB).exists()


@pytest.mark.both_engines
def test_the_notification_of_an_assignee_says_what_the_inbox_shows(worker: WorkerThread) -> None:
    for caller, about in ((ALICE, ["questions"]), (BOB, ["questions"]), (CAROL, ["questions"]), (DORA, ["failures"])):
        url = f"https://hooks.example.com/{caller.user_id}"
        set_notification(caller=caller, name="inbox", about=about, url=url)
    run = parked(worker, "bob", "dora")
    sent = {webhook.url.rpartition("/")[2]: webhook for webhook in Webhook.objects.all()}
    assert {who: webhook.kind for who, webhook in sent.items()} == {"alice": "question", "bob": "assigned"}
    event = follow_log(run_id=run.id, after=sent["bob"].next_seq - 1, limit=1)[0]
    messages = {who: request_of(webhook, event) for who, webhook in sent.items()}
    shown = {who: loads(message.body) for who, message in messages.items() if message}
    assert shown["bob"].keys() == {"type", "task_id", "is_reminder", "question", "url"}
    assert shown["alice"].keys() > shown["bob"].keys() | {"name", "run_id", "user_id"}
    assert shown["bob"]["question"]["text"] == "Publish it?"
    assert [webhook.url for webhook in webhooks_of(run)] == ["https://hooks.example.com/alice"]
    assert not delete_webhook(caller=ALICE, webhook_id=sent["bob"].id)
    given(BOB)
    assert request_of(sent["bob"], event) is None


def notifying(*names: str, each: int = 1) -> None:
    """Notifications about questions of these users, as they are stored; a first letter of the name says the role."""
    viewers, _ = Group.objects.get_or_create(name=VIEWERS)
    for name in names:
        kind = name.partition("-")[0]
        user = User.objects.create(username=name, is_superuser=kind == "admin", is_active=kind != "gone")
        if kind == "viewer":
            user.groups.add(viewers)
    moment = {"created_at": datetime.now(UTC), "updated_at": datetime.now(UTC)}
    Notification.objects.bulk_create(
        Notification(user_id=name, name=f"{number}", on_question=True, url="https://a.example", host="a", **moment)
        for name in (*names, "foreign", "role:operator", "role:admin")
        for number in range(each)
    )


@pytest.mark.parametrize(
    ("role", "reached"),
    [
        pytest.param("role:operator", ["admin-a", "operator-o"], marks=pytest.mark.both_engines),
        ("role:admin", ["admin-a"]),
    ],
)
def test_a_role_notifies_those_who_have_it(worker: WorkerThread, role: str, reached: list[str]) -> None:
    notifying("admin-a", "operator-o", "viewer-v", "gone-g")
    run = parked(worker, role)
    owners = dict(Notification.objects.values_list("id", "user_id"))
    sent = list(Webhook.objects.all())
    assert sorted(owners[webhook.config_id.partition(":")[0]] for webhook in sent) == reached
    assert {webhook.kind for webhook in sent} == {"assigned"}
    assert webhooks_of(run) == []  # of the owner


@pytest.mark.both_engines
def test_a_role_notifies_a_limited_number(worker: WorkerThread) -> None:
    notifying("operator-a", "operator-b", each=MOST_OF_ROLES // 2 + 1)
    parked(worker, "role:operator", "role:admin")
    assert Webhook.objects.count() == MOST_OF_ROLES


@pytest.mark.both_engines
def test_without_authentication_the_one_user_learns_of_all_runs(worker: WorkerThread) -> None:
    set_notification(caller=LOCAL, name="mine", about=["questions"], url="https://a.example")
    parked(worker, "bob")
    assert [webhook.kind for webhook in Webhook.objects.all()] == ["question"]


def test_the_owner_may_be_an_assignee(worker: WorkerThread) -> None:
    parked(worker, "bob", "alice")
    assert listed(ALICE) == ["ask"]
    assert given(ALICE).answered_by == "alice"


def test_an_administrator_may_answer_every_question(worker: WorkerThread) -> None:
    parked(worker, "bob")
    assert given(ADMIN).answered_by == "root"


@pytest.mark.parametrize(
    ("role", "lists"),
    [pytest.param("role:operator", [1, 1, 0], marks=pytest.mark.both_engines), ("role:admin", [0, 0, 0])],
)
def test_a_role_is_all_its_users(worker: WorkerThread, role: str, lists: list[int]) -> None:
    parked(worker, role)
    assert [len(listed(caller)) for caller in (BOB, CAROL, VERA)] == lists
    assert listed(ADMIN) == ["ask"]


def test_a_user_whose_name_looks_like_a_role_has_not_that_role(worker: WorkerThread) -> None:
    parked(worker, "role:admin")
    impostor = Caller(user_id="role:admin")
    assert listed(impostor) == []
    with pytest.raises(TaskNotFound):
        given(impostor)


def test_a_role_that_may_not_answer_is_refused_before_anything_is_stored() -> None:
    task = {"name": "approval_executor", "inputs": {"question": "?", "assignees": ["bob", "role:viewer"]}}
    with pytest.raises(
        InvalidParams, match=r"has the role 'role:viewer'. Roles that may answer: role:operator, role:admin"
    ):
        trees.execute_tree(caller=ALICE, tasks=[task])
    assert Run.objects.count() == 0


def test_places_fill_the_assignees_and_roles_are_checked_again(worker: WorkerThread) -> None:
    def ask(task_id: str, name: str) -> Run:
        who = {"id": f"{task_id}-who", "name": "echo_executor", "parent_id": task_id, "inputs": {"name": name}}
        inputs = {"question": "?", "assignees": [f"{{{{{task_id}-who.name}}}}"]}
        task = {"id": task_id, "name": "approval_executor", "inputs": inputs, "dependencies": [f"{task_id}-who"]}
        run = trees.execute_tree(caller=ALICE, tasks=[task, who]).run
        worker.work()
        return run

    ask("first", "bob")
    assert listed(BOB) == ["first"]
    error = result_of(ask("second", "role:of-none")).tasks["second"].error
    assert error is not None
    assert error.startswith("The question was not asked, because its list of assignees does not fit: has the role")


@pytest.mark.both_engines
def test_deleting_the_tree_deletes_its_assignees(worker: WorkerThread) -> None:
    run = parked(worker, "bob")
    run.delete()
    assert Assignee.objects.count() == 0


@pytest.mark.both_engines
def test_what_others_assign_hides_no_question_of_ones_own(worker: WorkerThread) -> None:
    for number in range(3):
        parked(worker, "bob", task_id=f"of alice {number}")
    trees.execute_tree(caller=BOB, tasks=[{"id": "own", "name": "approval_executor", "inputs": {"question": "Mine?"}}])
    worker.work()
    assert [question.task_id for question in inbox_of(BOB, limit=2)] == ["of alice 0", "own"]
    assert [question.task_id for question in inbox_of(BOB, limit=1)] == ["own"]
    assert len(listed(BOB)) == 4
