"""Encrypt what `write_only` encrypts again with the newest key, and what is stored as a clear text from before; and the keys of files.

For `aipartnerupflow keys rotate`. Servers and workers may run: a row that changes meanwhile is left, and is encrypted already.
"""

from collections.abc import Iterator
from typing import Any, Final

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast

from llmkeys import sealed_texts
from llmkeys.cipher import is_newest, seal, unseal
from tasks.executors import executor_ids, get_executor
from tasks.models import FileBytes, Flow, FlowVersion, Run, RunInputs, Schedule, Task
from tasks.services.secrets.write_only import sealed_definition, sealed_inputs

SEALED: Final = f'"{sealed_texts.PREFIX}'
MARK: Final = '"writeOnly"'
AT_ONCE: Final = 500


def reseal() -> int:
    """Return how many rows have changed. Raises CannotUnseal."""
    return sum(_changes())


def _changes() -> Iterator[int]:
    named = Q(executor_id__in=[name for name in executor_ids() if _marks(get_executor(name).input_schema)])
    rows = Task.objects.annotate(text=Cast("inputs", TextField()), rules=Cast("schemas", TextField()))
    found = rows.filter(named | Q(text__contains=SEALED) | Q(rules__contains=MARK)).only(
        "id", "executor_id", "inputs", "schemas", "user_id", "updated_at"
    )
    for task in found.iterator(chunk_size=AT_ONCE):
        inputs = sealed_inputs(task.inputs, executor_id=task.executor_id, schemas=task.schemas, owner=task.user_id)
        same = Task.objects.filter(id=task.id, updated_at=task.updated_at)
        yield _update(same, "inputs", before=task.inputs, after=sealed_texts.resealed(inputs, owner=task.user_id))
    owners = dict(Flow.objects.values_list("id", "user_id"))
    for version in FlowVersion.objects.iterator(chunk_size=AT_ONCE):
        owner = owners[version.flow_id]
        after = sealed_texts.resealed(sealed_definition(version.definition, owner=owner), owner=owner)
        same_version = FlowVersion.objects.filter(pk=version.pk)  # it never changes
        yield _update(same_version, "definition", before=version.definition, after=after)
    for schedule in Schedule.objects.iterator(chunk_size=AT_ONCE):
        owner = schedule.user_id
        same_schedule = Schedule.objects.filter(pk=schedule.pk, updated_at=schedule.updated_at)
        if schedule.tasks is not None:
            tasks = sealed_texts.resealed(sealed_definition(schedule.tasks, owner=owner), owner=owner)
            yield _update(same_schedule, "tasks", before=schedule.tasks, after=tasks)
        yield _update(
            same_schedule, "inputs", before=schedule.inputs, after=sealed_texts.resealed(schedule.inputs, owner=owner)
        )
    for stored in FileBytes.objects.filter(sealed_key__isnull=False).iterator(chunk_size=AT_ONCE):
        sealed = str(stored.sealed_key)
        after = sealed if is_newest(sealed) else seal(unseal(sealed, context=stored.context), context=stored.context)
        yield _update(FileBytes.objects.filter(pk=stored.pk), "sealed_key", before=sealed, after=after)
    of_runs = RunInputs.objects.annotate(text=Cast("inputs", TextField())).filter(text__contains=SEALED)
    for row in of_runs.iterator(chunk_size=AT_ONCE):
        owner = Run.objects.values_list("user_id", flat=True).get(id=row.run_id)
        after = sealed_texts.resealed(row.inputs, owner=owner)
        yield _update(RunInputs.objects.filter(pk=row.pk), "inputs", before=row.inputs, after=after)


def _update(rows: "QuerySet[Any]", column: str, *, before: Any, after: Any) -> int:
    return rows.update(**{column: after}) if before != after else 0


def _marks(schema: Any) -> bool:
    """Return whether a schema marks something as `writeOnly`."""
    if isinstance(schema, dict):
        return schema.get("writeOnly") is True or any(map(_marks, schema.values()))
    return isinstance(schema, list) and any(map(_marks, schema))
