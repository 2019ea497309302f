"""The pages of schedules: made, previewed, changed, paused and run in a browser; and what forms refuse."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.servers import NOT_KEPT, Server, until

Json = dict[str, Any]
TREE: Json = {"id": "a", "name": "a", "schemas": {"method": "echo_executor"}}


@pytest.fixture
def session(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60, limits=NOT_KEPT) as client:
        yield client


def post(session: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)', session.get("/ui/schedules/new/").text)
    assert token
    return session.post(path, data={"csrfmiddlewaretoken": token[1], **fields})


def make(server: Server, **fields: Any) -> str:
    made: Json = server.rpc(
        "schedules.create", {"tasks": [TREE], "cron": "0 5 * * *", "timezone": "Europe/Berlin"} | fields
    )
    return str(made["id"])


def test_a_schedule_is_made_with_a_preview_and_moved_to_six(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/ui/schedules/new/")
    page.get_by_label("Name", exact=True).fill("Morning report")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_role("textbox", name="Cron expression").fill("0 5 * * *")
    preview = page.locator("[data-preview-of]")
    expect(preview).to_contain_text("At 05:00 every day (Europe/Berlin)")
    expect(preview.locator("li")).to_have_count(5)
    page.get_by_role("textbox", name="Cron expression").fill("0 5 * *")
    expect(preview).to_contain_text("must have 5 fields")
    page.get_by_role("textbox", name="Cron expression").fill("0 5 * * *")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Morning report")).to_be_visible()
    page.get_by_role("link", name="Edit").click()
    page.get_by_role("textbox", name="Cron expression").fill("0 6 * * *")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("At 06:00 every day (Europe/Berlin)")).to_be_visible()
    page.get_by_role("button", name="Run now: Morning report").click()
    expect(page.get_by_text("The run was submitted.")).to_be_visible()
    expect(page.get_by_role("cell", name="started")).to_be_visible()
    page.get_by_role("button", name="Pause Morning report").click()
    expect(page.get_by_text("Paused by local.")).to_be_visible()
    page.get_by_role("link", name="Schedules").click()
    page.get_by_role("button", name="Resume Morning report").click()
    expect(page.get_by_text("Resumed.")).to_be_visible()


def test_the_list_shows_the_next_time_in_the_zone_and_the_last_status(server: Server, session: httpx.Client) -> None:
    name = "shown in the list"
    schedule_id = make(server, name=name)
    server.rpc("schedules.trigger", {"id": schedule_id})
    until(
        lambda: server.rpc("schedules.get", {"id": schedule_id})["last_status"] == "completed",
        seconds=60,
        what="its run",
    )
    row = next(part for part in session.get("/ui/schedules/").text.split("<tr") if name in part)
    assert re.search(r"05:00 CES?T", row)
    assert "At 05:00 every day (Europe/Berlin)" in row
    assert "completed" in row


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"cron": "every day"}, "must have 5 fields"),
        ({"timezone": "Berlin"}, "is not a known time zone"),
        ({"kind": "every_seconds", "every_seconds": "0"}, "must be a whole number from 1"),
        ({"kind": "at", "at": ""}, "required"),
        ({"kind": "at", "at": "2001-01-01T00:00"}, "the schedule would never run"),
        ({"tasks": "{"}, "<code>tasks</code>"),
        ({"tasks": '[{"name": "a", "schemas": {"method": "none"}}]'}, "none"),
        ({"subject": "flow", "flow": "not-there"}, "not found"),
        ({"inputs": "[]"}, "must be a JSON object"),
        ({"max_runs": "many"}, "must be a whole number"),
    ],
)
def test_a_form_with_a_problem_is_shown_again_with_it(session: httpx.Client, fields: Json, problem: str) -> None:
    good = {
        "name": "wrong",
        "kind": "cron",
        "cron": "@daily",
        "timezone": "UTC",
        "subject": "tasks",
        "tasks": '[{"name": "a"}]',
    }
    rest = {"overlap": "skip", "catch_up": "none", "catch_up_window_seconds": "3600", "jitter_seconds": "0"}
    answer = post(session, "/ui/schedules/new/", **(good | rest | fields))
    assert answer.status_code == 422
    assert problem in answer.text
    assert 'value="wrong"' in answer.text


def test_an_unchanged_form_changes_nothing(server: Server, page: Page) -> None:
    takes_inputs = [TREE | {"inputs": {"of": "{{run.inputs.a}}"}}]
    more = {"tasks": takes_inputs, "inputs": {"a": [1]}}
    ids = [
        make(server, jitter_seconds=5, max_runs=7, starts_at="2026-01-01T10:00:30", **more),
        str(server.rpc("schedules.create", {"tasks": [TREE], "every_seconds": 86_400})["id"]),
        str(
            server.rpc("schedules.create", {"tasks": [TREE], "at": "2999-01-01T06:00", "timezone": "Asia/Tokyo"})["id"]
        ),
    ]
    for schedule_id in ids:
        before = server.rpc("schedules.get", {"id": schedule_id})
        page.goto(f"{server.url}/ui/schedules/{schedule_id}/edit/")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("Saved.")).to_be_visible()
        after = server.rpc("schedules.get", {"id": schedule_id})
        volatile = {"updated_at", "next_run_at"}
        assert {key: value for key, value in after.items() if key not in volatile} == {
            key: value for key, value in before.items() if key not in volatile
        }
        server.rpc("schedules.delete", {"schedule_id": schedule_id})


def test_schedules_are_listed_by_their_next_time_and_say_whether_they_are_paused(
    server: Server, session: httpx.Client
) -> None:
    late, early, paused = (
        make(server, name=f"Listed {name}", **fields)
        for name, fields in (
            ("late", {"cron": "0 5 1 1 *"}),
            ("early", {}),
            ("paused", {"is_paused": True}),
        )
    )
    listed = session.get("/ui/schedules/").text
    assert re.findall(r">Listed (\w+)</a>", listed) == ["early", "late", "paused"]
    (row,) = re.findall(r">Listed paused</a>.*?</tr>", listed, re.DOTALL)
    assert '<span class="tag">paused</span>' in row
    for query, status in (("?page=0", 400), ("?page=x", 400), ("?page=99999999999", 400), ("?page=2", 200)):
        assert session.get(f"/ui/schedules/{query}").status_code == status
    for schedule_id in (late, early, paused):
        server.rpc("schedules.delete", {"schedule_id": schedule_id})


def test_past_times_are_made_up_for(server: Server, session: httpx.Client) -> None:
    schedule_id = make(server, is_paused=True)
    address = f"/ui/schedules/{schedule_id}/"
    refused = post(session, f"{address}backfill/", since="2026-01-01T00:00", until="2025-01-01T00:00")
    assert (refused.status_code, "must not be before since" in refused.text) == (422, True)
    post(session, f"{address}backfill/", since="2026-01-01T00:00", until="2026-01-03T00:00")
    assert session.get(address).text.count("backfill</span>") == 2
    assert post(session, f"{address}delete/").headers["Location"] == "/ui/schedules/"
    assert session.get(address).status_code == 404
