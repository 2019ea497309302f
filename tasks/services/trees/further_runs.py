"""The parts that a further run of a tree, or the run of its copy, takes from the run before: its inputs, its tags, and its flow."""

from collections.abc import Iterable
from typing import Any

from tasks.executors.input_places import UsesInputs, names_that_may_be_used
from tasks.models import FlowVersion, Run, RunInputs, RunTag, Task
from tasks.rules.flows import unknown_input
from tasks.rules.specs import LISTED
from tasks.rules.strict_json import Json
from tasks.services.files.references import TREE, named_in, refer


def latest_of(root_id: str) -> Run | None:
    """Return the newest run of the tree."""
    return Run.objects.filter(root_id=root_id).order_by("-number").first()


def flow_version_of(run: Run) -> FlowVersion | None:
    """Return the version of the flow that the run is of; None without one, also if it has been deleted."""
    if run.flow_id is None or run.flow_version is None:
        return None
    return FlowVersion.objects.filter(flow_id=run.flow_id, number=run.flow_version).first()


def carry_over(before: Run | None, run: Run) -> None:
    """Give a new run what the one before it was started with, in the caller's transaction."""
    if before is None:
        return
    if before.flow_id != run.flow_id:
        run.flow_id, run.flow_version = before.flow_id, before.flow_version
        Run.objects.filter(id=run.id).update(flow_id=run.flow_id, flow_version=run.flow_version)
    inputs = RunInputs.objects.filter(run_id=before.id).first()
    if inputs is not None:
        set_inputs(run, inputs.inputs)
    set_tags(run, RunTag.objects.filter(run_id=before.id).values_list("tag", flat=True))


def set_inputs(run: Run, inputs: Any) -> None:
    """Store the inputs of a new run, in the caller's transaction."""
    RunInputs.objects.update_or_create(run_id=run.id, defaults={"inputs": inputs})
    refer(f"{TREE}{run.root_id}", named_in(inputs), owner=run.user_id)


def tasks_of(root_id: str) -> Iterable[UsesInputs]:
    """Return the tasks of a stored tree for `unknown_inputs`."""
    return Task.objects.tree(root_id).values_list("executor_id", "inputs", "params").iterator(chunk_size=1_000)


def unknown_inputs(tasks: Iterable[UsesInputs], given: Json, *, field: str = "inputs") -> list[tuple[str, str]]:
    """Return the place of each input that no task of the tree uses, and the reason why it is refused."""
    if not given or (known := names_that_may_be_used(tasks)) is None:
        return []
    unknown = [name for name in given if name not in known][:LISTED]
    return [(f"{field}.{name[:100]}", unknown_input(name, known, of="tree")) for name in unknown]


def set_tags(run: Run, tags: Iterable[str]) -> None:
    """Store the tags of a new run instead of those that it has, in the caller's transaction."""
    RunTag.objects.filter(run_id=run.id).delete()
    rows = [RunTag(run_id=run.id, tag=tag, user_id=run.user_id, created_at=run.created_at) for tag in tags]
    RunTag.objects.bulk_create(rows)
