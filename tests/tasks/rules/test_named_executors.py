"""Which executor a task of a request names, and what is said if that is none."""

from collections.abc import Mapping
from typing import Any

import pytest

from tasks.rules.exceptions import ExecutorNotFound
from tests.tasks.rules.tree_requests import ROOT, Json, parse, task

LEAF = "names no executor, so it runs no code and completes with its inputs."


@pytest.mark.parametrize(
    ("name", "params", "schemas", "executor_id", "warning"),
    [
        ("x", {"executor_id": "rest_executor"}, {"method": "echo_executor"}, "rest_executor", None),
        ("rest_executor", None, {"method": "echo_executor"}, "echo_executor", None),
        ("rest_executor", {"url": "x"}, {"model": "m"}, "rest_executor", None),
        ("my_task", None, None, None, f"Task 'my_task' {LEAF}"),
        ("rest_exectuor", None, None, None, f"Task 'rest_exectuor' {LEAF} Did you mean 'rest_executor'?"),
        ("REST Executor", {}, {}, None, f"Task 'REST Executor' {LEAF} Did you mean 'rest_executor'?"),
        ("rest", None, None, None, f"Task 'rest' {LEAF} Did you mean 'rest_executor'?"),
        (
            "crewai",
            None,
            None,
            None,
            f"Task 'crewai' {LEAF} Executor 'crewai_executor' is not enabled. "
            "Enable it with: pip install 'crewai<2,>=1.15'",
        ),
    ],
)
def test_which_executor_a_task_names(
    name: str, params: Json | None, schemas: Json | None, executor_id: str | None, warning: str | None
) -> None:
    tree = parse([{"name": name, "params": params, "schemas": schemas}])
    assert (tree.tasks[0].executor_id, tree.warnings) == (executor_id, (warning,) if warning else ())


@pytest.mark.parametrize(
    ("executor_id", "data"),
    [
        ("rest_exectuor", {"task": "x", "close_matches": ["rest_executor"], "enable_with": None}),
        ("rest", {"close_matches": ["rest_executor"]}),
        ("crewai", {"close_matches": ["crewai_executor"]}),
        ("zzz", {"close_matches": [], "enable_with": None}),
        ("crewai_executor", {"close_matches": [], "enable_with": "pip install 'crewai<2,>=1.15'"}),
    ],
)
def test_an_explicit_executor_must_be_enabled(executor_id: str, data: Mapping[str, Any]) -> None:
    with pytest.raises(ExecutorNotFound) as caught:
        parse([ROOT, task("x", params={"executor_id": executor_id})])
    assert caught.value.message.startswith(f"Task 'x': executor '{executor_id}'")
    assert data.items() <= {**caught.value.data, "close_matches": caught.value.data["close_matches"][:1]}.items()


def test_a_name_that_is_the_id_of_an_executor_asks_for_it_enabled_or_not() -> None:
    """Completing without a run would look like success."""
    with pytest.raises(ExecutorNotFound) as caught:
        parse([{"name": "crewai_executor"}])
    assert caught.value.data["enable_with"] == "pip install 'crewai<2,>=1.15'"


def test_the_first_example_of_the_guide_is_a_group_with_a_warning() -> None:
    tree = parse([{"id": "task1", "name": "my_task", "user_id": "user123", "inputs": {"key": "value"}}])
    assert tree.tasks[0].executor_id is None
    assert tree.warnings == (f"Task 'my_task' {LEAF}",)


def test_a_group_with_children_is_normal_unless_its_name_is_close_to_an_executor() -> None:
    assert parse([ROOT, task("a")]).warnings == ()
    misspelt = {**ROOT, "name": "echo_exector"}
    assert parse([misspelt, task("a")]).warnings == (f"Task 'echo_exector' {LEAF} Did you mean 'echo_executor'?",)


def test_warnings_do_not_flood_the_reply() -> None:
    leaves = [task(str(index), name=f"leaf {index}") for index in range(1_000)]
    warnings = parse([ROOT, *leaves]).warnings
    assert len(warnings) == 20
    assert warnings[-1] == "981 more tasks name no executor, so they run no code and complete with their inputs."
    same = [task(str(index), name="leaf") for index in range(10)]
    assert parse([ROOT, *same]).warnings == (f"Task 'leaf' {LEAF}",)
