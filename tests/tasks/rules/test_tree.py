"""The tree rules, against small examples and, by property, against a fixpoint that is too slow to be wrong."""

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.plan import Plan, Step
from tasks.rules.tree import (
    Node,
    children_of,
    copy_scope,
    dependants_of,
    descendants,
    find_cycle,
    mean_progress,
    scope_of,
    waiting_for,
    with_needs,
)
from tasks.status import TERMINAL, Status

PENDING, IN_PROGRESS, COMPLETED, FAILED, CANCELLED, SKIPPED = Status


def node(task_id: str, *needs: str, **fields: object) -> Node:
    """A node; a dependency written "x?" is optional."""
    given_fields = {
        "parent_id": None,
        "dependencies": tuple((need.rstrip("?"), not need.endswith("?")) for need in needs),
        "priority": 2,
        "position": 0,
        "is_group": False,
        **fields,
    }
    return Node(id=task_id, **given_fields)  # type: ignore[arg-type]


def ids(step: Step) -> tuple[list[str], list[tuple[str, str]]]:
    return [ready.id for ready in step.ready], [(blocked.id, cause) for blocked, cause in step.blocked]


def test_a_task_starts_when_its_required_dependencies_completed() -> None:
    plan = Plan([node("a"), node("b"), node("c", "a", "b")])
    assert ids(plan.start()) == (["a", "b"], [])
    assert ids(plan.settle("a", COMPLETED)) == ([], [])
    assert ids(plan.settle("b", COMPLETED)) == (["c"], [])
    assert not plan.is_finished
    assert ids(plan.settle("c", COMPLETED)) == ([], [])
    assert plan.is_finished
    assert plan.outcome() is COMPLETED


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_optional_dependency_only_has_to_be_over(status: Status) -> None:
    plan = Plan([node("a"), node("b", "a?")])
    plan.start()
    assert ids(plan.settle("a", status)) == (["b"], [])


@pytest.mark.parametrize("status", [FAILED, CANCELLED])
def test_a_failure_blocks_everything_that_required_it_within_one_step(status: Status) -> None:
    c = node("c", "b")
    plan = Plan([node("a"), node("b", "a"), c, node("d", "c?"), node("e")])
    assert ids(plan.start()) == (["a", "e"], [])
    assert ids(plan.settle("a", status)) == (["d"], [("b", "a"), ("c", "b")])
    assert c.status is FAILED
    assert not plan.is_finished


def test_a_blocked_task_does_not_wait_for_its_other_dependencies() -> None:
    plan = Plan([node("a"), node("b"), node("c", "a", "b"), node("d", "c?")])
    plan.start()
    assert ids(plan.settle("a", FAILED)) == (["d"], [("c", "a")])
    assert ids(plan.settle("b", FAILED)) == ([], [])


def test_a_group_waits_for_its_children_whatever_becomes_of_them() -> None:
    plan = Plan([node("g", is_group=True), *(node(child, parent_id="g") for child in "abc"), node("d", "g")])
    assert ids(plan.start()) == (["a", "b", "c"], [])
    assert ids(plan.settle("a", FAILED)) == ([], [])
    assert ids(plan.settle("b", CANCELLED)) == ([], [])
    assert ids(plan.settle("c", COMPLETED)) == (["g"], [])
    assert ids(plan.settle("g", COMPLETED)) == (["d"], [])


def test_a_group_counts_a_blocked_child_as_over() -> None:
    plan = Plan([node("g", is_group=True), node("a", parent_id="g"), node("b", "a", parent_id="g")])
    plan.start()
    assert ids(plan.settle("a", FAILED)) == (["g"], [("b", "a")])


def test_a_group_that_requires_its_child_fails_with_it() -> None:
    plan = Plan([node("g", "a", is_group=True), node("a", parent_id="g"), node("b", parent_id="g")])
    plan.start()
    assert ids(plan.settle("a", FAILED)) == ([], [("g", "a")])
    assert ids(plan.settle("b", COMPLETED)) == ([], [])
    assert plan.is_finished


def test_a_parent_with_an_executor_does_not_wait_for_its_children() -> None:
    assert ids(Plan([node("p"), node("c", parent_id="p")]).start()) == (["p", "c"], [])


def test_what_is_ready_is_ordered_by_priority_then_position() -> None:
    places = [("a", 2, 0), ("b", 0, 3), ("c", 2, 1), ("d", 0, 2), ("e", 3, 4)]
    plan = Plan([node(name, "x", priority=priority, position=position) for name, priority, position in places])
    assert ids(plan.start())[0] == ["d", "b", "a", "c", "e"]


def test_tasks_that_were_over_before_the_start_count_at_the_start() -> None:
    plan = Plan(
        [
            node("done", status=COMPLETED),
            node("failed", status=FAILED),
            node("a", "done", "failed?"),
            node("b", "failed"),
            node("c", "b"),
            node("crashed", status=IN_PROGRESS, position=1),
            node("d", "crashed"),
        ]
    )
    assert ids(plan.start()) == (["a", "crashed"], [("b", "failed"), ("c", "b")])


def test_a_task_left_in_progress_waits_for_its_dependencies_again() -> None:
    plan = Plan([node("a"), node("b", "a", status=IN_PROGRESS)])
    assert ids(plan.start()) == (["a"], [])
    assert ids(plan.settle("a", FAILED)) == ([], [("b", "a")])


def test_a_dependency_outside_of_the_plan_is_satisfied() -> None:
    assert ids(Plan([node("a", "elsewhere", parent_id="somewhere")]).start()) == (["a"], [])


def test_the_same_dependency_named_twice_counts_once_each_way() -> None:
    plan = Plan([node("a"), node("b", "a", "a?")])
    plan.start()
    assert ids(plan.settle("a", COMPLETED)) == (["b"], [])


def test_a_pending_task_may_be_cancelled_before_its_turn() -> None:
    plan = Plan([node("a"), node("b", "a"), node("c", "b")])
    plan.start()
    assert ids(plan.settle("b", CANCELLED)) == ([], [("c", "b")])
    assert ids(plan.settle("a", COMPLETED)) == ([], [])
    assert plan.is_finished


def test_a_late_second_outcome_changes_nothing() -> None:
    a = node("a")
    plan = Plan([a, node("b", "a")])
    plan.start()
    plan.settle("a", COMPLETED)
    assert ids(plan.settle("a", FAILED)) == ([], [])
    assert a.status is COMPLETED


def test_a_task_settles_only_as_something_terminal() -> None:
    plan = Plan([node("a")])
    with pytest.raises(ValueError, match="'a' cannot settle as 'pending'"):
        plan.settle("a", PENDING)
    with pytest.raises(KeyError):
        plan.settle("b", COMPLETED)


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ([], COMPLETED),
        ([COMPLETED, COMPLETED], COMPLETED),
        ([COMPLETED, CANCELLED], CANCELLED),
        ([CANCELLED, FAILED, COMPLETED], FAILED),
    ],
)
def test_the_outcome_of_a_plan_is_its_worst_status(statuses: list[Status], outcome: Status) -> None:
    plan = Plan([node(str(index), status=status) for index, status in enumerate(statuses)])
    assert plan.is_finished
    assert plan.outcome() is outcome


def test_a_chain_of_ten_thousand_runs_and_fails_without_recursion() -> None:
    chain = [node("0"), *(node(str(index), str(index - 1), parent_id=str(index - 1)) for index in range(1, 10_000))]
    plan = Plan(chain)
    plan.start()
    assert len(plan.settle("0", FAILED).blocked) == 9_999
    assert plan.is_finished
    edges = {task.id: [task_id for task_id, _ in task.dependencies] for task in chain}
    assert find_cycle(edges) is None
    cycle = find_cycle({**edges, "0": ["9999"]})
    assert cycle is not None
    assert len(cycle) == 10_001
    assert len(descendants("0", children_of(chain))) == 9_999
    assert len(dependants_of(["0"], chain)) == 9_999
    assert len(scope_of("9999", chain)) == 10_000
    assert len(copy_scope("0", chain)) == 10_000


# --- the plan against a naive fixpoint ---


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Up to 12 nodes in a shuffled order; every edge, and every parent, points to an earlier node of a hidden order."""
    names = draw(st.permutations([str(index) for index in range(draw(st.integers(1, 12)))]))
    nodes = []
    for index, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:index]), max_size=4)) if index else []
        later = names[index + 1 :]
        # A group waits for its children, so a parent comes later in the hidden order than what it waits for.
        parent = draw(st.none() | st.sampled_from(later)) if later else None
        optional = draw(st.lists(st.booleans(), min_size=len(needs), max_size=len(needs)))
        nodes.append(
            node(
                name,
                *(need + "?" * is_optional for need, is_optional in zip(needs, optional, strict=True)),
                parent_id=parent,
                is_group=draw(st.booleans()),
                needless=frozenset(draw(st.lists(st.sampled_from(needs)))) if needs else frozenset(),
                priority=draw(st.integers(0, 3)),
                position=index,
                status=draw(st.sampled_from([PENDING, PENDING, PENDING, PENDING, IN_PROGRESS, *sorted(TERMINAL)])),
            )
        )
    return draw(st.permutations(nodes))


class Naive:
    """The same rules, re-read in full after every change."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = {task.id: task for task in nodes}
        self.status = {task.id: task.status for task in self.nodes.values()}
        self.started: set[str] = set()

    def edges(self, task: Node) -> list[tuple[str, bool]]:
        children = [other.id for other in self.nodes.values() if other.parent_id == task.id]
        return [*task.dependencies, *((child, False) for child in children if task.is_group)]

    def open(self) -> list[Node]:
        return [task for task in self.nodes.values() if self.status[task.id] not in TERMINAL]

    def fixpoint(self) -> tuple[set[str], set[str], set[str]]:
        """(what became ready, what became blocked, what was skipped) since the last time."""
        blocked = self.spread(FAILED, {FAILED, CANCELLED})
        skipped = self.spread(SKIPPED, {SKIPPED})
        ready = {
            task.id for task in self.open() if all(self.status[need] in TERMINAL for need, _ in self.edges(task))
        } - self.started
        self.started |= ready
        return ready, blocked, skipped

    def spread(self, status: Status, causes: set[Status]) -> set[str]:
        """What gets the status, because it requires a task with one of the causes."""
        found: set[str] = set()
        while more := {task.id for task in self.open() if self.requires(task, causes)}:
            found |= more
            self.status.update(dict.fromkeys(more, status))
        return found

    def requires(self, task: Node, causes: set[Status]) -> bool:
        spared = task.needless if causes == {SKIPPED} else frozenset()
        edges = self.edges(task)
        is_due = causes != {SKIPPED} or all(self.status[need] in TERMINAL for need, _ in edges)
        return is_due and any(
            required and self.status[need] in causes and need not in spared for need, required in edges
        )


@given(graphs(), st.randoms(use_true_random=False))
def test_any_plan_agrees_with_the_naive_fixpoint_and_ends(nodes: list[Node], chance: random.Random) -> None:
    naive, plan = Naive(nodes), Plan(nodes)
    by_id = {task.id: task for task in nodes}
    running: list[str] = []
    seen: list[str] = []
    step = plan.start()
    while True:
        ready, blocked, skipped = naive.fixpoint()
        assert {task.id for task in step.ready} == ready
        assert [(task.priority, task.position) for task in step.ready] == sorted(
            (task.priority, task.position) for task in step.ready
        )
        assert {task.id for task, _ in step.blocked} == blocked
        assert {task.id for task, _ in step.skipped} == skipped
        for task, cause in step.blocked:
            assert (cause, True) in task.dependencies
            assert by_id[cause].status in {FAILED, CANCELLED}
        for task in step.ready:
            needs = [need for need, required in task.dependencies if required]
            assert all(by_id[need].status is COMPLETED or need in task.needless for need in needs)
        assert {task.id: task.status for task in nodes} == naive.status
        running += [task.id for task in step.ready]
        seen += [task.id for task in step.ready]
        # Anything open may settle: what runs, and now and then what is cancelled before its turn.
        choices = running if running and chance.random() < 0.8 else [task.id for task in naive.open()]
        if not choices:
            break
        task_id = chance.choice(choices)
        status = chance.choice(sorted(TERMINAL)) if task_id in running else CANCELLED
        running = [other for other in running if other != task_id]
        naive.status[task_id] = status
        step = plan.settle(task_id, status)
    assert plan.is_finished
    assert all(task.status.is_terminal for task in nodes)
    assert len(seen) == len(set(seen))


@given(graphs())
def test_a_plan_whose_ready_tasks_complete_leaves_none_pending(nodes: list[Node]) -> None:
    plan = Plan(nodes)
    queue = plan.start().ready
    for task in queue:
        queue.extend(plan.settle(task.id, COMPLETED).ready)
    assert plan.is_finished


# --- cycles ---

EDGES = st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefghx"), max_size=3), max_size=8)


def reaches(edges: dict[str, list[str]], start: str) -> set[str]:
    found = set(edges.get(start, []))
    while more := {there for here in found for there in edges.get(here, [])} - found:
        found |= more
    return found


@given(EDGES)
def test_a_cycle_is_found_exactly_when_some_task_reaches_itself(edges: dict[str, list[str]]) -> None:
    cycle = find_cycle(edges)
    assert (cycle is not None) == any(start in reaches(edges, start) for start in edges)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(there in edges[here] for here, there in pairwise(cycle))


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ({}, None),
        ({"a": ["b", "b"], "b": []}, None),
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, ["b", "c", "b"]),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"]}, None),
    ],
)
def test_the_path_of_a_cycle_begins_and_ends_with_the_same_task(
    edges: dict[str, list[str]], cycle: list[str] | None
) -> None:
    assert find_cycle(edges) == cycle


# --- what belongs together ---


def test_descendants_come_level_by_level() -> None:
    parents = {"r": None, "a": "r", "c": "a", "b": "r"}
    children = children_of(node(task_id, parent_id=parent_id) for task_id, parent_id in parents.items())
    assert children == {"r": ["a", "b"], "a": ["c"]}
    assert descendants("r", children) == ["a", "b", "c"]
    assert descendants("c", children) == []


SCOPES = [
    node("root", is_group=True),
    node("done", parent_id="root", status=COMPLETED),
    node("fetch", "done", parent_id="root"),
    node("group", parent_id="root", is_group=True),
    node("g1", "fetch", parent_id="group"),
    node("g2", parent_id="group", status=COMPLETED),
    node("target", "group", parent_id="root"),
    node("below", "failed?", parent_id="target"),
    node("over", "other", parent_id="target", status=COMPLETED),
    node("failed", parent_id="root", status=FAILED),
    node("other", parent_id="root", status=FAILED),
    node("after", "target", parent_id="root"),
    node("last", "after?", parent_id="root"),
]


@pytest.mark.parametrize(
    ("target", "scope"),
    [
        ("done", "done"),
        ("fetch", "fetch"),
        ("group", "group g1 g2 fetch"),
        ("target", "target below over failed group g1 fetch"),
        ("after", "after target group g1 fetch"),
        ("root", " ".join(task.id for task in SCOPES)),
    ],
)
def test_the_scope_of_an_execution(target: str, scope: str) -> None:
    assert scope_of(target, SCOPES) == set(scope.split())


@pytest.mark.parametrize(
    ("given_ids", "found"),
    [
        ("last", ""),
        ("done", "fetch g1"),
        ("target", "after last"),
        ("g1 fetch", ""),
        ("group after", "target last"),
        ("elsewhere", ""),
    ],
)
def test_dependants_are_found_transitively_and_without_the_given_tasks(given_ids: str, found: str) -> None:
    assert dependants_of(given_ids.split(), SCOPES) == set(found.split())


#: a is a child of the group g, on which b depends; c is a child of the executor p.
WAITING = [
    node("root", is_group=True),
    node("g", parent_id="root", is_group=True),
    node("a", parent_id="g"),
    node("b", "g?", parent_id="root"),
    node("p", parent_id="root"),
    node("c", "b", parent_id="p"),
]


@pytest.mark.parametrize(
    ("task_id", "waiting", "needed"),
    [
        ("a", "g b c root", ""),
        ("g", "b c root", "a"),
        ("b", "c root", "g a"),
        ("p", "root", ""),
        ("c", "", "b g a"),
        ("root", "", "g a b p"),
    ],
)
def test_who_waits_for_whom_by_dependencies_and_groups(task_id: str, waiting: str, needed: str) -> None:
    assert waiting_for([task_id], iter(WAITING)) == set(waiting.split())
    assert with_needs([task_id], iter(WAITING)) == {task_id, *needed.split()}


@given(graphs())
def test_waiting_and_needing_are_each_others_reverse(nodes: list[Node]) -> None:
    for node_ in nodes:
        waiting = waiting_for([node_.id], nodes)
        assert waiting == {
            other.id for other in nodes if other is not node_ and node_.id in with_needs([other.id], nodes)
        }


@pytest.mark.parametrize(
    ("target", "scope"),
    [
        ("last", "last"),
        ("g1", "g1"),
        ("group", "group g1 g2 target after last"),
        ("target", "target below over after last"),
    ],
)
def test_a_copy_takes_the_subtree_and_all_that_depends_on_it(target: str, scope: str) -> None:
    assert copy_scope(target, iter(SCOPES)) == set(scope.split())


@pytest.mark.parametrize(("values", "mean"), [([], 0.0), ([1.0], 1.0), ([0.0, 0.5, 1.0], 0.5), ([0.1] * 10, 0.1)])
def test_the_progress_of_a_tree_is_the_mean_of_its_tasks(values: list[float], mean: float) -> None:
    assert mean_progress(iter(values)) == mean


@pytest.mark.parametrize(
    ("status", "is_left"), [(Status.PENDING, True), (Status.COMPLETED, False), (Status.FAILED, False)]
)
def test_a_run_covers_what_a_completed_need_has_added_and_is_not_over(status: Status, is_left: bool) -> None:
    """A task may complete before what it has added: a worker that takes over must not forget it."""
    spawner = node("s", parent_id="root", status=COMPLETED, spawned=["s/0"])
    added = node("s/0", parent_id="s", status=status, spawned_by="s")
    between = node("e", "s", parent_id="root", status=COMPLETED)
    tree = [node("root"), node("t", "e", parent_id="root"), between, spawner, added]
    assert scope_of("t", tree) == ({"t", "s/0"} if is_left else {"t"})
