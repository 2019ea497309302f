from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0013_run_strikes'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='is_demo',
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
