from django.db import migrations, models

from apflow_site.db.indexes import AddIndexBeside

HAS_WAIT = models.Q(('wait_id__isnull', False))


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0028_child_runs'),
    ]

    operations = [
        AddIndexBeside('run', models.Index(condition=HAS_WAIT, fields=['wait_id'], name='run_of_wait')),
    ]
