"""Trees that are built with the client: ids, parents, dependencies and places."""

import pytest

from aipartnerupflow.client import Tree
from tasks.rules.specs import parse_tree


def test_a_tree_is_a_list_of_tasks_that_the_server_accepts() -> None:
    tree = Tree("Morning report", params={"keep": True})
    fetch = tree.task("Fetch", "rest_executor", inputs={"url": "https://example.com"})
    again = tree.task("Fetch", "echo_executor")
    write = tree.task("Write it!", "echo_executor", inputs={"text": fetch.place("json.title")}, after=[fetch, again])
    part = tree.task("Part", parent=write, id="of-mine")
    fetch >> again >> part
    fetch >> again
    assert tree.tasks == [
        {"id": "morning-report", "name": "Morning report", "params": {"keep": True}},
        {
            "id": "fetch",
            "name": "Fetch",
            "parent_id": "morning-report",
            "schemas": {"method": "rest_executor"},
            "inputs": {"url": "https://example.com"},
            "dependencies": [],
        },
        {
            "id": "fetch-2",
            "name": "Fetch",
            "parent_id": "morning-report",
            "schemas": {"method": "echo_executor"},
            "dependencies": ["fetch"],
        },
        {
            "id": "write-it",
            "name": "Write it!",
            "parent_id": "morning-report",
            "schemas": {"method": "echo_executor"},
            "inputs": {"text": "{{fetch.json.title}}"},
            "dependencies": ["fetch", "fetch-2"],
        },
        {"id": "of-mine", "name": "Part", "parent_id": "write-it", "dependencies": ["fetch-2"]},
    ]
    assert len(parse_tree(tree.tasks, executors=("rest_executor", "echo_executor")).tasks) == 5
    assert (again.place(), repr(again)) == ("{{fetch-2}}", "<TreeTask 'fetch-2'>")


def test_an_id_is_given_once() -> None:
    tree = Tree("日報")
    assert tree.root.id == "task"
    with pytest.raises(ValueError, match="already"):
        tree.task("a", id="task")
