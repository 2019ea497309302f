from django.db import migrations

from tasks.storage.counts import recount


class Migration(migrations.Migration):
    """Outside of a transaction: counting takes seconds with millions of tasks, and SQLite would lock out writers."""

    atomic = False

    dependencies = [
        ('tasks', '0015_task_counts'),
    ]

    operations = [
        migrations.RunPython(recount, migrations.RunPython.noop),
    ]
