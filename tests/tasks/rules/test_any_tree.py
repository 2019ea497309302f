"""Any request at all is refused, or becomes a tree that can run to its end."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.exceptions import CircularDependency, InvalidDependency, InvalidParent, InvalidTree, TasksError
from tasks.rules.plan import Plan
from tasks.rules.specs import Dependency, TreeSpec
from tasks.rules.tree import Node
from tasks.status import Status
from tests.tasks.rules.tree_requests import ROOT, Json, parse, task
from tests.work import calls_of

REFERENCES = st.sampled_from("abcdef")
ANY_TASK = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "x", "echo_executor"])},
    optional={
        "id": REFERENCES,
        "parent_id": st.none() | REFERENCES,
        "dependencies": st.lists(REFERENCES | st.fixed_dictionaries({"id": REFERENCES}), max_size=2),
    },
)


@st.composite
def likely_trees(draw: st.DrawFn) -> list[Json]:
    """Trees that hang together, in any order, whose dependencies may form circles."""
    names = [f"t{index}" for index in range(draw(st.integers(1, 8)))]
    tasks = []
    for index, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
        parent = draw(st.sampled_from(names[:index])) if index else None
        raw = task(name, *(need for need in needs if need != name), parent=parent)
        tasks.append({**raw, "name": draw(st.sampled_from(["echo_executor", "group"]))})
    return draw(st.permutations(tasks))


@given(st.lists(ANY_TASK, max_size=6) | likely_trees())
def test_whatever_is_accepted_is_one_tree_that_can_run_to_its_end(tasks: list[Json]) -> None:
    try:
        tree = parse(tasks)
    except TasksError as error:
        assert type(error) in {InvalidTree, InvalidParent, InvalidDependency, CircularDependency}
        return
    ids = {spec.id for spec in tree.tasks}
    assert len(ids) == len(tasks)
    assert [spec.id for spec in tree.tasks if spec.parent_id is None] == [tree.root_id]
    assert all(spec.parent_id in ids or spec.id == tree.root_id for spec in tree.tasks)
    assert runs_to_its_end(tree)


@given(likely_trees())
def test_a_cycle_is_refused_exactly_when_the_tree_could_not_end(tasks: list[Json]) -> None:
    acyclic = [{**raw, "dependencies": []} for raw in tasks]
    tree = parse(acyclic)
    needs = {raw["id"]: tuple(Dependency(id=need) for need in raw["dependencies"]) for raw in tasks}
    could_end = runs_to_its_end(tree, needs)
    try:
        parse(tasks)
    except CircularDependency:
        assert not could_end
    else:
        assert could_end


def runs_to_its_end(tree: TreeSpec, needs: Mapping[str, tuple[Dependency, ...]] | None = None) -> bool:
    plan = Plan(
        Node(
            id=spec.id,
            parent_id=spec.parent_id,
            dependencies=tuple((need.id, need.required) for need in (needs or {}).get(spec.id, spec.dependencies)),
            priority=spec.priority,
            position=spec.position,
            is_group=spec.executor_id is None,
        )
        for spec in tree.tasks
    )
    queue = plan.start().ready
    for node in queue:
        queue.extend(plan.settle(node.id, Status.COMPLETED).ready)
    return plan.is_finished


def test_twice_as_many_tasks_are_twice_the_work_to_parse() -> None:
    def parse_chain(length: int) -> None:
        tasks = [ROOT, *(task(str(index), *([str(index - 1)] if index else [])) for index in range(length - 1))]
        assert len(parse(tasks).tasks) == length

    assert calls_of(lambda: parse_chain(10_000)) < 3 * calls_of(lambda: parse_chain(5_000))
