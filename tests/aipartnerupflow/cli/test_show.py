"""Tables on narrow terminals: what another command takes is never cut."""

import re
from collections.abc import Callable
from uuid import uuid4

import pytest

from aipartnerupflow.client import Client
from tests.aipartnerupflow.conftest import Said, step
from tests.servers import Server

Cli = Callable[..., Said]
WIDTHS = ("40", "60", "80", "110")
LONG_ID = "a-task-with-an-id-that-somebody-made-as-long-as-a-line-of-a-small-terminal-is"


def width_of(columns: str) -> dict[str, str]:
    """The variables of a terminal of this width."""
    return {"TTY_COMPATIBLE": "1", "NO_COLOR": "1", "COLUMNS": columns}


@pytest.fixture(params=WIDTHS)
def terminal(request: pytest.FixtureRequest) -> dict[str, str]:
    return width_of(request.param)


def test_executors_are_listed_whole_with_those_that_are_off(cli: Cli, terminal: dict[str, str]) -> None:
    ids = {row["id"] for row in cli("executors").lines}
    said = cli("executors", **terminal)
    assert ids <= {line.split()[0] for line in said.out.splitlines() if line.split()}
    assert re.search(r"^command_executor\s+(enabled )?no\s", said.out, re.M)
    assert "…" not in said.out
    assert said.err.startswith("Disabled: command_executor")


def test_a_key_and_its_owner_are_whole(cli: Cli, server: Server) -> None:
    owner = "alice.of.the.branch.in.accounting@example.com"
    database = {"AIPARTNERUPFLOW_DATABASE_URL": server.database_url}
    cli("users", "create", owner, "--password", "a pass phrase of a test", **database)
    cli("tokens", "create", owner, "--name", "the build of every single night", "--days", "30", **database)
    [listed] = cli("tokens", "list", "--user", owner, **database).lines
    for width in WIDTHS:
        narrow = width_of(width)
        shown = cli("tokens", "list", "--user", owner, **database, **narrow).out
        assert re.search(rf"^{listed['key']}\s+(user\s+)?{owner}\s", shown, re.M)
    assert cli("users", "list", **database, **narrow).out.count(owner) == 1


@pytest.fixture(scope="module")
def failed(server: Server) -> dict[str, str]:
    """A tree of long ids, one of which failed."""
    below = step(f"{LONG_ID}-1", f"{LONG_ID}-0", then="fail")
    tasks = [{"id": f"{LONG_ID}-0", "name": "A name that gives way to the id beside it"}, below]
    with Client(server.url) as client:
        return client.execute(tasks, wait=True, wait_timeout_seconds=110)["ids"]


@pytest.mark.parametrize("command", [("list", "--all"), ("status",), ("tree",), ("cancel",)])
def test_ids_of_tasks_are_whole(
    cli: Cli, failed: dict[str, str], terminal: dict[str, str], command: tuple[str, ...]
) -> None:
    root, child = failed.values()
    words = {"list": (), "tree": (root,)}.get(command[0], (root, child))
    shown = cli("tasks", *command, *words, **terminal).out
    assert root in shown
    assert child in shown


def test_the_lines_of_a_tree_stay_within_a_narrow_terminal(cli: Cli, client: Client) -> None:
    ids = [str(uuid4()) for _ in range(2)]
    tasks = [{"id": ids[0], "name": "A name that takes most of a line"}, step(ids[1], ids[0], then="fail")]
    client.execute(tasks, wait=True, wait_timeout_seconds=110)
    lines = cli("tasks", "tree", ids[0], **width_of("60")).out.splitlines()
    assert max(map(len, lines)) <= 60, lines
    assert set(ids) <= {line.strip() for line in lines}
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_table_stays_within_its_terminal(cli: Cli, client: Client, width: int) -> None:
    name = "a name that takes most of a line"
    client.execute({"name": name, "schemas": {"method": "echo_executor"}}, wait=True, tags=["nightly"])
    for words in (("tasks", "list"), ("runs", "list"), ("executors",)):
        limit = ("--limit", "1") if words[1:] == ("list",) else ()
        shown = cli(*words, *limit, **width_of(str(width))).out
        assert max(len(line) for line in shown.splitlines()) <= width, shown
        assert "…" not in shown or width > 60


def test_a_row_that_is_wider_than_the_terminal_is_a_record(cli: Cli, client: Client) -> None:
    ran = client.execute({"name": "Wide", "schemas": {"method": "echo_executor"}}, wait=True, tags=["nightly"])
    words = ("runs", "list", "--task", ran["task_id"])
    [run] = cli(*words).lines
    first, *others = cli(*words, **width_of("60")).out.splitlines()
    assert first == f"✓ {run['id']}"
    assert " ".join(" ".join(others).split()).startswith("name Wide no. 1 tags nightly status completed took ")
    assert all(line.startswith("  ") for line in others)
    wide = cli(*words, **width_of("100")).out
    assert wide.split()[:6] == ["RUN", "NAME", "NO.", "TAGS", "STATUS", "TOOK"]
