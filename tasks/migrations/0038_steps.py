from django.db import migrations

import tasks.fields


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0037_indexes_of_run_status'),
    ]

    operations = [
        migrations.AddField('task', 'steps', tasks.fields.JsonTextField(null=True)),
    ]
