from django.db import migrations, models

import tasks.models.waits


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0069_index_of_limits'),
    ]

    operations = [
        migrations.RenameField('namedlimit', 'name', 'id'),
        migrations.AddField('namedlimit', 'name', models.CharField(default='', max_length=255), preserve_default=False),
        migrations.RunSQL('UPDATE tasks_namedlimit SET name = id', migrations.RunSQL.noop),
        migrations.AddField('namedlimit', 'kind', models.CharField(db_default='', default='', max_length=8)),
        migrations.AddField('namedlimit', 'user_id', models.CharField(db_default='', default='', max_length=255)),
        migrations.AddField(
            'namedlimit', 'stamp', models.PositiveIntegerField(db_default=0, default=tasks.models.waits.new_stamp)
        ),
        migrations.AddIndex('namedlimit', models.Index(fields=['user_id'], name='limits_of_user')),
        migrations.AddField('limitplace', 'places', models.PositiveIntegerField(db_default=1, default=1)),
    ]
