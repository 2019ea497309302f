import django.db.models.deletion
from django.db import migrations, models

import tasks.fields


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0067_parts_of_workflows'),
    ]

    operations = [
        migrations.CreateModel(
            name='SharedLimit',
            fields=[
                ('key', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('debts', tasks.fields.JsonTextField(default=dict)),
                ('turn', models.BigIntegerField(default=0)),
                ('seen_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='NamedLimit',
            fields=[
                ('name', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('given', tasks.fields.JsonTextField()),
                ('set_by', models.CharField(max_length=255)),
                ('set_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='LimitPlace',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=100)),
                ('task_id', models.CharField(max_length=255)),
                ('run', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tasks.run')),
            ],
            options={
                'indexes': [models.Index(fields=['key'], name='places_of_limit')],
                'constraints': [models.UniqueConstraint(fields=('run', 'task_id', 'key'), name='one_place_per_task')],
            },
        ),
        migrations.AlterField(
            model_name='question',
            name='kind',
            field=models.CharField(choices=[('question', 'question'), ('time', 'time'), ('event', 'event'), ('run', 'run'), ('limit', 'limit')], db_default='question', default='question', max_length=8),
        ),
        migrations.AddField(
            model_name='question',
            name='turn',
            field=models.BigIntegerField(null=True),
        ),
    ]
