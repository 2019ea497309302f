from django.db import migrations, models

from apflow_site.db.indexes import AddIndexBeside

IS_FAILURE = models.Q(('type', 'task_failed'))


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0045_run_tags'),
    ]

    operations = [
        AddIndexBeside('taskevent', models.Index(condition=IS_FAILURE, fields=['run_id', 'seq'], name='event_failed')),
    ]
