from django.db import migrations, models

from apflow_site.db.schema import AddIndexBeside


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0068_limits'),
    ]

    operations = [
        AddIndexBeside('question', models.Index(condition=models.Q(('closed_at', None), ('kind', 'limit')), fields=['event', 'turn'], name='wait_for_limit')),
    ]
