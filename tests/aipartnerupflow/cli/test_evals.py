"""`aipartnerupflow datasets …` and `evals …`, and the Python client: files of rows, rows of runs, and experiments in CI."""

import asyncio
import csv
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from aipartnerupflow.client import AsyncClient, Client
from tests.aipartnerupflow.conftest import Said
from tests.servers import Server

Json = dict[str, Any]
NAME = "evals-of-cli"
SCHEMA: Json = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
ROWS: list[Json] = [
    {"inputs": {"who": who}, "expected": f"Hello {who}", "tags": [tag]}
    for who, tag in (("Ada", "train"), ("Alan", "test"))
]
JSONL = '{"inputs": {"who": "Ada"}, "expected": "Hello Ada", "tags": ["train"]}\n\n{"inputs": {"who": "Alan"}, "expected": "Hello Alan", "tags": ["test"]}\n'
YAML = "rows:\n  - inputs: {who: Ada}\n    expected: Hello Ada\n    tags: [train]\n  - inputs: {who: Alan}\n    expected: Hello Alan\n    tags: [test]\n"


@pytest.fixture(autouse=True)
def flow(server: Server) -> Iterator[None]:
    """A flow with two versions, of which the second greets nobody rightly."""
    for text in ("Hello {{run.inputs.who}}", "Bye {{run.inputs.who}}"):
        task = {"id": "greet", "name": "echo_executor", "inputs": {"text": text}}
        server.rpc("flows.save", {"name": NAME, "tasks": [task], "inputs_schema": SCHEMA})
    yield
    server.rpc("flows.delete", {"name": NAME})
    for each in server.rpc("datasets.list", {})["datasets"]:
        if each["name"] == NAME:
            server.rpc("datasets.delete", {"name": NAME})


@pytest.mark.parametrize(("file", "content"), [("rows.jsonl", JSONL), ("rows.yaml", YAML)])
def test_rows_in_lines_of_json_and_in_yaml(
    file: str, content: str, client: Client, cli: Callable[..., Said], tmp_path: Path
) -> None:
    path = tmp_path / file
    path.write_text(content)
    assert cli("datasets", "save", NAME, str(path), "--flow", NAME).json["count"] == 2
    assert client.dataset(NAME)["rows"] == ROWS
    shown = tmp_path / "shown.json"
    shown.write_text(cli("datasets", "show", NAME).out)
    assert cli("datasets", "save", NAME, str(shown)).json["is_new"] is False


def test_what_does_not_fit_is_refused_by_line_and_field(cli: Callable[..., Said], tmp_path: Path) -> None:
    table = [
        ("rows.csv", 'inputs.who\nAda\n\n"two\nlines"\n7\n', ":6: inputs"),
        ("rows.csv", "inputs.who,inputs.whom\nAda,x\n", ":2: inputs.whom: "),
        ("rows.csv", "inputs.who\nAda,x\n", ":2: the row has 2 cells"),
        ("rows.csv", "inputs.who,note\nAda,x\n", ":1: unknown column 'note'"),
        ("rows.jsonl", JSONL + '{"inputs": {}}', ":4: inputs.who: "),
        ("rows.jsonl", JSONL + "{", ":4: "),
        ("rows.yaml", YAML + "  - inputs: {who: x, age: 7}\n", ":8: inputs.age: "),
        ("rows.yaml", "rows: 7", ": there are no rows"),
        ("rows.yaml", "- {inputs: {who: x}, inputs: {who: y}}", "line 1: the key 'inputs' appears twice"),
    ]
    for file, content, problem in table:
        path = tmp_path / file
        path.write_text(content)
        said = cli("datasets", "save", NAME, str(path), "--flow", NAME)
        assert (said.code, f"{path}{problem}" in said.err.replace(": line", "line")) == (2, True), (problem, said.err)
    assert cli("datasets", "show", NAME).code == 3


def test_a_score_below_what_ci_asks_for_exits_with_1(client: Client, cli: Callable[..., Said]) -> None:
    client.save_dataset(NAME, ROWS, flow=NAME)
    run = ("evals", "run", NAME, "--exact", "accuracy=/text", "--version", "1")
    assert cli(*run, "--fail-below", "accuracy=1").code == 0
    said = cli(*run, "--version", "2", "--fail-below", "accuracy=0.5")
    assert said.code == 1
    assert "accuracy is 0, and at least 0.5 was asked for." in said.err
    unknown = cli(*run, "--fail-below", "acuracy=1")
    assert (unknown.code, "acuracy: there is no score of this name" in unknown.err) == (2, True)


def test_experiments_are_shown_and_listed(client: Client, cli: Callable[..., Said], screen: Callable[..., Any]) -> None:
    client.save_dataset(NAME, ROWS, flow=NAME)
    run = ("evals", "run", NAME, "--exact", "accuracy=/text", "--expression", "length=length(result.text)")
    found = cli(*run, "--lower", "length", "--json").json
    assert [each.get("better") for each in found["evaluators"]] == [None, "lower"]
    assert cli("evals", "run", NAME, "--exact", "accuracy", "--lower", "size").code == 2
    assert cli("evals", "show", found["id"]).json["results"] == found["results"]
    assert (
        "Not enough cases to tell: 2 have scores of version 1 and version 2"
        in screen("evals", "show", found["id"], "--worse").out
    )
    assert found["id"] in [each["id"] for each in cli("evals", "list").lines]
    lines = list(csv.DictReader(StringIO(cli("evals", "show", found["id"], "--csv").out)))
    assert [(line["inputs.who"], line["version"], line["accuracy"]) for line in lines] == [
        ("Ada", "1", "true"),
        ("Ada", "2", "false"),
        ("Alan", "1", "true"),
        ("Alan", "2", "false"),
    ]
    rows = client.case_rows(found["id"])
    assert [(row["inputs.who"], row["version"], row["accuracy"], row["length"]) for row in rows] == [
        ("Ada", 1, True, 9),
        ("Ada", 2, False, 7),
        ("Alan", 1, True, 10),
        ("Alan", 2, False, 8),
    ]

    async def read() -> Any:
        async with AsyncClient(client.url) as other:
            return await other.case_rows(found["id"])

    assert asyncio.run(read()) == rows


def test_rows_of_runs_and_an_experiment_on_some_of_them(client: Client, cli: Callable[..., Said]) -> None:
    ids = [client.run_flow(NAME, inputs={"who": who}, wait=True)["task_id"] for who in ("Ada", "Alan")]
    added = cli("datasets", "add", NAME, ids[0], "--expected", "result", "--tag", "test").json
    assert (added["version"], added["runs"], added["added"]) == (1, 1, 1)
    more = cli("datasets", "add", NAME, "--flow", NAME, "--since", "7d", "--limit", "50").json
    assert (more["version"], more["runs"], more["added"]) == (2, 2, 1)
    assert client.add_runs(NAME, ids)["is_new"] is False
    assert [row["inputs"]["who"] for row in client.dataset(NAME)["rows"]] == ["Ada", "Alan"]
    found = cli("evals", "run", NAME, "--exact", "accuracy", "--split", "test", "--json").json
    assert (found["split"], found["cases"]) == ("test", 1)
    refused = cli("evals", "run", NAME, "--exact", "accuracy", "--split", "tset")
    assert (refused.code, "'tset' is the tag of no row" in refused.err) == (2, True)
    for words, problem in (
        ((), "run_ids"),
        ((ids[0], "--limit", "5"), "limit"),
        (("--flow", NAME, "--since", "soon"), "since"),
    ):
        said = cli("datasets", "add", NAME, *words)
        assert (said.code, problem in said.err) == (2, True), said.err
