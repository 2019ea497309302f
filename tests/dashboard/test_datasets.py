"""The pages of data sets: rows from runs and from files, versions and their differences, and whose they are."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.admin.conftest import csrf_token
from tests.dashboard.conftest import As
from tests.dashboard.test_pages import post
from tests.servers import Server

Json = dict[str, Any]
SCHEMA: Json = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
GREET: Json = {"id": "greet", "name": "echo_executor", "inputs": {"text": "Hello {{run.inputs.who}}"}}
ROWS: list[Json] = [
    {"inputs": {"who": name}, "expected": f"Hello {name}", "tags": ["train"]} for name in ("Ada", "Alan")
]


@pytest.fixture
def name(server: Server) -> Iterator[str]:
    """The name of a flow, and of the data sets that a test saves for it."""
    name = "page-of-rows"
    server.rpc("flows.save", {"name": name, "tasks": [GREET], "inputs_schema": SCHEMA})
    yield name
    for each in server.rpc("datasets.list", {})["datasets"]:
        if each["name"] == name:
            server.rpc("datasets.delete", {"name": name})
    server.rpc("flows.delete", {"name": name})


def rows(server: Server, name: str) -> list[Json]:
    found: list[Json] = server.rpc("datasets.get", {"name": name})["rows"]
    return found


def run(server: Server, name: str, who: str) -> str:
    started = server.rpc("flows.run", {"name": name, "inputs": {"who": who}, "wait": True})
    found: str = server.rpc("runs.list", {"task_id": started["task_id"]})["runs"][0]["id"]
    return found


def upload(session: httpx.Client, file: str, content: str, **fields: str) -> httpx.Response:
    token = csrf_token(session.get("/ui/settings/").text)
    fields = {"csrfmiddlewaretoken": token, "flow": "", **fields}
    return session.post("/ui/datasets-upload/", data=fields, files={"file": (file, content.encode())})


def test_a_run_is_added_with_what_is_expected_corrected(server: Server, name: str) -> None:
    run_id = run(server, name, "Ada")
    page = server.http.get(f"/ui/runs/{run_id}/").text
    assert f"/ui/datasets-add/?run={run_id}" in page
    form = server.http.get(f"/ui/datasets-add/?run={run_id}").text
    assert "{&quot;text&quot;: &quot;Hello Ada&quot;" in form
    fields = {"run": run_id, "name": name, "tags": "train, hard"}
    wrong = post(server.http, "/ui/datasets-add/", **fields, expected="{")
    assert (wrong.status_code, "This is not JSON" in wrong.text, 'value="train, hard"' in wrong.text) == (
        422,
        True,
        True,
    )
    done = post(server.http, "/ui/datasets-add/", **fields, expected='"Hello Ada!"')
    assert (done.status_code, done.headers["Location"]) == (302, f"/ui/datasets/{name}/")
    row = {"inputs": {"who": "Ada"}, "expected": "Hello Ada!", "tags": ["train", "hard"], "source": {"run_id": run_id}}
    assert rows(server, name) == [row]
    post(server.http, "/ui/datasets-add/", **fields, expected="")
    assert rows(server, name) == [{key: value for key, value in row.items() if key != "expected"}]
    page = server.http.get(f"/ui/datasets/{name}/?against=1").text
    assert (">changed<" in page, f"/ui/runs/{run_id}/" in page) == (True, True)


def test_several_runs_are_added_once(server: Server, name: str) -> None:
    ids = [run(server, name, who) for who in ("Ada", "Alan")]
    for _ in range(2):
        done = post(server.http, "/ui/datasets-add/", run=ids, name=name, tags="", expects="result")
        assert done.status_code == 302, done.text
    page = server.http.get(done.headers["Location"]).text
    assert "Nothing was added. 2 of the 2 runs have the inputs of another row." in page
    assert sorted(row["expected"]["text"] for row in rows(server, name)) == ["Hello Ada", "Hello Alan"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("rows.csv", "inputs.who,expected,tags\nAda,Hello Ada,train\nAlan,Hello Alan,train\n"),
        (
            "rows.jsonl",
            '{"inputs": {"who": "Ada"}, "expected": "Hello Ada", "tags": ["train"]}\n\n'
            '{"inputs": {"who": "Alan"}, "expected": "Hello Alan", "tags": ["train"]}',
        ),
        (
            "rows.yaml",
            "rows:\n- inputs: {who: Ada}\n  expected: Hello Ada\n  tags: [train]\n- {inputs: {who: Alan}, expected: Hello Alan, tags: [train]}",
        ),
    ],
)
def test_a_file_becomes_a_version(server: Server, name: str, file: str, content: str) -> None:
    done = upload(server.http, file, content, name=name, flow=name)
    assert done.status_code == 302, done.text
    assert rows(server, name) == ROWS
    page = server.http.get(f"/ui/datasets/{name}/?tag=train").text
    assert "2 with the tag" in page


def test_what_is_wrong_in_a_file_is_said_by_line_and_field(server: Server, name: str) -> None:
    table = [
        ("rows.csv", "inputs.who\nAda\n7\n", "rows.csv:3: inputs"),
        ("rows.csv", "inputs.who,expcted\nAda,x\n", "rows.csv:1: unknown column &#x27;expcted&#x27;"),
        ("rows.jsonl", '{"inputs": {"who": "Ada"}}\n{"inputs": {"whom": "x"}}', "rows.jsonl:2: inputs.whom: "),
        ("rows.jsonl", '{"inputs": {"who": "Ada"}}\n{"input": {}}', "rows.jsonl:2: input: is not known"),
        ("rows.jsonl", "7", "rows.jsonl:1: must be an object with inputs"),
        ("rows.jsonl", '{"inputs": {"who": "Ada"}, "tags": ["a b"]}', "rows.jsonl:1: tags[0]: "),
        ("rows.yaml", "- inputs: {who: Ada}\n- inputs: {who: Ada, age: 7}\n", "rows.yaml:2: inputs.age: "),
        ("rows.yaml", f"- inputs: {{who: {'a' * 70_000}}}", "Save it as JSONL or CSV"),
        ("rows.json", "[", "rows.json:1: "),
        ("rows.jsonl", f'{{"inputs": {{"who": "Ada"}}, "expected": {"[" * 70}{"]" * 70}}}', "rows.jsonl:1: "),
        ("rows.csv", "", "Choose a file with rows."),
    ]
    for file, content, problem in table:
        refused = upload(server.http, file, content, name=name, flow=name)
        assert (refused.status_code, problem in refused.text) == (422, True), (problem, refused.text)
    assert name not in [each["name"] for each in server.rpc("datasets.list", {})["datasets"]]


def test_rows_are_paged(server: Server, name: str) -> None:
    many = [{"inputs": {"who": f"n{number}"}} for number in range(60)]
    server.rpc("datasets.save", {"name": name, "rows": many, "flow": name})
    first, second = (server.http.get(f"/ui/datasets/{name}/?page={number}").text for number in (1, 2))
    assert ("n49" in first, "n50" in first, "page=2" in first) == (True, False, True)
    assert ("n49" in second, "n59" in second, "page=1" in second) == (False, True, True)
    assert post(server.http, f"/ui/datasets/{name}/delete/").status_code == 302
    assert server.http.get(f"/ui/datasets/{name}/").status_code == 404


def test_data_sets_and_runs_of_others_look_like_none(as_: As, guarded: Server) -> None:
    alice, bob, vera = as_("alice"), as_("bob"), as_("vera")
    assert upload(alice, "rows.csv", "inputs.who\nAda\n", name="of-alice").status_code == 302
    answers = [bob.get(f"/ui/datasets/{name}/?user=alice") for name in ("of-alice", "no-such")]
    assert [each.status_code for each in answers] == [404, 404]
    assert answers[0].text.replace("of-alice", "no-such") == answers[1].text
    assert "of-alice" in as_("root").get("/ui/datasets/").text
    assert "of-alice" not in bob.get("/ui/datasets/").text
    assert vera.get("/ui/datasets-upload/").status_code == 403
    assert bob.get("/ui/datasets-add/?run=no-such").status_code == 404
    assert bob.get("/ui/datasets-add/").status_code == 400
    assert post(alice, "/ui/datasets/of-alice/delete/").status_code == 302
