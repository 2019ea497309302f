from django.db import migrations, models

from apflow_site.db.indexes import AddIndexBeside

LEASED = models.Q(('finished_at', None), ('lease_owner__isnull', False))


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0023_indexes_of_waits'),
    ]

    operations = [
        AddIndexBeside('run', models.Index(condition=LEASED, fields=['lease_owner'], name='run_leased')),
    ]
