from itertools import islice
from typing import Any

from django.db import migrations

import tasks.fields
from apflow_site.db.indexes import RemoveIndexBeside

FAILURES = 10
LONGEST_ERROR = 4_000


def name_failures(apps: Any, schema_editor: Any) -> None:
    """Give each failed run its first failures, as far as its events are there."""
    run_of, event_of, task_of = (apps.get_model('tasks', name) for name in ('Run', 'TaskEvent', 'Task'))
    run_ids = run_of.objects.filter(status='failed', failures=None).values_list('id', flat=True).iterator()
    while chunk := list(islice(run_ids, 500)):
        for run_id in chunk:
            failed = event_of.objects.filter(run_id=run_id, type='task_failed').order_by('seq')[:FAILURES]
            errors = {event.task_id: event.payload['error'] or '' for event in failed}
            names = dict(task_of.objects.filter(id__in=errors).values_list('id', 'name'))
            failures = [
                {'task_id': task_id, 'name': names.get(task_id, task_id), 'error': error[:LONGEST_ERROR]}
                for task_id, error in errors.items()
            ]
            run_of.objects.filter(id=run_id).update(failures=failures)


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0053_evidence_of_strikes'),
    ]

    operations = [
        migrations.AddField('run', 'failures', tasks.fields.JsonTextField(null=True)),
        migrations.RunPython(name_failures, migrations.RunPython.noop),
        RemoveIndexBeside('taskevent', 'event_failed'),
    ]
