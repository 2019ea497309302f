from django.db import migrations, models

import tasks.fields


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0071_checks'),
    ]

    operations = [
        migrations.CreateModel(
            name='CachedResult',
            fields=[
                ('key', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('user_id', models.CharField(max_length=255)),
                ('is_shared', models.BooleanField()),
                ('executor_id', models.CharField(max_length=255)),
                ('task_id', models.CharField(max_length=255)),
                ('run_id', models.CharField(max_length=36)),
                ('root_id', models.CharField(max_length=255)),
                ('stored_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('size', models.PositiveIntegerField()),
                ('result', tasks.fields.JsonTextField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='CallInFlight',
            fields=[
                ('key', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('run_id', models.CharField(max_length=36)),
                ('task_id', models.CharField(max_length=255)),
            ],
        ),
        migrations.AddField(
            model_name='task',
            name='cached_from',
            field=tasks.fields.JsonTextField(null=True),
        ),
        migrations.AlterField(
            model_name='question',
            name='kind',
            field=models.CharField(choices=[('question', 'question'), ('time', 'time'), ('event', 'event'), ('run', 'run'), ('limit', 'limit'), ('call', 'call')], db_default='question', default='question', max_length=8),
        ),
        migrations.AddIndex(
            model_name='cachedresult',
            index=models.Index(fields=['user_id', '-stored_at', 'size'], name='cached_of_user'),
        ),
        migrations.AddIndex(
            model_name='cachedresult',
            index=models.Index(fields=['expires_at'], name='cached_until'),
        ),
        migrations.AddIndex(
            model_name='cachedresult',
            index=models.Index(fields=['root_id'], name='cached_of_tree'),
        ),
        migrations.AddIndex(
            model_name='callinflight',
            index=models.Index(fields=['run_id', 'task_id'], name='call_in_flight'),
        ),
    ]
