"""Flows as services: versions under concurrent saves, limits, runs, and whose they are."""

import itertools
from functools import partial
from typing import Any

import pytest
from django.conf import LazySettings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.callers import Caller
from tasks.models import Flow, FlowVersion, Run, RunInputs, Task
from tasks.rules.exceptions import ExecutorNotFound, FlowNotFound, InvalidParams, LimitReached, TaskNotFound
from tasks.services import flows
from tasks.services.flows import flow_lists
from tasks.services.flows.flow_grid import ROWS, grid_of
from tasks.services.trees.idempotency import Token, once
from tests.sections import replace
from tests.tasks.services.trees.test_idempotency import together
from tests.tasks.trees import ADMIN, ALICE, BOB, finish, group, start, step, store

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]

Json = dict[str, Any]
TREE = [group("root", parent=None), step("a", inputs={"text": "{{run.inputs.topic}}"})]
SCHEMA: Json = {"properties": {"topic": {"type": "string"}, "n": {"default": 3}}, "required": ["topic"]}
names = (f"flow-{number}" for number in itertools.count())


def saved(name: str = "tea", caller: Caller = ALICE, **changes: Any) -> flows.Saved:
    return flows.save_flow(caller=caller, name=name, **({"tasks": TREE, "inputs_schema": SCHEMA} | changes))


def run(name: str = "tea", caller: Caller = ALICE, **changes: Any) -> Any:
    return flows.run_flow(caller=caller, name=name, **({"inputs": {"topic": "x"}} | changes))


def limited(settings: LazySettings, **limits: int) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, **limits))


# --- versions ---


@pytest.mark.both_engines
def test_saves_at_once_are_versions_in_order_and_none_is_lost() -> None:
    numbers = itertools.count()
    made = together(8, lambda: saved(description=f"Save {next(numbers)}."))
    assert sorted(each.version.number for each in made) == [*range(1, 9)]
    kept = dict(FlowVersion.objects.order_by("number").values_list("number", "description"))
    assert kept == {each.version.number: each.version.description for each in made}
    assert Flow.objects.get().version == 8


@pytest.mark.both_engines
def test_equal_saves_at_once_are_one_version() -> None:
    made = together(8, saved)
    assert [each.version.number for each in made] == [1] * 8
    assert sorted(each.is_new for each in made) == [False] * 7 + [True]


@pytest.mark.both_engines
def test_saves_and_deletions_at_once_leave_whole_flows() -> None:
    numbers = itertools.count()

    def act() -> Any:
        number = next(numbers)
        if number % 2:
            return saved(description=f"Save {number}.")
        try:
            return flows.delete_flow(caller=ALICE, name="tea")
        except FlowNotFound as error:
            return error

    saved()
    together(8, act)
    for flow in Flow.objects.all():
        found = list(FlowVersion.objects.of(flow).values_list("number", flat=True))
        assert found == [*range(flow.version, 0, -1)]
    assert FlowVersion.objects.exclude(flow_id__in=Flow.objects.values("id")).count() == 0


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("save"), st.sampled_from("abc")),
        st.tuples(st.just("run"), st.none() | st.integers(1, 4)),
        st.tuples(st.just("delete"), st.none()),
    ),
    max_size=12,
)


@pytest.mark.both_engines
@given(operations=OPERATIONS)
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flow_is_the_list_of_what_was_saved(operations: list[tuple[str, Any]]) -> None:
    name, model = next(names), list[str]()
    runs: list[tuple[str, str]] = []
    for verb, value in operations:
        if verb == "save":
            made = saved(name, description=value)
            assert made.is_new == (model[-1:] != [value])
            model += [value] if made.is_new else []
            assert made.version.number == len(model)
        elif verb == "delete" and model:
            deleted = flows.delete_flow(caller=ALICE, name=name)
            kept = Run.objects.filter(flow_id__isnull=False, root_id__in=[root for root, _ in runs]).count()
            assert (deleted.versions, deleted.runs_kept) == (len(model), kept)
            model, runs = [], []
        elif verb == "run" and model and (value or 1) <= len(model):
            execution = run(name, version=value)
            assert execution.run.flow_version == (value or len(model))
            runs.append((execution.task.id, model[(value or 0) - 1]))
        elif verb == "run":
            with pytest.raises(FlowNotFound):
                run(name, version=value)
    if model:
        _, found = flow_lists.versions_of(caller=ALICE, name=name)
        assert [each.description for each in reversed(found)] == model
    for root_id, description in runs:
        stored = Run.objects.get(root_id=root_id)
        of_run = FlowVersion.objects.get(flow_id=stored.flow_id, number=stored.flow_version or 0)
        assert of_run.description == description


def test_an_old_content_saved_again_is_a_new_version() -> None:
    made = [saved(description=text).version.number for text in ("one", "two", "one")]
    assert made == [1, 2, 3]


# --- runs ---


@pytest.mark.both_engines
def test_a_run_is_a_new_tree_with_the_ids_of_the_definition_as_labels() -> None:
    saved(
        tasks=[
            {"name": "Top"},
            {"name": "echo_executor", "parent_id": "Top"},
            {"name": "echo_executor", "parent_id": "Top"},
        ]
    )
    first, second = run(), run()
    labels = [list(Task.objects.tree(each.task.root_id).values_list("label", flat=True)) for each in (first, second)]
    assert labels == [["Top", "echo_executor", "echo_executor-2"]] * 2
    assert set(first.ids.values()).isdisjoint(second.ids.values())
    assert RunInputs.objects.get(run_id=first.run.id).inputs == {"topic": "x", "n": 3}


@pytest.mark.both_engines
def test_one_token_is_one_run() -> None:
    saved()
    token = Token(key="k", request_hash="h")
    call = partial(once, flows.run_flow, caller=ALICE, token=token, name="tea", inputs={"topic": "x"})
    assert len({each.run.id for each in together(6, call)}) == 1
    assert Run.objects.count() == 1


def test_a_run_of_an_administrator_belongs_to_the_owner() -> None:
    saved()
    execution = run(caller=ADMIN, user_id="alice")
    assert (execution.run.user_id, execution.task.user_id) == ("alice", "alice")
    with pytest.raises(FlowNotFound):
        run(caller=ADMIN)


@pytest.mark.both_engines
def test_a_flow_of_another_is_not_there() -> None:
    saved()
    for act in (
        partial(run, caller=BOB, user_id="alice"),
        partial(flows.get_flow, caller=BOB, name="tea", user_id="alice"),
        partial(flow_lists.versions_of, caller=BOB, name="tea", user_id="alice"),
        partial(flows.delete_flow, caller=BOB, name="tea", user_id="alice"),
    ):
        with pytest.raises(FlowNotFound):
            act()
    assert flow_lists.list_flows(caller=BOB, user_id="alice") == ([], None)
    assert saved(caller=BOB).version.number == 1
    assert [each.flow.user_id for each in flow_lists.list_flows(caller=ADMIN)[0]] == ["alice", "bob"]


@pytest.mark.both_engines
def test_a_model_that_writes_a_tree_learns_of_the_flows_of_its_owner_only() -> None:
    saved(description="Makes tea")
    saved(name="large", description="x" * flow_lists.DESCRIBED_BYTES)
    saved(name="of-bob", caller=BOB)
    tea = {"name": "tea", "description": "Makes tea", "inputs_schema": SCHEMA}
    assert flow_lists.descriptions_of(user_id="alice", most=10) == [{"name": "large"}, tea]
    assert flow_lists.descriptions_of(user_id="alice", most=1) == [{"name": "large"}]
    assert flow_lists.descriptions_of(user_id="carol", most=10) == []


def test_what_a_definition_says_about_owners_is_left_out() -> None:
    saved(tasks=[step("a", parent=None, user_id="bob")])
    assert "user_id" not in FlowVersion.objects.get().definition[0]
    assert run().task.user_id == "alice"


@pytest.mark.both_engines
def test_a_tree_of_another_cannot_become_a_flow() -> None:
    store(*TREE)
    with pytest.raises(TaskNotFound):
        saved(caller=BOB, tasks=None, task_id="root")
    assert saved(tasks=None, task_id="a").version.definition[0]["id"] == "root"


def test_what_was_saved_is_checked_again_when_it_runs(settings: LazySettings) -> None:
    saved()
    version = FlowVersion.objects.get()
    version.definition[1]["name"] = "echo"
    version.definition[1]["schemas"] = {"method": "echo_executr"}
    version.save()
    with pytest.raises(ExecutorNotFound):
        run()
    assert Run.objects.count() == 0


# --- refusals and limits ---


@pytest.mark.parametrize("name", ["", "a b", "-a", ".", "..", "a/b", "a\n", "x" * 101, "ä", "a\0b"])
def test_a_name_is_short_and_plain(name: str) -> None:
    with pytest.raises(InvalidParams, match="must have 1 to 100"):
        saved(name)


@pytest.mark.both_engines
def test_new_flows_at_once_do_not_exceed_the_limit(settings: LazySettings) -> None:
    limited(settings, flows=2)

    def save() -> bool:
        try:
            return saved(next(names)).is_new
        except LimitReached:
            return False

    assert sorted(together(8, save)) == [False] * 6 + [True] * 2
    assert Flow.objects.count() == 2


def test_a_user_has_so_many_flows(settings: LazySettings) -> None:
    limited(settings, flows=2)
    saved("a")
    saved("b")
    saved("b", description="Again.")
    with pytest.raises(LimitReached, match=r"limits\.flows"):
        saved("c")
    saved("c", caller=BOB)
    flows.delete_flow(caller=ALICE, name="a")
    assert saved("c").is_new


@pytest.mark.both_engines
def test_the_newest_versions_are_kept(settings: LazySettings) -> None:
    limited(settings, flow_versions=3)
    for number in range(5):
        saved(description=f"{number}")
    _, kept = flow_lists.versions_of(caller=ALICE, name="tea")
    assert [each.number for each in kept] == [5, 4, 3]
    with pytest.raises(FlowNotFound, match="no version 2"):
        run(version=2)
    assert run(version=3).run.flow_version == 3


def test_a_definition_has_a_size(settings: LazySettings) -> None:
    limited(settings, flow_bytes=2_000)
    with pytest.raises(InvalidParams, match=r"limits\.flow_bytes"):
        saved(description="x" * 2_000)
    assert Flow.objects.count() == 0


def test_inputs_have_a_size_with_their_defaults(settings: LazySettings) -> None:
    limited(settings, result_bytes=1_024)
    saved(inputs_schema={"properties": {"topic": {}, "big": {"default": "x" * 600}}})
    run()
    for inputs in ({"topic": "x" * 1_100}, {"topic": "x" * 600}):
        with pytest.raises(InvalidParams, match=r"limits\.result_bytes"):
            run(inputs=inputs)
    assert Run.objects.count() == 1


def test_places_of_other_runs_are_no_inputs_of_this_one() -> None:
    inner = [{"name": "echo_executor", "inputs": {"text": "{{run.inputs.who}}"}}]
    hidden = step("c", {"id": "a", "as": "run"}, inputs={"text": "{{run.inputs.who}}"})
    tree = [group("root", parent=None), step("a"), hidden]
    tree.append(step("b", name="Inner", schemas={"method": "run_tree_executor"}, inputs={"tasks": inner}))
    assert saved(tasks=tree, inputs_schema={"properties": {}}).warnings == []
    by_condition = step(
        "d", params={"when": {"not": {"all": [{"task": "run", "path": "/inputs/who/name", "op": "empty"}]}}}
    )
    with pytest.raises(InvalidParams, match="'who' is no input of this flow"):
        saved(tasks=[*tree, by_condition], inputs_schema={"properties": {}})
    mapped = [
        group("m") | {"params": {"for_each": {"items": {"task": "run", "path": "/inputs/urls"}}}},
        step("u", parent="m"),
    ]
    with pytest.raises(InvalidParams, match=r"tasks\[3\].params.for_each.items: 'urls' is no input"):
        saved(tasks=[*tree[:3], *mapped], inputs_schema={"properties": {"url": {}}})


def test_an_input_that_may_be_missing_is_a_warning() -> None:
    made = saved(inputs_schema={"properties": {"topic": {"type": "string"}}})
    assert made.warnings == [
        "'topic' is neither required nor has a default, and tasks[1].inputs.text uses it: "
        "that task fails in a run without it."
    ]


# --- lists ---


@pytest.mark.both_engines
def test_the_newest_runs_of_each_flow_are_found_with_their_numbers() -> None:
    for name in ("a", "b", "c"):
        saved(name)
    made = {name: [run(name).run for _ in range(count)] for name, count in (("a", 4), ("b", 1))}
    for each in made["a"][:2]:
        finish(each)
    ids = {flow.name: flow.id for flow in Flow.objects.all()}
    found = flow_lists.newest_runs([*ids.values()], each=3)
    assert [each.id for each in found[ids["a"]]] == [each.id for each in made["a"][:0:-1]]
    assert [each.id for each in found[ids["b"]]] == [made["b"][0].id]
    assert ids["c"] not in found
    runs = list(flow_lists.runs_of(ids["a"]))
    assert (len(runs), flow_lists.success_rate(runs), flow_lists.median_seconds(runs)) == (4, 1.0, None)


def test_the_grid_of_a_large_tree_is_cut(settings: LazySettings) -> None:
    many = [group("root", parent=None), *(step(f"s{number}") for number in range(ROWS + 50))]
    saved(tasks=many)
    runs = [run().run for _ in range(3)]
    version = FlowVersion.objects.get()
    grid = grid_of(runs, version.definition)
    assert (len(grid.lines), grid.more, len(grid.columns)) == (ROWS, 51, 3)
    assert all(cell is not None for line in grid.lines for cell in line.cells)


def test_the_grid_compares_durations_and_costs() -> None:
    saved()
    runs = [run().run for _ in range(3)]
    for each, nanos in zip(runs, (5 * 10**8, None, 2 * 10**9), strict=True):
        finish(each)
        each.refresh_from_db()
        each.model_calls, each.unpriced_calls, each.cost_nanos = 1, int(nanos is None), nanos
    grid = grid_of(runs, FlowVersion.objects.get().definition)
    assert [column.cost_height for column in grid.columns] == [100, None, 25]
    assert (grid.has_costs, flow_lists.median_cost(runs)) == (True, 1.25)
    assert not grid_of(runs[1:2], []).has_costs


def test_another_run_of_the_tree_of_a_flow_is_of_the_flow() -> None:
    saved()
    first = run()
    finish(first.run)
    again = start(first.task.id)
    assert (again.number, again.flow_id, again.flow_version) == (2, first.run.flow_id, 1)
