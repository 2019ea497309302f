"""`aipartnerupflow tasks …` against a real server: what each command prints for people and for programs."""

from collections.abc import Callable

import pytest

from aipartnerupflow.client import Client
from tests.aipartnerupflow.conftest import Json, Said, step, tree
from tests.servers import new_database, running_server, until
from tests.terminal import Screen

Cli = Callable[..., Said]
Show = Callable[..., Screen]
SECRET = "a text that is long enough for a secret, and no example"


@pytest.fixture
def stored(client: Client) -> str:
    """The id of a tree that waits."""
    return client.create(tree(step("a"), step("b")))["id"]


@pytest.fixture
def child(client: Client, stored: str) -> str:
    """The first task below its root."""
    return client.tree(stored)["children"][0]["id"]


def test_a_tree_is_created_from_a_file_or_standard_input(cli: Cli, screen: Show) -> None:
    done = screen("tasks", "create", "-", stdin=tree(step("a")))
    assert done.code == 0
    assert [line.split()[:2] for line in done.out.splitlines()[:2]] == [["○", "Root"], ["└──", "○"]]
    created = cli("tasks", "create", "docs/examples/hello.json", "--json").json
    assert (created["name"], created["status"], len(created["children"])) == ("Report", "pending", 2)
    assert cli("tasks", "create", "-", stdin={"tasks": tree(step("a"))}).json["name"] == "Root"


def test_a_task_that_will_do_nothing_is_warned_of(cli: Cli) -> None:
    done = cli("tasks", "create", "-", stdin={"name": "my_task"})
    assert (done.code, done.err.partition(",")[0]) == (0, "Warning: Task 'my_task' names no executor")


def test_one_task_is_shown_field_by_field(cli: Cli, screen: Show, child: str) -> None:
    lines = screen("tasks", "get", child).out.splitlines()
    shown = dict(line.strip().split(maxsplit=1) for line in lines)
    assert (shown["id"], shown["name"], shown["status"]) == (child, "Step a", "○ pending, 0%")
    assert shown["schemas"] == '{"method":"scripted_executor"}'
    assert cli("tasks", "get", child, "--json").json["id"] == child


def test_a_tree_is_drawn(screen: Show, client: Client, stored: str) -> None:
    first, second = (child["id"] for child in client.tree(stored)["children"])
    lines = screen("tasks", "tree", first).out.splitlines()
    assert [line.split() for line in lines] == [
        ["○", "Root", stored, "0%"],
        ["├──", "○", "Step", "a", first, "0%"],
        ["└──", "○", "Step", "b", second, "0%"],
    ]


def test_trees_are_listed_the_newest_first(cli: Cli, screen: Show, client: Client) -> None:
    for number in range(3):
        client.create({"name": f"list {number}", "user_id": "lister"})

    def by_name(*words: str) -> list[str]:
        return [task["name"] for task in cli("tasks", "list", "--user", "lister", *words).lines]

    assert by_name() == ["list 2", "list 1", "list 0"]
    assert by_name("--limit", "2") == ["list 2", "list 1"]
    assert by_name("--oldest-first", "--limit", "1") == ["list 0"]
    assert by_name("--status", "failed", "--status", "cancelled") == []
    assert by_name("--name", "list 1") == ["list 1"]
    heading, *lines = screen("tasks", "list", "--user", "lister").out.splitlines()
    assert heading.split() == ["ID", "NAME", "STATUS", "TASKS", "AGE"]
    assert [line.split()[2:8] for line in lines] == [["list", str(n), "not", "run", "yet", "1"] for n in (2, 1, 0)]
    assert screen("tasks", "list", "--name", "nobody has this name").out == "No tasks.\n"


@pytest.mark.parametrize("command", ["get", "tree", "children", "delete", "copy", "run", "watch"])
@pytest.mark.parametrize("output", [[], ["--json"]])
def test_a_task_that_is_not_there(cli: Cli, command: str, output: list[str]) -> None:
    done = cli("tasks", command, "nowhere", *output)
    assert (done.code, done.out) == (3, "")
    assert "'nowhere' not found" in done.err


def test_every_fault_of_a_request_is_named(cli: Cli) -> None:
    done = cli("tasks", "create", "-", stdin=[{"name": "", "priority": 9, "inptus": {}}])
    assert (done.code, done.out) == (2, "")
    assert [line.partition(":")[0] for line in done.err.splitlines()[1:]] == [
        "- tasks[0].name",
        "- tasks[0].priority",
        "- tasks[0].inptus",
    ]


def test_a_token_is_needed_where_authentication_is_on(cli: Cli) -> None:
    with (
        new_database() as database_url,
        running_server(database_url, env={"AIPARTNERUPFLOW_JWT_SECRET": SECRET}) as server,
    ):
        for variables in ({}, {"AIPARTNERUPFLOW_TOKEN": "wrong"}):
            for command in (["list"], ["watch", "x"], ["run", "x"]):
                done = cli("tasks", *command, "--url", server.url, **variables)
                assert (done.code, done.out) == (4, "")
                assert "--token or AIPARTNERUPFLOW_TOKEN" in done.err


def test_what_others_wrote_does_not_reach_the_terminal_as_a_command(cli: Cli, screen: Show, client: Client) -> None:
    evil: Json = {"name": "\x1b[2J\x9b31m\rred\u202e", "inputs": {"x": "\x1b]0;title\x07"}}
    task_id = client.create(evil)["id"]
    for command in ("get", "tree"):
        out = screen("tasks", command, task_id, NO_COLOR="1").out
        assert not {"\x1b", "\x9b", "\x07", "\r", "\u202e"} & set(out)
    assert cli("tasks", "get", task_id, "--json").json["name"] == evil["name"]


def test_what_a_task_asks_is_answered(cli: Cli, screen: Show, client: Client) -> None:
    inputs = {"question": "Publish it?", "options": ["yes", "no"]}
    asking: Json = {"name": "Ask", "schemas": {"method": "approval_executor"}, "inputs": inputs}
    task_id = client.execute(asking)["task_id"]
    until(lambda: client.detail(task_id)["question"], seconds=60, what="the question")
    refused = cli("tasks", "answer", task_id, "perhaps")
    assert (refused.code, "must be one of the options 'yes', 'no'" in refused.err) == (2, True)
    assert screen("tasks", "answer", task_id, "yes", "--comment", "Good").out == "Publish it? yes\n"
    assert cli("tasks", "answer", task_id, "yes").code == 2
    list(client.follow(task_id))
    assert client.get(task_id)["result"] == {"answer": "yes", "by": "local", "comment": "Good"}


def test_a_form_is_answered_with_its_json(cli: Cli, client: Client) -> None:
    form = {"properties": {"amount": {"type": "number"}, "note": {"type": "string"}}, "required": ["amount"]}
    asking: Json = {
        "name": "Ask",
        "schemas": {"method": "approval_executor"},
        "inputs": {"question": "How much?", "schema": form},
    }
    task_id = client.execute(asking)["task_id"]
    until(lambda: client.detail(task_id)["question"], seconds=60, what="the question")
    assert "tasks answer " + task_id + """ '{"amount": "…", "note": "…"}'""" in cli("explain", task_id).out
    refused = cli("tasks", "answer", task_id, '{"amount": "much"}')
    assert (refused.code, "answer.amount: the value is not of type" in refused.err) == (2, True)
    assert cli("tasks", "answer", task_id, '{"amount": 5}', "--json").json["answer"] == {"amount": 5}
    list(client.follow(task_id))
    assert client.get(task_id)["result"] == {"amount": 5}


def test_children_are_listed(cli: Cli, screen: Show, stored: str) -> None:
    assert [task["name"] for task in cli("tasks", "children", stored).lines] == ["Step a", "Step b"]
    assert len(screen("tasks", "children", stored).out.splitlines()) == 3


def test_a_task_that_waits_is_changed(cli: Cli, child: str) -> None:
    words = ["--name", "Other", "--priority", "0", "--inputs", '{"x": [1]}', "--params", "null"]
    changed = cli("tasks", "update", child, *words, "--json").json
    assert (changed["name"], changed["priority"], changed["inputs"], changed["params"]) == (
        "Other",
        0,
        {"x": [1]},
        None,
    )
    refused = cli("tasks", "update", child, "--priority", "9")
    assert (refused.code, "priority" in refused.err) == (2, True)


def test_a_tree_is_deleted(cli: Cli, screen: Show, client: Client, stored: str) -> None:
    assert screen("tasks", "delete", stored).out == "Deleted 3 tasks.\n"
    assert cli("tasks", "get", stored).code == 3
    done = client.execute(tree(step("a")), wait=True, wait_timeout_seconds=110)["root_task_id"]
    refused = cli("tasks", "delete", done)
    assert (refused.code, refused.out) == (2, "")
    assert cli("tasks", "delete", done, "--force", "--json").json["deleted_count"] == 2


def test_running_tasks_are_stopped(cli: Cli, screen: Show, client: Client) -> None:
    running = client.execute(tree(step("a", seconds=30)))
    stopped = screen("tasks", "cancel", running["root_task_id"], "--reason", "enough")
    assert (stopped.code, stopped.out.split()[:2]) == (0, ["■", running["root_task_id"]])
    assert client.get(running["ids"]["a"])["error"] == "enough"
    again = cli("tasks", "cancel", running["root_task_id"], "nowhere")
    assert (again.code, [answer["status"] for answer in again.lines]) == (1, ["failed", "failed"])


def test_a_tree_is_copied(cli: Cli, screen: Show, client: Client) -> None:
    root_id = client.execute(tree(step("a"), step("b")), wait=True, wait_timeout_seconds=110)["root_task_id"]
    copied = cli("tasks", "copy", root_id, "--children", "--json").json
    assert (copied["original_task_id"], copied["status"], len(copied["children"])) == (root_id, "pending", 2)
    assert screen("tasks", "copy", root_id, "--mode", "full").out.startswith("○ Root")
    draft = cli("tasks", "copy", root_id, "--mode", "full", "--dry-run").json
    assert [task["name"] for task in draft] == ["Root", "Step a", "Step b"]
    assert cli("tasks", "create", "-", stdin=draft).code == 0
    assert cli("tasks", "copy", root_id, "--mode", "custom").code == 2


def test_tasks_are_counted(cli: Cli, screen: Show, client: Client) -> None:
    client.create({"name": "one", "user_id": "counted"})
    assert cli("tasks", "count", "--user", "counted", "--json").json == {
        "pending": 1, "in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "skipped": 0, "total": 1,
    }  # fmt: skip
    assert [line.split()[-2:] for line in screen("tasks", "count", "--user", "counted", "--roots").out.splitlines()] == [
        ["pending", "1"], ["in_progress", "0"], ["completed", "0"], ["failed", "0"], ["cancelled", "0"], ["skipped", "0"], ["total", "1"],
    ]  # fmt: skip


def test_the_status_of_tasks(cli: Cli, screen: Show, stored: str) -> None:
    known = screen("tasks", "status", stored)
    assert (known.code, known.out.splitlines()[1].split()) == (0, ["○", stored, "pending"])
    partly = cli("tasks", "status", stored, "nowhere")
    assert (partly.code, [state["status"] for state in partly.lines]) == (3, ["pending", "not_found"])
