from django.db import migrations, models

STATUSES = [(status, status) for status in ('pending', 'in_progress', 'completed', 'failed', 'cancelled', 'skipped')]


class Migration(migrations.Migration):
    """Only names of choices: the databases do not know them, so nothing is changed there."""

    dependencies = [
        ('tasks', '0019_many_open_runs'),
    ]

    operations = [
        migrations.AlterField(
            model_name=model,
            name='status',
            field=models.CharField(choices=STATUSES, default='pending', max_length=11),
        )
        for model in ('task', 'run')
    ]
