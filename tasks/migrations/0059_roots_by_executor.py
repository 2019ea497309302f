from django.db import migrations, models

from apflow_site.db.schema import AddIndexBeside


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0001_squashed_0058_open_waits'),
    ]

    operations = [
        AddIndexBeside('task', models.Index(fields=['executor_id', 'root_id'], name='task_of_executor', condition=models.Q(('executor_id__isnull', False)))),
    ]
