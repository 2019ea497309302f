from django.db import migrations, models

import tasks.fields


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0060_not_run'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelcall',
            name='first_token_ms',
            field=models.PositiveBigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='modelcall',
            name='feedback',
            field=tasks.fields.JsonTextField(null=True),
        ),
    ]
