"""Schedules on a real server: a run starts at its time, and every interface stores, changes and reads them."""

from typing import Any

import pytest

from aipartnerupflow.client import Client, InvalidRequest, NotFound
from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server, until

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]
TREE: Json = {"id": "a", "name": "a", "schemas": {"method": "echo_executor"}, "inputs": {"text": "hi"}}


@pytest.mark.both_engines
def test_runs_start_at_their_times(open_server: Server, rpc: Rpc) -> None:
    made = rpc("schedules.create", {"tasks": TREE, "every_seconds": 1, "max_runs": 3, "overlap": "allow"})
    assert (made["name"], made["in_words"], made["last_status"]) == ("a", "Every second", None)

    def ended() -> list[Json]:
        runs: list[Json] = rpc("schedules.runs", {"schedule_id": made["id"]})["runs"]
        return [run for run in runs if run["status"] == "completed"]

    until(lambda: len(ended()) == 3, seconds=60, what="three runs")
    listed = rpc("runs.list", {"task_id": ended()[0]["task_id"]})["runs"]
    assert [(run["schedule_id"], run["scheduled_for"]) for run in listed] == [(made["id"], ended()[0]["scheduled_for"])]
    assert len({run["scheduled_for"] for run in ended()}) == len({run["task_id"] for run in ended()}) == 3
    now = rpc("schedules.get", {"schedule_id": made["id"]})
    assert (now["run_count"], now["next_run_at"], now["last_status"]) == (3, None, "completed")
    assert now["tasks"] == TREE


@pytest.mark.both_engines
def test_every_interface_reads_and_changes_the_same(open_server: Server, rpc: Rpc) -> None:
    body = {"tasks": [TREE], "cron": "0 5 * * *", "timezone": "Europe/Berlin", "name": "morning", "is_paused": True}
    answer = open_server.http.post("/api/schedules/", json=body)
    made = answer.json()
    assert (answer.status_code, made["is_paused"], made["next_run_at"]) == (201, True, None)
    address = f"/api/schedules/{made['id']}"
    with Client(str(open_server.http.base_url)) as client:
        moved = client.update_schedule(made["id"], cron="0 6 * * *")
        assert moved["in_words"] == "At 06:00 every day (Europe/Berlin)"
        assert rpc("schedules.resume", {"id": made["id"]})["next_run_at"] is not None
        assert client.pause_schedule(made["id"], reason="Holidays")["pause_reason"] == "Holidays"
        assert open_server.http.get(address).json() == client.schedule(made["id"])
        ids = [each["id"] for each in client.schedules(is_paused=True)["schedules"]]
        listed = open_server.http.get("/api/schedules/", params={"is_paused": "true"}).json()["schedules"]
        assert [each["id"] for each in listed] == ids
        assert made["id"] in ids
        fired = client.trigger_schedule(made["id"])
        assert (fired["outcome"], fired["cause"]) == ("started", "trigger")
        assert open_server.http.post(f"{address}/trigger/", json={"overlap": "allow"}).json()["outcome"] == "started"
        assert [
            run["scheduled_for"]
            for run in client.backfill_schedule(made["id"], since="2026-01-01T00:00", until="2026-01-02T00:00")["runs"]
        ] == ["2026-01-01T05:00:00+00:00"]
        assert len(client.schedule_runs(made["id"])["runs"]) == 3
        times = client.preview_schedule(cron="30 2 * * *", timezone="Europe/Berlin", count=2)["times"]
        assert [each["local"][11:16] for each in times] == ["02:30", "02:30"]
        assert client.delete_schedule(made["id"])["deleted"]
        with pytest.raises(NotFound):
            client.schedule(made["id"])
    assert open_server.http.get(address).json()["error"]["code"] == "schedule_not_found"


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"tasks": TREE}, "cron", "required, or every_seconds, or at"),
        ({"cron": "@daily"}, "tasks", "send one of tasks, task_id, flow"),
        ({"tasks": TREE, "cron": "@daily", "at": "2999-01-01"}, "at", "choose one of cron, every_seconds and at"),
        ({"tasks": TREE, "task_id": "a", "cron": "@daily"}, "task_id", "choose one of tasks, task_id and flow"),
        ({"tasks": TREE, "cron": "0 6 * *"}, "cron", "must have 5 fields"),
        ({"tasks": TREE, "cron": "@daily", "timezone": "Berlin"}, "timezone", "is not a known time zone"),
        ({"tasks": TREE, "at": "2001-01-01"}, "at", "the schedule would never run"),
        ({"tasks": TREE, "cron": "@daily", "overlap": "both"}, "overlap", "expected one of skip, queue"),
        ({"tasks": TREE, "every_seconds": 0}, "every_seconds", ">= 1"),
        ({"tasks": TREE, "cron": "@daily", "flow_version": 2}, "flow_version", "only with flow"),
    ],
)
def test_what_is_wrong_is_refused_by_name(open_server: Server, fields: Json, field: str, reason: str) -> None:
    with Client(str(open_server.http.base_url)) as client, pytest.raises(InvalidRequest) as refused:
        client.create_schedule(**fields)
    found = {each["field"]: each["reason"] for each in refused.value.data}
    assert reason in found[field]


def test_a_repetition_makes_no_second_schedule_and_no_second_run(open_server: Server) -> None:
    with Client(str(open_server.http.base_url)) as client:
        first = client.create_schedule(tasks=TREE, at="2999-01-01", idempotency_key="one-schedule")
        assert client.create_schedule(tasks=TREE, at="2999-01-01", idempotency_key="one-schedule") == first
        run = client.trigger_schedule(first["id"], overlap="allow", idempotency_key="one-run")
        again = client.trigger_schedule(first["id"], overlap="allow", idempotency_key="one-run")
        assert again["run_id"] == run["run_id"]
        assert client.schedule(first["id"])["run_count"] == 1


def test_a_schedule_is_of_its_user_alone(auth_server: Server) -> None:
    made = auth_server.http.post(
        "/api/schedules/", json={"tasks": [TREE], "at": "2999-01-01"}, headers=as_("schedule-alice")
    ).json()
    others = auth_server.http.get("/api/schedules/", headers=as_("schedule-bob")).json()
    assert others == {"schedules": [], "next_cursor": None}
    for headers, status in ((as_("schedule-bob"), 404), (as_("schedule-alice"), 200)):
        assert auth_server.http.get(f"/api/schedules/{made['id']}/", headers=headers).status_code == status
