from django.db import migrations, models

from apflow_site.db.schema import AddIndexBeside


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0072_cache'),
    ]

    operations = [
        AddIndexBeside('question', models.Index(condition=models.Q(('answered_at', None), ('closed_at', None), ('kind', 'call')), fields=['event'], name='wait_for_call')),
    ]
