from typing import Any

from django.db import migrations, models

from apflow_site.db.indexes import AddIndexBeside

IS_ROOT = models.Q(('parent_id', None))
# Django doubles the index of each text key on PostgreSQL, for LIKE. Only ids of roots are searched by prefix.
UNUSED = [
    'tasks_task_id_9d65e96a_like', 'tasks_run_id_7bf7ef38_like', 'tasks_webhook_id_45c924e0_like',
    'tasks_webhook_run_id_ba0c0c4b_like', 'tasks_webhookdelivery_webhook_id_ae488fc2_like',
    'tasks_question_id_cbcb9a05_like', 'tasks_question_run_id_486702b6_like',
    'tasks_workerprocess_id_8cba5b00_like', 'tasks_installationfact_name_f67cd39d_like',
]


def index_prefixes(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != 'postgresql':
        return
    schema_editor.execute('DROP INDEX CONCURRENTLY IF EXISTS root_id_prefix')
    schema_editor.execute(
        'CREATE INDEX CONCURRENTLY root_id_prefix ON tasks_task (id varchar_pattern_ops) WHERE parent_id IS NULL'
    )
    for name in UNUSED:
        schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0016_count_earlier_tasks'),
    ]

    operations = [
        AddIndexBeside('task', models.Index(fields=['-created_at', '-id'], name='task_recent')),
        AddIndexBeside('task', models.Index(fields=['user_id', 'status', '-created_at', '-id'], name='root_status_of_owner', condition=IS_ROOT)),
        AddIndexBeside('task', models.Index(fields=['status', '-created_at', '-id'], name='root_status', condition=IS_ROOT)),
        AddIndexBeside('task', models.Index(fields=['user_id', 'name', '-created_at', '-id'], name='root_name_of_owner', condition=IS_ROOT)),
        AddIndexBeside('task', models.Index(fields=['name', '-created_at', '-id'], name='root_name', condition=IS_ROOT)),
        migrations.RunPython(index_prefixes, migrations.RunPython.noop),
    ]
