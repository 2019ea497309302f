import django.db.models.deletion
import tasks.fields
import tasks.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0033_label'),
    ]

    operations = [
        migrations.CreateModel(
            name='Flow',
            fields=[
                ('id', models.CharField(default=tasks.ids.new_id, max_length=36, primary_key=True, serialize=False)),
                ('user_id', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=100)),
                ('version', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField()),
                ('updated_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['name', 'user_id'], name='flow_by_name')],
                'constraints': [models.UniqueConstraint(fields=('user_id', 'name'), name='flow_of_owner')],
            },
        ),
        migrations.CreateModel(
            name='FlowVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('definition', tasks.fields.JsonTextField()),
                ('inputs_schema', tasks.fields.JsonTextField(null=True)),
                ('description', models.TextField(default='')),
                ('digest', models.CharField(max_length=64)),
                ('created_at', models.DateTimeField()),
                ('flow', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tasks.flow')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('flow', 'number'), name='version_of_flow')],
            },
        ),
        migrations.AddField('run', 'flow_id', models.CharField(max_length=36, null=True)),
        migrations.AddField('run', 'flow_version', models.PositiveIntegerField(null=True)),
    ]
