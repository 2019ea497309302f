import django.db.models.deletion
import tasks.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('apflow_a2a', '0001_initial'),
        ('apflow_a2a', '0002_watched_resources'),
        ('apflow_a2a', '0003_ended_sessions'),
        ('apflow_a2a', '0004_session_calls'),
    ]

    initial = True

    dependencies = [
        ('tasks', '0001_squashed_0058_open_waits'),
    ]

    operations = [
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('body', tasks.fields.JsonTextField()),
                ('created_at', models.DateTimeField()),
                ('run', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='tasks.run')),
            ],
            options={
                'indexes': [models.Index(fields=['run', 'id'], name='message_of_run')],
            },
        ),
        migrations.CreateModel(
            name='WatchedResource',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('session', models.CharField(max_length=32)),
                ('user_id', models.CharField(db_index=True, max_length=255)),
                ('run_id', models.CharField(max_length=255)),
                ('uri', models.CharField(max_length=400)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('session', 'uri'), name='watched_resource_of_session')],
            },
        ),
        migrations.CreateModel(
            name='EndedSession',
            fields=[
                ('session', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('expires_at', models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.CreateModel(
            name='SessionCall',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('session', models.CharField(max_length=32)),
                ('request', models.CharField(max_length=255)),
                ('run_id', models.CharField(max_length=36, null=True)),
                ('starts_run', models.BooleanField(default=True)),
                ('with_tree', models.BooleanField(default=False)),
                ('progress_token', tasks.fields.JsonTextField(null=True)),
                ('is_cancelled', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(db_index=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('session', 'request'), name='call_of_session')],
            },
        ),
    ]
