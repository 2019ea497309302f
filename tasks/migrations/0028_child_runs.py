import tasks.fields
from django.db import migrations, models

KINDS = [('question', 'question'), ('time', 'time'), ('event', 'event'), ('run', 'run')]


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0027_assignees'),
    ]

    operations = [
        migrations.AddField('question', 'tree', tasks.fields.JsonTextField(null=True)),
        migrations.AddField('run', 'wait_id', models.CharField(max_length=36, null=True)),
        migrations.AlterField('question', 'kind', models.CharField(choices=KINDS, db_default='question', default='question', max_length=8)),
    ]
