from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0061_call_feedback'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='error_key',
            field=models.CharField(max_length=16, null=True),
        ),
        migrations.CreateModel(
            name='LastVisit',
            fields=[
                ('user_id', models.CharField(max_length=255, primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='RunCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('hour', models.DateTimeField()),
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
                'indexes': [models.Index(fields=['hour'], name='runs_counted_at'), models.Index(fields=['error_key', 'hour'], name='runs_counted_of_error')],
                'constraints': [models.UniqueConstraint(fields=('user_id', 'hour', 'flow_id', 'status', 'error_key'), name='runs_counted_once')],
            },
        ),
    ]
