from django.db import migrations, models

from apflow_site.db.schema import AddIndexBeside


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0082_judges'),
    ]

    operations = [
        AddIndexBeside('run', models.Index(condition=models.Q(('flow_id__isnull', False), ('finished_at__isnull', False)), fields=['flow_id', 'finished_at', 'id'], name='run_ended_of_flow')),
    ]
