"""What runs with a budget have used."""

from django.db import models

from tasks.fields import JsonTextField


class RunBudget(models.Model):
    """What a run with a budget has used so far (`tasks.rules.budgets.Spent`)."""

    run_id = models.CharField(primary_key=True, max_length=36)
    state = JsonTextField()

    def __str__(self) -> str:
        return f"budget of run {self.run_id}"
