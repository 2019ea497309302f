from django.db import migrations, models

from apflow_site.db.indexes import AddIndexBeside


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0056_suspected_since'),
    ]

    operations = [
        AddIndexBeside(
            model_name='run',
            index=models.Index(
                condition=models.Q(('finished_at', None), ('suspected_at__isnull', False)),
                fields=['suspected_at'],
                name='run_suspected',
            ),
        ),
    ]
