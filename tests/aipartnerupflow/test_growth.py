"""Maps, loops and spawners in trees as the server replies with them: how far they are, and what a terminal shows of them."""

from typing import Any

import pytest

from aipartnerupflow.explain import explain
from aipartnerupflow.growth import MANY, growth_of, looks, shown_children, template_ids, troubles, with_copies

Json = dict[str, Any]
FOR_EACH: Json = {"for_each": {"items": []}}
REPEAT: Json = {"repeat": {"until": {"op": "exists"}, "max": 5}}


def task(task_id: str, status: str = "completed", *children: Json, by: str | None = None, **fields: Any) -> Json:
    added = {"spawned_by": by} if by else {}
    return {
        "id": task_id,
        "name": task_id.upper(),
        "status": status,
        "dependencies": [],
        "children": [child | {"parent_id": task_id} for child in children],
        "schemas": None,
        "params": None,
        "progress": 0.5,
        "attempt": 1,
        "error": "It broke." if status == "failed" else None,
        "started_at": "then",
        "completed_at": "now",
        **added,
        **fields,
    }


def map_of(*statuses: str, status: str = "in_progress") -> Json:
    """A map whose items have these statuses."""
    items = [task(f"part[{number}]", each, by="each") for number, each in enumerate(statuses)]
    template = task("part", "skipped", error="Template: 'each' runs copies of it")
    return task("each", status, template, *items, params=FOR_EACH)


def summary(root: Json) -> str:
    growth = growth_of(root)
    assert growth is not None
    return growth.summary()


def said(of: str, root: Json, *, is_running: bool = True) -> list[str]:
    return explain(of, root, is_running=is_running, checks={}, last_message="", questions={}, waits={})


def test_a_map_says_how_many_items_are_done() -> None:
    assert summary(map_of("completed", "failed", "in_progress", "pending")) == "2 of 4 items, 1 failed"
    assert summary(map_of("completed")) == "1 of 1 item"
    assert summary(map_of()) == "map"


def test_an_item_of_several_tasks_is_done_when_all_are() -> None:
    copies = [task(f"{name}[{number}]", "completed", by="each") for number in range(3) for name in "ab"]
    copies[3]["status"] = "pending"
    assert summary(task("each", "in_progress", task("a"), task("b"), *copies, params=FOR_EACH)) == "2 of 3 items"


def test_a_loop_says_in_which_round_it_is() -> None:
    rounds = [task(f"t#{number}", by="t") for number in (1, 2, 3)]
    assert summary(task("t", "in_progress", *rounds, params=REPEAT, schemas={"method": "echo"})) == "round 3 of 5"
    assert summary(task("t", "completed", *rounds, params=REPEAT, schemas={"method": "echo"})) == "3 rounds"


def test_a_spawner_counts_all_tasks_below() -> None:
    both = task("plan/both", "in_progress", task("plan/a", by="plan"), by="plan")
    assert summary(task("plan", "in_progress", both, schemas={"method": "echo"})) == "1 of 2 tasks"
    assert growth_of(task("plan", "completed", task("sent"))) is None


def test_statuses_that_are_known_better_count() -> None:
    growth = growth_of(map_of("pending", "pending"))
    assert growth is not None
    assert growth.summary({"part[0]": "completed", "each": "in_progress"}) == "1 of 2 items"


def test_a_template_is_shown_until_there_are_copies() -> None:
    before, after = task("each", "pending", task("part", "pending"), params=FOR_EACH), map_of("pending")
    assert ([each["id"] for each in with_copies(before)], template_ids(before)) == (["part"], {"part"})
    assert ([each["id"] for each in with_copies(after)], template_ids(after)) == (["part[0]"], {"part"})


def test_of_many_items_only_those_that_failed_are_shown() -> None:
    few, many = ["completed"] * MANY, ["completed"] * MANY + ["failed"]
    assert len(shown_children(map_of(*few))) == MANY
    assert [each["id"] for each in shown_children(map_of(*many))] == [f"part[{MANY}]"]


def test_a_map_is_explained_with_its_failures() -> None:
    root = map_of(*["completed"] * 7, "failed", "in_progress", "in_progress")
    assert "It is a map over 10 items: 7 completed, 1 failed (part[7]: It broke), 2 running." in said("each", root)


def test_only_the_first_failures_are_explained() -> None:
    assert "It is a map over 5 items: 5 failed (" in said("each", map_of(*["failed"] * 5, status="failed"))[1]
    assert said("each", map_of(*["failed"] * 5, status="failed"))[1].endswith("; and 2 more).")


@pytest.mark.parametrize(
    ("status", "words"),
    [("in_progress", "It is in round 2 of at most 5."), ("failed", "It ran 2 rounds of at most 5.")],
)
def test_a_loop_is_explained_with_its_rounds(status: str, words: str) -> None:
    rounds = [task(f"t#{number}", by="t") for number in (1, 2)]
    root = task("t", status, *rounds, params=REPEAT, schemas={"method": "echo"})
    assert words in said("t", root)
    assert "It belongs to round 2 of 2 of 'T' (t)." in said("t#2", root)


def test_a_spawner_is_explained_with_its_tasks() -> None:
    root = task("plan", "completed", task("plan/a", by="plan"), schemas={"method": "echo"})
    assert "It added 1 task: 1 completed." in said("plan", root)
    assert "It was added by 'PLAN' (plan)." in said("plan/a", root)


def test_a_template_is_no_task_that_was_skipped_or_waits() -> None:
    words = "'PART' (part) is part of the template of 'EACH' (each), which runs copies of it."
    assert said("part", map_of("completed")) == [words]
    assert said("part", task("each", "pending", task("part", "pending"), params=FOR_EACH)) == [words]
    waits = said("each", task("each", "pending", task("part", "pending"), params=FOR_EACH))
    assert not any("(part)" in line for line in waits)


def test_a_task_that_waits_for_a_map_says_how_far_that_is() -> None:
    root = task("root", "pending", map_of("completed", "pending"), dependencies=[{"id": "each", "required": True}])
    assert "'EACH' (each) is a map over 2 items: 1 completed, 1 pending." in said("root", root)


def test_a_root_has_the_status_of_its_run_and_a_group_that_of_its_children() -> None:
    bad, late = task("bad", "failed"), task("late", "failed", not_run=True, cause_id="bad", started_at=None)
    inner = task("inner", "completed", bad, late)
    agent = task("agent", "completed", task("tool", "failed", by="agent", params={"allow_failure": True}))
    agent["params"] = {"executor_id": "llm_executor"}
    calm = task("calm", "completed", agent)
    root = task("root", "completed", inner, calm, run_status="failed")
    assert looks(root) == {
        "root": "failed",
        "inner": "failed",
        "bad": "failed",
        "late": "not_run",
        "calm": "completed",
        "agent": "completed",
        "tool": "handled",
    }
    assert troubles(root) == "1 failed, 1 not run"
    assert said("agent", root, is_running=False)[-1].startswith("It completed at")
    assert looks({**root, "run_status": "in_progress"}, {"bad": "in_progress"})["inner"] == "in_progress"


def test_a_failure_that_a_map_collects_is_handled() -> None:
    each = map_of("completed", "failed", status="completed") | {
        "params": {"for_each": {"items": [], "on_failure": "collect"}}
    }
    assert looks(task("root", "completed", each, run_status="completed"))["part[1]"] == "handled"
    assert troubles(each) == ""
