from typing import Any

from django.db import migrations, models


def count_again(apps: Any, editor: Any) -> None:
    """Let the sweeps count all hours again, and the days."""
    apps.get_model("tasks", "InstallationFact").objects.filter(name="runs_counted").delete()


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0063_run_of_error'),
    ]

    operations = [
        migrations.RunPython(count_again, migrations.RunPython.noop),
        migrations.DeleteModel('RunCount'),
        migrations.CreateModel(
            name='RunCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('hours', models.PositiveSmallIntegerField()),
                ('hour', models.PositiveIntegerField()),
                ('flow_id', models.CharField(max_length=36)),
                ('status', models.CharField(choices=[('pending', 'pending'), ('in_progress', 'in_progress'), ('completed', 'completed'), ('failed', 'failed'), ('cancelled', 'cancelled'), ('skipped', 'skipped')], max_length=11)),
                ('error_key', models.CharField(max_length=16)),
                ('runs', models.PositiveIntegerField()),
                ('total_tokens', models.BigIntegerField()),
                ('cost_nanos', models.BigIntegerField()),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('newest_id', models.CharField(max_length=36)),
            ],
            options={
                'indexes': [models.Index(fields=['hours', 'hour'], name='runs_counted_at'), models.Index(fields=['error_key', 'hours', 'hour', 'runs'], name='runs_counted_of_error')],
                'constraints': [models.UniqueConstraint(fields=('user_id', 'hours', 'hour', 'flow_id', 'status', 'error_key'), name='runs_counted_once')],
            },
        ),
    ]
