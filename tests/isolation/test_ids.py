"""Ids, names and keys that somebody else has: what one sends stays one's own."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.callers import Caller, Role
from tasks.rules.exceptions import TaskNotFound
from tasks.services import trees
from tasks.services.trees import queries
from tests.isolation.conftest import PeopleServer

pytestmark = pytest.mark.both_engines


@pytest.fixture(scope="module")
def alices(people_server: PeopleServer) -> dict[str, str]:
    return people_server.tree("alice", runs=False)


def call(people_server: PeopleServer, who: str, method: str, params: Any, **headers: str) -> Any:
    return people_server.server.call(method, params, **(people_server.people[who] | headers))


def test_an_id_that_is_taken_becomes_another_and_the_taken_one_stays(
    people_server: PeopleServer, alices: dict[str, str]
) -> None:
    before = people_server.server.query("SELECT * FROM tasks_task WHERE root_id = %s", alices["$task"])
    tasks = [{"id": alices["$task"], "name": "a"}, {"name": "b", "parent_id": alices["$task"]}]
    created = call(people_server, "bob", "tasks.create", {"tasks": tasks})["result"]
    assert created["id"] == created["ids"][alices["$task"]] != alices["$task"]
    assert created["user_id"] == "bob"
    assert created["children"][0]["parent_id"] == created["id"]
    refused = call(people_server, "bob", "tasks.create", {"tasks": tasks, "id_conflict": "error"})["error"]
    assert refused["code"] == -32602
    assert "alice" not in json.dumps(refused).replace(alices["$task"], "")
    assert people_server.server.query("SELECT * FROM tasks_task WHERE root_id = %s", alices["$task"]) == before


@pytest.mark.parametrize("who", ["bob", "admin"])
def test_only_an_admin_creates_for_others(who: str, people_server: PeopleServer) -> None:
    tasks = [{"id": "a", "name": "a", "user_id": "alice"}, {"name": "b", "parent_id": "a", "user_id": "alice"}]
    created = call(people_server, who, "tasks.create", {"tasks": tasks})["result"]
    owner = "alice" if who == "admin" else "bob"
    assert [created["user_id"], created["children"][0]["user_id"]] == [owner, owner]


@pytest.mark.parametrize("owners", [("bob", "alice"), ("alice", "bob")])
def test_a_tree_of_two_owners_is_refused(owners: tuple[str, str], people_server: PeopleServer) -> None:
    tasks = [{"id": "a", "name": "a", "user_id": owners[0]}, {"name": "b", "parent_id": "a", "user_id": owners[1]}]
    assert call(people_server, "bob", "tasks.create", {"tasks": tasks})["error"]["code"] == -32012


def test_an_admin_who_copies_or_runs_for_others_leaves_them_the_owner(
    people_server: PeopleServer, alices: dict[str, str]
) -> None:
    copy = call(people_server, "admin", "tasks.copy", {"task_id": alices["$task"]})["result"]
    assert copy["user_id"] == "alice"
    executed = call(people_server, "admin", "tasks.execute", {"task_id": copy["id"]})["result"]
    runs = "SELECT user_id FROM tasks_run WHERE root_id = %s"
    assert people_server.server.query(runs, executed["root_task_id"]) == [("alice",)]


def test_a_key_that_makes_a_request_safe_to_repeat_is_ones_own(people_server: PeopleServer) -> None:
    key = {"Idempotency-Key": "the-same"}
    made = {
        who: call(people_server, who, "tasks.create", {"name": "a"}, **key)["result"]["id"] for who in ("alice", "bob")
    }
    assert made["alice"] != made["bob"]
    assert call(people_server, "bob", "tasks.get", {"task_id": made["alice"]})["error"]["code"] == -32001


def test_a_cursor_opens_nobody_elses_list(people_server: PeopleServer) -> None:
    for _ in range(3):
        people_server.tree("alice", runs=False)
        people_server.tree("bob", runs=False)
    first = call(people_server, "alice", "tasks.list", {"limit": 1, "cursor": ""})["result"]
    page = call(people_server, "bob", "tasks.list", {"limit": 1000, "cursor": first["next_cursor"]})["result"]
    assert {task["user_id"] for task in page["tasks"]} == {"bob"}


def test_nothing_that_lists_or_counts_lets_others_shine_through(people_server: PeopleServer) -> None:
    people_server.tree("alice", runs=True)
    people_server.tree("bob", runs=False)
    listed = call(people_server, "bob", "tasks.list", {"root_only": False, "limit": 1000})["result"]
    assert {task["user_id"] for task in listed} == {"bob"}
    assert call(people_server, "bob", "tasks.count", {})["result"]["total"] == len(listed)
    assert call(people_server, "bob", "tasks.running.list", {})["result"] == []
    assert call(people_server, "bob", "tasks.running.count", {})["result"] == {"count": 0}
    assert call(people_server, "admin", "tasks.running.count", {"user_id": "alice"})["result"]["count"] > 0


def test_a_batch_is_asked_call_by_call(people_server: PeopleServer, alices: dict[str, str]) -> None:
    methods = ("tasks.get", "tasks.delete", "tasks.cancel", "tasks.create")
    calls = [
        {"jsonrpc": "2.0", "method": method, "params": {"task_id": alices["$task"]}, "id": number}
        for number, method in enumerate(methods)
    ]
    calls[-1]["params"] = {"name": "a"}
    answers = people_server.server.http.post("/tasks", json=calls, headers=people_server.people["viewer"]).json()
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, -32004, -32004, -32004]
    answers = people_server.server.http.post("/tasks", json=calls, headers=people_server.people["bob"]).json()
    assert [answer.get("error", {}).get("code") for answer in answers[:2]] == [-32001, -32001]
    assert answers[2]["result"][0]["current_status"] is None


@pytest.mark.django_db
def test_a_task_of_another_takes_the_same_queries_as_one_that_is_not_there() -> None:
    """So the time of the answer does not show that it is there."""
    alice, bob = (Caller(user_id=name, role=Role.OPERATOR) for name in ("alice", "bob"))
    theirs = trees.create_tree(caller=alice, tasks=[{"name": "a"}]).root.id
    absent = str(uuid4())
    assert queries_of(bob, theirs).replace(theirs, absent) == queries_of(bob, absent) != ""


def queries_of(caller: Caller, task_id: str) -> str:
    """The statements that a refused `tasks.get` runs."""
    with CaptureQueriesContext(connection) as captured, pytest.raises(TaskNotFound):
        queries.get_task(caller=caller, task_id=task_id)
    return "\n".join(query["sql"] for query in captured)
