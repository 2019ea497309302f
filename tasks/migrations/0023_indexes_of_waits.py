from django.db import migrations, models

from apflow_site.db.indexes import AddIndexBeside, RemoveIndexBeside

OPEN = ('closed_at', None)
UNANSWERED = ('answered_at', None)
DUE = models.Q(OPEN, ('expires_at__isnull', False))
ANSWERED = models.Q(OPEN, ('answered_at__isnull', False))
KEY = ['user_id', 'event', 'shape', 'digest']


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('tasks', '0022_waits'),
    ]

    operations = [
        AddIndexBeside('question', index)
        for index in (
            models.Index(
                condition=models.Q(UNANSWERED, OPEN, ('kind', 'question')),
                fields=['asked_at', 'id'],
                name='question_for_people',
            ),
            models.Index(condition=DUE, fields=['expires_at'], name='question_due'),
            models.Index(condition=ANSWERED, fields=['answered_at'], name='question_answered'),
            models.Index(condition=models.Q(UNANSWERED, OPEN, ('kind', 'event')), fields=KEY, name='wait_for_event'),
            models.Index(condition=models.Q(('taken_id__isnull', False)), fields=['taken_id'], name='wait_that_took'),
        )
    ] + [RemoveIndexBeside('question', 'question_open')]
