"""Trees that are built with the client: ids, parents, dependencies and places."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from aipartnerupflow.client import Client, Place, Tree
from tasks.rules.specs import parse_tree
from tests.servers import Server


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
    assert (str(again.place()), repr(again)) == ("{{fetch-2}}", "<TreeTask 'fetch-2'>")


def test_an_id_is_given_once() -> None:
    tree = Tree("日報")
    assert tree.root.id == "task"
    with pytest.raises(ValueError, match="already"):
        tree.task("a", id="task")


class Order(TypedDict):
    """A form."""

    amount: Annotated[float, {"title": "Amount in EUR", "minimum": 0}]
    department: Literal["sales", "support"]
    express: NotRequired[bool]


class Wrong(TypedDict):
    """A form with a list, which no form may have."""

    tags: list[str]


def test_maps_loops_conditions_and_forms_run(server: Server) -> None:
    tree = Tree("All kinds")
    shop = tree.task("Shop", "echo_executor", inputs={"people": [{"name": "Ada"}, {"name": "Alan"}], "total": 3})
    each = tree.map("Each", shop.place("people"), item="person", max_parallel=2, after=shop)
    inputs = {"text": f"{each.item('name')} is number {each.index}", "of": Tree.run_input("word")}
    tree.task("Greet", "echo_executor", inputs=inputs, parent=each)
    is_good = (Tree.result("score") >= 2) & ~(Tree.result("text") == "x")
    work = tree.loop("Work", "echo_executor", until=is_good, max=5, first={"text": "-"}, inputs={"score": "{{round}}"})
    work.fields["inputs"]["text"] = f"after {work.last('text')}"
    tree.task("Cheap", "echo_executor", after=shop, when=shop.place("total") < 2)
    dear = tree.task(
        "Dear", "echo_executor", after=shop, when=shop.place("total").is_in([3]) | shop.place("x").exists()
    )
    asked = tree.ask("Order", f"Who pays {shop.place('total')}?", form=Order, after=[shop, dear])
    tree.task("Buy", "echo_executor", inputs={"n": asked.place("amount")}, after=asked, when=asked.place("amount") > 0)
    with Client(server.url) as client:
        run = client.start(tree.tasks, inputs={"word": "hi"})
        for event in run.events():
            if isinstance(event["result"], dict) and event["result"].get("required") == "input":
                assert event["result"]["schema"]["properties"]["amount"]["minimum"] == 0
                client.answer(event["task_id"], {"amount": 2, "department": "sales"})
        done: Any = run.wait()
    results = {task["name"]: task for task in done["children"]}
    assert done["run_status"] == "completed", results
    assert [one["text"] for one in results["Each"]["result"]] == ["Ada is number 0", "Alan is number 1"]
    assert results["Work"]["result"] == {"score": 2, "text": "after after -"}
    assert (results["Cheap"]["status"], results["Dear"]["status"]) == ("skipped", "completed")
    assert results["Buy"]["result"]["n"] == 2


def test_a_place_compared_is_a_condition() -> None:
    place = Place("fetch", "json.rows.0")
    at = {"task": "fetch", "path": "/json/rows/0"}
    assert [each.fields for each in (place == 1, place != "a", place <= 2, place.contains(1), place.is_empty())] == [
        at | {"op": "eq", "value": 1},
        at | {"op": "ne", "value": "a"},
        at | {"op": "le", "value": 2},
        at | {"op": "contains", "value": 1},
        at | {"op": "empty"},
    ]
    with pytest.raises(TypeError, match="evaluates a condition"):
        bool(place == 1)
    with pytest.raises(TypeError, match="not with another place"):
        _ = place == Place("other")
    with pytest.raises(ValueError, match="cannot name"):
        str(Place("fetch", "a b"))
    with pytest.raises(TypeError, match="'tags' of a form"):
        Tree("t").ask("Ask", "Which?", form=Wrong)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"inputs": {"text": Place("fecth", "a")}}, "there is no 'fecth'. Did you mean 'fetch'?"),
        ({"inputs": {"texts": ["a {{fetc.json}} b"]}}, "there is no 'fetc'. Did you mean 'fetch'?"),
        ({"inputs": {"text": "{{nowhere.json}}"}}, "there is no 'nowhere'. Its tasks: Fetch, "),
        ({"when": Place("fetched") == 1}, "there is no 'fetched'. Did you mean 'fetch'?"),
        ({"when": (Place("fetch") == 1) & ~Place("run-it").exists()}, "there is no 'run-it'"),
        ({"params": {"repeat": {"until": Place("fetcg") == 1}}}, "there is no 'fetcg'"),
    ],
)
def test_a_place_that_names_no_task_is_refused(fields: dict[str, Any], said: str) -> None:
    tree = Tree("Report")
    tree.task("Fetch", "echo_executor")
    tree.task("Write", "echo_executor", **fields)
    with pytest.raises(ValueError, match="Task 'write' names no task of the tree: ") as refused:
        _ = tree.tasks
    assert said in str(refused.value)


def test_the_items_of_a_map_are_of_a_task_of_the_tree() -> None:
    tree = Tree("Report")
    tree.map("Each", Place("nowhere", "rows"))
    with pytest.raises(ValueError, match="there is no 'nowhere'"):
        _ = tree.tasks


def test_double_braces_that_are_no_place_stay() -> None:
    tree = Tree("Report")
    texts = [
        "{{topic}} and {{secret.key}}, {{run.inputs.x}}",
        "{{{{fetc}}}}",
        "{% if x %}{{ user.name }} says{% endif %}",
    ]
    inputs = {"texts": texts, "topic": "a", "select": "{{nowhere.json}}"}
    tree.task("Write", "echo_executor", inputs=inputs)
    assert tree.tasks[1]["inputs"] == inputs
