"""The pages of an experiment: by tag, in both orders, one case with both answers, as CSV, and all of a flow."""

import csv
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import As
from tests.servers import Server

Json = dict[str, Any]
SCHEMA: Json = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
ROWS: list[Json] = [
    {"inputs": {"who": "Ada"}, "expected": "Hello Ada", "tags": ["short"]},
    {"inputs": {"who": "=1+1"}, "expected": "Bye =1+1"},
    {"inputs": {"who": "Grace"}, "expected": "Hello Grace", "tags": ["hard", "short"]},
]
EVALUATORS: list[Json] = [
    {"name": "accuracy", "with": {"exact": {"path": "/text"}}},
    {"name": "length", "with": {"expression": "length(result.text)"}, "better": "lower"},
    {"name": "fails", "with": {"expression": "length(inputs.nothing)"}},
]
NAME = "page-of-experiments"


@pytest.fixture(scope="module")
def experiment(server: Server) -> Iterator[str]:
    """The id of an experiment in which version 2 is worse in two of three rows, and better in the other."""
    for text in ("Hello {{run.inputs.who}}", "Bye {{run.inputs.who}}"):
        task = {"id": "greet", "name": "echo_executor", "inputs": {"text": text}}
        server.rpc("flows.save", {"name": NAME, "tasks": [task], "inputs_schema": SCHEMA})
    server.rpc("datasets.save", {"name": NAME, "rows": ROWS, "flow": NAME})
    wanted = {"dataset": NAME, "evaluators": EVALUATORS, "wait": True, "wait_timeout_seconds": 600}
    yield server.rpc("evals.run", wanted)["task_id"]
    server.rpc("datasets.delete", {"name": NAME})
    server.rpc("flows.delete", {"name": NAME})


def test_scores_by_tag_and_what_is_better(server: Server, experiment: str) -> None:
    page = server.http.get(f"/ui/experiments/{experiment}/").text
    assert "Not enough cases to tell: 3 have scores of version 1 and version 2, and 6 are needed." in page
    assert ("lower is better" in page, "By tag" in page, "3 not scored" in page) == (True, True, True)
    found = server.rpc("evals.get", {"experiment_id": experiment})
    assert [(each["tag"], each["cases"], each["means"]["accuracy"]) for each in found["slices"]] == [
        ("short", 2, [1, 0]),
        ("hard", 1, [1, 0]),
    ]
    worse = server.rpc("evals.get", {"experiment_id": experiment, "order": "worse"})
    assert [case["number"] for case in worse["results"]] == [0, 2, 1]
    assert server.http.get(f"/ui/experiments/{experiment}/?order=name").status_code == 400


def test_both_answers_to_a_row_side_by_side(page: Page, server: Server, experiment: str) -> None:
    page.goto(f"{server.url}/ui/experiments/{experiment}/?order=worse")
    page.get_by_role("link", name="Row 3: the answers side by side").click()
    for version, answer in ((1, "Hello Grace"), (2, "Bye Grace")):
        side = page.get_by_role("region", name=f"Version {version}")
        expect(side.locator("pre")).to_contain_text(answer)
        expect(side.get_by_text("The expression cannot be evaluated")).to_be_visible()
    page.get_by_role("link", name="Trace of version 2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("echo_executor")
    assert server.http.get(f"/ui/experiments/{experiment}/4/").status_code == 404


def test_its_csv_has_a_line_for_each_run_and_no_formula(server: Server, experiment: str) -> None:
    response = server.http.get(f"/ui/experiments/{experiment}/download/")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(StringIO(response.text)))
    assert [(line["row"], line["version"], line["inputs.who"], line["expected"]) for line in lines[1:4]] == [
        ("0", "2", "Ada", "Hello Ada"),
        ("1", "1", "'=1+1", "Bye =1+1"),
        ("1", "2", "'=1+1", "Bye =1+1"),
    ]
    assert [(line["accuracy"], line["length"], line["tags"]) for line in lines[4:]] == [
        ("true", "11", '["hard", "short"]'),
        ("false", "9", '["hard", "short"]'),
    ]
    assert lines[0]["fails"] == ""
    assert lines[0]["fails.reason"].startswith("The expression cannot be evaluated")


def test_the_versions_of_a_flow_on_its_data_sets(server: Server, experiment: str) -> None:
    split = {"dataset": NAME, "evaluators": EVALUATORS[:1], "split": "hard", "versions": [2], "wait": True}
    server.rpc("evals.run", split)
    page = server.http.get(f"/ui/flows/{NAME}/experiments/").text
    assert page.count(f"/ui/experiments/{experiment}/") == 3  # of both versions, and in the list
    assert ('<span class="tag">hard</span>' in page, "<strong>0.67</strong>" in page) == (True, True)
    assert f"/ui/flows/{NAME}/experiments/" in server.http.get(f"/ui/flows/{NAME}/").text


def test_pages_about_anothers_experiment_are_those_of_none(as_: As) -> None:
    for path in ("", "1/", "download/"):
        assert as_("bob").get(f"/ui/experiments/no-such/{path}").status_code == 404
    assert as_("bob").get("/ui/flows/no-such/experiments/").status_code == 404
