"""The orders of the shop."""

from django.db import models


class Order(models.Model):
    """An order. `task_id` is the root of the tree that fulfils it."""

    customer = models.CharField(max_length=150)
    item = models.CharField(max_length=200)
    task_id = models.CharField(max_length=36)

    def __str__(self) -> str:
        return f"{self.item} for {self.customer}"
