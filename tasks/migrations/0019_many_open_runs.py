from django.db import migrations, models

from apflow_site.db.indexes import AddIndexBeside, RemoveIndexBeside

IS_UNCLAIMED = models.Q(("finished_at", None), ("lease_owner", None))
IS_OPEN = models.Q(("answered_at", None), ("closed_at", None))


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ("tasks", "0018_run_claim_token"),
    ]

    operations = [
        AddIndexBeside("run", models.Index(fields=["turn", "created_at"], name="run_unclaimed", condition=IS_UNCLAIMED)),
        RemoveIndexBeside("run", "run_waiting"),
        AddIndexBeside("question", models.Index(fields=["asked_at", "id"], name="question_open", condition=IS_OPEN)),
    ]
