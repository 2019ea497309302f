import tasks.fields
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("tasks", "0080_scores")]

    operations = [
        migrations.AddField("experiment", "variants", tasks.fields.JsonTextField(default=list)),
    ]
