from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0055_effects'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='suspected_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='interruption',
            field=models.CharField(db_default='', default='', max_length=8),
        ),
    ]
