from django.db import migrations, models

from apflow_site.db.schema import AddIndexBeside


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0062_home'),
    ]

    operations = [
        AddIndexBeside('run', models.Index(fields=['error_key', 'user_id', '-finished_at'], name='run_of_error', condition=models.Q(('error_key__isnull', False)))),
    ]
