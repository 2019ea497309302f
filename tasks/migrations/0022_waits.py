from django.db import migrations, models

from tasks.fields import JsonTextField

KINDS = [('question', 'question'), ('time', 'time'), ('event', 'event')]
ENDS = [('fail', 'fail'), ('resume', 'resume')]
OF_ANYTHING = models.Q(('wait_id', None))


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0021_spawned_by'),
    ]

    operations = [
        migrations.CreateModel(
            name='SentEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('event_id', models.CharField(max_length=255)),
                ('event', models.CharField(max_length=255)),
                ('payload', JsonTextField(null=True)),
                ('received_at', models.DateTimeField()),
                ('woken', models.PositiveIntegerField(null=True)),
                ('wait_id', models.CharField(max_length=36, null=True)),
            ],
            options={
                'indexes': [
                    models.Index(condition=OF_ANYTHING, fields=['user_id', 'event', '-id'], name='event_by_name'),
                    models.Index(fields=['user_id', '-id'], name='event_of_user'),
                    models.Index(fields=['received_at'], name='event_age'),
                    models.Index(condition=models.Q(('woken', None)), fields=['id'], name='event_unmatched'),
                ],
                'constraints': [
                    models.UniqueConstraint(
                        condition=OF_ANYTHING, fields=('user_id', 'event_id'), name='one_event_per_id'
                    )
                ],
            },
        ),
        *(
            migrations.AddField('question', name, field)
            for name, field in (
                ('kind', models.CharField(choices=KINDS, db_default='question', default='question', max_length=8)),
                ('on_expiry', models.CharField(choices=ENDS, db_default='fail', default='fail', max_length=6)),
                ('user_id', models.CharField(max_length=255, null=True)),
                ('event', models.CharField(max_length=255, null=True)),
                ('match', JsonTextField(null=True)),
                ('shape', models.CharField(max_length=64, null=True)),
                ('digest', models.CharField(max_length=64, null=True)),
                ('since', models.DateTimeField(null=True)),
                ('taken_id', models.BigIntegerField(null=True)),
            )
        ),
    ]
