"""`aipartnerupflow flows …` and `run flow:NAME` against a real server, and the files that they read."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from aipartnerupflow.client import Client
from tasks.rules.yaml_text import NotYaml, read_yaml
from tests.aipartnerupflow.conftest import Said
from tests.servers import Server
from tests.terminal import Screen

Cli = Callable[..., Said]
Show = Callable[..., Screen]
FLOW = """\
name: cli-tea
description: Makes tea.
inputs_schema:
  type: object
  properties:
    topic: {type: string}
    n: {type: integer, default: 3}
  required: [topic]
tasks:
  - id: brew
    name: echo_executor
    inputs: {text: "{{run.inputs.topic}}", n: "{{run.inputs.n}}", at: 12:30, day: 2026-11-26, on: yes}
"""
DOUBLED = "a: &a [1, 1]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopqrstuv"))


@pytest.fixture
def flow_file(tmp_path: Path) -> Path:
    file = tmp_path / "flow.yaml"
    file.write_text(FLOW)
    return file


@pytest.fixture(autouse=True)
def no_flows(server: Server) -> Iterator[None]:
    yield
    with Client(server.url) as client:
        for flow in client.flows()["flows"]:
            if flow["name"].startswith("cli-"):
                client.delete_flow(flow["name"])


def test_a_schedule_runs_a_flow_by_the_name_that_run_takes(cli: Cli, screen: Show, flow_file: Path) -> None:
    cli("flows", "save", str(flow_file))
    made = cli("schedules", "create", "flow:cli-tea", "--every", "3600", "--input", "topic=oolong", "--json").json
    assert made["flow"] == "cli-tea"
    zone = datetime.now().astimezone().tzname()
    assert re.search(rf"\d\d:\d\d:\d\d {zone}", screen("schedules", "list").out)
    cli("schedules", "delete", made["id"])


def test_a_flow_is_saved_from_yaml_run_with_inputs_listed_and_deleted(cli: Cli, flow_file: Path) -> None:
    saved = cli("flows", "save", str(flow_file)).json
    assert (saved["version"], saved["is_new"], saved["description"]) == (1, True, "Makes tea.")
    assert cli("flows", "save", str(flow_file), "--json").json["is_new"] is False
    ran = cli("run", "flow:cli-tea", "--input", "topic=oolong", "--input", "n=4", "--json").json
    expected = {"text": "oolong", "n": 4, "at": "12:30", "day": "2026-11-26", "on": "yes"}
    assert (ran["flow"], ran["task"]["result"]) == ({"name": "cli-tea", "version": 1}, expected)
    [listed] = [each for each in cli("flows", "list").lines if each["name"] == "cli-tea"]
    assert (listed["version"], listed["last_run"]["status"]) == (1, "completed")
    assert [each["version"] for each in cli("flows", "versions", "cli-tea").lines] == [1]
    deleted = cli("flows", "delete", "cli-tea").json
    assert (deleted["versions_deleted"], deleted["runs_kept"]) == (1, 1)
    assert cli("flows", "show", "cli-tea").code == 3


def test_a_schedule_takes_inputs_from_a_file(cli: Cli, flow_file: Path, tmp_path: Path) -> None:
    cli("flows", "save", str(flow_file))
    (tmp_path / "inputs.yaml").write_text("topic: mate\n")
    words = ("--inputs-file", str(tmp_path / "inputs.yaml"), "--json")
    made = cli("schedules", "create", "flow:cli-tea", "--every", "3600", *words).json
    assert cli("schedules", "get", made["id"], "--json").json["inputs"]["topic"] == "mate"
    cli("schedules", "update", made["id"], *words, "--input", "topic=oolong")
    assert cli("schedules", "get", made["id"], "--json").json["inputs"]["topic"] == "oolong"
    cli("schedules", "delete", made["id"])


def test_what_show_prints_can_be_saved(cli: Cli, flow_file: Path, tmp_path: Path) -> None:
    cli("flows", "save", str(flow_file))
    copy = tmp_path / "copy.json"
    copy.write_text(cli("flows", "show", "cli-tea", "--json").out)
    again = cli("flows", "save", str(copy)).json
    assert (again["version"], again["is_new"]) == (1, False)
    other = cli("flows", "save", str(copy), "--name", "cli-coffee").json
    assert (other["name"], other["tasks"]) == ("cli-coffee", again["tasks"])


def test_a_stored_tree_becomes_a_flow(cli: Cli, tmp_path: Path) -> None:
    tree = tmp_path / "tree.yaml"
    tree.write_text("- {id: top, name: Top}\n- {name: echo_executor, parent_id: top, inputs: {text: hi}}\n")
    ran = cli("run", str(tree), "--json").json
    saved = cli("flows", "save", "--task", ran["task_id"], "--name", "cli-tree").json
    assert [task["name"] for task in saved["tasks"]] == ["Top", "echo_executor"]
    assert cli("run", "flow:cli-tree", "--json").json["status"] == "completed"


def test_inputs_come_from_a_file_and_options(cli: Cli, flow_file: Path, tmp_path: Path) -> None:
    cli("flows", "save", str(flow_file))
    inputs = tmp_path / "inputs.yaml"
    inputs.write_text("topic: green\nn: 7\n")
    ran = cli("run", "flow:cli-tea", "--inputs-file", str(inputs), "--input", "n=8", "--json").json
    assert (ran["task"]["result"]["text"], ran["task"]["result"]["n"]) == ("green", 8)
    inputs.write_text("- topic\n")
    assert "must have an object" in cli("run", "flow:cli-tea", "--inputs-file", str(inputs)).err


def test_an_input_of_a_further_run_is_changed_and_a_file_replaces_all(
    cli: Cli, flow_file: Path, tmp_path: Path
) -> None:
    cli("flows", "save", str(flow_file))
    root = cli("run", "flow:cli-tea", "--input", "topic=oolong", "--input", "n=4", "--json").json["task_id"]
    changed = cli("tasks", "fork", root, "--input", "n=5", "--json").json
    assert (changed["task"]["result"]["text"], changed["task"]["result"]["n"]) == ("oolong", 5)
    inputs = tmp_path / "inputs.yaml"
    inputs.write_text("topic: green\n")
    replaced = cli("tasks", "fork", changed["task_id"], "--inputs-file", str(inputs), "--json").json
    assert (replaced["task"]["result"]["text"], replaced["task"]["result"]["n"]) == ("green", 3)
    refused = cli("tasks", "run", changed["task_id"], "--input", "topik=x")
    assert (refused.code, "did you mean 'topic'?" in " ".join(refused.err.split())) == (2, True)
    refused = cli("tasks", "run", root, "--input", "topic=green")
    assert (refused.code, refused.out, "tasks.fork" in refused.err) == (2, "", True)
    assert cli("tasks", "run", root, "--json").json["task"]["result"]["text"] == "oolong"


def test_people_see_what_was_done(screen: Show, flow_file: Path) -> None:
    said = [
        screen("flows", "save", str(flow_file)),
        screen("flows", "save", str(flow_file)),
        screen("flows", "list"),
        screen("flows", "versions", "cli-tea"),
        screen("flows", "delete", "cli-tea"),
    ]
    assert [each.code for each in said] == [0] * 5
    assert "Saved version 1 of the flow cli-tea." in said[0].err
    assert "aipartnerupflow run flow:cli-tea" in said[0].err
    assert "has this content already" in said[1].err
    assert "cli-tea" in said[2].out and "never" in said[2].out
    assert "Makes tea." in said[3].out
    assert "Deleted the flow cli-tea and its 1 versions. Its 0 runs are kept." in " ".join(said[4].err.split())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["flows", "save"], "Give a file"),
        (["flows", "save", "FILE", "--task", "x"], "Give a file"),
        (["run", "FILE", "--version", "2"], "--version is for flows"),
        (["run", "flow:no-such-flow"], "not found"),
        (["run", "flow:a/b"], "name"),
        (["flows", "show", "cli-tea", "--version", "9"], "not found"),
    ],
)
def test_what_cannot_be_done_is_refused(cli: Cli, flow_file: Path, words: list[str], why: str) -> None:
    said = cli(*(str(flow_file) if word == "FILE" else word for word in words))
    assert (said.code in (2, 3), why in " ".join(said.err.split())) == (True, True), said.err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name: a\nname: b\n", "line 2: the key 'name' appears twice"),
        ("a: 1\n2: b\n", "line 2: this key is no text"),
        ("a: [1, 2\nb: 3\n", "line 2"),
        ("a: !!binary aGk=\n", "line 1: a value of the type binary"),
        ("a: !!python/object:os.system x\n", "line 1"),
        ("a: &x [*x]\n", "contains it"),
        (DOUBLED, "more than 1,000,000 values"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("[" * 5000, "nested too deep"),
        ("\x00", ""),
    ],
)
def test_yaml_that_json_cannot_say_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(NotYaml) as caught:
        read_yaml(text.encode())
    assert why in str(caught.value)


def test_the_values_of_yaml_are_those_of_its_core_schema() -> None:
    text = "[yes, no, on, 012, 0o7, 1_000, 12:30:45, 2026-11-26, .inf, ~, null, true, 1e3, .5, -7, 'x', <<]"
    assert read_yaml(text.encode()) == [
        *("yes", "no", "on", "012", "0o7", "1_000", "12:30:45", "2026-11-26", ".inf"),
        *(None, None, True, 1000.0, 0.5, -7, "x", "<<"),
    ]


def test_the_line_of_a_fault_is_printed(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "tree.yaml"
    file.write_text("name: x\ninputs:\n  a: 'b\n")
    said = cli("run", str(file))
    assert (said.code, "line 4" in said.err) == (2, True), said.err
    broken = tmp_path / "tree.json"
    broken.write_text('{"name": "x",\n oops}')
    assert "line 2" in cli("tasks", "create", str(broken)).err
