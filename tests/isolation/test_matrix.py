"""Every method at every door, by everybody: what is somebody else's answers like what is not there, and nothing changes."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from accounts.callers import Role
from tests.isolation.conftest import Answer, PeopleServer, anonymised, missing
from tests.isolation.doors import Door, doors

pytestmark = pytest.mark.both_engines_nightly

DOORS = [door for door in doors() if door.row is not None]
OUTSIDERS = ("anonymous", "disabled", "expired")

every_door = pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)


def test_every_method_has_a_row() -> None:
    """A new one says in `rows.py` how others would get at what is not theirs."""
    assert [door.name for door in doors() if door.row is None] == []


def is_success(answer: Answer) -> bool:
    """Of a stream by its first frame."""
    return answer.status < 300 and (b'"error":{' not in answer.body or b'"result":' in answer.body)


def gets_through(door: Door, answer: Answer) -> bool:
    return is_success(answer) if door.code is None else error_of(answer)["code"] == door.code


def is_role_too_low(answer: Answer) -> bool:
    return answer.status == 403 and "needs the role" in error_of(answer)["message"]


def error_of(answer: Answer) -> Any:
    return json.loads(answer.body.removeprefix(b"data: "))["error"]


@pytest.fixture(scope="module")
def targets(people_server: PeopleServer) -> Mapping[bool, dict[str, str]]:
    """Two trees of alice's that others aim at: one that waits to be run, and one that was never asked to."""
    mine = people_server.tree("bob", runs=False)["$leaf"]
    return {runs: people_server.tree("alice", runs=runs) | {"$mine": mine} for runs in (True, False)}


@every_door
def test_another_gets_the_same_as_if_it_were_not_there(
    door: Door, people_server: PeopleServer, targets: Mapping[bool, dict[str, str]]
) -> None:
    names = targets[door.runs]
    nothing = missing(names)
    before = people_server.dump()
    for shot in door.attacks:
        theirs = anonymised(people_server.ask(shot, names, people_server.people["other"]), names)
        absent = anonymised(people_server.ask(shot, nothing, people_server.people["other"]), nothing)
        assert theirs == absent, shot
    assert people_server.dump() == before


@every_door
def test_who_may_not_come_in_learns_and_changes_nothing(
    door: Door, people_server: PeopleServer, targets: Mapping[bool, dict[str, str]]
) -> None:
    names = targets[door.runs]
    before = people_server.dump()
    answers = {
        anonymised(people_server.ask(door.own, given, people_server.people[who]), given)
        for who in OUTSIDERS
        for given in (names, missing(names))
    }
    assert [answer.status for answer in answers] == [401]
    assert people_server.dump() == before


@pytest.fixture(scope="module")
def answered(people_server: PeopleServer) -> Mapping[tuple[str, str], Answer]:
    """What the owner and an admin get, all at once: a cancellation waits some seconds for a worker, which is not there."""
    read = {runs: people_server.tree("alice", runs=runs) for runs in (True, False)}
    asked = [
        (door, who, read[door.runs] if door.role is Role.VIEWER else people_server.tree("alice", runs=door.runs))
        for door in DOORS
        for who in ("owner", "admin")
    ]
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda ask: people_server.ask(ask[0].own, ask[2], people_server.people[ask[1]]), asked)
        return {(door.name, who): answer for (door, who, _), answer in zip(asked, answers, strict=True)}


@every_door
def test_the_owner_may_and_so_may_an_admin(door: Door, answered: Mapping[tuple[str, str], Answer]) -> None:
    owner, admin = answered[door.name, "owner"], answered[door.name, "admin"]
    assert gets_through(door, admin), admin
    assert is_role_too_low(owner) if door.role is Role.ADMIN else gets_through(door, owner), owner


@every_door
def test_a_viewer_looks_and_does_not_touch(
    door: Door, people_server: PeopleServer, targets: Mapping[bool, dict[str, str]]
) -> None:
    """Even where the task is their own; and the refusal tells nothing of other people's."""
    names = targets[door.runs]
    before = people_server.dump()
    answer = people_server.ask(door.own, names, people_server.people["viewer"])
    if door.role is Role.VIEWER:
        assert gets_through(door, answer), answer
    else:
        assert is_role_too_low(answer), answer
        assert people_server.ask(door.own, missing(names), people_server.people["viewer"]) == answer
    assert people_server.dump() == before
