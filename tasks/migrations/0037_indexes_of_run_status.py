from django.db import migrations, models

from apflow_site.db.indexes import AddIndexBeside


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0036_schedules'),
    ]

    operations = [
        AddIndexBeside(
            'run', models.Index(fields=['user_id', 'status', '-created_at', '-id'], name='run_status_of_owner')
        ),
        AddIndexBeside('run', models.Index(fields=['status', '-created_at', '-id'], name='run_status')),
    ]
