"""The rules for an incoming tree: a table of requests and what they are refused with, and what valid ones become."""

from dataclasses import replace
from itertools import count

import pytest

from tasks.rules.exceptions import (
    CircularDependency,
    ExecutorNotFound,
    InvalidDependency,
    InvalidParams,
    InvalidParent,
    InvalidTree,
    TasksError,
)
from tasks.rules.specs import Dependency, TaskSpec, TreeLimits, TreeSpec
from tests.tasks.rules.tree_requests import ROOT, Json, group, parse, task
from tests.work import calls_of


def one(**fields: object) -> Json:
    return {"name": "echo_executor", **fields}


SHAPES: list[tuple[object, str, str]] = [
    (None, "tasks", "must be a list of tasks, or one task"),
    ("task", "tasks", "must be a list"),
    (7, "tasks", "must be a list"),
    ([one(), "x"], "tasks[1]", "must be an object, not a string"),
    ([one(), None], "tasks[1]", "must be an object, not null"),
    ([one(), [one()]], "tasks[1]", "must be an object, not a list"),
    ([one(), one(), one(priority="high")], "tasks[2].priority", "must be an integer from 0 to 3, not a string"),
    ({}, "tasks[0].name", "is required"),
    ({"name": ""}, "tasks[0].name", "must have 1 to 255 characters, not 0"),
    ({"name": "x" * 256}, "tasks[0].name", "must have 1 to 255 characters, not 256"),
    ({"name": None}, "tasks[0].name", "is required"),
    ({"name": 1}, "tasks[0].name", "not a number"),
    (one(id=""), "tasks[0].id", "must have 1 to 255 characters"),
    (one(id=5), "tasks[0].id", "must be a string"),
    (one(id="x" * 256), "tasks[0].id", "not 256"),
    (one(user_id=True), "tasks[0].user_id", "not a boolean"),
    (one(user_id=""), "tasks[0].user_id", "1 to 255"),
    (one(parent_id=3), "tasks[0].parent_id", "must be a string"),
    (one(priority=4), "tasks[0].priority", "from 0 to 3, not 4"),
    (one(priority=-1), "tasks[0].priority", "from 0 to 3, not -1"),
    (one(priority=True), "tasks[0].priority", "not a boolean"),
    (one(priority=1.5), "tasks[0].priority", "must be an integer"),
    (one(inputs=[]), "tasks[0].inputs", "must be an object, not a list"),
    (one(schemas="x"), "tasks[0].schemas", "must be an object"),
    (one(schemas={"method": 1}), "tasks[0].schemas.method", "must be a string"),
    (one(schemas={"input_schema": True}), "tasks[0].schemas.input_schema", "must be an object, not a boolean"),
    (one(params=[]), "tasks[0].params", "must be an object"),
    (one(params={"executor_id": None}), "tasks[0].params.executor_id", "must be a string"),
    (one(params={"timeout_seconds": 0}), "tasks[0].params.timeout_seconds", "above 0 and up to 2,592,000, not 0"),
    (one(params={"timeout_seconds": -1}), "tasks[0].params.timeout_seconds", "not -1"),
    (one(params={"timeout_seconds": 2_592_001}), "tasks[0].params.timeout_seconds", "up to 2,592,000"),
    (one(params={"timeout_seconds": float("nan")}), "tasks[0].params.timeout_seconds", "must be a number"),
    (one(params={"timeout_seconds": "10"}), "tasks[0].params.timeout_seconds", "not a string"),
    (one(params={"timeout_seconds": True}), "tasks[0].params.timeout_seconds", "not a boolean"),
    (one(params={"retry": 3}), "tasks[0].params.retry", "must be an object, not a number"),
    (one(params={"retry": {"max_attempts": 0}}), "tasks[0].params.retry.max_attempts", "from 1 to 100, not 0"),
    (one(params={"retry": {"max_attempts": 101}}), "tasks[0].params.retry.max_attempts", "from 1 to 100"),
    (one(params={"retry": {"max_attempts": 2.5}}), "tasks[0].params.retry.max_attempts", "must be an integer"),
    (one(params={"retry": {"backoff_seconds": -0.1}}), "tasks[0].params.retry.backoff_seconds", "from 0"),
    (one(params={"retry": {"backoff_factor": "2"}}), "tasks[0].params.retry.backoff_factor", "must be a number"),
    (one(params={"retry": {"max_backoff_seconds": -1}}), "tasks[0].params.retry.max_backoff_seconds", "from 0"),
    (one(params={"retry": {"attempts": 3}}), "tasks[0].params.retry.attempts", "did you mean 'max_attempts'?"),
    (one(dependencies="a"), "tasks[0].dependencies", "must be a list, not a string"),
    (one(dependencies=["a", 1]), "tasks[0].dependencies[1]", "must be a string"),
    (one(dependencies=[""]), "tasks[0].dependencies[0]", "1 to 255"),
    (one(dependencies=[{}]), "tasks[0].dependencies[0]", "must have either 'id' or 'name'"),
    (one(dependencies=[{"id": "a", "name": "b"}]), "tasks[0].dependencies[0]", "must have either 'id' or 'name'"),
    (one(dependencies=[{"id": 1}]), "tasks[0].dependencies[0].id", "must be a string"),
    (one(dependencies=[{"id": "a", "required": 1}]), "tasks[0].dependencies[0].required", "must be true or false"),
    (one(dependencies=[{"id": "a", "require": True}]), "tasks[0].dependencies[0].require", "did you mean 'required'?"),
    (one(prioritty=1), "tasks[0].prioritty", "unknown field; did you mean 'priority'?"),
    (one(zzz=1), "tasks[0].zzz", "unknown field; known are id, name, parent_id"),
    (one(status="completed"), "tasks[0].status", "read only: set by the server"),
    (one(result={}), "tasks[0].result", "read only: set by the server"),
    (one(created_at="now"), "tasks[0].created_at", "read only: set by the server"),
    (one(token_usage={}), "tasks[0].token_usage", "read only: set by the server"),
    (one(progress=0.5), "tasks[0].progress", "read only: set by the server"),
    (one(progress=False), "tasks[0].progress", "read only: set by the server"),
    (one(dependencies=[{"id": "a", "type": "x"}]), "tasks[0].dependencies[0].type", "must be 'result' or absent"),
    (one(children=[]), "tasks[0].children", "list every task flat and give the children a 'parent_id'"),
    (one(executor_id="x"), "tasks[0].executor_id", "write it as params.executor_id"),
    (one(timeout_seconds=3), "tasks[0].timeout_seconds", "write it as params.timeout_seconds"),
]


@pytest.mark.parametrize(("tasks", "field", "reason"), SHAPES, ids=[field for _, field, _ in SHAPES])
def test_a_fault_of_shape_names_the_field_and_the_reason(tasks: object, field: str, reason: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        parse(tasks)
    [(found_field, found_reason)] = caught.value.problems
    assert found_field == field
    assert reason in found_reason


def test_nulls_and_what_each_new_task_has_count_as_absent() -> None:
    empty = dict.fromkeys(
        ("id", "parent_id", "user_id", "priority", "dependencies", "inputs", "schemas", "params", "result")
    )
    sent = one(**empty, status="pending", progress=0.0)
    (task,) = parse(sent).tasks
    (bare,) = parse(one()).tasks
    assert replace(task, id="x") == replace(bare, id="x")


def test_a_dependency_may_have_the_type_that_the_predecessor_adds() -> None:
    tree = parse(
        [one(id="a", dependencies=[{"id": "b", "required": True, "type": "result"}]), one(id="b", parent_id="a")]
    )
    assert [dependency.id for dependency in tree.tasks[0].dependencies] == ["b"]


def test_all_faults_of_shape_are_told_at_once() -> None:
    with pytest.raises(InvalidParams) as caught:
        parse([{"id": 1, "priority": 9}, one(inputs=3, params={"retry": {"max_attempts": 0, "x": 1}})])
    assert [field for field, _ in caught.value.problems] == [
        "tasks[0].id",
        "tasks[0].priority",
        "tasks[0].name",
        "tasks[1].inputs",
        "tasks[1].params.retry.max_attempts",
        "tasks[1].params.retry.x",
    ]


def test_a_fault_far_down_the_list_names_its_task() -> None:
    tasks = [ROOT, *(task(f"t{number}") for number in range(1850)), task("far", name="Post it", priority=9)]
    with pytest.raises(InvalidParams) as caught:
        parse(tasks)
    [(field, reason)] = caught.value.problems
    assert field == "tasks[1851].priority"
    assert reason.endswith("(the task with id 'far' and name 'Post it')")


def test_a_flood_of_faults_is_cut_short() -> None:
    def refuse(faults: int) -> None:
        with pytest.raises(InvalidParams) as caught:
            parse([{f"unknown {index}": 1 for index in range(faults)}])
        assert len(caught.value.problems) == 201
        assert caught.value.problems[-1] == ("tasks", "has more problems than these 200")

    assert calls_of(lambda: refuse(100_000)) < 3 * calls_of(lambda: refuse(50_000))


TREES: list[tuple[str, list[Json], type[TasksError], str]] = [
    ("no task", [], InvalidTree, "The list of tasks is empty"),
    (
        "an id twice",
        [ROOT, task("a"), task("a")],
        InvalidTree,
        "Task id 'a' is used twice, the second time by tasks[2]",
    ),
    ("two roots", [ROOT, task("other", parent=None)], InvalidTree, "tasks 'root' and 'other' have no parent. Give"),
    (
        "three roots",
        [group(name, parent=None) for name in "abc"],
        InvalidTree,
        "'a' and 'b' have no parent, nor have 1",
    ),
    ("roots by name", [{"name": "x"}, {"name": "y"}], InvalidTree, "tasks 'x' and 'y' have no parent"),
    ("two owners", [{**ROOT, "user_id": "ann"}, task("a"), task("b", user_id="bob")], InvalidTree, "'b' to 'bob'"),
    ("a foreign parent", [ROOT, task("a", parent="x")], InvalidParent, "Task 'a': parent 'x' is neither the id nor"),
    ("no root but a parent", [task("a", parent="x")], InvalidParent, "Task 'a': parent 'x'"),
    (
        "a parent by a name of two",
        [ROOT, task("a", name="same"), task("b", name="same"), task("c", parent="same")],
        InvalidParent,
        "Task 'c': parent 'same' is the name of 2 tasks",
    ),
    ("a foreign dependency", [ROOT, task("a", "x")], InvalidDependency, "Task 'a': dependency 'x' is neither the id"),
    ("a foreign id", [ROOT, task("a", {"id": "x"})], InvalidDependency, "Task 'a': dependency 'x' is neither the id"),
    ("a foreign name", [ROOT, task("a", {"name": "x"})], InvalidDependency, "Task 'a': dependency 'x' is neither"),
    ("an id as a name", [ROOT, task("a"), task("b", {"name": "a"})], InvalidDependency, "Task 'b': dependency 'a' is"),
    (
        "a name as an id",
        [ROOT, task("a", name="fetch"), task("b", {"id": "fetch"})],
        InvalidDependency,
        "Task 'b': dependency 'fetch' is the name of a task, not an id. Write {\"name\": \"fetch\"}.",
    ),
    (
        "a name of two",
        [ROOT, task("a"), task("b"), task("c", {"name": "echo_executor"})],
        InvalidDependency,
        "Task 'c': dependency 'echo_executor' is the name of 3 tasks",
    ),
    ("itself", [ROOT, task("a", "a")], InvalidDependency, "Task 'a' depends on itself"),
    ("itself by name", [ROOT, task("a", "fetch", name="fetch")], InvalidDependency, "Task 'a' depends on itself"),
    (
        "a dependency twice",
        [ROOT, task("a"), task("b", "a", {"id": "a"})],
        InvalidDependency,
        "Task 'b' names its depen",
    ),
    ("two in a circle", [ROOT, task("a", "b"), task("b", "a")], CircularDependency, "a -> b -> a"),
    (
        "three in a circle",
        [ROOT, task("a", "c"), task("b", "a"), task("c", {"id": "b", "required": False})],
        CircularDependency,
        "a -> c -> b -> a",
    ),
    (
        "a circle by name",
        [
            {"name": "r"},
            {"name": "x", "parent_id": "r", "dependencies": ["y"]},
            {"name": "y", "parent_id": "r", "dependencies": ["x"]},
        ],
        CircularDependency,
        "x -> y -> x",
    ),
    ("a child that needs its group", [ROOT, task("a", "root")], CircularDependency, "a -> root -> a"),
    (
        "a circle through a group",
        [ROOT, group("g"), task("x", "b", parent="g"), task("b", "g")],
        CircularDependency,
        "x -> b -> g -> x",
    ),
    ("a parent of itself", [ROOT, task("a", parent="a")], CircularDependency, "a -> a"),
    ("no root", [task("a", parent="b"), task("b", parent="a")], CircularDependency, "a -> b -> a"),
    ("parents in a circle", [ROOT, task("a", parent="b"), task("b", parent="a")], CircularDependency, "a -> b -> a"),
    (
        "an unknown executor",
        [one(params={"executor_id": "nope"})],
        ExecutorNotFound,
        "Task 'echo_executor': executor 'nope' is not registered",
    ),
    ("an unknown method", [one(schemas={"method": "rest_exec"})], ExecutorNotFound, "Did you mean 'rest_executor'"),
    ("a disabled one", [one(schemas={"method": "crewai_executor"})], ExecutorNotFound, "Enable it with: pip install"),
]


@pytest.mark.parametrize(("tasks", "error", "part"), [row[1:] for row in TREES], ids=[row[0] for row in TREES])
def test_tasks_that_form_no_tree_are_refused(tasks: list[Json], error: type[TasksError], part: str) -> None:
    with pytest.raises(error) as caught:
        parse(tasks)
    assert type(caught.value) is error
    assert part in caught.value.message


def test_a_cycle_carries_its_path_as_data() -> None:
    with pytest.raises(CircularDependency) as caught:
        parse([ROOT, task("a", "b"), task("b", "a")])
    assert caught.value.data == {"cycle": ["a", "b", "a"]}


@pytest.mark.parametrize(
    ("tasks", "remedy"),
    [
        ([ROOT, task("a", "b"), task("b", "a")], "Remove one of these dependencies."),
        ([ROOT, task("a", parent="b"), task("b", parent="a")], "Correct one parent_id."),
        ([ROOT, task("a", "root")], "'root' is a group, which waits for its child 'a'."),
    ],
)
def test_a_cycle_says_what_holds_it_together(tasks: list[Json], remedy: str) -> None:
    with pytest.raises(CircularDependency) as caught:
        parse(tasks)
    assert remedy in caught.value.message


def chain(length: int) -> list[Json]:
    return [task("0", parent=None), *(task(str(index), parent=str(index - 1)) for index in range(1, length))]


@pytest.mark.parametrize(
    ("tasks", "limits", "part"),
    [
        (chain(4), TreeLimits(tasks=3), "4 tasks are too many: a tree has at most 3."),
        (chain(10_001), TreeLimits(), "10,001 tasks are too many: a tree has at most 10,000."),
        (chain(4), TreeLimits(depth=3), "Task '3' is on level 4: a tree has at most 3 levels."),
        (chain(1_000), TreeLimits(), "Task '100' is on level 101: a tree has at most 100 levels."),
    ],
)
def test_a_tree_has_limits(tasks: list[Json], limits: TreeLimits, part: str) -> None:
    with pytest.raises(InvalidTree, match=part):
        parse(tasks, limits=limits)


def test_a_tree_may_reach_its_limits() -> None:
    assert len(parse(chain(100), limits=TreeLimits(tasks=100, depth=100)).tasks) == 100


def test_a_circle_of_ten_thousand_is_found_without_recursion() -> None:
    circle = [ROOT, *(task(str(index), str((index + 1) % 9_999)) for index in range(9_999))]
    with pytest.raises(CircularDependency) as caught:
        parse(circle)
    assert len(caught.value.data["cycle"]) == 10_000


# --- what a valid request becomes ---


def test_a_single_task_gets_its_defaults_and_a_fresh_id() -> None:
    tree = parse({"name": "echo_executor"}, new_id=lambda: "fresh")
    assert tree == TreeSpec(
        tasks=(
            TaskSpec(
                id="fresh",
                parent_id=None,
                position=0,
                user_id=None,
                name="echo_executor",
                priority=2,
                dependencies=(),
                inputs={},
                schemas=None,
                params=None,
                executor_id="echo_executor",
                has_children=False,
                has_new_id=True,
            ),
        ),
        root_id="fresh",
        warnings=(),
    )


def test_a_fresh_id_is_unique() -> None:
    tree = parse([{"name": "r"}, *({"name": f"t{index}", "parent_id": "r"} for index in range(100))])
    assert len({spec.id for spec in tree.tasks}) == 101


def test_every_field_is_kept() -> None:
    fields = {
        "id": "a",
        "name": "n",
        "user_id": "ann",
        "priority": 0,
        "inputs": {"x": [1, None]},
        "schemas": {"method": "rest_executor", "input_schema": {"type": "object"}, "model": "m"},
        "params": {"timeout_seconds": 0.5, "retry": {"max_attempts": 3, "backoff_factor": 2}, "works": {}},
    }
    [spec] = parse([{**fields, "parent_id": None, "dependencies": []}]).tasks
    assert {name: getattr(spec, name) for name in fields} == fields
    assert spec.executor_id == "rest_executor"


def test_parents_and_dependencies_are_found_by_id_or_by_a_unique_name() -> None:
    numbers = count()
    tree = parse(
        [
            {"name": "build", "dependencies": []},
            {"name": "fetch", "parent_id": "build"},
            {**one(id="t"), "parent_id": "build", "dependencies": ["fetch"]},
            {"name": "ship", "parent_id": "t", "dependencies": [{"name": "fetch", "required": False}, {"id": "t"}]},
        ],
        new_id=lambda: f"id{next(numbers)}",
    )
    assert tree.root_id == "id0"
    assert [spec.id for spec in tree.tasks] == ["id0", "id1", "t", "id2"]
    assert [spec.parent_id for spec in tree.tasks] == [None, "id0", "id0", "t"]
    assert tree.tasks[2].dependencies == (Dependency(id="id1"),)
    assert tree.tasks[3].dependencies == (Dependency(id="id1", required=False), Dependency(id="t"))
    assert [spec.has_children for spec in tree.tasks] == [True, False, True, False]
    assert [spec.position for spec in tree.tasks] == [0, 1, 2, 3]


def test_an_id_goes_before_a_name() -> None:
    tree = parse([ROOT, task("a", name="b"), task("b", name="a"), task("c", "a", parent="b")])
    assert tree.tasks[3].dependencies == (Dependency(id="a"),)
    assert tree.tasks[3].parent_id == "b"


def test_a_tree_belongs_to_the_only_user_it_names() -> None:
    tree = parse([ROOT, task("a", user_id="ann"), task("b", user_id="ann")])
    assert {spec.user_id for spec in tree.tasks} == {"ann"}


@pytest.mark.parametrize(
    "tasks",
    [
        [task("root", "a", parent=None), task("a")],  # an executor may depend on its child
        [task("root", parent=None), task("a", "root")],  # or a child on its parent's executor
        [group("root", "a", parent=None), task("a")],  # and a group on a child, for which it waits in any case
        [ROOT, task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c")],
    ],
)
def test_these_are_no_cycles(tasks: list[Json]) -> None:
    assert len(parse(tasks).tasks) == len(tasks)
