from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0059_roots_by_executor'),
    ]

    operations = [
        migrations.AddField(
            model_name='task',
            name='cause_id',
            field=models.CharField(max_length=255, null=True),
        ),
    ]
