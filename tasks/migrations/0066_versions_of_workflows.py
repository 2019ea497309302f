from django.db import migrations, models

import tasks.fields
from apflow_site.db.schema import AddIndexBeside


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("tasks", "0065_call_of_step"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="needs",
            field=models.TextField(null=True),
        ),
        migrations.AddField(
            model_name="run",
            name="needed_for",
            field=tasks.fields.JsonTextField(null=True),
        ),
        migrations.AddField(
            model_name="workerprocess",
            name="workflows",
            field=tasks.fields.JsonTextField(null=True),
        ),
        AddIndexBeside(
            "run", models.Index(fields=["needs"], name="run_needing", condition=models.Q(("needs__isnull", False)))
        ),
    ]
