"""What a terminal shows of a running tree."""

from contextlib import closing

import pytest
from rich.console import Console

from aipartnerupflow.cli.live import LiveTree, Row, most_interesting
from aipartnerupflow.client import Client
from aipartnerupflow.program import program
from tests.aipartnerupflow.conftest import Json

STATUSES = ["in_progress", "completed", "pending", "failed", "in_progress", "cancelled", "pending", "completed"]
ROWS = [Row(task_id="", name=str(place), guides="", status=status, progress=0) for place, status in enumerate(STATUSES)]


@pytest.mark.parametrize(
    ("limit", "shown"),
    [
        (-1, "0"),
        (1, "0"),
        (2, "04"),
        (3, "034"),
        (4, "0345"),
        (5, "02345"),
        (6, "023456"),
        (7, "0123456"),
        (8, "01234567"),
        (50, "01234567"),
    ],
)
def test_what_runs_and_what_failed_comes_first_in_the_order_of_the_tree(limit: int, shown: str) -> None:
    assert "".join(row.name for row in most_interesting(ROWS, limit)) == shown


def test_a_question_is_below_the_tree_until_it_is_answered(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    inputs: Json = {"question": "Publish the report?", "options": ["yes", "not yet"]}
    root_id = client.execute({"name": "Ask", "schemas": {"method": "approval_executor"}, "inputs": inputs})["task_id"]
    view = LiveTree(client.tree(root_id), is_brief=False)
    with closing(client.follow(root_id)) as events:
        for event in events:
            view.tell(event)
            if event["type"] == "log":
                break
        lines = seen(view, width=300)
        client.answer(root_id, "yes")
        for event in events:
            view.tell(event)
    command = f"{program()} tasks answer {root_id}"
    assert lines[-3:] == ["? Ask asks: Publish the report?", f"  {command} yes", f"  {command} 'not yet'"]
    assert "asks" not in "".join(seen(view))


def test_the_command_that_answers_is_whole_on_a_narrow_terminal(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    inputs: Json = {"question": "Publish?", "options": ["yes, with all of its sources and figures", "no"]}
    root_id = client.execute({"name": "Ask", "schemas": {"method": "approval_executor"}, "inputs": inputs})["task_id"]
    view = LiveTree(client.tree(root_id), is_brief=False)
    with closing(client.follow(root_id)) as events:
        for event in events:
            view.tell(event)
            if event["type"] == "log":
                break
        lines = seen(view, width=60)
        assert seen(view, width=80)[0].endswith("needs an answer")
        client.answer(root_id, "no")
        list(events)
    shown = "".join(lines).replace(" ", "")
    assert f"tasksanswer{root_id}'yes,withallofitssourcesandfigures'" in shown
    assert max(map(len, lines)) <= 60


def seen(view: LiveTree, *, width: int = 100) -> list[str]:
    console = Console(width=width)
    with console.capture() as text:
        console.print(view.render())
    return [line.rstrip() for line in text.get().splitlines()]
