"""The flows that check the texts of tasks (`tasks.rules.checks`): they must exist, and take what is checked."""

from itertools import islice

from django.db.models import F

from tasks.executors.admission import checked
from tasks.executors.input_places import names_that_may_be_used
from tasks.models import Flow, FlowVersion
from tasks.rules.checks import FLOW, VALUE, kind_of
from tasks.rules.exceptions import InvalidParams
from tasks.rules.flows import closed_names
from tasks.rules.specs import LISTED, TaskSpec, TreeSpec


def refuse_unfit(spec: TreeSpec, *, owner: str) -> None:
    """Raise InvalidParams for a flow in a check that the owner does not have, or that takes other inputs."""
    named = [
        (task, index, kind_of(check["with"])[1])
        for task in spec.tasks
        for index, check in enumerate((task.params or {}).get("checks") or ())
        if kind_of(check["with"])[0] == "flow"
    ]
    if not named:
        return
    flows = Flow.objects.filter(user_id=owner)
    wanted = {name for *_, name in named}
    labelled = {name for name in wanted if "@" in name}
    newest = FlowVersion.objects.filter(flow__in=flows.filter(name__in=wanted - labelled), number=F("flow__version"))
    versions: dict[str, FlowVersion | None] = {each.flow.name: each for each in newest.select_related("flow")}
    versions |= {name: FlowVersion.objects.referred(flows, name).first() for name in labelled}
    found = (
        (_place(task, index), problem)
        for task, index, name in named
        if (problem := _fault_of(versions.get(name), name, owner)) is not None
    )
    if refused := list(islice(found, LISTED)):
        raise InvalidParams(refused)


def _place(task: TaskSpec, index: int) -> str:
    return f"tasks[{task.position}].params.checks[{index}].with"


def _fault_of(version: FlowVersion | None, name: str, owner: str) -> str | None:
    if version is None:
        close = Flow.objects.filter(user_id=owner).names_like(name)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        return f"you have no flow '{name}'.{hint}"
    schema = version.inputs_schema
    if schema is not None:
        taken = closed_names(schema)
    else:  # those that its tasks use
        tasks = checked(version.definition).tasks
        taken = names_that_may_be_used((each.executor_id, each.inputs, each.params) for each in tasks)
    if taken is not None and VALUE not in taken:
        return f"the flow '{name}' does not take the input '{VALUE}', which has what is checked: {{{{run.inputs.{VALUE}}}}}"
    if missing := sorted(set((schema or {}).get("required", ())) - {VALUE}):
        return f"'{FLOW}{name}' needs the input '{missing[0]}', and a check gives only '{VALUE}'"
    return None
