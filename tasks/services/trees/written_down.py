"""A stored tree as the request that it came from."""

from collections.abc import Mapping, Sequence

from tasks.models import Task
from tasks.rules.references import renamed_params
from tasks.rules.specs import NORMAL_PRIORITY
from tasks.rules.strict_json import Json
from tasks.rules.templates import rename_placeholders


def written_down(tasks: Sequence[Task]) -> list[Json]:
    """Return a stored tree as a create request, without default values.

    It has the ids of the request that it came from; those in use are replaced on creation.
    """
    ids = {task.id: task.label or task.id for task in tasks}
    if len(set(ids.values())) < len(ids):  # two parts of the tree come from different requests
        ids = {task_id: task_id for task_id in ids}
    return [_written_task(task, ids) for task in tasks]


def _written_task(task: Task, ids: Mapping[str, str]) -> Json:
    renamed = {item["id"]: ids[item["id"]] for item in task.dependencies if "as" not in item}
    needs = [_written_need(item, ids[item["id"]]) for item in task.dependencies]
    request = {
        "id": ids[task.id],
        "name": task.name,
        "parent_id": ids[task.parent_id] if task.parent_id else None,
        "priority": task.priority if task.priority != NORMAL_PRIORITY else None,
        "schemas": task.schemas,
        "params": renamed_params(task.params, renamed),
        "inputs": rename_placeholders(task.inputs, renamed),
        "dependencies": [item["id"] if item == {"id": item["id"], "required": True} else item for item in needs],
    }
    return {name: value for name, value in request.items() if value not in (None, [], {})}


def _written_need(dependency: Json, written_id: str) -> Json:
    need = dependency | {"id": written_id}
    return {name: value for name, value in need.items() if name != "as" or value != written_id}
