from django.db import migrations, models

from apflow_site.db.schema import AddIndexBeside, RemoveIndexBeside


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0066_versions_of_workflows'),
    ]

    operations = [
        migrations.AddField(
            model_name='task',
            name='part',
            field=models.PositiveIntegerField(null=True),
        ),
        AddIndexBeside('task', models.Index(fields=['root_id', 'part', 'position'], name='task_of_tree')),
        RemoveIndexBeside('task', 'task_tree'),
    ]
