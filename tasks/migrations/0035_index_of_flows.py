from django.db import migrations, models

from apflow_site.db.indexes import AddIndexBeside

HAS_FLOW = models.Q(('flow_id__isnull', False))


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0034_flows'),
    ]

    operations = [
        AddIndexBeside('run', models.Index(condition=HAS_FLOW, fields=['flow_id', '-created_at'], name='run_of_flow')),
    ]
