from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("tasks", "0040_schedules_of_tasks"),
    ]

    operations = [
        migrations.AddField(
            model_name="flow",
            name="is_tool",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
