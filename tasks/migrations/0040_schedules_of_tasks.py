from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0039_model_calls'),
    ]

    operations = [
        migrations.AddField('schedule', 'schedule_type', models.CharField(max_length=8, null=True)),
        migrations.AddField('task', 'schedule_id', models.CharField(max_length=36, null=True)),
    ]
