from django.db import migrations

import tasks.fields


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0070_limits_of_users'),
    ]

    operations = [
        migrations.AddField(
            model_name='task',
            name='checks',
            field=tasks.fields.JsonTextField(null=True),
        ),
    ]
