from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0032_question_alarms'),
    ]

    operations = [
        migrations.AddField('task', 'label', models.CharField(max_length=255, null=True)),
    ]
