"""Random trees: what hypothesis draws, and the valid request that is made of it."""

import os
from typing import Any

from hypothesis import strategies as st

from tasks import models
from tests.tasks.model import GROUP, GROUPS, LOOP, MAP, NEVER, SPAWN, STEPS, TREE, Task

Json = dict[str, Any]
#: Of each task: its script, its parent, its dependencies with whether they are required, and whether its inputs are filled.
Shape = list[tuple[str, int, list[tuple[int, bool]], bool]]

LARGEST = 7
MOST_NESTED = 2
SCRIPTS = ["group"] * 4 + ["hang"] * 5 + ["ok"] * 2
SCRIPTS += ["map"] * 3 + ["loop"] * 2 + ["spawn"] * 2 + ["event"] * 2 + ["question", "wait", "tree", "tree"]
SCRIPTS += ["steps"] * (2 if os.environ.get("RULES_SCRIPTS") == "all" else 0)
SCRIPTS += ["flaky", "fail", "never", "raise", "slow", "partial", "stubborn", "stubborn", "fragile"]
EDITABLE = frozenset({"ok", "raise", "hang", "partial", "stubborn", "fragile"})
"""Scripts without params of their own."""
PARAMS: dict[str, Json] = {
    "fail": {"retry": {"max_attempts": 3, "backoff_seconds": 0.001}},  # in vain: the failure is permanent
    "flaky": {"retry": {"max_attempts": 3, "backoff_seconds": 0.001}},
    "never": {"retry": {"max_attempts": 2, "backoff_seconds": 0.001}},
    "slow": {"timeout_seconds": 0.01},
}
FAILING = ("fail", "never", "raise", "slow")
NUMBER = st.integers(0, LARGEST - 1)
SHAPE = st.lists(
    st.tuples(st.sampled_from(SCRIPTS), NUMBER, st.lists(st.tuples(NUMBER, st.booleans()), max_size=3), st.booleans()),
    min_size=3,
    max_size=LARGEST,
)


def request_of(shape: Shape) -> list[Json]:
    """Parents come before their children. A dependency that would close a circle, or reach into a template, is left out.

    A map or a loop without children, or inside of too many others, is a group.
    """
    awaited: list[set[int]] = [set() for _ in shape]
    parents = [parent % number if number else None for number, (_, parent, _, _) in enumerate(shape)]
    scripts, around = list[str](), list[set[int]]()
    for number, ((script, *_), parent) in enumerate(zip(shape, parents, strict=True)):
        inside = set() if parent is None else around[parent] | ({parent} if scripts[parent] in (MAP, LOOP) else set())
        is_one = script in (MAP, LOOP) and (number not in parents or len(inside) >= MOST_NESTED)
        scripts.append(GROUP if is_one else script)
        around.append(inside)
    tasks = [_task(number, script, *task[1:]) for number, (script, task) in enumerate(zip(scripts, shape, strict=True))]
    for number, parent in enumerate(parents):
        if parent is not None and scripts[parent] in GROUPS:
            awaited[parent].add(number)
        for each in around[number]:
            awaited[each].add(number)
    for number, (_, _, needs, _) in enumerate(shape):
        for need, required in {drawn % len(shape): required for drawn, required in needs}.items():
            if around[need] <= around[number] and not _reaches(need, number, awaited):
                awaited[number].add(need)
                on_skip = {"on_skip": "run"} if (number + need) % 2 else {}
                tasks[number]["dependencies"].append({"id": str(need), "required": required} | on_skip)
    if TREE not in scripts:  # what these use is counted too: tests/tasks/worker/test_budgets_of_trees.py
        tasks[0]["params"] |= _budget(shape[0][1])
    for task in tasks:
        optional = [need["id"] for need in task["dependencies"] if not need["required"]]
        if optional and task["schemas"].get("input_schema"):
            task["params"] |= {"when": {"task": optional[0], "op": "exists"}}
    return tasks


def _task(number: int, script: str, parent: int, _: object, fills: bool) -> Json:
    schemas: Json = {"input_schema": {"properties": {"hint": {}}}} if fills else {}
    if script not in GROUPS:
        schemas["method"] = "fragile_script_executor" if script == "fragile" else "script_executor"
    return {
        "id": str(number),
        "name": f"{script} {number}",
        "parent_id": str(parent % number) if number else None,
        "priority": parent % 4,
        "inputs": {"script": script} | _growth(number, script, parent),
        "params": PARAMS.get(script, {})
        | _growing(script, 1 + number % 2, collects=parent % 2 == 1)
        | {"allow_failure": fills and script in FAILING},
        "schemas": schemas,
        "dependencies": [],
    }


def _budget(number: int) -> Json:
    """How many tasks may start before the owner is asked for more; most trees have no such limit."""
    return {} if number % 3 else {"budget": {"tasks": 1 + number // 3, "on_exceeded": "ask"}}


def _growth(number: int, script: str, parent: int) -> Json:
    """How many parts a map or a loop has, whether a map collects failures, what a task adds, and the tree that it runs."""
    if script in (MAP, LOOP):
        return {"parts": 1 + number % 2} | ({"collects": True} if script == MAP and parent % 2 else {})
    if script == STEPS:
        return {"steps": 1 + number % 2, "tasks": {"x": ("hang", "ok", "fail", "event")[parent % 4], "y": "ok"}}
    if script == TREE:
        return {"tasks": _inner(("hang", "ok", "fail", "event")[parent % 4], has_child=number % 2 == 1)}
    if script != SPAWN:
        return {}
    scripts = [("hang", "ok", "fail", "event")[parent % 4], "ok"][: 1 + number % 2]
    method = {"schemas": {"method": "script_executor"}}
    tasks = [{"name": f"s{n}", "inputs": {"script": each}, **method} for n, each in enumerate(scripts)]
    return {"tasks": tasks, "join": parent % 3 > 0}


def _inner(script: str, *, has_child: bool) -> list[Json]:
    """A tree that a task runs."""
    method = {"schemas": {"method": "script_executor"}}
    root = {"id": "top", "name": "top", "inputs": {"script": script}, **method}
    child = {"id": "sub", "name": "sub", "parent_id": "top", "inputs": {"script": "hang"}, **method}
    return [root, child] if has_child else [root]


def _growing(script: str, parts: int, *, collects: bool) -> Json:
    if script == MAP:
        return {"for_each": {"items": list(range(parts)), "on_failure": "collect" if collects else "fail"}}
    return {"repeat": {"until": {"any": []}, "max": parts, "on_max": "complete"}} if script == LOOP else {}


def _reaches(start: int, goal: int, edges: list[set[int]]) -> bool:
    found = {start}
    while more := {there for here in found for there in edges[here]} - found:
        found |= more
    return goal in found


def _wanted(when: Json | None) -> str | None:
    """What the condition of `request_of`, or what a copy made of it, wants."""
    if when is None or when == {"all": []}:
        return None
    return NEVER if when == {"any": []} else when["task"]


def of_row(row: models.Task) -> Task:
    """The stored task as the model sees it."""
    ids = {item.get("as", item["id"]): item["id"] for item in row.dependencies}
    wanted = _wanted((row.params or {}).get("when"))
    return Task(
        id=row.id,
        name=row.name,
        parent_id=row.parent_id,
        needs=[(item["id"], item["required"]) for item in row.dependencies],
        inputs=row.inputs,
        names={need: name for name, need in ids.items()},
        may_fail=bool((row.params or {}).get("allow_failure")),
        wants=ids.get(wanted, wanted) if wanted else None,
        needless=frozenset(item["id"] for item in row.dependencies if "on_skip" in item),
        fills=bool((row.schemas or {}).get("input_schema")),
        is_fragile=row.executor_id == "fragile_script_executor",
        label=row.label or row.id,
        spawned_by=row.spawned_by,
        status=row.status,
        result=row.result,
    )
